"""The time that a command may take, by a clock that goes on where a test says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback, Timer

from gd_lightning import (
    GradientVariance,
    HistoryRecorder,
    LastCheckpoint,
    Pictures,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
)
from gd_lightning.callbacks import TimeLimit
from tests.conftest import CommandLine, MakeTrainer


class Clock:
    """Stands still, but where it is told to go on; the process works as long as it does."""

    def __init__(self) -> None:
        self.now, self.work = 1000.0, 50.0

    def goes_on(self, seconds: float, others: float = 0.0) -> Callable[..., None]:
        """Return a hook in which so many seconds pass, of which other programs have some part of the machine."""

        def go_on(*_: Any, **__: Any) -> None:
            self.now += seconds
            self.work += seconds * (1 - others)

        return go_on


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "process_time", lambda: clock.work)
    return clock


def _train(
    make_trainer: MakeTrainer, limit: Timer, *others: Callback, checkpoint: Path | None = None, **options: Any
) -> HistoryRecorder:
    recorder = HistoryRecorder()
    torch.manual_seed(0)
    trainer = make_trainer(callbacks=[recorder, limit, *others], max_epochs=-1, **options)
    data = RegressionDataModule(SteepLine(), batch_size=10, val_size=20)  # 8 updates an epoch
    trainer.fit(RegressionModule(lr=0.01), data, ckpt_path=checkpoint, weights_only=True)
    return recorder


def test_what_comes_before_the_training_is_counted(make_trainer: MakeTrainer, clock: Clock) -> None:
    """Of 100 seconds, 30 are set-up and each update takes 2: at the end of the 35th, less is left than Python needs."""
    begun = clock.now
    clock.goes_on(20)()
    slow = LambdaCallback(on_fit_start=clock.goes_on(10), on_train_batch_start=clock.goes_on(2))
    recorder = _train(make_trainer, TimeLimit({"seconds": 100}, begun), slow)
    assert recorder.history.last("update") == 35
    assert (str(recorder.history.outcome), "max_time" in recorder.history.reason) == ("completed", True)
    assert 100 - 2 < clock.now - begun <= 100
    # Lightning's own counts from the first update on.
    assert _train(make_trainer, Timer({"seconds": 100}), slow).history.last("update") == 50


@pytest.mark.parametrize("others", [0.0, 0.5])
def test_what_comes_behind_the_last_update_is_left_time_for(
    make_trainer: MakeTrainer, clock: Clock, monkeypatch: pytest.MonkeyPatch, others: float
) -> None:
    """Measuring takes 5 seconds, validation 7, and a picture 3, or twice as much where others use the machine, too."""
    measure = RegressionModule.train_loss

    def measure_slowly(module: RegressionModule) -> float | None:
        clock.goes_on(5, others)()
        return measure(module)

    monkeypatch.setattr(RegressionModule, "train_loss", measure_slowly)
    begun, slower = clock.now, 1 / (1 - others)
    slow = LambdaCallback(
        on_train_batch_start=clock.goes_on(0.5, others), on_validation_batch_start=clock.goes_on(7, others)
    )
    limit = TimeLimit({"seconds": 200}, begun)
    limit.seconds_of_pictures = 3.0
    recorder = _train(make_trainer, limit, Pictures(), slow)
    assert recorder.history.last("update") > 20
    ended = clock.now + (3 + TimeLimit.seconds_of_exit) * slower - begun
    assert 200 - 12 - 0.5 < ended <= 200 + 0.5  # nothing is measured once more than it has to be


@pytest.mark.parametrize("seconds", [0.001, 3.0])
def test_a_time_that_is_over_before_the_training_leaves_one_update(
    make_trainer: MakeTrainer, clock: Clock, seconds: float
) -> None:
    begun = clock.now
    clock.goes_on(60)()
    each = LambdaCallback(on_train_batch_start=clock.goes_on(1))
    recorder = _train(make_trainer, TimeLimit({"milliseconds": int(1000 * seconds)}, begun), each)
    assert recorder.history.last("update") == 1
    assert "max_time" in recorder.history.reason


def test_a_run_that_is_continued_has_the_time_that_is_left(
    make_trainer: MakeTrainer, clock: Clock, tmp_path: Path
) -> None:
    """From checkpoints of Lightning's Timer, too, and to those; and one whose time was used stays as it is."""
    each = LambdaCallback(on_train_batch_start=clock.goes_on(1))

    def go_on(limit: Timer, earlier: str | None, name: str) -> float:
        path = None if earlier is None else next((tmp_path / earlier).rglob("last.ckpt"))
        recorder = HistoryRecorder()
        trainer = make_trainer(
            callbacks=[recorder, limit, each, LastCheckpoint()], max_epochs=-1, enable_checkpointing=True, logs=True
        )
        trainer.loggers[0]._version = name  # type: ignore[attr-defined]
        data = RegressionDataModule(SteepLine(), batch_size=10)
        trainer.fit(RegressionModule(lr=0.01), data, ckpt_path=path, weights_only=True)
        return float(trainer.global_step)

    assert go_on(TimeLimit({"seconds": 21}, clock.now), None, "first") == 21
    assert go_on(TimeLimit({"seconds": 21}, clock.now), "first", "again") == 21
    begun = clock.now
    clock.goes_on(4)()
    assert go_on(TimeLimit({"seconds": 41}, begun), "first", "longer") == 21 + 20 - 4
    assert go_on(Timer({"seconds": 31}), "first", "by Lightning's") == 21 + 10
    assert go_on(TimeLimit({"seconds": 41}, clock.now), "by Lightning's", "and back") == 21 + 10 + 10


def test_the_command_line_counts_from_its_beginning(
    command_line: CommandLine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 seconds, the parser takes 60, and each update 1."""
    from gd_lightning.cli.command import Command

    parse = Command.parse_arguments

    def parse_slowly(*args: Any) -> None:
        clock.goes_on(60)()
        parse(*args)

    monkeypatch.setattr(Command, "parse_arguments", parse_slowly)
    monkeypatch.setattr(GradientVariance, "on_train_batch_start", clock.goes_on(1), raising=False)
    monkeypatch.setattr(Pictures, "on_train_batch_start", clock.goes_on(1), raising=False)
    monkeypatch.delattr(Pictures, "max_chunk_seconds")  # it needs each update separately now
    limits = ["--trainer.max_time", "00:00:01:40", "--data.batch_size", "100"]
    run = command_line.fit(*limits)
    assert 35 < _updates(run / "history.csv") <= 40
    assert "the time limit max_time was reached" in command_line.out
    assert command_line.err == ""
    # Each run of a comparison has its own time, of which its options take none: they have been parsed.
    assert command_line("compare", *limits, "--seeds", "1", "--vary", "model.lr=0.1,0.05") == 0, command_line.err
    histories = list(command_line.root.glob("lightning_logs/compare*/*/history.csv"))
    assert len(histories) == 2
    assert all(95 < _updates(history) <= 100 for history in histories)


def _updates(history: Path) -> int:
    return len(history.read_text().splitlines()) - 2  # header, and the row before the first update
