"""What a larger batch is worth: bounds, by enumerating batches."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gd_lightning.theory import Interpolation, largest_stable_lr
from gd_lightning.update_rule import UpdateRule


def _growth(samples: list[list[float]], lr: float, batch_size: int, mu: float, nesterov: bool) -> float:
    """Return by what the second moments of error and velocity grow an update, by enumerating all batches."""
    z = np.array(samples)
    size = z.shape[1]
    matrices = []
    for draw in product(range(len(z)), repeat=batch_size):
        h = 2 * z[list(draw)].T @ z[list(draw)] / batch_size
        one = np.eye(size)
        step = -lr * np.hstack([(1 + mu) * h, mu * mu * one] if nesterov else [h, mu * one])
        matrix = np.vstack([np.hstack([one, 0 * one]) + step, np.hstack([h, mu * one])])
        matrices.append(np.kron(matrix, matrix))
    return float(np.abs(np.linalg.eigvals(np.mean(matrices, axis=0))).max())


@pytest.mark.parametrize(("mu", "nesterov"), [(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_limit_is_reached_by_samples_that_are_alike_or_say_nothing(
    batch_size: int, mu: float, nesterov: bool
) -> None:
    bounds = Interpolation(beta=2.0, lambda_min=2 / 3, lambda_max=2 / 3)
    limit = bounds.largest_stable_lr(batch_size, UpdateRule(momentum=mu, nesterov=nesterov))
    samples = [[1.0], [0.0], [0.0]]
    assert _growth(samples, 0.999 * limit, batch_size, mu, nesterov) < 1
    assert _growth(samples, 1.001 * limit, batch_size, mu, nesterov) > 1


@pytest.mark.parametrize(("mu", "nesterov"), [(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_below_the_limit_errors_shrink_whatever_the_samples(batch_size: int, mu: float, nesterov: bool) -> None:
    samples = [[1.5, 0.0], [0.4, 0.3], [-0.2, 0.7], [0.1, -0.1]]
    z = np.array(samples)
    eigenvalues = np.linalg.eigvalsh(2 * z.T @ z / 4)
    beta = 2 * np.square(z).sum(axis=1).max()
    for lowest in (0.0, eigenvalues[0]):
        bounds = Interpolation(beta, lowest, eigenvalues[-1])
        limit = bounds.largest_stable_lr(batch_size, UpdateRule(momentum=mu, nesterov=nesterov))
        assert _growth(samples, 0.999 * limit, batch_size, mu, nesterov) < 1


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_limits_in_closed_form(batch_size: int) -> None:
    bounds, m = Interpolation(beta=2.0, lambda_min=0.0, lambda_max=0.5), batch_size
    plain = bounds.largest_stable_lr(m)
    assert plain == pytest.approx(2 * m / (2.0 + (m - 1) * 0.5), rel=1e-12)
    mu = 0.9  # the condition solved for lr at lambda_max, and at 0
    heavy = min(2 * (1 - mu**2) / ((1 + mu) * 1.5 / m + (1 - mu) * 0.5), 2 * m * (1 - mu) / 2.0)
    assert bounds.largest_stable_lr(m, UpdateRule(momentum=mu)) == pytest.approx(heavy, rel=1e-12)
    for nesterov in (False, True):
        rule = UpdateRule(momentum=mu, nesterov=nesterov)
        of_all = largest_stable_lr(0.5, rule)
        assert bounds.largest_stable_lr(10**9, rule) == pytest.approx(of_all, rel=1e-7)
