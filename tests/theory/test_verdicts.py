"""A table of random problems, each trained for as many epochs as it is said to take, and for fewer."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

from gd_lightning import Affine
from gd_lightning.models import Standardize
from gd_lightning.theory import LinearLoss, OutcomePredictor, Verdict
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.theory.training import Numbers, trained

OFFSETS = (0.0, 1.0, 30.0, 1e3, 1e6)  # of the targets, in their spread
NOISES = (0.0, 1e-5, 1e-2, 1.0)
STARTS = ("zero", "drawn", "optimum", "near", "far")
MOMENTA: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"momentum": 0.5},
    {"momentum": 0.9},
    {"momentum": 0.8, "nesterov": True},
)


def problem(number: int) -> tuple[Numbers, Numbers, OutcomePredictor, dict[str, Any]]:
    """Return features as a regressor sees them, targets, the predictor, and the momentum."""
    random = np.random.default_rng(number)
    n, d = int(random.integers(12, 40)), int(random.integers(1, 4))
    standardized = bool(random.integers(2))
    x = random.normal(size=(n, d)) * random.uniform(0.5, 2, size=d) + random.choice(
        [0, 1e4] if standardized else [0, 1]
    )
    if standardized:
        features = torch.from_numpy(x)
        x = Standardize.fit(lambda: [features]).double()(features).numpy()
    y = x @ random.normal(size=(d, 1)) + OFFSETS[number % 5] + NOISES[number % 4] * random.normal(size=(n, 1))
    y = y * 10.0 ** random.integers(-4, 5)
    loss = LinearLoss.of(torch.from_numpy(x), torch.from_numpy(y))
    moved = MOMENTA[int(random.integers(len(MOMENTA)))]
    away = {"zero": 0.0, "drawn": 1.0, "optimum": 0.0, "near": 1e-3, "far": 1e6}
    kind = STARTS[int(random.integers(len(STARTS)))]
    step = Affine(torch.from_numpy(random.normal(size=(1, d))), torch.from_numpy(random.normal(size=1)))
    scale = away[kind] * (1.0 if kind == "drawn" else loss.constant**0.5)
    assert step.bias is not None
    weight, bias = scale * step.weight, scale * step.bias
    if kind in ("optimum", "near"):
        assert loss.optimum.bias is not None
        weight, bias = weight + loss.optimum.weight, bias + loss.optimum.bias
    return x, y, OutcomePredictor(loss, Affine(weight, bias), math.inf, UpdateRule(**moved)), moved


@pytest.mark.parametrize("order", ["full", "sequential"])
def test_where_the_order_is_known_it_is_there_after_as_many_epochs_as_said_and_not_before(
    order: Literal["full", "sequential"],
) -> None:
    seen = []
    for number in range(60 if order == "full" else 24):
        x, y, predictor, moved = problem(number)
        predictor = OutcomePredictor(
            predictor.loss, predictor.start, math.inf, predictor.rule, sequential=order == "sequential"
        )
        random = np.random.default_rng(number)
        size = len(x) if order == "full" else int(random.integers(1, 8))
        lr = predictor.largest_stable_lr(size) * 10 ** random.uniform(-1.5 if size == len(x) else -2.5, -0.02)
        told = predictor.predict(size, lr)
        if not told.epochs <= (2_000 if order == "full" else 100):
            continue
        epochs = int(told.epochs)
        excess = trained(x, y, predictor.start, lr, told.variant, epochs, **moved)[:, 0] - predictor.loss.least_squares
        assert told.verdict is Verdict.CONVERGES
        assert excess[-1] <= predictor.target * (1 + 1e-6), (number, told)
        assert epochs == 0 or excess[-2] > predictor.target * (1 - 1e-6), (number, told)
        # R2 = 1 - loss / constant: as near to that of the least squares as a person can tell.
        assert excess[-1] <= 0.011 * y.var(), (number, told)
        seen.append(epochs)
    assert len(seen) > 10
    assert {0} < set(seen)


def test_drawn_samples_are_there_in_the_mean() -> None:
    seen = 0
    for number in (number for number in range(100, 140) if OFFSETS[number % 5] <= 1):
        x, y, predictor, moved = problem(number)
        # From far away, the mean would be that of a few runs that are late.
        weight = torch.full_like(predictor.start.weight, predictor.loss.constant**0.5)
        predictor = OutcomePredictor(predictor.loss, Affine(weight, -weight[:, 0]), math.inf, predictor.rule)
        random = np.random.default_rng(number)
        size = int(random.integers(1, 8))
        lr = predictor.largest_stable_lr(size) * 10 ** random.uniform(-2, -0.7)
        floor = predictor.drawn_batches.floor(lr, Variant.of(size, len(x)))
        lr *= min(1, 0.4 * predictor.target / floor)
        told = predictor.predict(size, lr)
        if not 1 <= told.epochs <= 150:
            continue
        epochs = int(told.epochs)
        losses = trained(x, y, predictor.start, lr, told.variant, epochs, "with_replacement", **moved, runs=100)
        excess = losses.mean(axis=1) - predictor.loss.least_squares
        assert excess[-1] <= 1.5 * predictor.target, (number, told)
        assert excess[epochs // 2] > predictor.target, (number, told)
        assert excess[-1] <= 0.02 * y.var(), (number, told)
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_targets_whose_offset_is_thousands_of_their_spread(precision: torch.dtype) -> None:
    """293.15 + 0.001 k: the loss falls a million times before it says anything of the slope."""
    k = torch.arange(40, dtype=torch.float64)[:, None]
    y = 293.15 + 0.001 * k
    z = Standardize.fit(lambda: [k]).double()(k)
    loss = LinearLoss.of(z.to(precision), y.to(precision))
    predictor = OutcomePredictor(loss, Affine(torch.zeros(1, 1), torch.zeros(1)), math.inf)
    told = predictor.predict("full", 0.1)
    losses = trained(z.numpy(), y.numpy(), predictor.start, 0.1, told.variant, int(told.epochs))[:, 0]
    r2 = 1 - losses / y.numpy().var()
    assert r2[31] < -10
    assert r2[-1] > 0.999
    assert r2[-3] < 0.9999


def test_a_constant_target_has_no_spread_and_is_reached_all_the_same() -> None:
    x = torch.arange(10, dtype=torch.float64)[:, None] - 4.5
    for value in (0.1, 0.0, 1e6):
        predictor = OutcomePredictor(
            LinearLoss.of(x, torch.full_like(x, value)), Affine(torch.ones(1, 1), torch.zeros(1)), 1000
        )
        told = predictor.predict("full", 0.05)
        assert told.verdict is Verdict.CONVERGES
        assert 0 < told.epochs < 200
    at_rest = OutcomePredictor(LinearLoss.of(x, 0 * x), Affine(torch.zeros(1, 1), torch.zeros(1)), 10).predict(
        "full", 0.05
    )
    assert (at_rest.verdict, at_rest.epochs) == (Verdict.CONVERGES, 0)


def test_a_swinging_loss_is_there_when_it_stays_there() -> None:
    """With momentum 0.99 the loss passes the target many times before it stays below."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    y = 3 * x + 0.1 * torch.sin(40 * x)
    start, moved = Affine(torch.zeros(1, 1), torch.zeros(1)), dict[str, Any](momentum=0.99)
    for order, size in (("full", 20), ("sequential", 5)):
        predictor = OutcomePredictor(
            LinearLoss.of(x, y), start, math.inf, UpdateRule(**moved), sequential=order == "sequential"
        )
        told = predictor.predict(size, 0.005)
        losses = trained(x.numpy(), y.numpy(), start, 0.005, told.variant, int(told.epochs) + 400, **moved)[:, 0]
        below = losses - predictor.loss.least_squares <= predictor.target
        assert below[int(told.epochs) :].all()
        assert not below[int(told.epochs) - 1]
        assert below[: int(told.epochs)].any()


@pytest.mark.slow
def test_epochs_beyond_ten_thousand_are_told_too() -> None:
    """Against the whole curve, in powers of the map of an epoch."""
    random = np.random.default_rng(3)
    x = torch.from_numpy(random.normal(size=(20, 2)) * [1.0, 0.02])
    y = x @ torch.tensor([[1.0], [30.0]], dtype=torch.float64) + 0.1 * torch.from_numpy(random.normal(size=(20, 1)))
    start = Affine(torch.zeros(1, 2), torch.zeros(1))
    for sequential in (False, True):
        predictor = OutcomePredictor(LinearLoss.of(x, y), start, math.inf, sequential=sequential)
        told = predictor.predict(4, 3e-3)
        assert told.epochs > 10_000
        losses = predictor.losses(4, 3e-3, int(1.2 * told.epochs)) - predictor.loss.least_squares
        there = int((losses <= predictor.target).nonzero()[0])
        assert told.epochs == pytest.approx(there, rel=0.1)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_features_whose_offset_is_a_million_times_their_spread(offset: float) -> None:
    """Their smallest eigenvalue is below the rounding errors of the largest, and is what a run waits for.

    With one feature of deviation 1 and mean m, the eigenvalues have the sum 2 (m^2 + 2) and the product 4.
    """
    z = np.random.default_rng(0).normal(size=(50, 1))
    z = (z - z.mean()) / z.std()
    loss = LinearLoss.of(torch.from_numpy(z + offset), torch.from_numpy(z))
    assert loss.lambda_max == pytest.approx(2 * (offset**2 + 2), rel=1e-6)
    assert loss.lambda_min * loss.lambda_max == pytest.approx(4, rel=1e-6)
    predictor = OutcomePredictor(loss, Affine(torch.zeros(1, 1), torch.zeros(1)), 1000)
    told = predictor.predict("full", 0.5 * predictor.largest_stable_lr("full"))
    assert told.verdict is Verdict.SLOW
    # The error of the slow direction, of size 1 in R2, falls to a hundredth.
    assert told.epochs == pytest.approx(math.log(100) * loss.condition_number, rel=0.01)
