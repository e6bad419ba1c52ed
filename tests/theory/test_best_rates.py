"""The learning rates that are best for something, against sweeps of real runs."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch

from gd_lightning import Affine, SteepLine
from gd_lightning.theory import BestRates, LinearLoss, OutcomePredictor
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
