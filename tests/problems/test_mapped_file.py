"""A large table that is changed while it trains."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.callbacks import LambdaCallback

from gd_lightning import History, HistoryRecorder, RegressionDataModule, RegressionModule, Table
from tests.conftest import CommandLine, MakeTrainer

ROWS = 4_000  # several pages of 4 KiB


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Table, "map_above", 1_000)
    monkeypatch.setattr(RegressionDataModule, "max_loaded_bytes", 0)
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    path = tmp_path / "table.npy"
    np.save(path, np.c_[x, x @ [1.0, 2.0, 3.0]])
    return path


def _write(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\1")
    os.utime(path, ns=(1, 1))  # however coarse the clock of the file system is


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".new"))
    os.utime(path.with_suffix(".new"), ns=(1, 1))
    path.with_suffix(".new").rename(path)


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "cut": (lambda path: os.truncate(path, 10_000), False),
    "cut by a page": (lambda path: os.truncate(path, path.stat().st_size - 4096), False),
    "emptied": (lambda path: path.write_bytes(b""), False),
    "written into": (lambda path: _write(path, 50_000), False),
    "grown": (lambda path: _write(path, path.stat().st_size), False),
    "moved and cut": (lambda path: os.truncate(path.rename(path.with_suffix(".old")), 10_000), False),
    "deleted": (lambda path: path.unlink(), True),
    "moved": (lambda path: path.rename(path.with_suffix(".old")), True),
    "replaced": (_replace, True),
    "read": (lambda path: path.read_bytes(), True),
}


@pytest.mark.parametrize("network", ["linear", "mlp"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_mapped_table_that_is_changed_ends_the_run_with_its_record(
    make_trainer: MakeTrainer, table: Path, change: str, network: str
) -> None:
    """The system would end the process; a file that is only gone, or another one now, trains on to the same weights."""
    act, goes_on = CHANGES[change]
    done: list[int] = []

    def at_the_end_of_the_second_epoch(trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == 1 and not done:
            done.append(1)
            act(table)

    recorder = HistoryRecorder()
    watcher = LambdaCallback(on_train_epoch_end=at_the_end_of_the_second_epoch)
    trainer = make_trainer(callbacks=[recorder, watcher], max_epochs=4, logs=True)
    data = RegressionDataModule(Table(str(table)), batch_size=400, test_size=400)
    assert data.train.mapped
    module = RegressionModule(lr=0.01, hidden_sizes=[4] if network == "mlp" else None)
    if goes_on:
        trainer.fit(module, data)
        assert trainer.current_epoch == 4
        return
    with pytest.raises(OSError, match="a change of the table while it was read"):
        trainer.fit(module, data)
    history = History.from_csv(next(table.parent.rglob("history.csv")))
    assert history.last("epoch") == 2
    assert recorder.summary is not None
    assert str(recorder.history.outcome) == "interrupted"


def test_the_command_line_says_so_in_one_line(
    command_line: CommandLine, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: HistoryRecorder, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == 1:
            os.truncate(table, 10_000)

    monkeypatch.setattr(HistoryRecorder, "on_train_epoch_start", cut)
    options = ["--data.problem", "Table", "--data.problem.path", str(table), "--data.batch_size", "400"]
    run = command_line.fit(*options, code=1)
    (line,) = command_line.err.splitlines()
    assert line == (
        f"gd_lightning: cannot continue, because of a change of the table while it was read: {table}; what was "
        "finished before is kept"
    )
    assert (run / "history.csv").exists()
