"""A run that is continued from any checkpoint is the run that was never stopped: weights, updates and history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gd_lightning import History, HistoryRecorder, InputError, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.module import resume as position
from tests.conftest import MakeTrainer
from tests.selection import every

EPOCHS = 4


class Network(nn.Sequential):
    """Draws numbers while it trains."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(nn.Linear(in_features, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, out_features))


class OnPlateau(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return Network(in_features, out_features)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.002, momentum=0.9)
        scheduler = ReduceLROnPlateau(optimizer, patience=0, threshold=0.5, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class Stepped(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return Network(in_features, out_features)


STEPS = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}


class Run:
    """Trains, with checkpoints on the way."""

    def __init__(
        self,
        make_trainer: MakeTrainer,
        make: Callable[[], RegressionModule] = lambda: Stepped(lr=0.002, momentum=0.9, lr_scheduler=STEPS),
        callbacks: Callable[[Path], list[Callback]] = lambda path: [],
        **options: Any,
    ) -> None:
        self.make_trainer, self.make, self.callbacks = make_trainer, make, callbacks
        self.of_data: dict[str, Any] = {"batch_size": 16, "val_size": 22}
        self.of_data |= {name: options.pop(name) for name in ("order", "drop_last") if name in options}
        self.every = options.pop("every_n_updates", "auto")
        self.options: dict[str, Any] = {"max_epochs": EPOCHS, **options}

    def __call__(self, directory: Path, checkpoint: Path | None = None, **options: Any) -> tuple[Tensor, int, History]:
        torch.manual_seed(0)
        module, recorder = self.make(), HistoryRecorder(self.every)
        callbacks = [recorder, *self.callbacks(directory)]
        trainer = self.make_trainer(callbacks=callbacks, **{**self.options, **options})
        trainer.fit(module, RegressionDataModule(SteepLine(), **self.of_data), ckpt_path=checkpoint, weights_only=True)
        return nn.utils.parameters_to_vector(module.parameters()).detach(), trainer.global_step, recorder.history


def _without_seconds(history: History) -> list[dict[str, float]]:
    rows = list(history.rows())
    for row in rows:
        del row["seconds"]
    return rows


def _assert_every_checkpoint_continues(run: Run, tmp_path: Path, expected: int) -> None:
    """Resume from each checkpoint of a run, and again from the first one that the resumed run wrote."""
    weights, updates, history = run(tmp_path / "whole")
    checkpoints = sorted((tmp_path / "whole").glob("*.ckpt"))
    assert len(checkpoints) == expected
    for checkpoint in checkpoints:
        again = tmp_path / checkpoint.stem
        results = [run(again, checkpoint)]
        if later := sorted(again.glob("*.ckpt")):
            results.append(run(tmp_path / "twice" / checkpoint.stem, later[0]))
        for resumed_weights, resumed_updates, resumed_history in results:
            assert resumed_updates == updates
            assert torch.equal(resumed_weights, weights)
            assert _without_seconds(resumed_history) == _without_seconds(history)


class EveryUpdates(Callback):
    """Saves where ``ModelCheckpoint(every_n_train_steps=k)`` does."""

    def __init__(self, path: Path, k: int) -> None:
        self.path, self.k = path, k

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % self.k == 0:
            trainer.save_checkpoint(self.path / f"{trainer.global_step:03d}.ckpt")


@pytest.mark.parametrize("order", ["sequential", "shuffled", "with_replacement"])
@pytest.mark.parametrize("drop_last", every(2, [True, False]))
@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}, {"max_steps": 17}])
def test_from_every_seventh_update(
    make_trainer: MakeTrainer, tmp_path: Path, order: str, drop_last: bool, options: dict[str, Any]
) -> None:
    run = Run(make_trainer, callbacks=lambda path: [EveryUpdates(path, 7)], order=order, drop_last=drop_last, **options)
    updates = options.get("max_steps", EPOCHS * (4 if drop_last else 5))
    _assert_every_checkpoint_continues(run, tmp_path, min(updates, EPOCHS * (4 if drop_last else 5)) // 7)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}, {"limit_val_batches": 0}, {"max_steps": 25}])
def test_from_the_last_batch_of_an_epoch(make_trainer: MakeTrainer, tmp_path: Path, options: dict[str, Any]) -> None:
    run = Run(make_trainer, callbacks=lambda path: [EveryUpdates(path, 5)], **options)
    _assert_every_checkpoint_continues(run, tmp_path, 4)


class BehindValidation(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.current_epoch < EPOCHS - 1:
            trainer.save_checkpoint(self.path / f"{trainer.global_step:03d}.ckpt")


class AtTheEndOfEpochs(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch < EPOCHS - 1:
            trainer.save_checkpoint(self.path / f"{trainer.global_step:03d}.ckpt")


@pytest.mark.parametrize("where", [BehindValidation, AtTheEndOfEpochs])
@pytest.mark.parametrize(("interval", "expected"), [(1.0, 3), (2, 6)])
def test_schedulers_that_watch_a_metric_go_on(
    make_trainer: MakeTrainer, tmp_path: Path, where: Any, interval: float, expected: int
) -> None:
    run = Run(make_trainer, OnPlateau, lambda path: [where(path)], val_check_interval=interval)
    _assert_every_checkpoint_continues(run, tmp_path, expected if where is BehindValidation else 3)


@pytest.mark.parametrize(("interval", "expected"), [(1.0, 3), (2, 4)])
def test_a_run_that_stopped_early_stays_stopped(
    make_trainer: MakeTrainer, tmp_path: Path, interval: float, expected: int
) -> None:
    def callbacks(path: Path) -> list[Callback]:
        return [EarlyStopping("val_loss", patience=1, min_delta=30.0), BehindValidation(path)]

    run = Run(make_trainer, callbacks=callbacks, val_check_interval=interval, max_epochs=10)
    _assert_every_checkpoint_continues(run, tmp_path, expected)


class AtTheEnd(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path / "end.ckpt")


@pytest.mark.parametrize("stop", [3, 5, 7, 10])
@pytest.mark.parametrize("limit", [{"max_steps": -1}, {"max_steps": EPOCHS * 5}])
def test_a_run_that_max_steps_stopped_is_continued(
    make_trainer: MakeTrainer, tmp_path: Path, stop: int, limit: dict[str, int]
) -> None:
    run = Run(make_trainer, callbacks=lambda path: [AtTheEnd(path)])
    weights, updates, history = run(tmp_path / "whole")
    assert run(tmp_path / "part", max_steps=stop)[1] == stop
    resumed_weights, resumed_updates, resumed_history = run(tmp_path / "rest", tmp_path / "part/end.ckpt", **limit)
    assert resumed_updates == updates
    assert torch.equal(resumed_weights, weights)
    assert _without_seconds(resumed_history) == _without_seconds(history)


class StopAt(Callback):
    """Asks for the end behind an update, as limits of time do; Lightning then validates there."""

    max_chunk_seconds = 0.0  # each update is a chunk

    def __init__(self, update: int) -> None:
        self.update = update

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.update


@pytest.mark.parametrize(
    ("stop", "every"),
    [
        *[(4, 1), (5, 4), (7, 4)],
        *(pytest.param(stop, every, marks=pytest.mark.slow) for stop in range(1, 15) for every in (1, 4)),
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 2},
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 2},
        {"limit_val_batches": 0},
    ],
    ids=str,
)
def test_a_run_that_a_callback_stopped_is_continued(
    make_trainer: MakeTrainer, tmp_path: Path, stop: int, options: dict[str, Any], every: int
) -> None:
    stops = [StopAt(stop)]
    run = Run(make_trainer, callbacks=lambda path: [*stops, AtTheEnd(path)], every_n_updates=every, **options)
    assert run(tmp_path / "part")[1] == stop
    stops.clear()
    resumed_weights, resumed_updates, resumed_history = run(tmp_path / "rest", tmp_path / "part/end.ckpt")
    weights, updates, history = run(tmp_path / "whole")
    assert resumed_updates == updates
    assert torch.equal(resumed_weights, weights)
    assert _without_seconds(resumed_history) == _without_seconds(history)


@pytest.mark.parametrize(
    ("module", "of_data", "message"),
    [
        ({"lr": 0.5}, {}, "lr 0.5, because the run was made with 0.01"),
        ({"hidden_sizes": [7]}, {}, r"hidden_sizes \[7\], because the run was made with \[\]"),
        ({}, {"batch_size": 8}, "batch_size 8, because the run was made with 16"),
        ({}, {"problem": SteepLine(seed=1)}, "problem .*'seed': 1"),
    ],
)
def test_another_algorithm_is_not_continued(
    make_trainer: MakeTrainer, tmp_path: Path, module: dict[str, Any], of_data: dict[str, Any], message: str
) -> None:
    def fit(checkpoint: Path | None, module: dict[str, Any], of_data: dict[str, Any]) -> None:
        trainer = make_trainer(max_epochs=2, callbacks=[AtTheEnd(tmp_path)])
        data = RegressionDataModule(**{"problem": SteepLine(), "batch_size": 16, **of_data})
        trainer.fit(RegressionModule(**{"lr": 0.01, **module}), data, ckpt_path=checkpoint, weights_only=True)

    fit(None, {}, {})
    fit(tmp_path / "end.ckpt", {}, {"micro_batch_size": 3})
    with pytest.raises(InputError, match=message):
        fit(tmp_path / "end.ckpt", module, of_data)


@pytest.mark.parametrize("rank", range(3))
def test_the_generator_of_a_process_is_restored_from_memory_of_its_own(
    monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """torch reads such a state from the beginning of its memory: of a row of all, it took the first, or crashed."""
    given: list[Tensor] = []
    monkeypatch.setattr(torch, "set_rng_state", given.append)
    states = torch.stack([torch.Generator().manual_seed(seed).get_state() for seed in range(3)])
    trainer: Any = SimpleNamespace(world_size=3, global_rank=rank)
    position._restore_generators(trainer, {"cpu": states})
    (state,) = given
    assert torch.equal(state, states[rank])
    assert state.storage_offset() == 0
    assert state.untyped_storage().nbytes() == state.numel()
