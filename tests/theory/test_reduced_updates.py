"""The small space that drawn batches are followed in: against the map of all moments, written down as a matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning import Affine, LinearProblem, SteepLine
from gd_lightning.theory import DrawnBatches, LinearLoss
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.selection import every


def _collinear(n: int, d: int, decades: float) -> tuple[Tensor, Tensor]:
    """Return features that differ from fewer ones by less and less, and targets with noise."""
    generator = torch.Generator().manual_seed(d)
    x, mixing, noise = (
        torch.randn(size, dtype=torch.float64, generator=generator) for size in ((n, d), (d, d), (n, 1))
    )
    x = x * torch.logspace(0, -decades, d, dtype=torch.float64) @ torch.linalg.qr(mixing).Q
    return x, x.sum(dim=1, keepdim=True) + noise


def _categories(n: int) -> tuple[Tensor, Tensor]:
    """Return categories as columns of 0 and 1, which are collinear, beside a feature far from 0, and targets."""
    generator = torch.Generator().manual_seed(0)
    columns = [torch.nn.functional.one_hot(torch.randint(4, (n,), generator=generator)) for _ in range(2)]
    far = 250 + 40 * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    return torch.cat([*columns, far], dim=1), far / 40 + torch.randn(n, 1, dtype=torch.float64, generator=generator)


TABLES = {
    "alike": LinearProblem(n_samples=120, n_features=8, condition_number=30, noise=1.0).sample(),
    "two outputs": LinearProblem(n_samples=90, n_features=7, n_targets=2, condition_number=100).sample(),
    "few samples": _collinear(12, 8, 1.0),
    "collinear": _collinear(150, 8, 3.0),
    "nearly collinear": _collinear(150, 8, 5.0),
    "exactly collinear": _categories(150),
    "exact fit": LinearProblem(n_samples=60, n_features=7, condition_number=100, noise=0.0).sample(),
    "small": SteepLine().sample(),
}


RULES = [UpdateRule(), UpdateRule(momentum=0.7), UpdateRule(momentum=0.9, nesterov=True)]


@pytest.mark.parametrize("rule", every(2, RULES), ids=["plain", "heavy ball", "nesterov"])
@pytest.mark.parametrize("table", every(3, TABLES))
def test_the_small_space_tells_what_the_large_one_does(table: str, rule: UpdateRule) -> None:
    x, y = TABLES[table]
    loss = LinearLoss.of(x, y)
    start = Affine(torch.zeros(y.shape[1], x.shape[1]), torch.zeros(y.shape[1]))
    drawn, n, random = DrawnBatches(loss, start, rule, small=0), loss.n_samples, np.random.default_rng(1)
    moments = drawn.moments
    state, observe = moments.state(start), moments.observation
    about = 0.05 if rule.momentum else 0.02
    for size in (1, 7, n // 2 + 3):  # the last leaves a short batch
        limit, variant = drawn.largest_stable_lr(size), Variant.of(size, n)
        for share in 10 ** random.uniform((-2, -2, -7), (-0.05, -0.05, -2)):  # the last is tiny
            lr = share * limit
            exact = torch.eye(len(state), dtype=torch.float64)
            for count, each in variant.batch_sizes:
                update = moments.update(lr, 1 / each)
                matrix = torch.stack([update(unit) for unit in torch.eye(len(state), dtype=torch.float64)], dim=1)
                exact = torch.linalg.matrix_power(matrix, count) @ exact
            for epochs in (0, 1, 5, 100, 3000):
                excess = float(observe @ torch.linalg.matrix_power(exact, epochs) @ state)
                told = drawn.excess(lr, variant, epochs)
                assert told == pytest.approx(excess, rel=about, abs=1e-8 * float(observe @ state)), (size, lr, epochs)
            assert drawn.epochs_are_stable(lr, variant) or share > 1e-2
            if share > 1e-2 and drawn.epochs_are_stable(lr, variant):  # a matrix has no digits for what tiny ones leave
                floor = drawn.floor(lr, variant)
                assert drawn.settled_excess(lr, variant) == pytest.approx(floor, rel=about, abs=1e-12)
                settled = torch.linalg.matrix_power(exact, 2**40) @ state
                assert floor == pytest.approx(float(observe @ settled), rel=about, abs=1e-12)
        assert drawn.floor(1.01 * limit, variant) == math.inf


@pytest.mark.parametrize("by_epoch", [True, False], ids=["a rate an epoch", "a rate an update"])
@pytest.mark.parametrize("rule", every(3, reversed(RULES)), ids=["nesterov", "heavy ball", "plain"])
def test_learning_rates_that_fall_to_nothing_are_followed_in_the_small_space(rule: UpdateRule, by_epoch: bool) -> None:
    """A schedule that begins and ends at tiny learning rates, where with momentum the small space is not stable."""
    x, y = TABLES["alike"]
    start, variant, epochs = Affine(torch.zeros(1, x.shape[1]), torch.zeros(1)), Variant.of(12, 120), 40
    small, whole = (DrawnBatches(LinearLoss.of(x, y), start, rule, small=size) for size in (0, 10**6))
    steps = torch.arange(epochs * (1 if by_epoch else variant.updates_per_epoch), dtype=torch.float64)
    rates = 0.3 * whole.largest_stable_lr(12) * (1e-9 + torch.sin(math.pi * (steps + 0.01) / len(steps)) ** 4)
    curves = [
        each.expected_losses(rates.reshape(epochs, -1), variant, epochs) - each.loss.lowest for each in (small, whole)
    ]
    np.testing.assert_allclose(
        curves[0], curves[1], rtol=0.15
    )  # the velocity begins at 0 where tiny learning rates end
    assert curves[1][-1] < 0.2 * curves[1][0]


def test_a_tiny_learning_rate_has_a_tiny_floor_with_a_short_last_batch_too() -> None:
    """It settles in more epochs than are looked at; the floor is in proportion to it."""
    loss = LinearLoss.of(*SteepLine().sample())
    drawn, variant = DrawnBatches(loss, loss.optimum), Variant.of(49, 100)
    assert drawn.floor(1e-5, variant) == pytest.approx(10 * drawn.floor(1e-6, variant), rel=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_products_of_samples_in_a_matrix_or_one_by_one(momentum: float) -> None:
    """The same samples, all twice, are enough for the matrix; each batch of one sample is as it was."""
    x, y = _collinear(40, 12, 1.0)
    start = Affine(torch.ones(1, 12), torch.zeros(1))
    few, many = (
        DrawnBatches(LinearLoss.of(x.repeat(times, 1), y.repeat(times, 1)), start, UpdateRule(momentum=momentum))
        for times in (1, 3)
    )
    assert (few.moments.products.is_dense, many.moments.products.is_dense) == (False, True)
    limit = few.largest_stable_lr(1)
    assert many.largest_stable_lr(1) == pytest.approx(limit, rel=1e-7)
    assert many.floor(0.3 * limit, Variant(1, 40)) == pytest.approx(few.floor(0.3 * limit, Variant(1, 40)), rel=1e-7)
    curves = [each.expected_losses(0.3 * limit, Variant(5, 40), 10) for each in (few, many)]
    torch.testing.assert_close(*curves, rtol=1e-3, atol=0)
