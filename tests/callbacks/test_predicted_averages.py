"""The average that Lightning's ``WeightAveraging`` ends with is predicted: against the weights that a run leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn, get_ema_multi_avg_fn

from gd_lightning import Forecast, HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule
from gd_lightning.tracking.summary import RunSummary
from tests.conftest import MakeTrainer
from tests.selection import every

# The callback warns of networks that are made late.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PROBLEM = LinearProblem(n_samples=30, n_features=2, condition_number=5.0)
DECAY = {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}}}


class SomeUpdates(WeightAveraging):
    """Averages after every second update from the fifth on, and once more after every second epoch."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether to average."""
        if step_idx is not None:
            return step_idx >= 4 and step_idx % 2 == 0
        return epoch_idx is not None and epoch_idx % 2 == 1


class Never(WeightAveraging):
    """Leaves its average where the run started."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether to average."""
        return False


def _run(
    make_trainer: MakeTrainer, average: WeightAveraging, data: dict[str, Any], epochs: int = 5, **model: Any
) -> tuple[RunSummary, float]:
    """Return the summary of a run, and the loss of the weights that it leaves, computed by torch."""
    recorder = HistoryRecorder()
    options: dict[str, Any] = {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1, "initialization": "zero", **model}
    module = RegressionModule(**options)
    trainer = make_trainer(max_epochs=epochs, precision="64-true", callbacks=[recorder, Forecast(), average])
    trainer.fit(module, RegressionDataModule(PROBLEM, **data))
    x, y = PROBLEM.sample()
    with torch.no_grad():
        measured = (module(x.double()) - y.double()).square().mean().item()
    assert recorder.summary is not None
    return recorder.summary, measured


@pytest.mark.parametrize(
    "case",
    every(
        2,
        [
            (WeightAveraging, "full", {}),
            (WeightAveraging, 7, {}),
            (lambda: WeightAveraging(avg_fn=get_ema_avg_fn(0.9)), 7, DECAY),
            (lambda: WeightAveraging(avg_fn=get_ema_avg_fn(0.9)), "full", {}),
            (lambda: SomeUpdates(multi_avg_fn=get_ema_multi_avg_fn(0.7)), 7, {}),
            (lambda: SomeUpdates(multi_avg_fn=get_ema_multi_avg_fn(0.7)), "full", DECAY),
            (Never, 7, {}),
            (SomeUpdates, "full", {"momentum": 0.8, "nesterov": True}),
        ],
    ),
)
def test_the_loss_of_the_average_is_predicted(
    make_trainer: MakeTrainer, case: tuple[Callable[[], WeightAveraging], Any, dict[str, Any]]
) -> None:
    make, batch_size, model = case
    summary, measured = _run(make_trainer, make(), {"batch_size": batch_size, "order": "sequential"}, **model)
    assert summary.averaged_loss_predicted == pytest.approx(measured, rel=1e-9)
    assert summary.train_loss_last == pytest.approx(measured, rel=1e-9)


@pytest.mark.slow  # forty runs; their mean in NumPy is that of tests/theory/test_averages.py
def test_of_drawn_batches_the_expected_loss_is_predicted(make_trainer: MakeTrainer) -> None:
    found = [
        _run(make_trainer, WeightAveraging(), {"batch_size": 3, "order": "with_replacement", "seed": seed}, epochs=3)
        for seed in range(40)
    ]
    (predicted,) = {summary.averaged_loss_predicted for summary, _ in found}
    assert predicted is not None
    measured = np.array([loss for _, loss in found])
    assert abs(measured.mean() - predicted) < 3 * measured.std() / len(measured) ** 0.5


def _clipped(average: torch.Tensor, newest: torch.Tensor, _: object) -> torch.Tensor:
    return (average + newest).clamp(max=1.0)


class StopsSoon(WeightAveraging):
    """Ends the run within its second epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any, **options: Any) -> None:
        """Stop."""
        super().on_train_batch_end(trainer, *args, **options)
        trainer.should_stop = trainer.global_step >= 6


@pytest.mark.parametrize("average", [WeightAveraging(avg_fn=_clipped), StopsSoon()])
def test_what_cannot_be_known_is_not_predicted(make_trainer: MakeTrainer, average: WeightAveraging) -> None:
    """A function that is no average, or a rule of one's own, which here ends the run, too."""
    summary, _ = _run(make_trainer, average, {"batch_size": 7, "order": "sequential"})
    assert summary.averaged_loss_predicted is None
    assert summary.prediction != ""
