"""CONTRIBUTING.md: what it tells contributors to do works when it is followed to the letter."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import gd_lightning
from gd_lightning import problems
from gd_lightning.problems import curves
from tests.conftest import ROOT, CommandLine

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROBLEM, ITS_TEST = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
COMMAND = re.search(r"`python -m gd_lightning (fit .*?)`", GUIDE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:gd_lightning|tests|configs|\.ci)/[\w./]*)`", GUIDE))))
def test_every_place_that_it_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_example_problem_and_its_test_work(monkeypatch: pytest.MonkeyPatch, command_line: CommandLine) -> None:
    if "Staircase" not in problems.__all__:  # it is where somebody follows the guide
        scope = dict(vars(curves))
        exec(PROBLEM, scope)
        for module in (curves, problems, gd_lightning):
            monkeypatch.setattr(module, "Staircase", scope["Staircase"], raising=False)
    tests: dict[str, Any] = {"problems": problems}
    exec(ITS_TEST, tests)
    tests["test_the_staircase_has_seven_steps"]()
    assert COMMAND is not None
    assert command_line(*COMMAND[1].split(), "--trainer.max_epochs", "2") == 0


_OF_EXAMPLE = test_the_example_problem_and_its_test_work.__name__


def _insert(path: Path, before: str, text: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert before in content
    path.write_text(content.replace(before, f"{text}{before}", 1), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif("Staircase" in problems.__all__, reason="the guide has been followed in this clone")
def test_followed_to_the_letter_it_adds_a_problem_and_its_test(tmp_path: Path) -> None:
    for name in (
        "gd_lightning",
        "tests",
        "configs",
        "docs",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "pyproject.toml",
        ".ci",
    ):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    package, tests = tmp_path / "gd_lightning", tmp_path / "tests" / "problems" / "test_problems.py"
    curve = package / "problems" / "curves.py"
    curve.write_text(f"{curve.read_text(encoding='utf-8')}\n\n{PROBLEM}", encoding="utf-8")
    init = package / "problems" / "__init__.py"
    _insert(init, "from gd_lightning.problems.tables", "from gd_lightning.problems.curves import Staircase\n")
    _insert(init, '    "SteepLine",', '    "Staircase",\n')
    stub = package / "__init__.pyi"
    _insert(
        stub, "from gd_lightning.problems import Sine", "from gd_lightning.problems import Staircase as Staircase\n"
    )
    _insert(tests, "    problems.Parabola(),", "    problems.Staircase(),\n")
    tests.write_text(f"{tests.read_text(encoding='utf-8')}\n\n{ITS_TEST}", encoding="utf-8")
    _insert(tmp_path / "docs" / "command_line.md", "`Sine`, `LinearProblem`", "`Staircase`, ")
    own = tmp_path / "tests" / "test_contributing.py"  # which does not mind that it has been followed
    files = [str(tests), str(tmp_path / "tests" / "test_structure.py"), f"{own}::{_OF_EXAMPLE}"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout


SERVICES = (".pre-commit-config.yaml", ".github/workflows/ci.yml", ".github/workflows/site.yml", "CITATION.cff")


@pytest.mark.parametrize("path", SERVICES)
def test_files_of_services_can_be_read(path: str) -> None:
    content = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    assert content
    if path == "CITATION.cff":
        assert content["version"] == gd_lightning.__version__
    if path.endswith("ci.yml"):
        assert content["jobs"]["linux"]["steps"][-1]["run"] == ".ci/run"
        assert content["jobs"]["others"]["steps"][-1]["run"] == ".ci/run"
        alone = content["jobs"]["without-extras"]["steps"][-1]["run"]
        commands = re.findall(r"^python -m gd_lightning (\w+ .*)$", (ROOT / "README.md").read_text("utf-8"), re.M)
        assert len(commands) >= 5
        assert [command for command in commands if f"gd-lightning {command}\n" not in alone] == []
