"""docs/reference/files.md: every file, column and key that commands write or print is there, and no other."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gd_lightning.tracking.summary import RunSummary
from tests.conftest import ROOT, CommandLine

DOCUMENT = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
FIT = (
    *("--data.batch_size", "10", "--data.val_size", "0.2", "--trainer.max_epochs", "2", "--model.engine", "autograd"),
    *("--trainer.callbacks+=GradientNormBelow", "--trainer.callbacks.threshold", "1e-9"),
    *("--trainer.callbacks+=SharpnessMonitor", "--trainer.callbacks+=GradientVariance"),
)
BRIEF = ("--data.val_size", "0.2", "--seeds", "1", "--trainer.max_epochs", "1")


def _named(start: str, end: str = "\n## ") -> set[str]:
    """Return what the first columns of the tables behind a line name."""
    part = DOCUMENT.partition(f"\n{start}")[2].partition(end)[0]
    cells = re.findall(r"^\| (`.*?) \|", part, re.M)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def _is_named(name: str, named: set[str]) -> bool:
    """Whether a name is there, whole or by its beginning, as in `grad_...`."""
    return name in named or any(name.startswith(each.removesuffix("...")) for each in named if each.endswith("..."))


def _columns(file: Path) -> set[str]:
    with file.open(newline="", encoding="utf-8") as text:
        return {re.sub("_(mean|deviation)$", "", name) for name in next(csv.reader(text))}


def _keys(file: Path) -> set[str]:
    return set(json.loads(file.read_text(encoding="utf-8")))


def _files(directory: Path, named: set[str]) -> list[str]:
    """Return the files of a directory that are not named."""
    known = {name.rstrip("/").partition("/")[0] for name in named}
    return [path.name for path in directory.iterdir() if not _is_named(path.name, known)]


@pytest.mark.filterwarnings("ignore")  # of learning rates
def test_the_files_of_a_run(command_line: CommandLine) -> None:
    run = command_line.fit(*FIT)
    for stage in ("test", "validate", "predict"):
        assert command_line(stage, "--ckpt_path", "last") == 0
    assert _files(run, _named("## Files of a run")) == []
    columns = _columns(run / "history.csv")
    named = _named("## history.csv")
    assert [name for name in columns if not _is_named(name, named)] == []
    assert {name for name in named if name not in columns and not name.endswith("...")} == set()
    keys = _keys(run / "summary.json") - {"schema", "versions"}
    assert keys == {
        name for name in RunSummary.__dataclass_fields__ if re.search(rf"^ +{name}: ", DOC_OF_SUMMARY, re.M)
    }
    measured = {
        stage: {key.replace(prefix, "test_") for key in _keys(run / f"{stage}.json")} for stage, prefix in STAGES
    }
    assert measured == dict.fromkeys(("test", "validate"), _named("## test.json") - {"table"})


DOC_OF_SUMMARY = RunSummary.__doc__ or ""
STAGES = (("test", "test_"), ("validate", "val_"))


def test_the_files_of_a_comparison(command_line: CommandLine) -> None:
    assert command_line("compare", "--batch_sizes", "full", *BRIEF) == 0
    directory = command_line.root / "lightning_logs" / "compare-SteepLine"
    runs = {path.parent.name for path in directory.glob("*/config.yaml")}
    assert len(runs) == 1
    assert set(_files(directory, _named("## Files of a comparison"))) == runs
    assert _keys(directory / "table.json") == _named("Keys of `table.json`", "\nColumns")
    assert _keys(directory / "compare.json") == _named("Keys of `compare.json`", "\nKeys") - {"runs"}
    assert _columns(directory / "table.csv") == _named("Columns of `table.csv`")


def test_the_files_of_a_sweep(command_line: CommandLine) -> None:
    assert command_line("sweep", "--model.lr", "0.01,0.1", "--data.batch_size", "10,20", *BRIEF) == 0
    (directory,) = command_line.runs
    assert _files(directory, _named("## Files of a sweep", "\nWhat TensorBoard")) == []
    assert _columns(directory / "sweep.csv") == _named("Columns of `sweep.csv`", "\nColumns")
    assert _columns(directory / "table.csv") == _named("Columns of its `table.csv`", "\nKeys")
    assert _keys(directory / "sweep.json") == _named("Keys of `sweep.json`")


def test_the_keys_of_a_plan(command_line: CommandLine) -> None:
    """Of a linear regressor, and of one whose plan is a local one, because of its penalty, without a trial."""
    plans: list[dict[str, Any]] = []
    for options in ([], ["--model.l1", "0.1"]):
        assert command_line("plan", "--json", "--map", "false", *options) == 0
        plans.append(json.loads(command_line.out))
    exact, local = plans
    common = {"rows", "advice", "map"}
    assert set(exact) == _named("For a linear regressor", "\nFor any")
    assert set(local) == _named("For any other network", "\nEach row")
    assert common <= set(exact) & set(local)
    rows = [set(row) for plan in plans for row in plan["rows"]]
    assert set().union(*rows) == _named("Each row has")
