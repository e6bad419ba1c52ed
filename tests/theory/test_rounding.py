"""Digits that rounding leaves: against runs in both precisions and least squares in rational numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning import Affine, FourPoints, LinearProblem
from gd_lightning.models import Standardize
from gd_lightning.theory import LinearLoss, Rounding, largest_stable_lr
from gd_lightning.update_rule import UpdateRule

Decimals = NDArray[np.int64]  # in units of 0.0001, as a table with four decimals has them
PRECISIONS = [torch.float32, torch.float64]
_RUNS = 9
SETTINGS = [(0.0, False), (0.5, False), (0.5, True)]


def _problem(seed: int, n_features: int, ratio: float) -> tuple[Decimals, Decimals]:
    """Return features whose means are up to ``ratio`` times their deviations, and two targets."""
    random = np.random.default_rng(seed)
    n = int(random.integers(20, 200))
    x = random.standard_normal((n, n_features)) + ratio * random.uniform(0.5, 1, n_features)
    y = x @ random.standard_normal((n_features, 2)) + 10 * random.standard_normal(2)
    y += 10 ** random.uniform(-2, 1) * random.standard_normal((n, 2))
    return np.round(1e4 * x).astype(np.int64), np.round(1e4 * y).astype(np.int64)


def _least_squares(x: Decimals, y: Decimals, bias: bool, standardize: bool) -> list[Fraction]:
    """Return the solution in the order of ``Affine.flat``, by elimination in the normal equations, without rounding."""
    rows = [[Fraction(int(value), 10**4) for value in row] for row in x]
    means = [sum(column, Fraction(0)) / len(rows) for column in zip(*rows, strict=True)]
    if standardize and not bias:
        rows = [[value - mean for value, mean in zip(row, means, strict=True)] for row in rows]
    design = [[*row, Fraction(1)] if bias else row for row in rows]
    targets = [[Fraction(int(value), 10**4) for value in row] for row in y]
    size = len(design[0])
    both = [[*row, *target] for row, target in zip(design, targets, strict=True)]
    columns = range(size + y.shape[1])
    system = [[sum((row[i] * row[j] for row in both), Fraction(0)) for j in columns] for i in range(size)]
    for i in range(size):
        system[i] = [value / system[i][i] for value in system[i]]
        for j in set(range(size)) - {i}:
            system[j] = [value - system[j][i] * above for value, above in zip(system[j], system[i], strict=True)]
    n_features = x.shape[1]
    outputs = range(size, size + y.shape[1])
    weights = [[system[i][k] for i in range(n_features)] for k in outputs]
    if bias:
        biases = [system[-1][k] for k in outputs]
    else:
        shifts = [-sum((w * mean for w, mean in zip(weight, means, strict=True)), Fraction(0)) for weight in weights]
        biases = shifts if standardize else []
    return [value for weight in weights for value in weight] + biases


def _trained(
    x: Tensor, y: Tensor, layer: Standardize | None, bias: bool, updates: int, lr: float, setting: tuple[float, bool]
) -> list[list[float]]:
    """Return the parameters in original units of several runs, side by side, after many updates."""
    features = x if layer is None else layer(x)
    weight = torch.randn(_RUNS, x.shape[1], y.shape[1]).to(y.dtype).requires_grad_()
    start = torch.randn(_RUNS, 1, y.shape[1]).to(y.dtype).requires_grad_()
    trained = [weight, start] if bias else [weight]
    optimizer = torch.optim.SGD(trained, lr=lr, momentum=setting[0], nesterov=setting[1])
    targets = y.expand(_RUNS, -1, -1)
    for _ in range(updates):
        optimizer.zero_grad()
        prediction = features @ weight + start if bias else features @ weight
        (nn.functional.mse_loss(prediction, targets, reduction="sum") / y.numel()).backward()
        optimizer.step()
    found = [Affine(weight[i].detach().T, start[i, 0].detach() if bias else None) for i in range(_RUNS)]
    return [(one if layer is None else one.in_original_units(layer.mean, layer.scale)).flat().tolist() for one in found]


def _surplus(
    number: int, ratio: float, dtype: torch.dtype, standardize: bool = True, bias: bool = True
) -> NDArray[np.float64]:
    """Return how many digits more than predicted there are, the median of several runs for each parameter."""
    random, setting = np.random.default_rng(number), SETTINGS[number % 3]
    x_in_units, y_in_units = _problem(number, 1 + number % 3, ratio)
    x, y = torch.from_numpy(x_in_units / 1e4), torch.from_numpy(y_in_units / 1e4)
    layer = Standardize.fit(lambda: [x]).double() if standardize else None
    loss = LinearLoss.of(x if layer is None else layer(x), y, bias)
    limit = largest_stable_lr(loss.lambda_max, UpdateRule(math.nan, *setting))
    lr = random.uniform(0.3, 0.9) * limit
    slowest = min(lr * loss.lambda_min / (1 - setting[0]), 2 - 2 * lr / limit)
    predicted = Rounding(loss, x, y, UpdateRule(lr, *setting), layer).digits(dtype).numpy()
    exact = _least_squares(x_in_units, y_in_units, bias, standardize)
    updates, most = int(100 - 1.2 * math.log(torch.finfo(dtype).eps) / slowest), -math.log10(torch.finfo(dtype).eps / 2)
    in_precision = Standardize.fit(lambda: [x]).to(dtype) if standardize else None
    digits = []
    for found in _trained(x if standardize else x.to(dtype), y.to(dtype), in_precision, bias, updates, lr, setting):
        errors = [abs(float((Fraction(value) - right) / right)) for value, right in zip(found, exact, strict=True)]
        digits.append([min(most, -math.log10(error)) if error else most for error in errors])
    surplus: NDArray[np.float64] = np.median(digits, axis=0) - predicted
    return surplus


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_digits_are_those_of_real_runs(dtype: torch.dtype) -> None:
    """Means from a tenth of a deviation to 3000 of them; digits from 2 to all that the precision holds."""
    cases = [_surplus(number, ratio, dtype) for number, ratio in enumerate(np.logspace(-1, 3.5, 9))]
    cases += [_surplus(number, ratio, dtype, bias=False) for number, ratio in enumerate(np.logspace(-1, 2, 4))]
    cases += [_surplus(number, ratio, dtype, standardize=False) for number, ratio in enumerate(np.linspace(0.1, 1, 5))]
    surplus = np.concatenate(cases)
    assert np.median(np.abs(surplus)) < 0.3
    assert (np.abs(surplus) < 1).mean() > 0.9
    assert surplus.min() > -1.5  # a run can be lucky, and have any number more


def test_a_parameter_of_zero_has_digits_behind_the_point() -> None:
    x, y = FourPoints().sample()  # y = 2 x + 0
    digits = Rounding(LinearLoss.of(x, y), x, y, UpdateRule(0.1)).digits(torch.float64)
    assert (digits > 14).all()
    assert (digits < 16).all()


def test_some_samples_tell_what_all_tell() -> None:
    x, y = LinearProblem(n_samples=5000, n_features=4, n_targets=2).sample()
    x = x + 30
    layer = Standardize.fit(lambda: [x])
    loss = LinearLoss.of(layer(x), y)
    of_all, of_some = (
        Rounding(loss, part_x, part_y, UpdateRule(0.3), layer).digits(torch.float32)
        for part_x, part_y in ((x, y), (x[::10], y[::10]))
    )
    np.testing.assert_allclose(of_some, of_all, atol=0.05)


def test_a_small_learning_rate_stands_still_far_from_the_optimum() -> None:
    x, y = LinearProblem(n_samples=100, n_features=2).sample()
    loss = LinearLoss.of(x, y)
    fast, slow = (Rounding(loss, x, y, UpdateRule(lr)).digits(torch.float32) for lr in (0.5, 5e-5))
    np.testing.assert_allclose(fast - slow, 4, atol=1)
    # The same steps with momentum 0.9 and a tenth of the learning rate.
    np.testing.assert_allclose(
        Rounding(loss, x, y, UpdateRule(5e-6, momentum=0.9)).digits(torch.float32), slow, atol=1e-3
    )


def _ended(x: Tensor, y: Tensor, start: Affine, lr: float, momentum: float) -> NDArray[np.float64]:
    """Return the parameters after updates in float32, by NumPy: a row for each feature and one for the bias."""
    rows = np.column_stack([x.numpy(), np.ones(len(x))]).astype(np.float32)
    assert start.bias is not None
    theta = np.vstack([start.weight.numpy().T, start.bias.numpy()]).astype(np.float32)
    velocity, targets = np.zeros_like(theta), y.numpy().astype(np.float32)
    for _ in range(2_000):
        gradient = np.float32(2 / targets.size) * (rows.T @ (rows @ theta - targets))
        velocity = np.float32(momentum) * velocity + gradient
        theta = theta - np.float32(lr) * velocity
    return theta.astype(np.float64)


@pytest.mark.parametrize(
    ("lr", "momentum", "outputs", "weight", "scale"),
    [
        (1e-20, 0.0, 1, 3.0, 1.0),  # nothing moves
        (1e-12, 0.9, 2, -50.0, 1.0),
        (1e-8, 0.0, 1, 1e6, 1.0),  # nor where ulps at the start are a million times those at the minimum
        (1e-12, 0.0, 3, 1e-3, 1.0),
        (0.3, 0.0, 1, 2.0, 1e-5),  # one of two directions moves
        (0.1, 0.5, 2, 2.0, 1e-5),
        (0.3, 0.0, 1, 2.0, 1.0),  # all move
    ],
)
def test_a_run_ends_no_farther_away_than_it_starts(
    lr: float, momentum: float, outputs: int, weight: float, scale: float
) -> None:
    random = np.random.default_rng(0)
    features = np.array([1.0, scale]) * random.choice([-1.0, 1.0], (64, 2))
    x = torch.from_numpy(features - features.mean(axis=0))
    y = x @ torch.from_numpy(np.array([[2.0], [1.5]]) * np.ones(outputs)) + 0.1
    y = y + 0.01 * torch.from_numpy(random.standard_normal((64, outputs)))
    start = Affine(torch.full((outputs, 2), weight).double(), torch.full((outputs,), 4.0).double())
    loss = LinearLoss.of(x, y)
    predicted = Rounding(loss, x, y, UpdateRule(lr, momentum), start=start).excess(torch.float32)
    theta = _ended(x, y, start, lr, momentum)
    end = Affine(torch.from_numpy(theta[:-1].T), torch.from_numpy(theta[-1]))
    excess = loss.excess(loss.error(end)).item()
    if excess > 1e-9:  # what stays is known, and not only its mean square
        assert predicted == pytest.approx(excess, rel=1e-3)
    else:
        assert predicted < 1e-9
