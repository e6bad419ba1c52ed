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
    LinearLoss,
    OutcomeMap,
    OutcomePredictor,
    Verdict,
)
from gd_lightning.update_rule import UpdateRule

START = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
MANY = LinearProblem(n_samples=120, n_features=12, condition_number=30, noise=1.0)
EXACT_FIT = LinearProblem(n_samples=60, n_features=3, condition_number=100, noise=0.0)


def _predictor(problem: Problem, max_epochs: float, **options: Any) -> OutcomePredictor:
    x, y = problem.sample()
    start = START if isinstance(problem, SteepLine) else Affine(torch.zeros(1, x.shape[1]), torch.zeros(1))
    return OutcomePredictor(LinearLoss.of(x, y), start, max_epochs, **options)


def _columns(found: OutcomeMap) -> list[Boundaries]:
    return [*found.drawn, found.batch]


def _changes(column: Boundaries) -> list[float]:
    return [lr for lr in (column.fast_from, column.fast_to, column.quiet, column.stable) if lr > 0]


@pytest.mark.parametrize(
    ("problem", "max_epochs", "options"),
    [
        (SteepLine(), 40, {}),
        (SteepLine(), 40.5, {"drop_last": True}),
        (SteepLine(), 300, {"rule": UpdateRule(momentum=0.5)}),
        (SteepLine(), math.inf, {}),
        (MANY, 400, {}),
        (EXACT_FIT, 300, {}),
        (FourPoints(), 1000, {}),
    ],
)
def test_the_verdicts_are_those_of_single_runs(problem: Problem, max_epochs: float, options: dict[str, Any]) -> None:
    predictor = _predictor(problem, max_epochs, **options)
    n, random = predictor.loss.n_samples, np.random.default_rng(0)
    # The last batch of 22 is short among 100 and among 120.
    found = OutcomeMap.of(predictor, min(22, n), columns=7)
    columns = _columns(found)
    seen = set()
    for place in [*range(len(columns)), *random.integers(len(columns), size=12)]:
        column = columns[place]
        beside = [lr * factor for lr in _changes(column) for factor in (0.98, 1.02)]
        lr = random.choice([*beside, column.limit * 10 ** random.uniform(-3, 0.1)])
        if all(abs(math.log(lr / change)) > 0.019 for change in _changes(column)):
            assert column.verdict(lr) is predictor.predict(column.batch_size, lr).verdict, (column, lr)
            seen.add(column.verdict(lr))
    assert {Verdict.CONVERGES, Verdict.DIVERGES} <= seen
    assert (Verdict.SLOW in seen) == (max_epochs < math.inf)


@pytest.mark.parametrize("problem", [SteepLine(), MANY])
def test_the_lines_are_those_of_drawn_batches(problem: Problem) -> None:
    predictor = _predictor(problem, 20)
    n = predictor.loss.n_samples
    found = OutcomeMap.of(predictor, 7)
    assert [each.batch_size for each in found.drawn] == sorted({each.batch_size for each in found.drawn})
    assert {1, 7, n // 2, n} <= {each.batch_size for each in _columns(found)}
    for column in found.drawn:
        assert column.limit == predictor.drawn_batches.largest_stable_lr(column.batch_size)
        assert column.best == pytest.approx(predictor.drawn_batches.best_lr(column.batch_size), rel=0.03)
        assert column.fast_from <= column.fast_to <= column.quiet <= column.stable <= column.limit
    full = predictor.predict("full", 0.1)
    assert (found.batch.limit, found.batch.best) == (full.largest_stable_lr, full.asymptotic_lr)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_samples(n: int) -> None:
    x, y = SteepLine().sample()
    predictor = OutcomePredictor(LinearLoss.of(x[:n], y[:n]), START, max_epochs=50)
    found = OutcomeMap.of(predictor, 1)
    assert [each.batch_size for each in _columns(found)] == {1: [1], 2: [1, 2], 3: [1, 2, 3], 5: [1, 3, 5]}[n]
    assert found.at(n) is found.batch


def test_who_starts_at_the_target_is_there() -> None:
    loss = LinearLoss.of(*SteepLine().sample())
    found = OutcomeMap.of(OutcomePredictor(loss, loss.optimum, max_epochs=1), 10)
    assert all((each.fast_from, each.fast_to) == (0, each.quiet) for each in _columns(found))


def test_a_map_leaves_the_number_of_threads_as_it_is() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        OutcomeMap.of(_predictor(FourPoints(), 20), 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
