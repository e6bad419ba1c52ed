"""The map of outcomes and the small space it is found in: against the exact statements on single runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import Affine, FourPoints, LinearProblem, SteepLine
from gd_lightning.problems import Problem
from gd_lightning.theory import (
    Boundaries,
    DrawnBatches,
    LinearLoss,
    OutcomeMap,
    Outlooks,
    ReducedUpdates,
    Verdict,
)
from gd_lightning.variants import Variant

START = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
MANY = LinearProblem(n_samples=120, n_features=12, condition_number=30, noise=1.0)
EXACT_FIT = LinearProblem(n_samples=60, n_features=3, condition_number=100, noise=0.0)


def _outlooks(problem: Problem, max_epochs: float, **options: Any) -> Outlooks:
    x, y = problem.sample()
    start = START if isinstance(problem, SteepLine) else Affine(torch.zeros(1, x.shape[1]), torch.zeros(1))
    return Outlooks(LinearLoss.of(x, y), start, max_epochs, **options)


def _columns(found: OutcomeMap) -> list[Boundaries]:
    return [*found.drawn, found.batch]


def _changes(column: Boundaries) -> list[float]:
    return [lr for lr in (column.fast_from, column.fast_to, column.quiet, column.stable) if lr > 0]


@pytest.mark.parametrize(
    ("problem", "max_epochs", "options"),
    [
        (SteepLine(), 40, {}),
        (SteepLine(), 40.5, {"drop_last": True}),
        (SteepLine(), 300, {"momentum": 0.5}),
        (SteepLine(), math.inf, {}),
        (MANY, 400, {}),
        (EXACT_FIT, 300, {}),
        (FourPoints(), 1000, {}),
    ],
)
def test_the_verdicts_are_those_of_single_runs(problem: Problem, max_epochs: float, options: dict[str, Any]) -> None:
    outlooks = _outlooks(problem, max_epochs, **options)
    n, random = outlooks.loss.n_samples, np.random.default_rng(0)
    # The last batch of 22 is short among 100 and among 120.
    found = OutcomeMap.of(outlooks, min(22, n), columns=7)
    columns = _columns(found)
    seen = set()
    for place in [*range(len(columns)), *random.integers(len(columns), size=12)]:
        column = columns[place]
        beside = [lr * factor for lr in _changes(column) for factor in (0.98, 1.02)]
        lr = random.choice([*beside, column.limit * 10 ** random.uniform(-3, 0.1)])
        if all(abs(math.log(lr / change)) > 0.019 for change in _changes(column)):
            assert column.verdict(lr) is outlooks.of(column.batch_size, lr).verdict, (column, lr)
            seen.add(column.verdict(lr))
    assert {Verdict.CONVERGES, Verdict.DIVERGES} <= seen
    assert (Verdict.SLOW in seen) == (max_epochs < math.inf)


@pytest.mark.parametrize("problem", [SteepLine(), MANY])
def test_the_lines_are_those_of_drawn_batches(problem: Problem) -> None:
    outlooks = _outlooks(problem, 20)
    n = outlooks.loss.n_samples
    found = OutcomeMap.of(outlooks, 7)
    assert [each.batch_size for each in found.drawn] == sorted({each.batch_size for each in found.drawn})
    assert {1, 7, n // 2, n} <= {each.batch_size for each in _columns(found)}
    for column in found.drawn:
        drawn = DrawnBatches(outlooks.loss, Variant.of(column.batch_size, n))
        assert column.limit == drawn.largest_stable_lr
        assert column.best == pytest.approx(drawn.best_lr, rel=0.03)
        assert column.fast_from <= column.fast_to <= column.quiet <= column.stable <= column.limit
    full = outlooks.of("full", 0.1)
    assert (found.batch.limit, found.batch.best) == (full.largest_stable_lr, full.best_lr)


@pytest.mark.parametrize("problem", [SteepLine(), MANY, EXACT_FIT])
def test_the_small_space_tells_what_the_large_one_does(problem: Problem) -> None:
    outlooks, random = _outlooks(problem, 20), np.random.default_rng(1)
    loss, n = outlooks.loss, outlooks.loss.n_samples
    reduced = ReducedUpdates.of(loss, outlooks.start)
    assert len(reduced.start) < 100
    for size in (1, 3, 7, 20, n // 2, n - 20):
        drawn = DrawnBatches(loss, Variant.of(size, n))
        for lr in drawn.largest_stable_lr * 10 ** random.uniform(-2, -0.1, size=2):
            curve = drawn.expected_losses(outlooks.start, lr, 12) - loss.least_squares
            told = [reduced.excess(lr, drawn.variant, epochs) for epochs in range(13)]
            assert told == pytest.approx(curve.tolist(), rel=0.02, abs=1e-9 * curve[0].item())
            assert reduced.floor(lr, drawn.variant) == pytest.approx(drawn.floor(lr), rel=0.01, abs=1e-12)
        assert reduced.floor(1.01 * drawn.largest_stable_lr, drawn.variant) == math.inf


def test_a_tiny_learning_rate_has_a_tiny_floor_with_a_short_last_batch_too() -> None:
    """It settles in more epochs than are looked at; the floor is in proportion to it."""
    loss = LinearLoss.of(*SteepLine().sample())
    drawn = DrawnBatches(loss, Variant.of(49, 100))
    small, smaller = drawn.floor(1e-5), drawn.floor(1e-6)
    assert small == pytest.approx(10 * smaller, rel=1e-3)
    assert small == pytest.approx(ReducedUpdates.of(loss, START).floor(1e-5, drawn.variant), rel=1e-3)


def test_a_short_last_batch_among_many_directions() -> None:
    outlooks = _outlooks(LinearProblem(n_samples=60, n_features=20, noise=1.0), 20)
    drawn = DrawnBatches(outlooks.loss, Variant.of(25, 60))
    reduced = ReducedUpdates.of(outlooks.loss, outlooks.start)
    for lr in (0.1 * drawn.largest_stable_lr, 0.5 * drawn.largest_stable_lr):
        assert drawn.floor(lr) == pytest.approx(reduced.floor(lr, drawn.variant), rel=0.01)
    assert drawn.floor(1.01 * drawn.largest_stable_lr) == math.inf


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_samples(n: int) -> None:
    x, y = SteepLine().sample()
    outlooks = Outlooks(LinearLoss.of(x[:n], y[:n]), START, max_epochs=50)
    found = OutcomeMap.of(outlooks, 1)
    assert [each.batch_size for each in _columns(found)] == {1: [1], 2: [1, 2], 3: [1, 2, 3], 5: [1, 3, 5]}[n]
    assert found.at(n) is found.batch


def test_who_starts_at_the_target_is_there() -> None:
    loss = LinearLoss.of(*SteepLine().sample())
    found = OutcomeMap.of(Outlooks(loss, loss.optimum, max_epochs=1), 10)
    assert all((each.fast_from, each.fast_to) == (0, each.quiet) for each in _columns(found))


def test_a_map_leaves_the_number_of_threads_as_it_is() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        OutcomeMap.of(_outlooks(FourPoints(), 20), 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
