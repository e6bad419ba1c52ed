"""The learning rates that are best for something, against sweeps of real runs."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

from gd_lightning import Affine, SteepLine, plan, sweep
from gd_lightning.theory import BestRates, LinearLoss, OutcomePredictor, best_rate
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.theory.training import trained


@pytest.mark.parametrize(
    ("batch_size", "order", "max_epochs", "momentum"),
    [
        (100, "sequential", 40, 0.0),
        (100, "sequential", 4, 0.0),
        (20, "sequential", 10, 0.5),
        (10, "with_replacement", 6, 0.0),
    ],
)
def test_no_rate_of_a_sweep_is_better(
    batch_size: int, order: Literal["sequential", "with_replacement"], max_epochs: int, momentum: float
) -> None:
    x, y = (each.double() for each in SteepLine().sample())
    start, rule = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0])), UpdateRule(momentum=momentum)
    predictor = OutcomePredictor(LinearLoss.of(x, y), start, max_epochs, rule, sequential=order == "sequential")
    found, variant = BestRates.of(predictor, batch_size), Variant.of(batch_size, 100)
    target, runs = predictor.loss.lowest + predictor.target, 1 if order == "sequential" else 300

    def measured(lr: float) -> tuple[float, float]:
        """Return epochs to the target, and the loss at the end, in the mean over runs."""
        losses = trained(x.numpy(), y.numpy(), start, lr, variant, max_epochs, order, momentum, runs=runs).mean(axis=1)
        above = np.flatnonzero(~(losses <= target))
        epochs = above[-1] + 1 if len(above) else 0
        return epochs if epochs <= max_epochs else math.inf, losses[-1]

    swept = [measured(lr) for lr in np.geomspace(1e-3, 0.13, 60)]
    end = measured(found.lowest.lr)[1]
    assert end <= min(loss for _, loss in swept if math.isfinite(loss)) * (1.001 if runs == 1 else 1.1)
    assert found.lowest.loss == pytest.approx(end, rel=1e-6 if runs == 1 else 0.2)
    least = min(epochs for epochs, _ in swept)
    if found.fastest is None:
        assert least == math.inf
        assert found.best.purpose.startswith(f"the lowest train loss after {max_epochs} epochs")
    else:
        assert measured(found.fastest.lr)[0] == found.fastest.epochs <= least
        assert found.best.purpose.startswith("the fastest to a train loss of 0.169")


@pytest.mark.parametrize("batch_size", [100, 10])
def test_the_best_lr_of_a_real_sweep_is_the_predicted_one(batch_size: int) -> None:
    """Within a step of the grid; and with the fastest, a sweep is at the target after as many epochs, not before."""
    problem, start = SteepLine(), Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
    x, y = problem.sample()
    loss, step = LinearLoss.of(x.double(), y.double()), 1.3
    lrs = [0.1 / step**i for i in range(14)]
    few = OutcomePredictor(loss, start, 6, with_replacement=batch_size < 100)
    common: dict[str, Any] = {
        "batch_size": batch_size,
        "seeds": 1 if batch_size == 100 else 40,
        "order": "shuffled" if batch_size == 100 else "with_replacement",
    }
    (row,) = sweep(problem, lrs=lrs, epochs=6, **common).rows
    lowest = BestRates.of(few, batch_size).lowest
    assert lowest.lr / step < row.best_lr < lowest.lr * step
    assert lowest.loss <= row.train_loss.mean * (1 + 1e-4 if batch_size == 100 else 1.2)
    found = BestRates.of(few.changed(max_epochs=60), batch_size)
    assert found.fastest is not None
    assert best_rate(few.changed(max_epochs=60), batch_size) == found.fastest
    early = 0.95 if batch_size == 100 else 0.75  # the mean over 40 seeds is not sharper
    for epochs, is_there in ((found.fastest.epochs, True), (early * found.fastest.epochs, False)):
        rates = sorted([*lrs, found.fastest.lr])
        ends = sweep(problem, lrs=rates, epochs=int(epochs), **common).last.mean(axis=-1)
        assert (ends.min() <= found.fastest.target * 1.001) == is_there


def test_a_search_that_takes_long_is_refused_and_left_out_of_a_plan() -> None:
    steps = {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 5}}}
    given: dict[str, Any] = {"order": "sequential", "batch_size": 1, "max_epochs": 30, **steps}
    rows = plan(SteepLine(), **given).to_dict()["rows"]
    assert rows[0]["best_lr"] is not None  # in full batches, few updates are followed
    assert rows[-1]["best_lr"] is None
    assert plan(SteepLine(), **{**given, "lr_scheduler": None}).to_dict()["rows"][-1]["best_lr"] is not None
