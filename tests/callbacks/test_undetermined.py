"""The table of parameters says which of them the data do not determine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, Table
from gd_lightning.tracking.summary import RunSummary, run_card, run_report
from tests.conftest import CommandLine, MakeTrainer

RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(4, 1, 30), RANDOM.normal(-2, 3, 30)
TABLES = {  # features, then the open parameters with a bias, and without one
    "nothing": ({"a": A, "b": B}, set(), set()),
    "a constant": ({"a": A, "five": np.full(30, 5.0)}, {"w_five", "b"}, set()),
    "zeros": ({"a": A, "zero": np.zeros(30)}, {"w_zero"}, {"w_zero"}),
    "x and 2x": ({"a": A, "b": B, "twice": 2 * A}, {"w_a", "w_twice"}, {"w_a", "w_twice"}),
    "a sum": ({"a": A, "b": B, "sum": A + B}, {"w_a", "w_b", "w_sum"}, {"w_a", "w_b", "w_sum"}),
    "a shift": ({"a": A, "later": A + 7}, {"w_a", "w_later", "b"}, set()),
}


def _table(path: Path, columns: dict[str, NDArray[np.float64]]) -> Table:
    np.savez(path, **columns, y=1 + 2 * A - B, z=B + 0.1 * A)  # type: ignore[arg-type]
    return Table(str(path), targets=["y"])


def _summary(make_trainer: MakeTrainer, table: Table, bias: bool, standardize: bool, precision: str) -> RunSummary:
    recorder = HistoryRecorder()
    data = RegressionDataModule(Table(table.path, table.features, table.targets), standardize=standardize)
    module = RegressionModule(lr=0.001, bias=bias, initialization="zero")
    make_trainer(max_epochs=1, callbacks=[recorder], precision=precision).fit(module, data)
    assert recorder.summary is not None
    return recorder.summary


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize(("bias", "standardize"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("name", TABLES)
def test_the_summary_names_them(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, bias: bool, standardize: bool, precision: str
) -> None:
    columns, with_bias, without = TABLES[name]
    table = _table(tmp_path / "table.npz", columns)
    table.features = list(columns)
    summary = _summary(make_trainer, table, bias, standardize, precision)
    assert set(summary.undetermined) == (with_bias if bias else without)
    assert summary.parameters is not None
    assert set(summary.undetermined) <= set(summary.parameters)
    for text in (run_report(summary, "table"), run_card(summary, "table")):
        assert text.count("(not determined)") == len(summary.undetermined)
        assert ("The data do not determine" in text) == bool(summary.undetermined)


def test_more_features_than_samples_and_several_targets(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    values = torch.randn(5, 9, dtype=torch.float64).numpy()
    np.savez(tmp_path / "wide.npz", x=values[:, :7], y=values[:, 7:])
    table = Table(str(tmp_path / "wide.npz"), targets=["y0", "y1"])
    assert len(_summary(make_trainer, table, True, False, "64-true").undetermined) == 16
    np.savez(tmp_path / "wide.npz", x=values[:, [0, 1, 0]], y=values[:, 7:])
    found = _summary(make_trainer, Table(table.path, targets=["y0", "y1"]), True, False, "64-true").undetermined
    assert found == ["w_y0_x0", "w_y0_x2", "w_y1_x0", "w_y1_x2"]


def test_the_command_line_says_it(command_line: CommandLine, tmp_path: Path) -> None:
    _table(tmp_path / "table.npz", {"a": A, "twice": 2 * A})
    path = ["--data.problem", "Table", "--data.problem.path", str(tmp_path / "table.npz")]
    chosen = ["--data.problem.features", "[a,twice]", "--data.problem.targets", "[y]", "--data.standardize", "true"]
    run = command_line.fit(*path, *chosen, "--trainer.max_epochs", "2")
    assert "The data do not determine w_a, w_twice: " in command_line.out
    assert json.loads((run / "summary.json").read_text())["undetermined"] == ["w_a", "w_twice"]
