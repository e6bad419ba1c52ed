"""What is said before training: against runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import Affine, HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.theory import (
    DrawnBatches,
    LinearLoss,
    OutcomeMap,
    OutcomePredictor,
    SequentialEpoch,
    Verdict,
    in_words,
    predicted_losses,
    seconds_to_predict,
)
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.conftest import MakeTrainer
from tests.theory.training import trained

START = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))


def _of_system_1(**options: Any) -> OutcomePredictor:
    return OutcomePredictor(LinearLoss.of(*SteepLine().sample()), START, **{"max_epochs": 100, **options})


@pytest.mark.parametrize(("factor", "verdict"), [(0.97, Verdict.CONVERGES), (1.03, Verdict.DIVERGES)])
def test_real_runs_beside_the_batch_limit(make_trainer: MakeTrainer, factor: float, verdict: Verdict) -> None:
    predictor = _of_system_1(max_epochs=300)
    lr = factor * predictor.predict("full", 0.1).largest_stable_lr
    assert predictor.predict("full", lr).verdict is verdict
    recorder, module = HistoryRecorder(), RegressionModule(lr=lr)
    make_trainer(max_epochs=300, callbacks=[recorder]).fit(module, RegressionDataModule(SteepLine()))
    excess = recorder.history.last("train_loss") - predictor.loss.least_squares
    assert (excess <= predictor.target) == (verdict is Verdict.CONVERGES)
    assert (excess > 599) == (verdict is Verdict.DIVERGES)


def test_the_epochs_are_those_of_the_curve() -> None:
    predictor = _of_system_1()
    row = predictor.predict("full", 0.05)
    curve = predicted_losses(predictor.loss, START, UpdateRule(0.05), 200) - predictor.loss.least_squares
    assert row.epochs == int((curve <= predictor.target).nonzero()[0])
    assert row.verdict is Verdict.CONVERGES
    assert _of_system_1(max_epochs=row.epochs - 1).predict("full", 0.05).verdict is Verdict.SLOW


def test_drawn_batches() -> None:
    predictor = _of_system_1()
    assert predictor.predict(1, 0.1).verdict is Verdict.DIVERGES
    assert predictor.predict(1, 0.1).floor == math.inf
    noisy = predictor.predict(10, 0.1)
    assert noisy.verdict is Verdict.REACHES_ITS_FLOOR
    assert noisy.floor == predictor.drawn_batches.floor(0.1, Variant.of(10, 100))
    assert noisy.largest_stable_lr == predictor.drawn_batches.largest_stable_lr(10)
    assert predictor.predict(10, 0.01).verdict is Verdict.CONVERGES
    # The limits of the steep line are 0.0994 for 4 samples and 0.1030 for 5.
    assert predictor.smallest_stable_batch_size(0.1) == 5
    assert predictor.smallest_stable_batch_size(0.01) == 1
    assert predictor.smallest_stable_batch_size(0.2) is None


def test_the_sequential_order_is_told_exactly() -> None:
    predictor = _of_system_1(sequential=True)
    wild = predictor.predict(1, 0.1)
    assert wild.verdict is Verdict.DIVERGES
    assert wild.growth is not None
    assert wild.growth > 1e7
    row = predictor.predict(10, 0.005)
    x, y = SteepLine().sample()
    design, theta = np.hstack([x.double().numpy(), np.ones((100, 1))]), np.array([-10.0, -20.0])
    epochs = 0
    while (
        np.square(design @ theta - y.double().numpy().ravel()).mean() > predictor.loss.least_squares + predictor.target
    ):
        for start in range(0, 100, 10):
            z, target = design[start : start + 10], y[start : start + 10].double().numpy().ravel()
            theta = theta - 0.005 * 2 / 10 * z.T @ (z @ theta - target)
        epochs += 1
    assert row.epochs == epochs


def test_without_noise_a_part_of_the_loss_of_the_best_constant_is_close() -> None:
    x, _ = SteepLine().sample()
    predictor = OutcomePredictor(LinearLoss.of(x, -5 * x), START, max_epochs=100)
    assert predictor.target == pytest.approx(1e-4 * np.var(-5 * x.numpy()))
    assert predictor.predict(1, 0.03).verdict is Verdict.CONVERGES


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_told_exactly(nesterov: bool) -> None:
    """Also at a learning rate that is not small: the mean of many runs takes the epochs that are told."""
    x, y = LinearProblem(n_samples=200, n_features=2, condition_number=3, noise=1.0).sample()
    start = Affine(torch.ones(1, 2), torch.full((1,), -3.0))
    predictor = OutcomePredictor(
        LinearLoss.of(x, y), start, max_epochs=100, rule=UpdateRule(momentum=0.8, nesterov=nesterov)
    )
    lr, runs = 5e-4, 300
    told = predictor.predict(5, lr)
    design, targets = torch.cat([x, torch.ones(200, 1)], dim=1), y[:, 0]
    theta = torch.tensor([1.0, 1.0, -3.0], dtype=torch.float64).repeat(runs, 1).requires_grad_()
    optimizer = torch.optim.SGD([theta], lr=lr, momentum=0.8, nesterov=nesterov)
    generator, epochs = torch.Generator().manual_seed(0), 0
    while (theta.detach() @ design.T - targets).square().mean() > predictor.loss.least_squares + predictor.target:
        for _ in range(40):
            batch = torch.randint(200, (runs, 5), generator=generator)
            optimizer.zero_grad()
            ((design[batch] * theta[:, None]).sum(dim=2) - targets[batch]).square().mean(dim=1).sum().backward()
            optimizer.step()
        epochs += 1
    assert told.verdict is Verdict.CONVERGES
    assert abs(told.epochs - epochs) <= 1
    limit = DrawnBatches(predictor.loss, predictor.start, predictor.rule).largest_stable_lr(5)
    assert told.largest_stable_lr == limit
    smallest = predictor.smallest_stable_batch_size(0.9 * limit)
    assert smallest is not None
    assert smallest <= 5
    assert predictor.smallest_stable_batch_size(limit * 1.001) == 6


def test_momentum_in_the_sequential_order() -> None:
    predictor = _of_system_1(sequential=True, rule=UpdateRule(momentum=0.5))
    row = predictor.predict(10, 0.0025)
    assert row.growth is not None
    assert row.verdict is Verdict.CONVERGES
    epoch = SequentialEpoch.of(predictor.loss, predictor.rule.at(0.0025), row.variant)
    curve = epoch.predicted_losses(START, 200) - predictor.loss.least_squares
    assert row.epochs == int((curve <= predictor.target).nonzero()[0])


def test_many_samples_are_thinned_for_what_depends_on_each() -> None:
    x, y = LinearProblem(n_samples=30_000, n_features=40).sample()
    loss, start = LinearLoss.of(x, y), Affine(torch.zeros(1, 40), torch.zeros(1))
    predictor = OutcomePredictor(loss, start, max_epochs=20)
    assert predictor.drawn.is_thinned
    assert predictor.drawn.least_squares == loss.least_squares
    estimated, exact = predictor.predict(1, 0.001), DrawnBatches(loss, start).largest_stable_lr(1)
    assert estimated.largest_stable_lr == pytest.approx(exact, rel=0.02)


def test_a_batch_of_all_samples_that_is_drawn_with_replacement_is_not_the_whole_set() -> None:
    """Its runs spread, and its limit is lower: against the mean of many."""
    plain, drawn = _of_system_1(), _of_system_1(with_replacement=True)
    limit = drawn.predict("full", 0.01).largest_stable_lr
    assert limit == DrawnBatches(drawn.loss, START).largest_stable_lr(100)
    assert limit < 0.999 * plain.predict("full", 0.01).largest_stable_lr
    assert drawn.predict("full", 0.05).floor > 0 == plain.predict("full", 0.05).floor
    x, y = (values.double().numpy() for values in SteepLine().sample())
    losses = trained(x, y, START, 0.05, Variant(100, 100), 40, "with_replacement", runs=400)
    error = losses.std(axis=1, ddof=1) / 20
    assert (np.abs(losses.mean(axis=1) - drawn.losses("full", 0.05, 40).numpy())[1:] < 4 * error[1:]).all()
    found = OutcomeMap.of(drawn, 10, columns=4)
    assert found.batch.limit == limit
    assert found.batch.verdict(0.999 * plain.predict("full", 0.01).largest_stable_lr) is Verdict.DIVERGES
    assert in_words(drawn, drawn.predict("full", 0.05)).endswith("for samples drawn with replacement")


@pytest.mark.parametrize(
    ("n", "columns", "batch_size", "momentum", "is_short"),
    [
        (47_000, 21, 64, 0.0, True),
        (303, 22, 16, 0.9, True),
        (569, 31, 16, 0.0, True),
        (100, 10_001, "full", 0.0, True),
        (506, 105, 16, 0.0, False),
        (100_000, 101, "full", 0.0, False),
        (10_000_000, 11, "full", 0.0, False),
    ],
)
def test_how_long_an_outcome_takes_is_estimated(
    n: int, columns: int, batch_size: Any, momentum: float, is_short: bool
) -> None:
    """What is short takes less than half a second on a usual machine, in one thread."""
    variant = Variant.of(batch_size, n)
    assert (seconds_to_predict(variant, columns, batch_size == "full", momentum) <= 0.5) == is_short
