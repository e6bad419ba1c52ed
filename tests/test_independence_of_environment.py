"""The tests say the same to everybody: whatever the settings, the folders and the terminal of whoever runs them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SETTINGS = {
    **{"PL_FIT__MODEL__LR": "7", "PL_CONFIG": "none.yaml", "MPLBACKEND": "nonsense", "PYTHONWARNINGS": "default"},
    **{"COLUMNS": "20", "LINES": "3", "TERM": "dumb", "FORCE_COLOR": "1", "CI": "true", "LC_ALL": "C"},
    **{"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "SLURM_NTASKS": "2"},
    **{"TZ": "Asia/Kathmandu", "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "SLURM_JOB_NAME": "x"},
}
# One of each kind: a run with all of its files, words and widths of the terminal, a process of its own.
TESTS = (
    "tests/cli/test_command_line.py::test_fit_without_options_is_system_1_and_says_nothing_but_its_result",
    "tests/cli/test_help.py::test_the_text_has_the_defaults_of_the_parser",
    "tests/test_readme.py::test_the_plan_of_the_readme_is_what_plan_prints",
    "tests/test_package.py::test_the_wheel_works_from_an_empty_directory",
)
# In proofs of docs/theory.md, in advice to contributors, and above.
NAMED = {
    name
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.py"))
    for name in re.findall(r"\btests/[\w/]+\.py::\w+", path.read_text(encoding="utf-8"))
}


@pytest.mark.slow
def test_tests_do_not_depend_on_who_runs_them(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with blanks"
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-m", "", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, **SETTINGS, "TMPDIR": str(folder)},
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("named", sorted(NAMED))
def test_every_test_that_is_named_elsewhere_is_there(named: str) -> None:
    path, name = named.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
