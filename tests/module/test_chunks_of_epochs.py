"""Wherever chunks are cut, within epochs, at their ends or behind many of them, a run is the same to the last bit."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, OnExceptionCheckpoint, Timer
from torch import Tensor, nn
from torch.optim import lr_scheduler

from gd_lightning import (
    ExcessBelow,
    Forecast,
    GradientNormBelow,
    GradientVariance,
    HistoryRecorder,
    LinearProblem,
    LossBelow,
    LossPlateau,
    RegressionDataModule,
    RegressionModule,
    StopOnDivergence,
)
from gd_lightning.callbacks.history_columns import Measuring
from gd_lightning.engine import ChunkRequest
from tests.conftest import CommandLine, MakeTrainer
from tests.selection import every

FUSED = importlib.util.find_spec("numba") is not None
STEP, EXPONENTIAL = "torch.optim.lr_scheduler.StepLR", "torch.optim.lr_scheduler.ExponentialLR"


class Killed(BaseException):
    """Stands for whatever ends a run from outside."""


class Scheduled(RegressionModule):
    """Has schedulers that are stepped behind updates, or behind each so many epochs, or both; and can be killed."""

    schedules: tuple[tuple[str, int], ...] = ()
    calls_to_live = 10**9
    """How often a loss is computed before the run is killed: in an update by autograd, or in a measurement."""

    def losses_of_update(self, x: Tensor, y: Tensor, batch_idx: int = 0) -> tuple[Tensor, Tensor]:
        self._live()
        return super().losses_of_update(x, y, batch_idx)

    def measured_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.trainer.training:
            self._live()
        return super().measured_loss(prediction, target)

    def _live(self) -> None:
        self.calls_to_live -= 1
        if self.calls_to_live == 0:
            raise Killed

    def configure_optimizers(self) -> Any:
        if not self.schedules:
            return super().configure_optimizers()
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=self.hparams["momentum"])
        scheduler = torch.optim.lr_scheduler.ExponentialLR
        return [optimizer], [
            {"scheduler": scheduler(optimizer, 0.97), "interval": interval, "frequency": frequency}
            for interval, frequency in self.schedules
        ]


class Cuts(Callback):
    """Has chunks end behind some epochs, as many as are drawn each time; 1: behind each."""

    def __init__(self, most: int, seed: int = 0) -> None:
        self.most, self.draw = most, random.Random(seed)
        self.chunks, self.longest = 0, 0

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        self.chunks += 1
        return ChunkRequest(epochs=self.draw.randint(1, self.most))


class Watch(Callback):
    """Looks at the end of each update."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Do nothing."""


CALLBACKS: dict[str, Callable[[], list[Callback]]] = {
    "none": lambda: [],
    "divergence": lambda: [StopOnDivergence(divergence_factor=3.0)],
    "goes on": lambda: [StopOnDivergence("continue")],
    "below": lambda: [StopOnDivergence(), LossBelow(3.0)],
    "excess": lambda: [ExcessBelow(0.3)],
    "plateau": lambda: [LossPlateau(3, min_delta=0.05)],
    "gradient": lambda: [GradientNormBelow(0.5)],
    "forecast": lambda: [Forecast(lambda _: None), GradientVariance(), StopOnDivergence()],
    "early": lambda: [EarlyStopping("train_loss", patience=3, min_delta=0.1)],
    "timer": lambda: [Timer({"hours": 1})],
}


def _case(draw: random.Random) -> dict[str, Any]:
    """Draw what a run is made with."""
    batch_size = draw.choice(["full", "full", 1, 4, 7])
    limits = [
        {"max_epochs": draw.randint(2, 30)},
        {"max_epochs": -1, "max_steps": draw.randint(5, 90)},
        {"max_epochs": 12, "limit_train_batches": 2},
        {"max_epochs": 20, "min_epochs": 9},
    ]
    limit = draw.choice(limits)
    validation = draw.choice([{}, {}, {"check_val_every_n_epoch": 3}, {"check_val_every_n_epoch": 1}])
    case: dict[str, Any] = {
        "module": {
            "lr": draw.choice([0.003, 0.02, 0.02, 0.6]),
            "momentum": draw.choice([0.0, 0.5]),
            "weight_decay": draw.choice([0.0, 0.01]),
            "l1": draw.choice([0.0, 0.0, 0.02]),
            "loss": draw.choice(["mse", "mse", "huber"]),
            "hidden_sizes": draw.choice([[], [], [4]]),
            "lr_scheduler": draw.choice([None, None, {"class_path": STEP, "init_args": {"step_size": 4}}]),
            "engine": draw.choice(["fused", "fused", "autograd"]) if FUSED else "autograd",
        },
        "schedules": draw.choice([(), (), (("step", 1),), (("epoch", 2),), (("epoch", 1), ("step", 1))]),
        "data": {
            "batch_size": batch_size,
            "order": draw.choice(["shuffled", "sequential", "with_replacement"]),
            "drop_last": draw.choice([False, True]),
            "val_size": 6 if validation else 0,
            "standardize": draw.choice([False, True]),
            "micro_batch_size": draw.choice([None, 4]) if batch_size in (1, 4) else None,  # of validation, too
        },
        "trainer": {**limit, **validation, "precision": draw.choice(["32-true", "64-true"])},
        "features": draw.choice([1, 3]),
        "callbacks": draw.choice(list(CALLBACKS)),
        "max_rows": draw.choice([20_000, 20_000, 5]),
    }
    if case["callbacks"] == "excess" and (case["module"]["loss"] != "mse" or case["module"]["hidden_sizes"]):
        case["callbacks"] = "below"
    return case


def _run(
    make_trainer: MakeTrainer,
    case: dict[str, Any],
    cuts: Callback,
    *others: Callback,
    checkpoint: Path | None = None,
    calls: int = 10**9,
    **of_trainer: Any,
) -> tuple[Trainer, Any, HistoryRecorder]:
    torch.manual_seed(0)
    recorder = HistoryRecorder(max_rows=case["max_rows"])
    callbacks = [recorder, *CALLBACKS[case["callbacks"]](), cuts, *others]
    trainer = make_trainer(callbacks=callbacks, **{**case["trainer"], **of_trainer})
    module = Scheduled(**case["module"])
    module.schedules, module.calls_to_live = case["schedules"], calls
    module.fewest_fused_updates = 0
    data = RegressionDataModule(LinearProblem(n_samples=20, n_features=case["features"]), **case["data"])
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return trainer, module, recorder


def _result(trainer: Trainer, module: Any, recorder: HistoryRecorder) -> dict[str, Any]:
    """Return everything that may not depend on where chunks are cut."""
    history = recorder.history
    columns = {
        name: tuple(part.tolist() for part in history.series(name)) for name in history.columns if name != "seconds"
    }
    assert np.all(np.diff(history["seconds"]) >= 0)
    loops = trainer.fit_loop.state_dict()
    return {
        "weights": nn.utils.parameters_to_vector(module.parameters()).tolist(),
        "history": {name: repr(values) for name, values in columns.items()},
        "ended": (str(history.outcome), history.reason),
        "counters": {name: value for name, value in loops.items() if name != "state_dict"},
        "loader": loops["state_dict"].get("combined_loader"),
        "at": (trainer.current_epoch, trainer.global_step),
        "optimizer": repr(trainer.optimizers[0].state_dict()),
        "schedulers": [config.scheduler.state_dict()["_last_lr"] for config in trainer.lr_scheduler_configs],
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }


def _assert_same(make_trainer: MakeTrainer, seed: int) -> int:
    """Compare the ways to cut; returns how many epochs fewer than in single ones were begun by Lightning."""
    case = _case(random.Random(seed))
    expected = _result(*_run(make_trainer, case, Watch()))
    chunks = []
    for most in (1, 4, 10**6):
        cuts = Cuts(most, seed)
        found = _result(*_run(make_trainer, case, cuts))
        for name, value in expected.items():
            assert repr(found[name]) == repr(value), (seed, most, name, case)
        chunks.append(cuts.chunks)
    return chunks[0] - chunks[-1]


def _assert_continues(make_trainer: MakeTrainer, directory: Path, seed: int) -> None:
    """Kill a run in an update or a measurement, or stop it, and continue it with other cuts."""
    draw = random.Random(seed)
    case = _case(draw)
    case["callbacks"] = draw.choice(["none", "divergence", "forecast", "plateau"])
    case["max_rows"] = 20_000  # else a shorter run has more of the same rows
    whole = _result(*_run(make_trainer, case, Cuts(10**6)))
    (epochs, updates), path = whole["at"], directory / "on_exception.ckpt"
    if draw.random() < 0.5:
        case["module"] |= {"engine": "autograd"}  # whose network is called at each update
        whole = _result(*_run(make_trainer, case, Cuts(10**6)))
        keeper, calls = OnExceptionCheckpoint(directory), draw.randint(3, 2 * max(2, updates))
        try:
            _run(make_trainer, case, Cuts(5, seed), keeper, calls=calls, enable_checkpointing=True)
        except Killed:
            pass
        else:
            return
    else:
        path = directory / "early.ckpt"
        limit: dict[str, Any] = draw.choice(
            [{"max_epochs": draw.randint(1, max(1, epochs - 1))}, {"max_steps": draw.randint(1, max(1, updates - 1))}]
        )
        trainer, *_ = _run(make_trainer, case, Cuts(5, seed), **limit)
        trainer.save_checkpoint(path)
    if torch.load(path, weights_only=True)["global_step"] == updates:
        return  # it has come to its end, behind which nothing is done
    found = _result(*_run(make_trainer, case, Cuts(10**6), checkpoint=path))
    for name in ("weights", "history", "at", "optimizer", "schedulers"):
        assert repr(found[name]) == repr(whole[name]), (seed, name, case)


@pytest.mark.parametrize("part", every(2, range(4)))
def test_cuts_change_no_bit(make_trainer: MakeTrainer, part: int) -> None:
    saved = [_assert_same(make_trainer, seed) for seed in range(4 * part, 4 * part + 4)]
    assert min(saved) >= 0
    assert max(saved) > 0  # else none of these runs has chunks of several epochs


# An MLP that diverges, whose cause is in weights that it had before; validation in parts that Lightning leaves out.
@pytest.mark.parametrize("seed", [1010, 1072])
def test_cuts_change_no_cause_of_a_divergence_and_no_loss_of_a_validation_that_is_left_out(
    make_trainer: MakeTrainer, seed: int
) -> None:
    _assert_same(make_trainer, seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(30))
def test_cuts_change_no_bit_of_many_runs(make_trainer: MakeTrainer, part: int) -> None:
    assert max(_assert_same(make_trainer, seed) for seed in range(1000 + 10 * part, 1010 + 10 * part)) > 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning's, about a fit with checkpoints and without a path
@pytest.mark.parametrize("part", range(4))
def test_what_is_killed_is_continued(make_trainer: MakeTrainer, tmp_path: Path, part: int) -> None:
    for seed in range(3 * part, 3 * part + 3):
        _assert_continues(make_trainer, tmp_path / str(seed), seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # as for the test above
@pytest.mark.parametrize("part", range(10))
def test_what_is_killed_fifty_times_is_continued(make_trainer: MakeTrainer, tmp_path: Path, part: int) -> None:
    for seed in range(100 + 10 * part, 110 + 10 * part):  # half of them are killed, the others stopped
        _assert_continues(make_trainer, tmp_path / str(seed), seed)


class Ends(Callback):
    """Counts the ends of epochs that it is told of."""

    ends = 0

    def on_train_epoch_end(self, *_: Any) -> None:
        self.ends += 1


class Starts(Ends):
    def on_train_epoch_start(self, *_: Any) -> None:
        """Do nothing."""


class NewRecorder(HistoryRecorder):
    """Of a class that says that it can do without single epochs, and needs them itself."""

    ends = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.ends += 1


class NewRecorderThatSaysSo(NewRecorder):
    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        return replace(super().chunk_request(trainer), epochs=4)


class OddLosses(LossBelow):
    """Looks at each train loss in a way of its own."""

    ends = 0

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        self.ends += recorder.history.last("update") > 0
        return ""


class OddMeasure(Measuring):
    ends = 0

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        self.ends += trainer.global_step > 0
        return {}


class OddModule(RegressionModule):
    ends = 0

    def on_train_epoch_end(self) -> None:
        self.ends += 1


def _replaced() -> Callback:
    callback = Ends()
    callback.on_train_epoch_end = lambda *_: setattr(callback, "ends", callback.ends + 1)  # type: ignore[method-assign]
    return callback


EPOCHS = 40
LOOKING: dict[str, Callable[[], Any]] = {
    "end": Ends,
    "start": Starts,
    "replaced": _replaced,
    "recorder": NewRecorder,
    "criterion": lambda: OddLosses(0.0),
    "measure": OddMeasure,
    "module": lambda: OddModule(lr=0.02),
}


def _fit(make_trainer: MakeTrainer, *callbacks: Callback, module: Any = None, **of_trainer: Any) -> Trainer:
    trainer = make_trainer(callbacks=[HistoryRecorder(), *callbacks], **{"max_epochs": EPOCHS, **of_trainer})
    module = module or RegressionModule(lr=0.02)
    trainer.fit(module, RegressionDataModule(LinearProblem(n_samples=20), batch_size="full"))
    assert trainer.current_epoch == EPOCHS
    return trainer


@pytest.mark.parametrize("name", LOOKING)
def test_what_looks_at_single_epochs_gets_them(make_trainer: MakeTrainer, name: str) -> None:
    looks = LOOKING[name]()
    is_module = isinstance(looks, LightningModule)
    _fit(make_trainer, *([] if is_module else [looks]), module=looks if is_module else None)
    assert looks.ends == EPOCHS


def test_a_new_class_says_how_many_epochs_it_can_do_with(make_trainer: MakeTrainer) -> None:
    recorder = NewRecorderThatSaysSo()
    _fit(make_trainer, recorder)
    assert EPOCHS // 4 <= recorder.ends < EPOCHS
    assert len(recorder.history.series("train_loss")[0]) == EPOCHS + 1


@pytest.mark.parametrize("option", [{}, {"reload_dataloaders_every_n_epochs": 1}])
def test_epochs_are_left_to_lightning_where_it_has_to_do_something_between(
    make_trainer: MakeTrainer, option: dict[str, Any]
) -> None:
    cuts = Cuts(10**6)
    data = RegressionDataModule(LinearProblem(n_samples=20), batch_size="full")
    trainer = make_trainer(callbacks=[HistoryRecorder(), cuts], max_epochs=EPOCHS, **option)
    trainer.fit(RegressionModule(lr=0.02), data)
    assert (cuts.chunks == EPOCHS) == bool(option)


class TrainLosses(Callback):
    """Reads the newest train loss where a run validates, which is before that of the present epoch is measured."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        self.seen[trainer.current_epoch] = float(trainer.callback_metrics["train_loss"])


def test_metrics_have_the_train_loss_of_the_epoch_before(make_trainer: MakeTrainer) -> None:
    recorder, losses = HistoryRecorder(), TrainLosses()
    callbacks = [recorder, losses, cuts := Cuts(10**6)]
    data = RegressionDataModule(LinearProblem(n_samples=20), batch_size="full", val_size=5)
    trainer = make_trainer(callbacks=callbacks, max_epochs=20, check_val_every_n_epoch=5, num_sanity_val_steps=0)
    trainer.fit(RegressionModule(lr=0.02), data)
    _, expected = recorder.history.series("train_loss")
    assert losses.seen == {epoch: expected[epoch] for epoch in (4, 9, 14, 19)}
    assert cuts.chunks < 20


@pytest.mark.skipif(not FUSED, reason="by autograd, as many epochs take seconds")
def test_nothing_of_the_command_line_looks_at_single_epochs(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each epoch is in the history; Lightning ends one for many of them."""
    ends: list[int] = []
    end = HistoryRecorder.on_train_epoch_end

    def count(recorder: HistoryRecorder, trainer: Trainer, module: LightningModule) -> None:
        ends.append(trainer.current_epoch)
        end(recorder, trainer, module)

    monkeypatch.setattr(HistoryRecorder, "on_train_epoch_end", count)
    run = command_line.fit("--trainer.max_epochs", "3000")
    history = (run / "history.csv").read_text().splitlines()
    train_loss = history[0].split(",").index("train_loss")
    assert [float(line.split(",")[train_loss]) >= 0 for line in history[1:]] == [True] * 3001
    assert ends[-1] == 2999
    assert len(ends) < 100


def _fails_at(step: int, scheduler_step: int) -> float:
    if scheduler_step == step:
        raise ArithmeticError(f"no rate at step {step}")
    return 0.9**scheduler_step


FAILING: dict[str, Callable[[Any], Any]] = {
    "one cycle": lambda sgd: lr_scheduler.OneCycleLR(sgd, 0.05, total_steps=7, cycle_momentum=False),
    "first": lambda sgd: lr_scheduler.LambdaLR(sgd, lambda step: _fails_at(1, step)),
    "second": lambda sgd: lr_scheduler.LambdaLR(sgd, lambda step: _fails_at(2, step)),
    "within": lambda sgd: lr_scheduler.SequentialLR(
        sgd, [lr_scheduler.ExponentialLR(sgd, 0.9), lr_scheduler.LambdaLR(sgd, lambda step: _fails_at(3, step))], [4]
    ),
}


class Fails(RegressionModule):
    """Has a scheduler whose step fails, and another one before it."""

    def __init__(self, name: str, interval: str) -> None:
        super().__init__(lr=0.02, engine="fused" if FUSED else "autograd")
        self.name, self.interval = name, interval
        self.fewest_fused_updates = 0

    def configure_optimizers(self) -> Any:
        sgd = torch.optim.SGD(self.parameters(), lr=0.02)
        schedulers = lr_scheduler.ExponentialLR(sgd, 0.99), FAILING[self.name](sgd)
        return [sgd], [{"scheduler": each, "interval": self.interval} for each in schedulers]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of Lightning's, about the interval of OneCycleLR
@pytest.mark.filterwarnings("ignore::UserWarning")  # of older releases of torch, which give SequentialLR an epoch
@pytest.mark.parametrize("batch_size", ["full", 7])
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", FAILING)
def test_updates_before_a_step_of_a_scheduler_that_fails_are_made(
    make_trainer: MakeTrainer, name: str, interval: str, batch_size: Any
) -> None:
    found = []
    for watch in (Watch(), Cuts(10**6)):
        torch.manual_seed(0)
        recorder, module = HistoryRecorder(), Fails(name, interval)
        trainer = make_trainer(callbacks=[recorder, watch], max_epochs=40)
        data = RegressionDataModule(LinearProblem(n_samples=20), batch_size=batch_size)
        with pytest.raises((ValueError, ArithmeticError)) as raised:
            trainer.fit(module, data)
        losses = {name: repr(recorder.history.series(name)) for name in ("batch_loss", "train_loss", "lr", "epoch")}
        weights = nn.utils.parameters_to_vector(module.parameters()).tolist()
        found.append([str(raised.value), trainer.global_step, trainer.current_epoch, weights, losses])
    assert found[0] == found[1]
    assert trainer.global_step > 0


@pytest.mark.skipif(not FUSED, reason="other engines keep the rows of updates instead of computing them again")
@pytest.mark.parametrize("n_samples", [50, 10_001], ids=["drawn by compiled code", "drawn by torch"])
def test_rows_that_are_computed_when_they_are_read_have_the_order_of_their_chunk(
    make_trainer: MakeTrainer, n_samples: int
) -> None:
    """All chunks of several epochs have their orders in the same memory."""
    found = []
    for most in (1, 3):
        recorder, cuts = HistoryRecorder(max_rows=10**6), Cuts(most)
        module = RegressionModule(lr=0.01, engine="fused")
        data = RegressionDataModule(LinearProblem(n_samples=n_samples, n_features=2), batch_size=1)
        make_trainer(max_epochs=8 if n_samples < 100 else 4, callbacks=[recorder, cuts]).fit(module, data)
        assert cuts.chunks > 1
        found.append(recorder.history)
    for name in ("batch_loss", "w_0", "w_1", "b", "grad_w_0", "train_loss_by_update"):
        np.testing.assert_array_equal(found[1][name], found[0][name], err_msg=name)
