"""Every callback of Lightning and every scheduler of torch, with every engine: as Lightning's own loop, or refused.

Strategies have a table of their own in ``test_strategies.py``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, callbacks
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    RichModelSummary,
    RichProgressBar,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR

from gd_lightning import InputError
from tests.conftest import MakeTrainer
from tests.module.plain_loop import PER_EPOCH, Case, same_weights
from tests.selection import every

pytest.importorskip("numba", reason="the fused engine is compiled by numba")
pytestmark = [
    # Of Lightning's and torch's own: how callbacks and schedulers may be used, which is the same for both loops.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
ENGINES = ("autograd", "fused", "auto")


class Thawing(BaseFinetuning):
    """Freezes the first layer, and thaws it in epoch 2."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 2:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer, lr=0.01)


class Writer(BasePredictionWriter):
    """Writes nothing."""


class Bar(ProgressBar):
    """Shows nothing."""

    def disable(self) -> None:
        """There is nothing to hide."""

    def enable(self) -> None:
        """There is nothing to show."""


@dataclass
class Row:
    """What a callback does.

    Args:
        make: Makes it, for a directory of the test.
        refused: What it is refused with; empty where it works.
        not_fused: What engine fused is refused with; empty where it works.
        trainer: Further options of the Trainer.
        val_size: Validation samples.
        needs: A package that it needs, and that this one does not.
    """

    make: Callable[[Path], Callback]
    refused: str = ""
    not_fused: str = ""
    trainer: dict[str, Any] = field(default_factory=dict)
    val_size: int = 0
    needs: str = ""


def _freeze(trainer: Any, module: Any) -> None:
    if trainer.current_epoch == 3:
        module.backbone.bias.requires_grad_(False)


LOGS: dict[str, Any] = {"logs": True}
SAVES: dict[str, Any] = {"enable_checkpointing": True}
BARS: dict[str, Any] = {"enable_progress_bar": True}
SUMMARY: dict[str, Any] = {"enable_model_summary": True}
CALLBACKS: dict[str, Row] = {
    "BackboneFinetuning": Row(
        lambda path: BackboneFinetuning(unfreeze_backbone_at_epoch=3, verbose=False), not_fused="a parameter is frozen"
    ),
    "BaseFinetuning": Row(lambda path: Thawing(), not_fused="a parameter is frozen"),
    "BasePredictionWriter": Row(lambda path: Writer()),
    "BatchSizeFinder": Row(lambda path: BatchSizeFinder(), refused="BatchSizeFinder"),
    "Callback": Row(lambda path: Callback()),
    "Checkpoint": Row(lambda path: Checkpoint(), trainer=SAVES),
    "DeviceStatsMonitor": Row(lambda path: DeviceStatsMonitor(cpu_stats=False), trainer=LOGS),
    "EarlyStopping": Row(lambda path: EarlyStopping("val_loss", min_delta=0.05, patience=1), val_size=10),
    "GradientAccumulationScheduler": Row(
        lambda path: GradientAccumulationScheduler({2: 2}), refused="GradientAccumulationScheduler"
    ),
    "LambdaCallback": Row(lambda path: LambdaCallback(on_train_epoch_start=_freeze)),
    "LearningRateFinder": Row(lambda path: LearningRateFinder(), refused="LearningRateFinder"),
    "LearningRateMonitor": Row(lambda path: LearningRateMonitor("step"), trainer=LOGS),
    "ModelCheckpoint": Row(lambda path: ModelCheckpoint(path, every_n_train_steps=3, save_top_k=-1), trainer=SAVES),
    "ModelPruning": Row(
        lambda path: ModelPruning("l1_unstructured", amount=0.5, apply_pruning=lambda epoch: epoch in (1, 3))
    ),
    "ModelSummary": Row(lambda path: ModelSummary(-1), trainer=SUMMARY),
    "OnExceptionCheckpoint": Row(lambda path: OnExceptionCheckpoint(path), trainer=SAVES),
    "ProgressBar": Row(lambda path: Bar(), trainer=BARS),
    "RichModelSummary": Row(lambda path: RichModelSummary(), trainer=SUMMARY, needs="rich"),
    "RichProgressBar": Row(lambda path: RichProgressBar(), trainer=BARS, needs="rich"),
    "SpikeDetection": Row(lambda path: SpikeDetection(warmup=1000)),
    "StochasticWeightAveraging": Row(lambda path: StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=2)),
    "TQDMProgressBar": Row(lambda path: TQDMProgressBar(), trainer=BARS),
    "ThroughputMonitor": Row(lambda path: ThroughputMonitor(lambda batch: len(next(iter(batch)))), trainer=LOGS),
    "Timer": Row(lambda path: Timer(timedelta(days=1))),
    "EMAWeightAveraging": Row(lambda path: EMAWeightAveraging(decay=0.9)),
    "WeightAveraging": Row(lambda path: WeightAveraging()),
}


def test_every_callback_of_lightning_has_a_row() -> None:
    assert set(CALLBACKS) == set(callbacks.__all__)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", every(3, CALLBACKS))
def test_a_callback_does_what_it_does_in_lightnings_own_loop_or_is_refused(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, engine: str
) -> None:
    row = CALLBACKS[name]
    if row.needs and importlib.util.find_spec(row.needs) is None:
        pytest.skip(f"{name} needs {row.needs}, which Lightning does not bring")
    options = {**row.trainer, "default_root_dir": tmp_path}
    case = Case(lambda: [row.make(tmp_path)], [5], options, val_size=row.val_size)
    _assert_same_or_refused(case, make_trainer, engine, row.refused or (row.not_fused if engine == "fused" else ""))


def _assert_same_or_refused(case: Case, make_trainer: MakeTrainer, engine: str, refused: str) -> None:
    if not refused:
        same_weights(case.by(engine, make_trainer), case.plainly(make_trainer))
        return
    with pytest.raises(InputError, match=refused) as told:
        case.by(engine, make_trainer)
    words = str(told.value)
    assert len(words.splitlines()) == 1
    assert words.startswith("cannot ")
    assert ", because " in words
    assert "; " in words  # and what to do


# Schedulers

Make = Callable[[torch.optim.Optimizer], Any]
SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.95),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 4], 0.5),
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.2, 3),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.2, total_iters=4),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.ConstantLR(optimizer, 0.1, 2), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        milestones=[2],
    ),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 4),
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.1, 3), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.3, patience=0, threshold=0.5
    ),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.005, 0.05, step_size_up=4),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, 2),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=6 * PER_EPOCH + 1),
    "PolynomialLR": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 8, 2.0),
    "SWALR": lambda optimizer: SWALR(optimizer, 0.01, anneal_epochs=3),
    "one of one's own": lambda optimizer: Own(optimizer),
}


class Own(LRScheduler):
    """Changes the momentum as well."""

    def get_lr(self) -> list[float | torch.Tensor]:
        for group in self.optimizer.param_groups:
            group["momentum"] = 0.5 / self.last_epoch if self.last_epoch else 0.8
        return [group["lr"] * 0.98 for group in self.optimizer.param_groups]


def test_every_scheduler_of_torch_has_a_row() -> None:
    named = {
        name
        for module in (lr_scheduler, torch.optim.swa_utils)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, LRScheduler) and not name.startswith("_")
    }
    assert set(SCHEDULERS) == (named | set(lr_scheduler.__all__)) - {"LRScheduler"} | {"one of one's own"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("interval", [pytest.param("epoch", marks=pytest.mark.slow), "step"])
@pytest.mark.parametrize("name", every(2, SCHEDULERS))
def test_a_scheduler_does_what_it_does_in_lightnings_own_loop_or_is_refused(
    make_trainer: MakeTrainer, name: str, interval: str, engine: str
) -> None:
    def schedule(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return {"scheduler": SCHEDULERS[name](optimizer), "interval": interval, "monitor": "val_loss", "strict": False}

    refused = ""
    if engine == "fused" and interval == "step":
        refused = {
            "ReduceLROnPlateau": "a scheduler needs each update separately",
            **dict.fromkeys(("CyclicLR", "OneCycleLR", "SWALR", "one of one's own"), "more than the learning rate"),
        }.get(name, "")
    case = Case(hidden_sizes=[5], schedule=schedule, val_size=10)
    _assert_same_or_refused(case, make_trainer, engine, refused)


def test_schedulers_do_something(make_trainer: MakeTrainer) -> None:
    """So that their table could fail: each of them changes the weights that a run ends with."""
    ends = []
    for make in (None, *SCHEDULERS.values()):
        module = Case(hidden_sizes=[5], schedule=make and _by_step(make), val_size=10).by("auto", make_trainer)
        assert module.network is not None
        ends.append(nn.utils.parameters_to_vector(module.network.parameters()).sum().item())
    assert len({round(end, 9) for end in ends}) == len(ends)


def _by_step(make: Make) -> Make:
    return lambda optimizer: {
        "scheduler": make(optimizer), "interval": "step", "monitor": "val_loss", "strict": False,
    }  # fmt: skip
