"""Averages of the parameters: against Lightning's callback, and against many runs in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn

from gd_lightning import Affine, HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule, Variant
from gd_lightning.theory import Average, LinearLoss, averaged_losses, expected_averaged_losses
from gd_lightning.update_rule import UpdateRule
from tests.conftest import MakeTrainer


@pytest.mark.filterwarnings("ignore::UserWarning")  # the callback warns of networks that are made late
@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("batch_size", ["full", 7])
def test_the_loss_of_lightnings_average(make_trainer: MakeTrainer, decay: float | None, batch_size: Any) -> None:
    problem = LinearProblem(n_samples=30, n_features=2, condition_number=5.0)
    callback = WeightAveraging() if decay is None else WeightAveraging(avg_fn=get_ema_avg_fn(decay))
    options: dict[str, Any] = {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1}
    module = RegressionModule(**options, initialization={"weight": 3.0, "bias": -2.0})
    data = RegressionDataModule(problem, batch_size=batch_size, order="sequential")
    make_trainer(max_epochs=6, precision="64-true", callbacks=[HistoryRecorder(), callback]).fit(module, data)
    x, y = problem.sample()
    affine = module.affine()
    assert affine is not None
    measured = (affine(x.double()) - y.double()).square().mean().item()
    loss = LinearLoss.of(x, y).with_weight_decay(0.1)
    start = Affine(torch.full((1, 2), 3.0), torch.full((1,), -2.0))
    rates = torch.full((6, 1), 0.05, dtype=torch.float64)
    variant = Variant.of(batch_size, 30)
    predicted = averaged_losses(loss, start, UpdateRule.of(module.hparams), variant, rates, Average(decay))
    assert predicted[-1].item() == pytest.approx(measured, rel=1e-9)


@pytest.mark.parametrize("average", [Average(), Average(first_update=10), Average(decay=0.8)])
@pytest.mark.parametrize("rule", [UpdateRule(), UpdateRule(momentum=0.6, weight_decay=0.1)])
def test_the_mean_of_many_runs_is_the_expected_loss(average: Average, rule: UpdateRule) -> None:
    random, runs, epochs = np.random.default_rng(2), 2000, 6
    x = np.hstack([random.normal(size=(20, 2)), np.ones((20, 1))])
    y = x @ [1.0, -2.0, 2.0] + 0.5 * random.normal(size=20)
    loss = LinearLoss.of(torch.from_numpy(x[:, :2]), torch.from_numpy(y[:, None])).with_weight_decay(rule.weight_decay)
    variant, start = Variant.of(3, 20), Affine(torch.zeros(1, 2), torch.zeros(1))
    rates = torch.linspace(0.06, 0.02, epochs).double()[:, None]
    expected = expected_averaged_losses(loss, start, rule, variant, rates, average).numpy()

    theta, velocity, mean, update = np.zeros((runs, 3)), np.zeros((runs, 3)), np.zeros((runs, 3)), 0
    for epoch in range(epochs):
        for index in range(variant.updates_per_epoch):
            rows = random.integers(20, size=(runs, variant.size_of(index)))
            wrong = np.einsum("rbc,rc->rb", x[rows], theta) - y[rows]
            gradient = 2 * np.einsum("rb,rbc->rc", wrong, x[rows]) / rows.shape[1] + rule.weight_decay * theta
            velocity = rule.momentum * velocity + gradient
            theta, update = theta - rates[epoch, 0].item() * velocity, update + 1
            averaged = update - average.first_update + 1
            if averaged <= 1:
                mean = theta
            elif average.decay is None:
                mean = ((averaged - 1) * mean + theta) / averaged
            else:
                mean = average.decay * mean + (1 - average.decay) * theta
        losses = np.square(mean @ x.T - y).mean(axis=1)
        assert abs(losses.mean() - expected[epoch + 1]) < 3 * losses.std() / runs**0.5


def test_averaging_lowers_the_floor_of_drawn_batches() -> None:
    """Of constant learning rates the iterates stay at their floor, and their mean goes on falling."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    y = 2 * x + 0.5 * torch.sin(40 * x)
    loss, start = LinearLoss.of(x, y), Affine(torch.zeros(1, 1), torch.zeros(1))
    rates, variant = torch.full((100, 1), 0.2, dtype=torch.float64), Variant.of(1, 20)
    plain = expected_averaged_losses(loss, start, UpdateRule(), variant, rates, Average(decay=0.0))
    mean = expected_averaged_losses(loss, start, UpdateRule(), variant, rates, Average(first_update=100))
    assert mean[-1] - loss.lowest < 0.05 * (plain[-1] - loss.lowest)
