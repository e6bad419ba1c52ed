"""A run that is interrupted anywhere ends with the update that it came to, and with the train loss of its weights."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback, OnExceptionCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from gd_lightning import HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule, StopOnDivergence
from gd_lightning.callbacks import StopOnSignal
from gd_lightning.tracking.summary import run_report
from tests.conftest import MakeTrainer

N, B, LR = 50, 8, 0.05
PER_EPOCH = 7


class Failing(nn.Sequential):
    """A linear network that is interrupted in the forward pass of an update, counted from 1."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__(nn.Linear(3, 1))
        self.at, self.error, self.calls = at, error, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        if self.calls == self.at and self.training:
            raise self.error
        out = self[0](x)
        assert isinstance(out, Tensor)
        return out


def _hook(hook: str, call: int, error: BaseException) -> list[Callback]:
    calls = iter(range(10_000))

    def act(*_: Any) -> None:
        if next(calls) == call:
            raise error

    return [LambdaCallback(**{hook: act})]


def _stop(hook: str, call: int) -> list[Callback]:
    calls = iter(range(10_000))

    def act(trainer: Trainer, *_: Any) -> None:
        if next(calls) == call:
            trainer.should_stop = True

    return [LambdaCallback(**{hook: act})]


def _signal(number: int, call: int) -> list[Callback]:
    calls = iter(range(10_000))

    def act(*_: Any) -> None:
        if next(calls) == call:
            os.kill(os.getpid(), number)

    return [LambdaCallback(on_train_batch_start=act), StopOnSignal()]


STOPS: dict[str, tuple[Callable[[], list[Callback]], dict[str, Any], int]] = {
    "exception behind an update": (lambda: _hook("on_train_batch_end", 2, ValueError("no")), {}, 3),
    "exception before an update": (lambda: _hook("on_train_batch_start", 3, ValueError("no")), {}, 3),
    "exception in an update": (lambda: _hook("on_before_optimizer_step", 3, ValueError("no")), {}, 3),
    "exception in a later epoch": (lambda: _hook("on_train_batch_end", 16, ValueError("no")), {}, 17),
    "exception at an epoch's start": (lambda: _hook("on_train_epoch_start", 2, ValueError("no")), {}, 14),
    "exception at an epoch's end": (lambda: _hook("on_train_epoch_end", 1, ValueError("no")), {}, 14),
    "exception in validation": (
        lambda: _hook("on_validation_start", 0, ValueError("no")),
        {"val_check_interval": 3},
        3,
    ),
    "Ctrl-C": (lambda: _hook("on_train_batch_end", 4, KeyboardInterrupt()), {}, 5),
    "SIGINT": (lambda: _signal(signal.SIGINT, 4), {}, 5),
    "SIGTERM": (lambda: _signal(signal.SIGTERM, 9), {}, 10),
    "max_steps": (list, {"max_steps": 5}, 5),
    "should_stop": (lambda: _stop("on_train_batch_end", 4), {}, 5),
}


@pytest.mark.parametrize("first", [True, False], ids=["recorder first", "recorder last"])
@pytest.mark.parametrize("engine", ["autograd", "auto"])
@pytest.mark.parametrize("name", STOPS)
def test_the_last_loss_is_that_of_the_weights(make_trainer: MakeTrainer, name: str, engine: Any, first: bool) -> None:
    make, options, updates = STOPS[name]
    recorder = HistoryRecorder()
    callbacks = [recorder, *make()] if first else [*make(), recorder]
    module, data = RegressionModule(lr=LR, engine=engine), _data(10 if "val_check_interval" in options else 0)
    trainer = make_trainer(callbacks=callbacks, max_epochs=4, precision="64-true", **options)
    with contextlib.suppress(ValueError, SIGTERMException, SystemExit):
        trainer.fit(module, data)
    _assert_ended(recorder, trainer, module, data, updates)


def _data(val_size: int = 0) -> RegressionDataModule:
    return RegressionDataModule(
        LinearProblem(n_samples=N + val_size, n_features=3), batch_size=B, val_size=val_size, order="sequential"
    )


def _assert_ended(
    recorder: HistoryRecorder, trainer: Trainer, module: RegressionModule, data: RegressionDataModule, updates: int
) -> None:
    """Derive weights, loss and axes from NumPy."""
    x, y = (part.double().numpy() for part in data.parts_in(torch.float64)[0].take(slice(None)))
    weights = np.concatenate([values.detach().numpy().ravel() for values in module.parameters()])
    expected = float(np.mean((x @ weights[:3, None] + weights[3] - y) ** 2))
    summary = recorder.summary
    assert summary is not None
    assert (trainer.global_step, summary.updates, recorder.history.last("update")) == (updates,) * 3
    assert summary.train_loss_last == pytest.approx(expected, rel=1e-9)
    assert recorder.history.series("train_loss")[0][-1] == updates
    whole, rest = divmod(updates, PER_EPOCH)
    assert summary.epochs == pytest.approx(whole + rest / PER_EPOCH)
    assert summary.samples == whole * N + rest * B
    assert summary.train_loss_first is not None
    assert summary.train_loss_last is not None
    assert summary.train_loss_last < summary.train_loss_first


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("at", [3, 7, 8, 17])
def test_updates_of_an_interrupted_chunk_are_counted(make_trainer: MakeTrainer, at: int, error: BaseException) -> None:
    """Weights, counters and schedulers are those of Lightning's own loop, interrupted in the same update."""
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        recorder, module, data = HistoryRecorder(), Scheduled(lr=LR, network=Failing(at, error)), _data()
        watchers = _hook("on_before_zero_grad", -1, ValueError()) if watched else []
        trainer = make_trainer(callbacks=[recorder, *watchers], max_epochs=4, precision="64-true")
        with pytest.raises((ValueError, SystemExit)):
            trainer.fit(module, data)
        _assert_ended(recorder, trainer, module, data, at - 1)
        assert module.decision.in_chunks != watched
        (optimizer,), loop = trainer.optimizers, trainer.fit_loop.state_dict()
        ends.append(
            (nn.utils.parameters_to_vector(module.parameters()).tolist(), optimizer.param_groups[0]["lr"], loop)
        )
    assert ends[0][:2] == ends[1][:2]
    counted, others = (end[2]["epoch_loop.batch_progress"] for end in ends)
    for name in ("total", "current"):
        for counter in ("processed", "completed"):
            assert counted[name][counter] == others[name][counter]


class Scheduled(RegressionModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=LR)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def test_a_network_that_can_no_longer_be_evaluated_does_not_take_the_record_away(make_trainer: MakeTrainer) -> None:
    recorder, network = HistoryRecorder(), Failing(10**9, ValueError())

    def break_it(*_: Any) -> None:
        network[0] = nn.Linear(7, 1)
        raise ValueError("no")

    trainer = make_trainer(callbacks=[recorder, LambdaCallback(on_train_epoch_end=break_it)], max_epochs=4)
    with pytest.raises(ValueError, match="no"):
        trainer.fit(RegressionModule(lr=LR, network=network), _data())
    assert recorder.summary is not None
    assert recorder.history.last("update") == PER_EPOCH


def test_a_value_that_could_not_be_measured_again_has_its_update_beside_it(make_trainer: MakeTrainer) -> None:
    """Of metrics that only a validation measures, and of a train loss that a broken network has no more."""
    recorder, network = HistoryRecorder(), Failing(10**9, ValueError())

    def break_it(trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2 * PER_EPOCH + 3:
            network[0] = nn.Linear(7, 1)
            raise ValueError("no")

    trainer = make_trainer(callbacks=[recorder, LambdaCallback(on_train_batch_end=break_it)], max_epochs=4)
    with pytest.raises(ValueError, match="no"):
        trainer.fit(RegressionModule(lr=LR, network=network), _data(10))
    summary = recorder.summary
    assert summary is not None
    names = ("train_loss", "val_loss", "val_mse", "val_mae", "val_r2")
    assert summary.measured_at == dict.fromkeys(names, 2 * PER_EPOCH)
    told = run_report(summary, "")
    assert told.count("(after update 14)") == len(names)


def test_a_validation_in_every_third_epoch_says_which_epoch_it_was(make_trainer: MakeTrainer) -> None:
    recorder = HistoryRecorder()
    make_trainer(callbacks=[recorder], max_epochs=4, check_val_every_n_epoch=3).fit(RegressionModule(lr=LR), _data(10))
    assert recorder.summary is not None
    assert recorder.summary.measured_at == dict.fromkeys(("val_mse", "val_mae", "val_r2"), 3 * PER_EPOCH)


def test_a_suspicion_that_proves_wrong_leaves_the_learning_rate_as_it_was(make_trainer: MakeTrainer) -> None:
    """A chunk that is ended early, and goes on, has the rates of a schedule that was never looked ahead."""
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        module = Scheduled(lr=LR)
        watchers = _hook("on_before_zero_grad", -1, ValueError()) if watched else []
        stop = StopOnDivergence(divergence_factor=1.0001)
        trainer = make_trainer(callbacks=[HistoryRecorder(), stop, *watchers], max_epochs=1, precision="64-true")
        data = RegressionDataModule(LinearProblem(n_samples=400, n_features=3, noise=3.0), batch_size=1)
        trainer.fit(module, data)
        ends.append(trainer.optimizers[0].param_groups[0]["lr"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)
    assert ends[1] == pytest.approx(LR * 0.95**400, rel=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning's, about a fit with checkpoints and without a path
@pytest.mark.parametrize("where", ["between updates", "in an update"])
@pytest.mark.parametrize("at", [5, 10, 14, 17])
def test_what_an_exception_left_is_continued_as_if_it_had_not_been(
    make_trainer: MakeTrainer, tmp_path: Path, at: int, where: str
) -> None:
    """Of a checkpoint that Lightning's OnExceptionCheckpoint writes, behind the last measurement."""

    def run(path: Path | None, *callbacks: Callback, fail: int = 10**9) -> tuple[Tensor, HistoryRecorder]:
        torch.manual_seed(0)
        recorder, module = HistoryRecorder(), Scheduled(lr=LR, network=Failing(fail, ValueError("no")))
        trainer = make_trainer(
            callbacks=[recorder, *callbacks], max_epochs=4, precision="64-true", enable_checkpointing=bool(callbacks)
        )
        with contextlib.suppress(ValueError):
            trainer.fit(module, _data(), ckpt_path=path, weights_only=True)
        return nn.utils.parameters_to_vector(module.parameters()).detach(), recorder

    whole, record = run(None)
    stops = [] if where == "in an update" else _hook("on_train_batch_end", at - 1, ValueError("no"))
    run(None, *stops, OnExceptionCheckpoint(tmp_path), fail=at + 1 if where == "in an update" else 10**9)
    rest, again = run(tmp_path / "on_exception.ckpt")
    torch.testing.assert_close(rest, whole, rtol=1e-12, atol=1e-14)
    for name in ("train_loss", "batch_loss"):
        for found, expected in zip(again.history.series(name), record.history.series(name), strict=True):
            if name == "train_loss" or where == "between updates":
                np.testing.assert_allclose(found, expected, rtol=1e-10)
