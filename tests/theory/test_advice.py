"""Every advice is followed: it ends what it was given for, and comes to what it promises."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import Affine, FourPoints
from gd_lightning.models import Standardize
from gd_lightning.theory import (
    LinearLoss,
    OutcomePredictor,
    PredictedOutcome,
    Remedy,
    Rounding,
    Verdict,
    advice,
    remedies,
    stable_lr,
)
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.theory.training import Numbers, trained

MOMENTA: tuple[dict[str, Any], ...] = ({}, {}, {"momentum": 0.6}, {"momentum": 0.8, "nesterov": True})
ORDERS = ("sequential", "shuffled", "with_replacement")
MOST_UPDATES = 3_000  # of all epochs of a run that is trained here


def table(number: int) -> tuple[Numbers, Numbers]:
    """Return features, about half of them as raw as in a table, and targets with noise or none."""
    random = np.random.default_rng(number)
    n, d = int(random.integers(10, 30)), int(random.integers(1, 4))
    x = random.normal(size=(n, d))
    if number % 2:
        x = x * 10.0 ** random.integers(-1, 3, size=d) + random.choice([0, 5, 200], size=d)
    return x, x @ random.normal(size=(d, 1)) + 3 + random.choice([0, 0.1, 1]) * random.normal(size=(n, 1))


def predictor_of(x: Numbers, y: Numbers, max_epochs: float, **options: Any) -> OutcomePredictor:
    """Return the predictor from zero, with those of standardised features beside them."""
    features, targets = torch.from_numpy(x), torch.from_numpy(y)
    start = Affine(torch.zeros(1, x.shape[1]), torch.zeros(1))

    def standardized() -> OutcomePredictor:
        return OutcomePredictor(LinearLoss.of(layer_of(features)(features), targets), start, max_epochs, **options)

    return OutcomePredictor(LinearLoss.of(features, targets), start, max_epochs, **options, standardized=standardized)


def layer_of(features: torch.Tensor) -> Standardize:
    return Standardize.fit(lambda: [features]).double()


def followed(
    predictor: OutcomePredictor, outcome: PredictedOutcome, options: dict[str, Any]
) -> tuple[OutcomePredictor, PredictedOutcome]:
    """Return what is said of the run with the options of a remedy in the place of its own, asked anew."""
    size, lr = options.get("data.batch_size", outcome.variant.batch_size), options.get("model.lr", outcome.lr)
    if options.get("data.standardize"):
        assert predictor.standardized is not None
        predictor = predictor.standardized()
    names = {"max_epochs": "trainer.max_epochs", "drop_last": "data.drop_last"}
    changed = {name: options[full] for name, full in names.items() if full in options}
    if "model.momentum" in options:
        changed["rule"] = UpdateRule(momentum=options["model.momentum"], nesterov=options["model.nesterov"])
    predictor = replace(predictor, **changed) if changed else predictor
    return predictor, predictor.predict(size, lr)


def assert_it_comes_true(x: Numbers, y: Numbers, order: str, runs: OutcomePredictor, remedy: Remedy) -> bool:
    """Train what is advised for as many epochs as it is said to take; whether that was short enough to be done."""
    told = remedy.outcome
    epochs = int(told.epochs) if told.epochs < math.inf else 20
    if epochs * told.variant.updates_per_epoch > MOST_UPDATES or epochs > 2_000:
        return False
    features = torch.from_numpy(x)
    z = layer_of(features)(features).numpy() if remedy.options.get("data.standardize") else x
    many = 1 if told.variant.name == "batch" or order == "sequential" else 15
    moved = {"momentum": runs.rule.momentum, "nesterov": runs.rule.nesterov}
    order = order if many > 1 else "sequential"
    losses = trained(z, y, runs.start, told.lr, told.variant, epochs, order, **moved, runs=many)  # type: ignore[arg-type]
    assert np.isfinite(losses).all()
    assert (losses[-1] < 1e6 * losses[0]).mean() >= 0.9, (order, told)
    if told.verdict is not Verdict.REACHES_ITS_FLOOR:
        excess = losses[-1] - runs.loss.least_squares
        # In the mean of drawn runs; shuffled ones have a lower floor, but are no nearer to their mean.
        assert np.median(excess) <= (1 + 1e-6 if many == 1 else 2) * runs.target, (order, told)
    return True


# Those that take seconds, for their many epochs, on request.
@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[pytest.mark.slow] * (number in (3, 4))) for number in (*range(9), 11)]
)
def test_what_is_advised_is_stable_and_there_in_the_epochs_it_promises(number: int) -> None:
    x, y = table(number)
    random = np.random.default_rng(1000 + number)
    order = ORDERS[number % 3]
    moved = MOMENTA[random.integers(len(MOMENTA))]
    predictor = predictor_of(
        x, y, 20, sequential=order == "sequential", drop_last=bool(random.integers(2)), rule=UpdateRule(**moved)
    )
    size = int(random.choice([1, 4, 7, len(x)]))
    for factor in (10 ** random.uniform(-3, -1), 0.5, 0.97, 1.5, 100):
        outcome = predictor.predict(size, factor * predictor.largest_stable_lr(size))
        found = remedies(predictor, outcome)
        assert bool(found) == (outcome.verdict is not Verdict.CONVERGES)
        said = advice(predictor, outcome)
        assert len(said.splitlines()) == 1
        for remedy in found:
            runs, again = followed(predictor, outcome, dict(remedy.options))
            assert again.verdict is not outcome.verdict or again.verdict is Verdict.SLOW, (said, remedy)
            assert again.epochs == remedy.outcome.epochs
            assert again.floor == pytest.approx(remedy.outcome.floor, rel=1e-9)
            if outcome.verdict is Verdict.SLOW:
                assert again.epochs <= outcome.epochs
                enough = replace(runs, max_epochs=again.epochs).predict(again.variant.batch_size, again.lr)
                assert enough.verdict is Verdict.CONVERGES
            assert_it_comes_true(x, y, order, runs, remedy)


def test_standardised_features_come_first_where_they_save_most_of_the_epochs() -> None:
    random = np.random.default_rng(0)
    x = np.stack([random.normal(1500, 400, size=60), random.normal(3, 1, size=60)], axis=1)
    y = x @ np.array([[0.3], [20.0]]) + random.normal(size=(60, 1)) * 30
    predictor = predictor_of(x, y, 20)
    for size, lr in (("full", 0.1), ("full", 1e-7), (1, 0.1), (1, 1e-9), (10, 1e-8)):
        outcome = predictor.predict(size, lr)  # type: ignore[arg-type]
        (remedy,) = remedies(predictor, outcome)
        assert remedy.options["data.standardize"] == "both"
        assert remedy.outcome.epochs < 40
        said = advice(predictor, outcome)
        named = 'use --data.standardize both (in Python RegressionDataModule(standardize="both")) and lr '
        assert named in said
        assert remedy.instead is not None
        assert f"{remedy.outcome.epochs:.0f} epoch" in said
        assert f" instead of {remedy.instead.epochs:,.0f} at lr " in said
        assert remedy.instead.epochs > 100_000
        runs, _ = followed(predictor, outcome, dict(remedy.options))
        assert assert_it_comes_true(x, y, "with_replacement", runs, remedy)
    # What it is instead of is no worse than what gets there without: against the curve.
    plain = remedies(predictor, predictor.predict("full", 0.1))[0].instead
    assert plain is not None
    losses = predictor.losses("full", plain.lr, int(plain.epochs)) - predictor.loss.least_squares
    assert losses[-1] <= predictor.target < losses[-2]


def test_standardised_features_are_not_advised_where_they_do_not_help() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    correlated = np.stack([x[:, 0], x[:, 0] + 0.02 * x[:, 1]], axis=1)
    y = correlated @ np.array([[1.0], [2.0]]) + 0.1 * x[:, 1:]
    predictor = predictor_of(correlated, y, 20)
    assert predictor.loss.condition_number > 1_000
    found = remedies(predictor, predictor.predict("full", 0.01))
    assert found
    assert not any("data.standardize" in remedy.options for remedy in found)


def test_what_takes_very_long_is_offered_momentum() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    correlated = np.stack([x[:, 0], x[:, 0] + 0.005 * x[:, 1]], axis=1)
    y = correlated @ np.array([[1.0], [2.0]]) + x[:, 1:] + 0.1 * np.random.default_rng(1).normal(size=(40, 1))
    predictor = predictor_of(correlated, y, 20)
    outcome = predictor.predict("full", 0.3)
    assert outcome.epochs > 10_000
    with_momentum, *others = remedies(predictor, outcome)
    assert with_momentum.options["model.momentum"] > 0.9
    assert with_momentum.outcome.epochs < outcome.epochs / 10
    assert {"trainer.max_epochs"} in [set(remedy.options) for remedy in others]
    assert f"takes {outcome.epochs:,.0f} epochs" in advice(predictor, outcome)
    runs, _ = followed(predictor, outcome, dict(with_momentum.options))
    assert assert_it_comes_true(correlated, y, "sequential", runs, with_momentum)
    # Too much of it is as slow; less is advised.
    much = replace(predictor, rule=UpdateRule(momentum=0.99999))
    less, *_ = remedies(much, much.predict("full", 0.3))
    assert less.options == with_momentum.options


def test_the_best_lr_is_stable_with_a_short_last_batch_and_in_the_sequential_order() -> None:
    reduced = 0
    for number in range(9):
        four = [values.double().numpy() for values in FourPoints().sample()]
        x, y = table(2 * number) if number else (four[0], four[1])
        random = np.random.default_rng(number)
        moved = MOMENTA[random.integers(len(MOMENTA)) if number else 0]
        predictor = predictor_of(x, y, math.inf, sequential=bool(number % 2), rule=UpdateRule(**moved))
        size = int(random.integers(2, len(x))) if number else 3
        lr = stable_lr(predictor, size)
        assert predictor.predict(size, lr).verdict is not Verdict.DIVERGES
        reduced += lr < predictor.asymptotic_lr(size)
        order = "sequential" if predictor.sequential else "with_replacement"
        losses = trained(x, y, predictor.start, lr, Variant(size, len(x)), 100, order, **moved, runs=20)  # type: ignore[arg-type]
        assert (losses[-1] < 1e6 * losses[0]).mean() >= 0.9
    assert reduced > 0


@pytest.mark.parametrize(("lr", "has_float64"), [(1e-20, False), (1e-17, False), (1e-10, True), (1e-8, True)])
def test_a_run_whose_steps_round_to_nothing_is_told_what_is_faster_first(lr: float, has_float64: bool) -> None:
    x, y = table(0)
    exact = predictor_of(x, y, 20)

    start = Affine(exact.start.weight - 10, exact.start.bias)

    def rounding(rule: UpdateRule, dtype: torch.dtype = torch.float32) -> float:
        return Rounding(exact.loss, torch.from_numpy(x), torch.from_numpy(y), rule, start=start).excess(dtype)

    predictor = replace(exact, start=start, rounding=rounding)
    outcome = predictor.predict("full", lr)
    assert outcome.verdict is Verdict.REACHES_ITS_FLOOR
    assert outcome.floor <= (1 + 1e-9) * predictor.excess_at_start
    first, *others = remedies(predictor, outcome)
    assert [*first.options] == ["model.lr"]
    assert [*map(dict, (other.options for other in others))] == [{"trainer.precision": "64-true"}] * has_float64
    assert all(first.outcome.epochs < other.outcome.epochs < math.inf for other in others)
    assert assert_it_comes_true(x, y, "shuffled", predictor, first)


def test_a_floor_that_falls_with_the_learning_rate_is_passed() -> None:
    """An lr_scheduler is advised beside a smaller lr: from the same start, a falling one ends below the floor."""
    x, y = table(4)
    predictor = predictor_of(x, y, 400)
    lr = 0.5 * predictor.largest_stable_lr(2)
    outcome = predictor.predict(2, lr)
    assert outcome.verdict is Verdict.REACHES_ITS_FLOOR
    assert advice(predictor, outcome).endswith("or an lr_scheduler that decreases lr.")
    start, variant, ends = predictor.start, Variant(2, len(x)), []
    for falling in (False, True):
        at = start
        theta = np.tile(np.append(at.weight.numpy().ravel(), 0.0), (100, 1))
        design, random = np.hstack([x, np.ones((len(x), 1))]), np.random.default_rng(0)
        for update in range(updates := 100 * variant.updates_per_epoch):
            batch = random.integers(len(x), size=(100, 2))
            z = design[batch]
            gradient = ((z * theta[:, None]).sum(axis=2) - y[batch, 0])[:, :, None] * z
            theta = theta - lr * (1 - falling * update / updates) * gradient.sum(axis=1)
        ends.append(np.square(theta @ design.T - y[:, 0]).mean() - predictor.loss.least_squares)
    assert ends[1] < 0.2 * ends[0]
