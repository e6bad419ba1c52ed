"""The tests say the same to everybody: whatever the settings, the folders and the terminal of whoever runs them."""

from __future__ import annotations

import os
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
    "tests/cli/test_command_line.py::test_help_begins_with_examples",
    "tests/test_readme.py::test_the_plan_of_the_readme_is_what_plan_prints",
    "tests/test_package.py::test_the_wheel_works_from_an_empty_directory",
)


@pytest.mark.slow
def test_tests_do_not_depend_on_who_runs_them(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with blanks"
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, **SETTINGS, "TMPDIR": str(folder)},
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout
