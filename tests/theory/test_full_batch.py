"""Batch gradient descent: predictions against real runs, limits by experiment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import Affine, HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule
from gd_lightning.theory import (
    LinearLoss,
    best_heavy_ball,
    best_lr,
    contraction,
    largest_stable_lr,
    predicted_losses,
    updates_to_excess,
)
from gd_lightning.update_rule import UpdateRule
from tests.conftest import MakeTrainer

MOMENTA = [(0.0, False), (0.5, False), (0.9, False), (0.9, True)]


@pytest.mark.parametrize("number", range(10))
def test_the_predicted_curve_is_the_measured_one(make_trainer: MakeTrainer, number: int) -> None:
    generator = np.random.default_rng(number)
    problem = LinearProblem(
        n_samples=int(generator.integers(30, 200)),
        n_features=int(generator.integers(1, 21)),
        n_targets=int(generator.integers(1, 4)),
        condition_number=float(10 ** generator.uniform(0.1, 4)),
        seed=number,
    )
    momentum, nesterov = MOMENTA[number % len(MOMENTA)]
    data, recorder = RegressionDataModule(problem), HistoryRecorder()
    loss = LinearLoss.of(*problem.sample())
    lr = float(generator.uniform(0.1, 0.9)) * largest_stable_lr(
        loss.lambda_max, UpdateRule(momentum=momentum, nesterov=nesterov)
    )
    starts: list[Affine | None] = []

    class Start(RegressionModule):
        def on_train_start(self) -> None:
            super().on_train_start()
            affine = self.affine()
            assert affine is not None
            starts.append(Affine(affine.weight.clone(), None if affine.bias is None else affine.bias.clone()))

    module = Start(lr=lr, momentum=momentum, nesterov=nesterov, initialization="normal")
    make_trainer(max_epochs=200, precision="64-true", callbacks=[recorder]).fit(module, data)
    (start,) = starts
    assert start is not None
    predicted = predicted_losses(loss, start, UpdateRule.of(module.hparams), 200)
    np.testing.assert_allclose(recorder.history["train_loss"], predicted, rtol=1e-9)


@pytest.mark.parametrize(("momentum", "nesterov", "limit"), [(0, False, 2.0), (0.9, False, 3.8), (0.9, True, 1.357143)])
def test_the_limit_by_experiment(momentum: float, nesterov: bool, limit: float) -> None:
    x, y = LinearProblem(n_samples=50, n_features=3, condition_number=5).sample()
    loss = LinearLoss.of(x, y)
    rule = UpdateRule(momentum=momentum, nesterov=nesterov)
    stable = largest_stable_lr(loss.lambda_max, rule)
    assert stable * loss.lambda_max == pytest.approx(limit, rel=1e-6)
    ends = [_trained(x, y, lr=factor * stable, momentum=momentum, nesterov=nesterov) for factor in (0.97, 1.03)]
    assert ends[0] < loss.least_squares * 1.001
    assert ends[1] > 1e6
    factors = [contraction(loss.eigenvalues, rule.at(factor * stable)) for factor in (0.999, 1.001)]
    assert factors[0] < 1 < factors[1]


def _trained(x: torch.Tensor, y: torch.Tensor, **options: Any) -> float:
    layer = torch.nn.Linear(x.shape[1], y.shape[1], dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), **options)
    value = torch.zeros(())
    for _ in range(1000):
        optimizer.zero_grad()
        value = torch.nn.functional.mse_loss(layer(x), y)
        value.backward()
        optimizer.step()
    return value.item()


def test_no_learning_rate_is_faster_than_the_best() -> None:
    eigenvalues = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    fastest = contraction(eigenvalues, UpdateRule(best_lr(0.3, 4.0)))
    assert fastest == pytest.approx((4 - 0.3) / (4 + 0.3), rel=1e-12)
    assert all(contraction(eigenvalues, UpdateRule(lr)) >= fastest - 1e-12 for lr in np.linspace(0.01, 0.5, 200))
    for rule, apart in ((UpdateRule(momentum=0.2), 1e-12), (UpdateRule(momentum=0.7, nesterov=True), 1e-6)):
        given = contraction(eigenvalues, rule.at(best_lr(0.3, 4.0, rule)))
        assert all(contraction(eigenvalues, rule.at(lr)) >= given - apart for lr in np.linspace(0.01, 0.6, 200))
    best = best_heavy_ball(0.3, 4.0)
    # At the optimum two roots coincide: rounding moves them by the root of the precision.
    heavy = contraction(eigenvalues, best)
    assert heavy == pytest.approx(math.sqrt(best.momentum), abs=1e-6)
    grid = [(a, b) for a in np.linspace(0.1, 1.2, 40) for b in np.linspace(0, 0.95, 40)]
    assert min(contraction(eigenvalues, UpdateRule(a, momentum=b)) for a, b in grid) >= heavy - 1e-6


@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_the_number_of_updates_is_where_the_curve_gets_there(momentum: float, nesterov: bool) -> None:
    x, y = LinearProblem(n_samples=50, n_features=3, condition_number=20).sample()
    loss, start = LinearLoss.of(x, y), Affine(torch.zeros(1, 3), torch.zeros(1))
    rule = UpdateRule(0.02, momentum, nesterov)
    curve = predicted_losses(loss, start, rule, 3000) - loss.least_squares
    for excess in (0.5, 1e-2, 1e-6):
        updates = updates_to_excess(loss, start, rule, excess)
        assert curve[int(updates)] <= excess < curve[int(updates) - 1]
    assert updates_to_excess(loss, start, rule, curve[0].item()) == 0
    assert updates_to_excess(loss, start, UpdateRule(2.1 / loss.lambda_max), 1e-2) == math.inf
