"""Whatever carries out the updates of a run, it is the same run: weights, history, counters, checkpoints."""

from __future__ import annotations

import gc
import importlib.util
import json
import weakref
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, TQDMProgressBar
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gd_lightning import (
    History,
    HistoryRecorder,
    InputError,
    LastCheckpoint,
    LinearProblem,
    PrintUpdates,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    StopOnDivergence,
    TimeBudget,
)
from gd_lightning.callbacks import StopOnSignal
from gd_lightning.engine import Chunk, Engine, Record, Trace
from tests.conftest import CommandLine, MakeTrainer
from tests.module.test_resume import AtTheEnd, EveryUpdates, Run, _assert_every_checkpoint_continues

pytest.importorskip("numba", reason="the fused engine is compiled by numba")

STEPS = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}


class Watch(Callback):
    """Looks at single updates."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.sizes: list[tuple[int, ...]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        x, y = batch
        self.seen.append((batch_idx, trainer.global_step))
        self.sizes.append((len(x), len(y)))


class ByUpdate(RegressionModule):
    """Has a learning rate that falls at every update."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.5)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


WAYS: dict[str, dict[str, Any]] = {
    "single": {"engine": "autograd", "watch": True},
    "autograd": {"engine": "autograd"},
    "fused": {"engine": "fused"},
    "fused, one by one": {"engine": "fused", "watch": True},
}
EVERYTHING = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "l1": 0.01, "lr_scheduler": STEPS}
NETWORK = {"hidden_sizes": [6, 3], "activation": "tanh", "momentum": 0.5, "loss": "huber"}


def _fit(
    make_trainer: MakeTrainer,
    way: str,
    of_module: dict[str, Any],
    of_data: dict[str, Any],
    cls: type[RegressionModule] = RegressionModule,
    checkpoint: Path | None = None,
    callbacks: tuple[Callback, ...] = (),
    problem: LinearProblem | None = None,
    **of_trainer: Any,
) -> tuple[Tensor, dict[str, Any], History]:
    torch.manual_seed(0)
    chosen = WAYS[way]
    recorder = HistoryRecorder()
    watchers = [Watch()] if chosen.get("watch") else []
    trainer = make_trainer(
        callbacks=[recorder, *callbacks, *watchers],
        **{"max_epochs": 3, "precision": "64-true", **of_trainer},
    )
    module = cls(**{"lr": 0.002, "engine": chosen["engine"], **of_module})
    problem = problem or LinearProblem(n_samples=50, n_features=3, n_targets=2)
    data = RegressionDataModule(problem, **{"batch_size": 8, **of_data})
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    assert module.decision.engine == chosen["engine"]
    assert module.decision.in_chunks == (way != "single")
    loops = trainer.fit_loop.state_dict()
    return nn.utils.parameters_to_vector(module.parameters()).detach(), loops, recorder.history


def _assert_same(ours: History, theirs: History, exactly: bool) -> None:
    assert ours.columns == theirs.columns
    assert (ours.outcome, ours.reason) == (theirs.outcome, theirs.reason)
    for name in set(ours.columns) - {"seconds"}:
        (at, values), (other_at, others) = ours.series(name), theirs.series(name)
        np.testing.assert_array_equal(at, other_at, err_msg=name)
        np.testing.assert_allclose(values, others, rtol=0 if exactly else 1e-10, atol=0 if exactly else 1e-13)
    assert np.all(np.diff(ours["seconds"]) >= 0)


@pytest.mark.parametrize(
    ("of_module", "of_data", "of_trainer"),
    [
        (EVERYTHING, {}, {}),
        (NETWORK, {"order": "with_replacement"}, {}),
        ({}, {"batch_size": 1, "order": "sequential", "standardize": "features"}, {}),
        ({}, {"batch_size": "full", "val_size": 10}, {"max_epochs": 7}),
        (NETWORK, {"val_size": 10}, {"val_check_interval": 2}),
        ({}, {"val_size": 10, "batch_size": 3}, {"val_check_interval": 5, "check_val_every_n_epoch": None}),
        (EVERYTHING, {"drop_last": True}, {"max_steps": 8, "max_epochs": -1}),
        ({"bias": False}, {}, {"limit_train_batches": 3}),
    ],
)
def test_every_engine_makes_the_same_run(
    make_trainer: MakeTrainer, of_module: dict[str, Any], of_data: dict[str, Any], of_trainer: dict[str, Any]
) -> None:
    weights, loops, history = _fit(make_trainer, "single", of_module, of_data, **of_trainer)
    for way in ("autograd", "fused", "fused, one by one"):
        found, counted, recorded = _fit(make_trainer, way, of_module, of_data, **of_trainer)
        torch.testing.assert_close(
            found, weights, rtol=0 if way == "autograd" else 1e-12, atol=0 if way == "autograd" else 1e-13
        )
        assert counted == loops
        _assert_same(recorded, history, exactly=way == "autograd")


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "torch.optim.NAdam": {},
    "torch.optim.RMSprop": {"momentum": 0.5},
    "torch.optim.LBFGS": {"max_iter": 3},  # which asks for the gradient three times an update; the first is recorded
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("of_data", [{}, {"order": "with_replacement"}, {"order": "sequential", "drop_last": True}])
def test_single_updates_are_those_of_chunks_to_the_last_bit_wherever_they_begin(
    make_trainer: MakeTrainer, tmp_path: Path, optimizer: str, of_data: dict[str, Any]
) -> None:
    """In float32, with batches none of which ends where memory is aligned: sums depend on it in their last bits."""
    of_module = {"optimizer": {"class_path": optimizer, "init_args": {"lr": 0.01, **OPTIMIZERS[optimizer]}}}
    options = of_module, {"batch_size": 9, **of_data}
    problem = LinearProblem(n_samples=69, n_features=10)

    def fit(way: str, **others: Any) -> tuple[Tensor, dict[str, Any], History]:
        return _fit(make_trainer, way, *options, problem=problem, precision="32-true", max_epochs=2, **others)

    whole, _, history = fit("autograd")
    found = [fit("single", callbacks=(EveryUpdates(tmp_path, 3),))]
    found += [fit("single", checkpoint=checkpoint) for checkpoint in sorted(tmp_path.glob("*.ckpt"))]
    assert len(found) > 4
    for weights, _, recorded in found:
        assert torch.equal(weights, whole)
        _assert_same(recorded, history, exactly=True)


def test_a_rate_that_falls_at_every_update_does_so_within_chunks(make_trainer: MakeTrainer) -> None:
    weights, _, history = _fit(make_trainer, "single", {}, {}, ByUpdate)
    assert len(set(history.series("lr")[1])) == len(history) - 1  # row 0 has the rate of the first update
    for way in ("autograd", "fused"):
        found, _, recorded = _fit(make_trainer, way, {}, {}, ByUpdate)
        torch.testing.assert_close(found, weights, rtol=1e-12, atol=1e-13)
        _assert_same(recorded, history, exactly=way == "autograd")


@pytest.mark.parametrize("stop", [4, 7, 14])
@pytest.mark.parametrize(("first", "second"), [("single", "fused"), ("fused", "autograd"), ("fused", "single")])
def test_a_run_may_go_on_with_another_engine(
    make_trainer: MakeTrainer, tmp_path: Path, stop: int, first: str, second: str
) -> None:
    whole, loops, history = _fit(make_trainer, "single", EVERYTHING, {})
    _fit(make_trainer, first, EVERYTHING, {}, callbacks=(AtTheEnd(tmp_path),), max_steps=stop)
    found, counted, recorded = _fit(make_trainer, second, EVERYTHING, {}, checkpoint=tmp_path / "end.ckpt")
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-13)
    assert counted["epoch_loop.batch_progress"]["total"] == loops["epoch_loop.batch_progress"]["total"]
    _assert_same(recorded, history, exactly=False)


def _fused() -> RegressionModule:
    return RegressionModule(lr=0.002, momentum=0.9, hidden_sizes=[6], lr_scheduler=STEPS, engine="fused")


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}, {"max_steps": 17}])
def test_a_fused_run_continues_at_the_same_bits_behind_any_update(
    make_trainer: MakeTrainer, tmp_path: Path, options: dict[str, Any]
) -> None:
    run = Run(make_trainer, _fused, lambda path: [EveryUpdates(path, 7)], **options)
    _assert_every_checkpoint_continues(run, tmp_path, 2)


@pytest.mark.parametrize("stop", [3, 5, 7])
def test_a_fused_run_that_max_steps_stopped_is_continued(make_trainer: MakeTrainer, tmp_path: Path, stop: int) -> None:
    run = Run(make_trainer, _fused, lambda path: [AtTheEnd(path)])
    weights, updates, history = run(tmp_path / "whole")
    assert run(tmp_path / "part", max_steps=stop)[1] == stop
    resumed, resumed_updates, resumed_history = run(tmp_path / "rest", tmp_path / "part/end.ckpt")
    assert (resumed_updates, len(resumed_history)) == (updates, len(history))
    assert torch.equal(resumed, weights)


@pytest.mark.parametrize(("lr", "sign"), [(0.2, "grew"), (1e30, "no longer a finite number")])
def test_every_engine_stops_a_diverging_run_behind_the_same_update(
    make_trainer: MakeTrainer, lr: float, sign: str
) -> None:
    updates = []
    for way in WAYS.values():
        watchers = [Watch()] if way.get("watch") else []
        recorder, data = HistoryRecorder(), RegressionDataModule(LinearProblem(n_samples=2000), batch_size=1)
        trainer = make_trainer(callbacks=[recorder, StopOnDivergence(), *watchers], max_epochs=1)
        trainer.fit(RegressionModule(lr=lr, engine=way["engine"]), data)
        assert sign in recorder.history.reason
        updates.append(recorder.history.last("update"))
    assert len(set(updates)) == 1
    assert 0 < updates[0] < 2000


def test_a_suspicion_outlives_the_end_of_a_chunk(make_trainer: MakeTrainer) -> None:
    updates = []
    for way in ("autograd", "fused"):
        recorder, data = (
            HistoryRecorder(),
            RegressionDataModule(LinearProblem(n_samples=2000), batch_size=1, val_size=50),
        )
        trainer = make_trainer(callbacks=[recorder, StopOnDivergence()], max_epochs=1, val_check_interval=7)
        trainer.fit(RegressionModule(lr=0.2, engine=WAYS[way]["engine"]), data)
        updates.append(recorder.history.last("update"))
    assert updates[0] == updates[1] < 2000
    assert updates[0] % 100 == 0


def test_what_looks_at_single_updates_gets_them_one_by_one(make_trainer: MakeTrainer) -> None:
    watch = Watch()
    trainer = make_trainer(callbacks=[watch], max_epochs=2)
    module = RegressionModule(lr=0.01, engine="fused")
    trainer.fit(module, RegressionDataModule(SteepLine(), batch_size=30))
    assert module.decision.one_by_one
    assert watch.seen == [(i % 4, i + 1) for i in range(8)]
    assert watch.sizes == [(30, 30), (30, 30), (30, 30), (10, 10)] * 2


class OwnStep(RegressionModule):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return super().training_step(batch, batch_idx)


class OwnForward(RegressionModule):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.0


class OwnLoss(RegressionModule):
    def summed_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().pow(1.5).sum()


class OwnBatches(RegressionDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


@pytest.mark.parametrize(
    ("cls", "of_module", "callbacks", "of_trainer", "reason", "in_chunks"),
    [
        (RegressionModule, {}, [], {}, "", True),
        (RegressionModule, {}, [TQDMProgressBar()], {"enable_progress_bar": True}, "", True),
        (RegressionModule, {}, [ModelCheckpoint()], {"enable_checkpointing": True}, "", True),
        (RegressionModule, {}, [EarlyStopping("train_loss")], {}, "", True),
        (RegressionModule, {}, [Timer({"hours": 1})], {}, "", True),
        (RegressionModule, {"dropout": 0.1, "hidden_sizes": [4]}, [], {}, "the network has dropout", True),
        (RegressionModule, {"hidden_sizes": [2000, 2000]}, [], {}, "torch's matrix products are faster", True),
        (
            RegressionModule,
            {"optimizer": {"class_path": "torch.optim.NAdam"}},
            [],
            {},
            "NAdam is not one of SGD, Adam, AdamW, RMSprop, Adagrad",
            True,
        ),
        (RegressionModule, {"engine": "autograd"}, [], {}, "it was requested", True),
        (RegressionModule, {}, [], {"max_epochs": 3}, "300 updates take less time than loading", True),
        (OwnForward, {}, [], {}, "OwnForward has a forward of its own", True),
        (OwnLoss, {}, [], {}, "OwnLoss has a summed_loss of its own", True),
        (OwnStep, {}, [], {}, "OwnStep has a training_step of its own", False),
        (RegressionModule, {}, [Watch()], {}, "Watch needs each update separately", False),
        (RegressionModule, {}, [PrintUpdates()], {}, "PrintUpdates needs the gradients of each update", False),
        (
            RegressionModule,
            {},
            [ModelCheckpoint(every_n_train_steps=3)],
            {"enable_checkpointing": True},
            "ModelCheck",
            False,
        ),
        (RegressionModule, {}, [], {"gradient_clip_val": 1.0}, "gradients are clipped", False),
        (RegressionModule, {}, [], {"detect_anomaly": True}, "anomaly detection", False),
        (RegressionModule, {}, [], {"precision": "bf16-mixed"}, "the precision is bf16-mixed", False),
    ],
)
def test_auto_takes_the_fused_engine_where_it_can_and_says_why_where_not(
    make_trainer: MakeTrainer,
    tmp_path: Path,
    cls: type[RegressionModule],
    of_module: dict[str, Any],
    callbacks: list[Callback],
    of_trainer: dict[str, Any],
    reason: str,
    in_chunks: bool,
) -> None:
    recorder = HistoryRecorder()
    options = {"max_epochs": 100, "default_root_dir": tmp_path, **of_trainer}
    trainer = make_trainer(callbacks=[recorder, *callbacks, StopAtOnce()], **options)
    module = cls(lr=0.001, **of_module)
    trainer.fit(module, RegressionDataModule(SteepLine(), batch_size=1))
    assert recorder.summary is not None
    assert recorder.summary.engine == ("autograd" if reason else "fused")
    assert reason in recorder.summary.engine_reason
    assert bool(reason) == bool(recorder.summary.engine_reason)
    assert module.decision.in_chunks == in_chunks


@pytest.mark.parametrize(
    "option",
    [
        ["--trainer.max_time", "01:00:00:00"],
        ["--trainer.max_steps", "2000"],
        ["--trainer.enable_progress_bar", "false"],
        ["--checkpoint.interval", "1"],
        ["--on_divergence", "continue"],
        ["--trainer.callbacks", "TimeBudget", "--trainer.callbacks.seconds", "3600"],
    ],
    ids=lambda option: str(option[0]).rpartition(".")[2],
)
def test_no_option_of_fit_makes_it_look_at_single_updates(command_line: CommandLine, option: list[str]) -> None:
    run = command_line.fit("--data.batch_size", "1", "--model.lr", "1e-4", "--trainer.max_epochs", "20", *option)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["engine"], summary["updates"]) == ("fused", 2000)


@pytest.mark.parametrize(
    ("updates", "features", "is_kept", "engine"),
    [
        (1_400, 2, True, "autograd"),
        (1_600, 2, True, "fused"),
        (1_600, 2, False, "autograd"),
        (16_000, 2, False, "fused"),
        (700, 2, True, "autograd"),
        (700, 800, True, "fused"),  # a large update takes as long as several small ones
        (1_600, 800, False, "autograd"),
    ],
)
def test_auto_counts_the_seconds_until_compiled_code_is_there(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, updates: int, features: int, is_kept: bool, engine: str
) -> None:
    """The choice depends on the run, and on whether code can be kept, but not on whether there is some already."""
    monkeypatch.setattr("gd_lightning.module.engine_choice.keeps_compiled_code", lambda: is_kept)
    trainer = make_trainer(max_epochs=updates, callbacks=[StopAtOnce()])
    module = RegressionModule(lr=0.001)
    trainer.fit(module, RegressionDataModule(LinearProblem(n_samples=1_000, n_features=features), batch_size="full"))
    assert module.decision.engine == engine
    assert ("less time than" in module.decision.reason) == (engine == "autograd")


class StopAtOnce(Callback):
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


def test_batches_that_a_data_module_changes_are_left_to_lightning(make_trainer: MakeTrainer) -> None:
    module = RegressionModule(lr=0.001)
    make_trainer(max_epochs=100, callbacks=[StopAtOnce()]).fit(module, OwnBatches(SteepLine(), batch_size=1))
    assert module.decision.reason == "OwnBatches has a on_after_batch_transfer of its own"


@pytest.mark.parametrize(
    ("of_module", "callbacks", "message"),
    [
        (
            {"optimizer": {"class_path": "torch.optim.NAdam"}},
            [],
            "NAdam is not one of SGD, Adam, AdamW, RMSprop, Adagrad",
        ),
        ({}, [PrintUpdates()], "PrintUpdates needs the gradients"),
    ],
)
def test_a_fused_engine_that_cannot_be_is_refused(
    make_trainer: MakeTrainer, of_module: dict[str, Any], callbacks: list[Callback], message: str
) -> None:
    module = RegressionModule(engine="fused", **of_module)
    with pytest.raises(InputError, match=f"cannot use engine fused, because {message}.*use engine auto or autograd"):
        make_trainer(max_epochs=1, callbacks=callbacks).fit(module, RegressionDataModule(SteepLine()))


def test_without_numba_there_is_a_word_and_autograd(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "numba" else find(name))
    module, data = RegressionModule(engine="fused"), RegressionDataModule(SteepLine())
    with pytest.warns(
        UserWarning, match=r"engine fused is not available, because numba is not installed \(pip install"
    ):
        make_trainer(max_epochs=1).fit(module, data)
    assert (module.decision.engine, module.decision.reason[:22]) == ("autograd", "numba is not installed")
    module = RegressionModule()
    make_trainer(max_epochs=2000, callbacks=[StopAtOnce()]).fit(module, data)
    assert "pip install numba" in module.decision.reason


def test_without_numba_the_command_line_says_so_in_one_line(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "numba" else find(name))
    command_line.fit("--model.engine", "fused", "--data.batch_size", "50")
    said = "gd_lightning: warning: engine fused is not available, because numba is not installed (pip install"
    assert command_line.err.startswith(said)
    assert len(command_line.err.splitlines()) == 1
    assert "autograd, because numba is not installed" in command_line.out


class Slow(Engine):
    """Takes a millisecond for an update, on a clock of its own."""

    name, first_work = "fused", 1000.0

    def __init__(self) -> None:
        self.now, self.chunks = 0.0, [0]

    def prepare(self, chunk: Chunk) -> None:
        assert chunk.updates == 0

    def carry_out(self, chunk: Chunk) -> Trace:
        self.now += 1e-3 * chunk.updates
        self.chunks.append(chunk.updates)
        kept = chunk.save_at.count(chunk.updates)
        return Trace(chunk.updates, Record(torch.zeros(kept), torch.zeros(kept, 2), torch.zeros(kept, 2)))


@pytest.mark.parametrize(
    ("callback", "longest"), [(StopOnSignal(), 100), (LastCheckpoint(interval=0.02), 20), (TimeBudget(2.0), 20)]
)
def test_no_chunk_takes_longer_than_a_signal_may_wait(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, callback: Callback, longest: int
) -> None:
    engine = Slow()
    monkeypatch.setattr("gd_lightning.module.chunked_training.time.perf_counter", lambda: engine.now)
    monkeypatch.setattr("gd_lightning.module.run_engine.FusedEngine", lambda *_: engine)
    trainer = make_trainer(
        max_epochs=1, callbacks=[HistoryRecorder(), callback], enable_checkpointing=True, default_root_dir=tmp_path
    )
    trainer.fit(
        RegressionModule(lr=1e-6, engine="fused"),
        RegressionDataModule(LinearProblem(n_samples=60_000, n_features=1), batch_size=50),
    )
    assert max(engine.chunks[2:]) <= longest  # of the first one, nothing is known
    assert sum(engine.chunks) == 1200


class Orders(Callback):
    """Knows which orders of epochs are still in memory."""

    max_chunk_seconds = 0.1

    def __init__(self) -> None:
        self.seen: dict[int, weakref.ref[Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen[trainer.current_epoch] = weakref.ref(batch.rows)


@pytest.mark.parametrize("engine", ["autograd", "fused"])
def test_rows_that_nobody_has_read_do_not_keep_the_orders_of_their_epochs(
    make_trainer: MakeTrainer, engine: Literal["autograd", "fused"]
) -> None:
    orders, recorder = Orders(), HistoryRecorder()
    trainer = make_trainer(max_epochs=6, callbacks=[recorder, orders])
    trainer.fit(
        RegressionModule(lr=1e-3, engine=engine), RegressionDataModule(LinearProblem(n_samples=64), batch_size=8)
    )
    gc.collect()
    assert len(recorder.history) == 1 + 6 * 8
    assert sum(order() is not None for order in orders.seen.values()) <= 1  # of the last epoch
