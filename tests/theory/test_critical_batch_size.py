"""What a larger batch is worth: identities by enumerating batches, bounds by a scan."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch

from gd_lightning import Affine, LinearProblem
from gd_lightning.theory import (
    GradientNoise,
    Interpolation,
    LinearLoss,
    largest_sample_curvature,
    largest_stable_lr,
)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_noise_scale_by_enumeration(batch_size: int, replacement: bool) -> None:
    n, lr = 5, 0.07
    x, y = LinearProblem(n_samples=n, n_features=2, noise=1.0).sample()
    z = np.hstack([x.numpy(), np.ones((n, 1))])
    theta = np.array([0.5, -1.0, 2.0])
    gradients = 2 * (z @ theta - y.numpy().ravel())[:, None] * z
    hessian = 2 * z.T @ z / n
    draws = product(range(n), repeat=batch_size) if replacement else combinations(range(n), batch_size)
    means = np.array([gradients[list(draw)].mean(axis=0) for draw in draws])

    noise = GradientNoise.of_gradients(torch.from_numpy(gradients), torch.from_numpy(hessian))
    squared = np.square(means).sum(axis=1).mean()
    assert noise.expected_squared_norm(batch_size, replacement) == pytest.approx(squared, rel=1e-12)

    def value(parameters: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return float(np.square(z @ parameters - y.numpy().ravel()).mean())

    progress = value(theta) - np.mean([value(theta - lr * mean) for mean in means])
    assert noise.expected_progress(lr, batch_size, replacement) == pytest.approx(progress, rel=1e-11)
    best = noise.best_lr(batch_size, replacement)
    most = noise.expected_progress(best, batch_size, replacement)
    assert all(noise.expected_progress(lr, batch_size, replacement) <= most for lr in np.linspace(0, 2 * best, 50))
    if replacement:  # equation 2.7: the progress of a batch as a share of that without noise
        whole = noise.squared_norm**2 / (2 * noise.curvature)
        assert most == pytest.approx(whole / (1 + noise.scale / batch_size), rel=1e-12)


def test_of_a_linear_regressor_and_of_any_gradients() -> None:
    x, y = LinearProblem(n_samples=30, n_features=3, n_targets=2, noise=0.7).sample()
    affine = Affine(torch.randn(2, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64))
    loss = LinearLoss.of(x, y)
    parameters = [affine.weight.clone().requires_grad_(), torch.zeros(2, dtype=torch.float64, requires_grad=True)]
    rows = []
    for features, target in zip(x, y, strict=True):
        value = (parameters[0] @ features + parameters[1] + affine.flat()[6:] - target).square().mean()
        rows.append(torch.cat([gradient.flatten() for gradient in torch.autograd.grad(value, parameters)]))

    design = torch.cat([x, torch.ones(30, 1, dtype=torch.float64)], dim=1)
    block = design.T @ design / 30
    order = [0, 1, 2, 6, 3, 4, 5, 7]  # output by output, as the Hessian's blocks
    gradients = torch.stack(rows)[:, order]
    direct = GradientNoise.of_gradients(gradients, torch.block_diag(block, block))
    closed = GradientNoise.of_linear(loss, loss.error(affine))
    for name in ("squared_norm", "trace", "curvature", "curved_trace", "simple_scale", "scale"):
        assert getattr(closed, name) == pytest.approx(getattr(direct, name), rel=1e-10), name


def test_one_update_on_samples_of_one_norm() -> None:
    """Ma et al., theorem 1: with |z| = 1 the bound is reached in the directions of the outer eigenvalues."""
    n, lr = 6, 0.4
    x = torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64))
    loss = LinearLoss.of(x, x.sum(dim=1, keepdim=True), bias=False)
    bounds = Interpolation.of(loss)
    assert bounds.beta == pytest.approx(2.0, rel=1e-12)
    assert largest_sample_curvature(loss) == bounds.beta
    for batch_size in (1, 2, 3):
        factors = []
        for direction in loss.directions.T.numpy():
            after = [
                direction - lr * 2 / batch_size * x[list(b)].numpy().T @ (x[list(b)].numpy() @ direction)
                for b in product(range(n), repeat=batch_size)
            ]
            factors.append(np.square(after).sum(axis=1).mean())
        assert bounds.contraction(lr, batch_size) == pytest.approx(max(factors), rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 6, 100])
def test_no_learning_rate_has_a_smaller_bound(batch_size: int) -> None:
    bounds = Interpolation(beta=2.0, lambda_min=0.1, lambda_max=0.5)
    best = bounds.best_lr(batch_size)
    smallest = bounds.contraction(best, batch_size)
    scan = [bounds.contraction(lr, batch_size) for lr in np.linspace(0.01, 2, 4000) * best]
    assert min(scan) >= smallest - 1e-12
    assert min(scan) == pytest.approx(smallest, abs=1e-4)


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
    limit = bounds.largest_stable_lr(batch_size, mu, nesterov)
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
        limit = bounds.largest_stable_lr(batch_size, mu, nesterov)
        assert _growth(samples, 0.999 * limit, batch_size, mu, nesterov) < 1


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_limits_in_closed_form(batch_size: int) -> None:
    bounds, m = Interpolation(beta=2.0, lambda_min=0.0, lambda_max=0.5), batch_size
    plain = bounds.largest_stable_lr(m)
    assert plain == pytest.approx(2 * m / (2.0 + (m - 1) * 0.5), rel=1e-12)
    assert bounds.contraction(plain, m) == pytest.approx(1, abs=1e-12)
    mu = 0.9  # the condition solved for lr at lambda_max, and at 0
    heavy = min(2 * (1 - mu**2) / ((1 + mu) * 1.5 / m + (1 - mu) * 0.5), 2 * m * (1 - mu) / 2.0)
    assert bounds.largest_stable_lr(m, mu) == pytest.approx(heavy, rel=1e-12)
    for nesterov in (False, True):
        of_all = largest_stable_lr(0.5, mu, nesterov)
        assert bounds.largest_stable_lr(10**9, mu, nesterov) == pytest.approx(of_all, rel=1e-7)
