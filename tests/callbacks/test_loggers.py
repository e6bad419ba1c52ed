"""Every logger gets the series of a run, and every run a directory of its own, whatever logger it has."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gd_lightning import History, HistoryRecorder, LastCheckpoint, RegressionDataModule, RegressionModule
from gd_lightning.callbacks.logger_directory import check_names
from gd_lightning.errors import InputError
from gd_lightning.problems import SteepLine
from tests.conftest import MakeTrainer
from tests.selection import every


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


class Elsewhere(Plain):
    """A logger that writes to another machine."""

    @property
    def save_dir(self) -> None:  # type: ignore[override]
        return None


def _fit(
    make_trainer: MakeTrainer,
    loggers: Any,
    epochs: int = 3,
    ckpt_path: Path | None = None,
    lr_scheduler: dict[str, Any] | None = None,
    **options: Any,
) -> HistoryRecorder:
    recorder = HistoryRecorder()
    callbacks = [recorder, LastCheckpoint()]
    trainer = make_trainer(logger=loggers, callbacks=callbacks, max_epochs=epochs, enable_checkpointing=True, **options)
    module = RegressionModule(lr=0.1, lr_scheduler=lr_scheduler)
    data = RegressionDataModule(SteepLine(), batch_size=50, val_size=20)
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return recorder


FINE = [".", "größe 💥", 'a\\b:*?"<>|']
NAMES = ["..", "../../up", "/up", "a/../../up", "\x1b[31mred\n", "\x00", "\ud800", "x" * 3000, *FINE]


@pytest.mark.parametrize("name", every(2, NAMES))
@pytest.mark.parametrize("part", ["name", "version"])
def test_no_name_leads_out_of_the_directory(make_trainer: MakeTrainer, tmp_path: Path, part: str, name: str) -> None:
    for _ in range(2):
        _fit(make_trainer, [Plain(tmp_path / "here" / "logs", **{part: name})])
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["logs"]
    for file in ("history.csv", "summary.json", "last.ckpt"):
        assert len(list((tmp_path / "here").rglob(file))) == 2, file
    assert all(part.isprintable() for path in tmp_path.rglob("*") for part in path.parts)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FINE])
@pytest.mark.parametrize("part", ["name", "version"])
def test_loggers_that_make_directories_refuse_others(tmp_path: Path, part: str, name: str) -> None:
    for kind in (TensorBoardLogger, CSVLogger):
        with pytest.raises(InputError, match=part):
            check_names(kind(tmp_path, name if part == "name" else "a", name if part == "version" else 0))


@pytest.mark.parametrize("name", ["", "a", "a/b", ".", "größe 💥", "a b", 0])
def test_they_take_any_name_of_a_directory(tmp_path: Path, name: str) -> None:
    check_names(TensorBoardLogger(tmp_path, name="a", version=name))
    check_names(CSVLogger(tmp_path, name=str(name)))


def test_without_a_logger_each_run_has_a_directory(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    recorders = [_fit(make_trainer, False, default_root_dir=tmp_path) for _ in range(2)]
    directories = [recorder.directory for recorder in recorders]
    assert directories == [tmp_path / "lightning_logs" / name for name in ("run", "run-2")]
    for directory in directories:
        assert directory is not None
        assert sorted(file.name for file in directory.iterdir()) == ["checkpoints", "history.csv", "summary.json"]
    checkpoint = tmp_path / "lightning_logs" / "run" / "checkpoints" / "last.ckpt"
    continued = _fit(make_trainer, False, epochs=5, ckpt_path=checkpoint, default_root_dir=tmp_path)
    assert continued.directory == directories[0]
    assert continued.history.last("epoch") == 5


@pytest.mark.parametrize("logger", [False, True])
def test_a_run_for_a_try_leaves_nothing(make_trainer: MakeTrainer, tmp_path: Path, logger: bool) -> None:
    _fit(make_trainer, logger, fast_dev_run=True, default_root_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_recorder_alone_writes_nothing_without_a_logger(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(logger=False, callbacks=[HistoryRecorder()], max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(RegressionModule(lr=0.1), RegressionDataModule(SteepLine()))
    assert not list(tmp_path.iterdir())


def test_a_logger_that_is_elsewhere_leaves_our_files_here(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    loggers = [Elsewhere(Path(), "project", "run 7") for _ in range(2)]
    directories = [_fit(make_trainer, [logger], default_root_dir=tmp_path).directory for logger in loggers]
    assert directories == [tmp_path / "lightning_logs" / name for name in ("run 7", "run 7-2")]


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_a_version_given_twice_keeps_both(
    make_trainer: MakeTrainer, tmp_path: Path, kind: type[TensorBoardLogger | CSVLogger], recwarn: Any
) -> None:
    for epochs in (3, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CSVLogger says that it deletes what it has of the first
            _fit(make_trainer, [kind(tmp_path, name="", version="a")], epochs=epochs)
    ends = [History.from_csv(tmp_path / name / "history.csv").last("epoch") for name in ("a", "a-2")]
    assert ends == [3, 4]


def test_two_boards_have_the_same(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    _fit(make_trainer, [TensorBoardLogger(tmp_path / name, default_hp_metric=False) for name in "ab"])
    tags = [EventAccumulator(str(tmp_path / name / "lightning_logs" / "version_0")).Reload().Tags() for name in "ab"]
    assert tags[0] == tags[1]
    assert "updates/train_loss" in tags[0]["scalars"]


def test_settings_are_those_of_the_start(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """A schedule changes the learning rate, and a run that is continued begins with the one that it has come to."""
    plain, schedule = (
        Plain(tmp_path),
        {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}},
    )
    for checkpoint in (None, tmp_path / "run" / "checkpoints" / "last.ckpt"):
        _fit(make_trainer, [plain], ckpt_path=checkpoint, epochs=3 if checkpoint is None else 5, lr_scheduler=schedule)
        assert plain.settings["lr"] == 0.1
        assert plain.settings["outcome"] == "completed"
    assert plain.metrics[max(plain.metrics)]["lr"] < 0.01


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
