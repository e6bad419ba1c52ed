"""Weight decay: against torch's SGD, the enumeration of all batches, and the normal equations of ridge regression."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning import Affine, Variant
from gd_lightning.theory import DrawnBatches, LinearLoss, OutcomePredictor, Verdict
from gd_lightning.update_rule import UpdateRule
from tests.theory.training import trained

Matrix = NDArray[np.float64]
RULES = [UpdateRule(), UpdateRule(momentum=0.9), UpdateRule(momentum=0.7, nesterov=True)]


def by_torch(
    x: torch.Tensor, y: torch.Tensor, start: Affine, rule: UpdateRule, batch_size: int, updates: int
) -> tuple[list[float], Matrix]:
    """Train with torch's SGD in the order of the samples; returns the train losses and the last parameters."""
    layer = torch.nn.Linear(x.shape[1], y.shape[1], dtype=torch.float64)
    assert start.bias is not None
    with torch.no_grad():
        layer.weight.copy_(start.weight)
        layer.bias.copy_(start.bias)
    optimizer = torch.optim.SGD(
        layer.parameters(), rule.lr, rule.momentum, nesterov=rule.nesterov, weight_decay=rule.weight_decay
    )
    batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    losses = []
    for update in range(updates + 1):
        losses.append(torch.nn.functional.mse_loss(layer(x), y).item())
        of_x, of_y = batches[update % len(batches)]
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(layer(of_x), of_y).backward()
        optimizer.step()
    return losses, np.vstack([layer.weight.detach().T.numpy(), layer.bias.detach().numpy()[None]])


def ridge(x: torch.Tensor, y: torch.Tensor, decay: float) -> tuple[Matrix, float]:
    """Return the minimum of the loss plus decay / 2 times all squares, by its normal equations, and its train loss."""
    design, targets = np.hstack([x.numpy(), np.ones((len(x), 1))]), y.numpy()
    of_squares = decay * targets.size / 2 * np.eye(design.shape[1])
    found: Matrix = np.linalg.solve(design.T @ design + of_squares, design.T @ targets)
    return found, float(np.square(design @ found - targets).mean())


def case(number: int, decay: float) -> tuple[torch.Tensor, torch.Tensor, Affine, LinearLoss]:
    random = np.random.default_rng(number)
    d, k = int(random.integers(1, 5)), int(random.integers(1, 3))
    x = torch.from_numpy(random.normal(size=(24, d)) + 0.5)
    y = x @ torch.from_numpy(random.normal(size=(d, k))) + 0.5 * torch.from_numpy(random.normal(size=(24, k))) + 1.0
    start = Affine(torch.from_numpy(random.normal(size=(k, d))), torch.from_numpy(random.normal(size=k)))
    return x, y, start, LinearLoss.of(x, y).with_weight_decay(decay)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch_size", [24, 5])
@pytest.mark.parametrize("decay", [1e-3, 0.5])
def test_the_curve_is_that_of_torch(rule: UpdateRule, batch_size: int, decay: float) -> None:
    x, y, start, loss = case(int(100 * decay) + batch_size, decay)
    predictor = OutcomePredictor(loss, start, math.inf, rule, sequential=True)
    lr = 0.3 * predictor.largest_stable_lr(batch_size)
    per_epoch = Variant.of(batch_size, 24).updates_per_epoch
    trained, _ = by_torch(x, y, start, UpdateRule(lr, rule.momentum, rule.nesterov, decay), batch_size, 40 * per_epoch)
    np.testing.assert_allclose(predictor.losses(batch_size, lr, 40), trained[::per_epoch], rtol=1e-9)


@pytest.mark.parametrize("decay", [1e-3, 0.5, 20.0])
def test_the_lowest_loss_is_that_of_ridge_regression(decay: float) -> None:
    for number in range(3):
        x, y, _, loss = case(number, decay)
        parameters, value = ridge(x, y, decay)
        assert loss.lowest == pytest.approx(value, rel=1e-10)
        weight, bias = loss.minimum.weight.numpy(), loss.minimum.bias
        assert bias is not None
        np.testing.assert_allclose(np.vstack([weight.T, bias.numpy()[None]]), parameters, rtol=1e-9, atol=1e-12)
        assert loss.excess(loss.error(loss.minimum)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_batch_descent_converges_below_its_limit_to_what_is_told(rule: UpdateRule) -> None:
    decay = 0.4
    x, y, start, loss = case(7, decay)
    predictor = OutcomePredictor(loss, start, 50, rule)
    limit = predictor.largest_stable_lr("full")
    for factor in (0.97, 1.03):
        options = UpdateRule(factor * limit, rule.momentum, rule.nesterov, decay)
        trained, parameters = by_torch(x, y, start, options, 24, 2000)
        if factor < 1:
            np.testing.assert_allclose(parameters, ridge(x, y, decay)[0], rtol=1e-6)
        else:
            assert trained[-1] > 1e6
    told = predictor.predict("full", 0.3 * limit)
    curve = np.array(by_torch(x, y, start, UpdateRule(0.3 * limit, rule.momentum, rule.nesterov, decay), 24, 400)[0])
    above = curve - loss.lowest > predictor.target
    assert above[int(told.epochs) - 1]
    assert not above[int(told.epochs) :].any()
    assert told.verdict is (Verdict.CONVERGES if told.epochs <= 50 else Verdict.SLOW)


class Enumerated:
    """A small problem whose batches are all written down, with weight decay and momentum."""

    def __init__(self, batch_size: int, outputs: int, rule: UpdateRule) -> None:
        random = np.random.default_rng(3)
        self.z = np.hstack([random.standard_normal((4, 1)) + 0.5, np.ones((4, 1))])
        self.y = random.standard_normal((4, outputs))
        self.loss = LinearLoss.of(torch.from_numpy(self.z[:, :1]), torch.from_numpy(self.y))
        self.loss = self.loss.with_weight_decay(rule.weight_decay)
        self.rule, self.outputs = rule, outputs
        self.batches = [list(draw) for draw in product(range(4), repeat=batch_size)]

    def after(self, state: Matrix, batch: list[int], lr: float, targets: bool = True) -> Matrix:
        """Return (theta, v), one above the other, after an update as torch documents it."""
        theta, velocity = np.split(state, 2)
        wrong = self.z[batch] @ theta - (self.y[batch] if targets else 0.0)
        gradient = 2 / (len(batch) * self.outputs) * self.z[batch].T @ wrong + self.rule.weight_decay * theta
        velocity = self.rule.momentum * velocity + gradient
        step = gradient + self.rule.momentum * velocity if self.rule.nesterov else velocity
        return np.vstack([theta - lr * step, velocity])

    def radius(self, lr: float) -> float:
        """Return the spectral radius of E[A (x) A], A being the map of a state by a batch, without targets."""
        maps = [
            np.hstack([self.after(unit[:, None], batch, lr, targets=False) for unit in np.eye(4)])
            for batch in self.batches
        ]
        return float(np.abs(np.linalg.eigvals(np.mean([np.kron(a, a) for a in maps], axis=0))).max())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("batch_size", "outputs"), [(1, 1), (2, 2)])
def test_drawn_batches_by_enumeration(rule: UpdateRule, batch_size: int, outputs: int) -> None:
    small = Enumerated(batch_size, outputs, UpdateRule(math.nan, rule.momentum, rule.nesterov, weight_decay=0.7))
    start = Affine(torch.full((outputs, 1), 0.7, dtype=torch.float64), torch.full((outputs,), 0.7, dtype=torch.float64))
    drawn, variant = DrawnBatches(small.loss, start, rule), Variant(batch_size, batch_size)
    states = [np.vstack([np.full((2, outputs), 0.7), np.zeros((2, outputs))])]
    expected: list[float] = []
    while len(states) <= 300:
        expected.append(np.mean([np.square(small.z @ state[:2] - small.y).mean() for state in states]).item())
        states = [small.after(state, batch, 0.1) for state in states for batch in small.batches]
    np.testing.assert_allclose(drawn.expected_losses(0.1, variant, len(expected) - 1), expected, rtol=1e-12)
    limit = drawn.largest_stable_lr(batch_size)
    assert small.radius(limit * (1 - 1e-5)) < 1 < small.radius(limit * (1 + 1e-5))
    many = drawn.expected_losses(0.3 * limit, variant, 4000)[-1].item()
    assert drawn.floor(0.3 * limit, variant) == pytest.approx(many - small.loss.lowest, rel=1e-6)


def test_from_the_least_squares_solution_the_loss_rises_to_what_is_told() -> None:
    x, y, _, loss = case(5, 0.3)
    assert loss.optimum.bias is not None
    start = Affine(loss.optimum.weight, loss.optimum.bias)
    predictor = OutcomePredictor(loss, start, 1000)
    assert predictor.excess_at_start < 0
    told = predictor.predict("full", 0.1 * predictor.largest_stable_lr("full"))
    curve = predictor.losses("full", told.lr, 500)
    assert told.verdict is Verdict.CONVERGES
    assert curve[-1].item() == pytest.approx(ridge(x, y, 0.3)[1], rel=1e-9)


@pytest.mark.parametrize("rule", [UpdateRule(), UpdateRule(momentum=0.6)])
def test_the_mean_of_many_runs_is_the_expected_curve(rule: UpdateRule) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(20, 2))
    y = x @ [[1.0], [-2.0]] + 0.5 * random.normal(size=(20, 1)) + 2
    start, variant = Affine(torch.zeros(1, 2), torch.zeros(1)), Variant.of(3, 20)
    loss = LinearLoss.of(torch.from_numpy(x), torch.from_numpy(y)).with_weight_decay(0.2)
    lr = 0.3 * DrawnBatches(loss, start, rule).largest_stable_lr(3)
    losses = trained(
        x, y, start, lr, variant, 12, "with_replacement", rule.momentum, rule.nesterov, weight_decay=0.2, runs=2000
    )
    expected = DrawnBatches(loss, start, rule).expected_losses(lr, variant, 12).numpy()
    apart = losses.mean(axis=1) - expected
    assert (np.abs(apart[1:]) < 3 * losses[1:].std(axis=1) / 2000**0.5).all()
