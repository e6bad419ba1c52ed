"""The README and the pages of docs/ on its use: commands and examples run, pictures are made by the project."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from packaging.version import Version

import gd_lightning
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.plots.style import save_png
from tests.conftest import CONFIGS, ROOT, CommandLine

PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        *(ROOT / "docs" / f"{name}.md" for name in ("command_line", "python", "architecture")),
    )
}
README = PAGES[ROOT / "README.md"]
ALL = "\n".join(PAGES.values())


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", ALL, re.S)


def _in_a_clone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where a person would: in a clone, with a table of one's own."""
    shutil.copytree(CONFIGS, directory / "configs")
    (directory / "scores.csv").write_text("hours,score\n10,480\n20,520\n30,710\n40,680\n50,790\n")
    monkeypatch.chdir(directory)


def _commands(text: str) -> list[list[str]]:
    return [shlex.split(command) for command in re.findall(r"python -m gd_lightning (\w+ .*)", text)]


def _shortened(command: list[str]) -> list[str]:
    """Return a command, a comparison or a sweep of nine runs or more as one of short runs."""
    takes_seeds = command[0] in ("compare", "sweep")
    return [*command, "--seeds", "1", "--trainer.max_epochs", "2"] if takes_seeds else command


def test_every_command_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And those of the pages on how to do what."""
    _in_a_clone(tmp_path, monkeypatch)
    others = [(ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("index", "how_to")]
    blocks = re.findall(r"```bash\n(.*?)```", "\n".join([ALL, *others]), re.S)
    different = {shlex.join(command): command for block in blocks for command in _commands(block)}
    assert len(different) >= 17
    for command in different.values():
        if "--trainer.devices" not in command and "gpu" not in shlex.join(command):
            (run, *_) = [path.parent.name for path in sorted(tmp_path.glob("lightning_logs/*/config.yaml"))] or ["none"]
            given = [word.replace("lightning_logs/RUN", f"lightning_logs/{run}") for word in command]
            assert gd_lightning.main(_shortened(given)) == 0, capfd.readouterr().err


def _all_commands() -> dict[str, int]:
    """Return the commands of all documents, in blocks and within sentences, with their exit codes.

    Those of ``docs/experiments.md`` are run by what makes it, and those with a place for a name of the reader's own, in
    capital letters, are in other tests.
    """
    pages = (path for path in ROOT.glob("docs/**/*.md") if "generated" not in path.parts and path.stem != "experiments")
    found: dict[str, int] = {}
    for path in sorted([ROOT / "README.md", *pages]):
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
        stages = "|".join(EXAMPLES)
        sentences = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
        commands = re.findall(r"python -m gd_lightning (\w+.*)", "\n".join(blocks))
        commands += [text for each in sentences if re.match(rf"({stages}) ", text := " ".join(each.split()))]
        found |= {each: 0 for each in commands if not re.search(r"\b(RUN|FILE|RUN_DIR)\b|devices|gpu", each)}
    return found | {"fit --data.batch_size 1 --model.lr 0.1": 3}  # README shows that it diverges


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of learning rates
def test_every_command_of_all_documents_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In blocks and sentences of every page; the fast sibling runs the blocks of README and the pages on use."""
    _in_a_clone(tmp_path, monkeypatch)
    rows = np.random.default_rng(0).normal(size=(300, 3))  # as the tutorial on a table writes
    np.savetxt("homes.csv", rows, delimiter=",", header="area,age,price", comments="")
    commands = _all_commands()
    assert len(commands) >= 30
    found = {command: gd_lightning.main(_shortened(shlex.split(command))) for command in commands}
    assert found == commands, capfd.readouterr().err


@pytest.mark.slow
def test_every_line_of_the_readme_that_starts_processes_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_a_clone(tmp_path, monkeypatch)
    several = [line for line in "\n".join(_blocks("bash")).splitlines() if " 2 " in line]
    assert len(several) == 2
    for line in several:
        words = shlex.split(line.replace("torchrun", "python -m torch.distributed.run --standalone"))
        result = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=300, check=False)
        assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_every_example_of_the_help_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _in_a_clone(tmp_path, monkeypatch)
    for stage, text in EXAMPLES.items():
        for command in _commands(text):
            assert command[0] == stage
            table = sorted(tmp_path.glob("lightning_logs/Table-*"))
            run = str(table[0]) if table else "none"
            new = ["scores.csv" if word == "new.csv" else word for word in command]
            given = [word.replace("lightning_logs/RUN", run) for word in new]
            assert gd_lightning.main(_shortened(given)) == 0, capfd.readouterr().err


def test_the_two_commands_are_those_of_ci() -> None:
    assert _blocks("bash")[0].splitlines() == [
        "pip install . && python -m gd_lightning fit",
        "pip install '.[test]' && python -m pytest",
    ]
    ci = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet '.[test]'" in ci
    assert ci.rstrip().endswith("python -m pytest")


@pytest.mark.usefixtures("pictures")
@pytest.mark.filterwarnings("ignore")  # what Lightning advises of, such as more workers
def test_the_example_of_the_readme_works_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, example, in_one_line, _ = _blocks("python")
    (tmp_path / "example.py").write_text(f"{example}\nimport gd_lightning\n{in_one_line}")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py", run_name="__main__")
    said = re.search(r"print\(data.variant\)  # (.*)", example)
    assert said is not None
    lines = capfd.readouterr().out.splitlines()
    assert said[1] in lines
    first, last = map(float, lines[-2].split())
    assert last < 0.01 < first
    assert lines[-1].endswith("completed")
    (run,) = (tmp_path / "lightning_logs" / "wave").iterdir()
    assert {"curves.png", "history.csv", "checkpoints"} <= {path.name for path in run.iterdir()}


def test_the_ten_lines_of_python_train_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    """The solution is that of NumPy, by least squares."""
    scope: dict[str, Any] = {}
    exec(_blocks("python")[0], scope)
    assert "use lr" in capsys.readouterr().out
    x, y = scope["x"], scope["y"]
    design = np.column_stack([x, np.ones(len(x))])
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    assert scope["run"].history.last("train_loss") == pytest.approx(((design @ solution - y) ** 2).mean(), rel=0.02)
    assert scope["run"].predict([[1.0, 2.0]]) == pytest.approx(np.array([1, 2, 1]) @ solution[:, None], abs=0.05)


def test_the_numbers_of_why_stochastic_descent_diverges() -> None:
    """By NumPy: the Hessian of the line, and one update on the sample at x = 5."""
    x, _ = gd_lightning.SteepLine().sample()
    z = np.column_stack([x.numpy(), np.ones(len(x))])
    curvature = np.linalg.eigvalsh(2 / len(z) * z.T @ z)[-1]
    assert f"*mean* curvature, {curvature:.1f} here: below 2 / {curvature:.1f} = {2 / curvature:.2f}." in README
    features, weights = np.array([5.0, 1.0]), np.array([-10.0, -20.0])
    own, error = 2 * features @ features, features @ weights - 7.0
    moved = features @ (weights - 0.1 * 2 * error * features) - 7.0
    assert f"At x = 5 it is {own:.0f}" in README
    assert f"1 - 0.1 · {own:.0f} = {moved / error:.1f}" in README
    plan = gd_lightning.plan(batch_size=1)
    assert isinstance(plan, gd_lightning.Plan)
    assert plan.configured.largest_stable_lr == pytest.approx(0.064, abs=5e-4)


def test_what_the_first_command_prints_is_shown(command_line: CommandLine) -> None:
    (shown,) = re.findall(r"```text\n(epoch .*?)```", README, re.S)
    assert command_line("fit") == 0
    _assert_printed(shown, command_line.out)


def _assert_printed(shown: str, printed: str) -> None:
    """Check that each line is printed, but for the last digits of its numbers, which processors round differently."""
    rest = [line.split() for line in printed.splitlines()]
    for line in [each.split() for each in shown.splitlines() if each != "..."]:
        assert any(len(line) == len(other) and all(map(_are_alike, line, other)) for other in rest), line


def _are_alike(one: str, other: str) -> bool:
    return one == other or (
        _is_number(one) and _is_number(other) and float(one) == pytest.approx(float(other), rel=1e-6)
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text) is not None


def test_the_plan_of_the_readme_is_what_plan_prints(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = set(re.findall(r"```text\n( +batch_size.*?)```", ALL, re.S))
    monkeypatch.chdir(tmp_path)
    assert gd_lightning.main(["plan", "--data.batch_size", "1", "--model.lr", "0.1"]) == 0
    _assert_printed(shown, capfd.readouterr().out)


def test_what_documents_quote_is_what_plan_says(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted = re.findall(r'"((?:lr|use) .*?)(?: \.\.\.)?"(?=[ .]|$)', " ".join(ALL.split()))
    assert len(quoted) >= 2
    monkeypatch.chdir(tmp_path)
    for options in (["--data.batch_size", "1", "--model.lr", "0.1"], ["--data.problem", "ExamScores"]):
        assert gd_lightning.main(["plan", "--map", "false", *options]) == 0
    printed = capfd.readouterr().out
    assert [text for text in quoted if text not in printed] == []


def test_the_layers_of_the_readme_are_the_packages() -> None:
    named = set(re.findall(r"`([\w.]+?)(?:\.py|/)`", PAGES[ROOT / "docs" / "architecture.md"]))
    folders = {path.name for path in (ROOT / "gd_lightning").iterdir() if (path / "__init__.py").exists()}
    files = {path.stem for path in (ROOT / "gd_lightning").glob("*.py")} - {"__init__"}
    assert named == folders | files


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        assert (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


# Matplotlib 3.10 sets out the parts of a figure in other places.
drawn_by_another = pytest.mark.skipif(
    Version(matplotlib.__version__) < Version("3.10"), reason="the documents have pictures of a newer Matplotlib"
)


@drawn_by_another
@pytest.mark.usefixtures("pictures")
def test_the_picture_of_the_readme_is_made_by_the_project(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With GD_LIGHTNING_SCREENSHOTS=docs, the picture of the README is written anew: a row for each run."""
    monkeypatch.setattr("gd_lightning.callbacks.pictures._IN_A_ROW", 3)
    runs = [command_line.fit("--config", CONFIGS / f"{name}.yaml") for name in ("batch", "mini_batch", "stochastic")]
    rows = [matplotlib.image.imread(run / "curves.png")[..., :3] for run in runs]
    path = Path(os.environ.get("GD_LIGHTNING_SCREENSHOTS", tmp_path)) / "variants.png"
    save_png(path, (255 * np.concatenate(rows)).astype(np.uint8))
    shown = matplotlib.image.imread(ROOT / "docs" / "variants.png")[..., :3]
    assert np.concatenate(rows).shape == shown.shape
    assert np.abs(np.concatenate(rows) - shown).mean() < 0.02  # but for fonts, the same picture


@drawn_by_another
def test_the_map_of_the_readme_is_what_plan_draws(command_line: CommandLine) -> None:
    """With GD_LIGHTNING_SCREENSHOTS=docs, it is written anew."""
    (options,) = re.findall(r"This is `plan (.*)`:", ALL)
    assert command_line("plan", *shlex.split(options)) == 0
    (path,) = command_line.runs
    drawn, shown = path.read_bytes(), ROOT / "docs" / "map.png"
    if directory := os.environ.get("GD_LIGHTNING_SCREENSHOTS"):
        (Path(directory) / "map.png").write_bytes(drawn)
    images = [matplotlib.image.imread(file)[..., :3] for file in (path, shown)]
    assert images[0].shape == images[1].shape
    assert np.abs(images[0] - images[1]).mean() < 0.02  # but for fonts, the same picture


@drawn_by_another
@pytest.mark.usefixtures("pictures")
def test_the_sweep_of_the_readme_is_what_sweep_draws(command_line: CommandLine) -> None:
    """With GD_LIGHTNING_SCREENSHOTS=docs, it is written anew."""
    (options,) = re.findall(r"^python -m gd_lightning sweep (.*)$", README, re.M)
    assert command_line("sweep", *shlex.split(options)) == 0
    (path,) = command_line.runs
    drawn, shown = (path / "map.png").read_bytes(), ROOT / "docs" / "sweep.png"
    if directory := os.environ.get("GD_LIGHTNING_SCREENSHOTS"):
        (Path(directory) / "sweep.png").write_bytes(drawn)
    images = [matplotlib.image.imread(file)[..., :3] for file in (path / "map.png", shown)]
    assert images[0].shape == images[1].shape
    assert np.abs(images[0] - images[1]).mean() < 0.02  # but for fonts, the same picture
