"""Every logger gets the series of a run, and every run a directory of its own, whatever logger it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from gd_lightning import HistoryRecorder, LastCheckpoint, RegressionDataModule, RegressionModule
from gd_lightning.problems import SteepLine
from tests.conftest import MakeTrainer


class Plain(Logger):
    """As little of a logger as Lightning takes."""

    def __init__(self, root: Path, name: str | None = None, version: int | str | None = None) -> None:
        super().__init__()
        self.root, self._name, self._version = root, name, version
        self.metrics: dict[int, dict[str, float]] = {}
        self.settings: dict[str, Any] = {}

    @property
    def save_dir(self) -> str:
        return str(self.root)

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def version(self) -> int | str | None:
        return self._version

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.setdefault(step or 0, {}).update(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.settings |= dict(params)


def _fit(make_trainer: MakeTrainer, loggers: list[Any]) -> HistoryRecorder:
    recorder = HistoryRecorder()
    trainer = make_trainer(
        logger=loggers, callbacks=[recorder, LastCheckpoint()], max_epochs=3, enable_checkpointing=True
    )
    trainer.fit(RegressionModule(lr=0.1), RegressionDataModule(SteepLine(), batch_size=50, val_size=20))
    return recorder


@pytest.mark.parametrize(("name", "version"), [(None, None), ("a", None), ("a", 0), ("a/b", "c"), (None, "c")])
def test_two_runs_have_two_directories(
    make_trainer: MakeTrainer, tmp_path: Path, name: str | None, version: int | str | None
) -> None:
    for _ in range(2):
        _fit(make_trainer, [Plain(tmp_path / "logs", name, version)])
    for file in ("history.csv", "summary.json", "last.ckpt"):
        assert len(list((tmp_path / "logs").rglob(file))) == 2, file


def test_every_logger_gets_the_same_series(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    plain, table = Plain(tmp_path / "plain"), CSVLogger(tmp_path / "csv", name="", version="run")
    recorder = _fit(make_trainer, [TensorBoardLogger(tmp_path / "tb"), table, plain])
    ends = recorder.history.measured("train_loss")
    rows = (tmp_path / "csv" / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    for name in ("train_loss", "val_loss", "lr", "w", "b"):
        steps = [int(step) for step in recorder.history["update"][ends]]
        assert [plain.metrics[step][name] for step in steps] == list(recorder.history[name][ends])
        assert name in rows[0].split(",")
    assert plain.settings["lr"] == 0.1
    assert plain.settings["problem"] == "SteepLine"
    assert plain.metrics[max(plain.metrics)]["final/train_loss"] == recorder.history.last("train_loss")
