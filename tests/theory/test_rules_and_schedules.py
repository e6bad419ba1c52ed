"""Update rules times schedules times data: predicted curves against gradient descent in NumPy, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning import Affine, Variant, fit
from gd_lightning.theory import Average, LinearLoss, OutcomePredictor
from gd_lightning.update_rule import UpdateRule

Numbers = NDArray[np.float64]
EPOCHS, LR, GAMMA = 12, 0.06, 0.8


@dataclass(frozen=True)
class Rule:
    """The settings of torch's SGD."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    dampening: float = 0.0


RULES = {
    "plain": Rule(),
    "decay": Rule(weight_decay=0.3),
    "heavy ball": Rule(momentum=0.8),
    "nesterov and decay": Rule(momentum=0.7, nesterov=True, weight_decay=0.2),
}
SCHEDULES: dict[str, tuple[dict[str, Any] | None, Callable[[int], float]]] = {
    "constant": (None, lambda epoch: LR),
    "ExponentialLR": ({"gamma": GAMMA}, lambda epoch: LR * GAMMA**epoch),
    "CosineAnnealingLR": ({"T_max": EPOCHS}, lambda epoch: LR * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2),
}
DATA = {
    "one target": (1, "none"),
    "three targets": (3, "none"),
    "both": (1, "both"),
    "three targets, both": (3, "both"),
}
AVERAGES = {"of all": Average(), "from 5 on": Average(first_update=5), "decaying": Average(decay=0.8)}


def table(targets: int) -> tuple[Numbers, Numbers]:
    random = np.random.default_rng(targets)
    x = random.normal(size=(24, 2)) * [1.0, 0.6] + [0.3, -0.2]
    return x, x @ random.normal(size=(2, targets)) + 0.5 * random.normal(size=(24, targets)) + 2.0


def descended(
    x: Numbers,
    y: Numbers,
    rule: Rule,
    rate: Callable[[int], float],
    batch_size: int,
    order: Literal["sequential", "with_replacement"] = "sequential",
    average: Average | None = None,
    runs: int = 1,
) -> Numbers:
    """Train runs from zero; returns the train loss before and after every epoch, shape (EPOCHS + 1, runs)."""
    design, random = np.hstack([x, np.ones((len(x), 1))]), np.random.default_rng(0)
    theta = np.zeros((runs, design.shape[1], y.shape[1]))
    velocity, mean, updates = np.zeros_like(theta), theta, 0
    losses = [np.square(design @ theta - y).mean(axis=(1, 2))]
    for epoch in range(EPOCHS):
        rows = np.tile(np.arange(len(x)), (runs, 1))
        rows = random.integers(len(x), size=rows.shape) if order == "with_replacement" else rows
        for begin in range(0, len(x), batch_size):
            batch = rows[:, begin : begin + batch_size]
            z, wrong = design[batch], design[batch] @ theta - y[batch]
            gradient = 2 / wrong[0].size * z.transpose(0, 2, 1) @ wrong + rule.weight_decay * theta
            velocity = rule.momentum * velocity + (1 - rule.dampening if updates else 1.0) * gradient
            theta = theta - rate(epoch) * (gradient + rule.momentum * velocity if rule.nesterov else velocity)
            updates += 1
            if average is not None:
                counted = updates - average.first_update + 1
                share = 1.0 if counted <= 1 else 1 / counted if average.decay is None else 1 - average.decay
                mean = (1 - share) * mean + share * theta
        losses.append(np.square(design @ (theta if average is None else mean) - y).mean(axis=(1, 2)))
    return np.array(losses)


def _slow_but(fast: tuple[Any, ...], *names: Iterable[Any]) -> list[Any]:
    """Return all combinations, of which all but one run on request."""
    return [case if case == fast else pytest.param(*case, marks=pytest.mark.slow) for case in product(*names)]


@pytest.mark.parametrize(
    ("rule", "schedule", "data"),
    _slow_but(("nesterov and decay", "ExponentialLR", "three targets, both"), RULES, SCHEDULES, DATA),
)
def test_the_curve_of_the_full_batch(rule: str, schedule: str, data: str) -> None:
    (targets, standardize), (options, rate), moved = DATA[data], SCHEDULES[schedule], RULES[rule]
    x, y = table(targets)
    model: dict[str, Any] = {"momentum": moved.momentum, "nesterov": moved.nesterov, "initialization": "zero"}
    model |= {"weight_decay": moved.weight_decay}
    if options is not None:
        model["lr_scheduler"] = {"class_path": f"torch.optim.lr_scheduler.{schedule}", "init_args": options}
    run = fit((x, y), lr=LR, max_epochs=EPOCHS, precision="64-true", standardize=standardize, model=model)
    if standardize == "both":
        x, y = (x - x.mean(axis=0)) / x.std(axis=0), y - y.mean(axis=0)
    expected = descended(x, y, moved, rate, len(x))[:, 0]
    np.testing.assert_allclose(run.history["train_loss_predicted"], expected, rtol=1e-9)
    np.testing.assert_allclose(run.history["train_loss"], expected, rtol=1e-9)


@pytest.mark.parametrize("schedule", [pytest.param(name, marks=pytest.mark.slow) for name in SCHEDULES])
def test_with_dampening_nothing_is_predicted_and_the_run_is_that_of_torch(schedule: str) -> None:
    options, rate = SCHEDULES[schedule]
    x, y = table(2)
    made = {"momentum": 0.8, "dampening": 0.5, "lr": LR}
    model: dict[str, Any] = {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": made},
        "initialization": "zero",
    }
    if options is not None:
        model["lr_scheduler"] = {"class_path": f"torch.optim.lr_scheduler.{schedule}", "init_args": options}
    run = fit((x, y), max_epochs=EPOCHS, precision="64-true", standardize="none", model=model)
    assert "train_loss_predicted" not in run.history
    expected = descended(x, y, Rule(momentum=0.8, dampening=0.5), rate, len(x))[:, 0]
    np.testing.assert_allclose(run.history["train_loss"], expected, rtol=1e-9)


def _predictor(x: Numbers, y: Numbers, moved: Rule, rate: Callable[[int], float], drawn: bool) -> OutcomePredictor:
    rule = UpdateRule(momentum=moved.momentum, nesterov=moved.nesterov, weight_decay=moved.weight_decay)
    loss = LinearLoss.of(torch.from_numpy(x), torch.from_numpy(y)).with_weight_decay(moved.weight_decay)
    rates = torch.tensor([[rate(epoch)] for epoch in range(EPOCHS)], dtype=torch.float64)
    start = Affine(torch.zeros(y.shape[1], 2).double(), torch.zeros(y.shape[1]).double())
    return OutcomePredictor(loss, start, EPOCHS, rule, with_replacement=drawn, schedule=lambda *_: rates)


@pytest.mark.parametrize(
    ("rule", "schedule", "average", "targets"),
    _slow_but(("heavy ball", "ExponentialLR", "decaying", 3), RULES, SCHEDULES, AVERAGES, (1, 3)),
)
def test_the_average_of_the_full_batch(rule: str, schedule: str, average: str, targets: int) -> None:
    x, y = table(targets)
    rate = SCHEDULES[schedule][1]
    expected = descended(x, y, RULES[rule], rate, len(x), average=AVERAGES[average])[-1, 0]
    found = _predictor(x, y, RULES[rule], rate, False).averaged_loss("full", LR, EPOCHS, AVERAGES[average])
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("rule", "schedule", "average"),
    _slow_but(("nesterov and decay", "ExponentialLR", "none"), RULES, SCHEDULES, ("none", *AVERAGES)),
)
@pytest.mark.parametrize("data", ["one target", pytest.param("three targets, both", marks=pytest.mark.slow)])
def test_the_mean_curve_of_drawn_batches(rule: str, schedule: str, average: str, data: str) -> None:
    (targets, standardize), rate, runs = DATA[data], SCHEDULES[schedule][1], 2_000
    x, y = table(targets)
    if standardize == "both":
        x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean(axis=0)) / y.std(axis=0)
    predictor, variant = _predictor(x, y, RULES[rule], rate, True), Variant.of(4, len(x))
    ways = AVERAGES.get(average)
    losses = descended(x, y, RULES[rule], rate, variant.batch_size, "with_replacement", ways, runs)
    if ways is None:
        found = predictor.losses(variant.batch_size, LR, EPOCHS).numpy()[1:]
    else:
        losses, found = losses[-1:], np.array([predictor.averaged_loss(variant.batch_size, LR, EPOCHS, ways)])
    apart = np.abs(losses[-len(found) :].mean(axis=1) - found)
    assert (apart < 3 * losses[-len(found) :].std(axis=1) / runs**0.5).all()
