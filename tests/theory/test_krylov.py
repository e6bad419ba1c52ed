"""Iterative methods against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gd_lightning.theory.numerics.krylov import (
    largest_eigenvalue,
    largest_eigenvalues,
    power,
    powers,
    smallest_eigenvalue,
    solve,
    solve_any,
    spectral_radius,
)


def _symmetric(size: int, low: float, high: float) -> torch.Tensor:
    directions = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
    matrix: torch.Tensor = directions * torch.linspace(low, high, size, dtype=torch.float64) @ directions.T
    return matrix


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_largest_eigenvalue(size: int) -> None:
    matrix = _symmetric(size, -3.0, 2.0 if size > 1 else -3.0)
    found = largest_eigenvalue(lambda vector: matrix @ vector, torch.randn(size, dtype=torch.float64))
    assert found == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-7)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_largest_eigenvalues_of_several_matrices(size: int) -> None:
    """Among them one that is 0, one below 0, and one of few eigenvalues, whose search ends early."""
    few = torch.diag((torch.arange(size) % 3).double())
    several = [_symmetric(size, -3.0, 2.0), _symmetric(size, -3.0, -1.0), 0 * few, few, -1e6 * few - torch.eye(size)]
    matrices = torch.stack(several)
    start = torch.randn(len(matrices), size, dtype=torch.float64)
    found = largest_eigenvalues(lambda vectors: torch.einsum("mij,mj->mi", matrices, vectors), start, 80)
    exact = torch.linalg.eigvalsh(matrices)[:, -1]
    torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-7)


def test_an_eigenvector_to_start_from_is_found_at_once() -> None:
    assert largest_eigenvalue(lambda matrix: 2 * matrix, torch.eye(3, dtype=torch.float64)) == pytest.approx(2)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_smallest_eigenvalue(size: int) -> None:
    large = torch.linspace(1, 1000, size, dtype=torch.float64)
    matrix = torch.diag(large) + _symmetric(size, -0.3, 0.3)
    start = torch.ones(size, dtype=torch.float64)
    found, vector = smallest_eigenvalue(lambda vector: matrix @ vector, start, lambda vector: vector / large)
    assert found == pytest.approx(np.linalg.eigvalsh(matrix)[0], rel=1e-6)
    assert (matrix @ vector - found * vector).norm() < 1e-2 * vector.norm()


def test_a_linear_system() -> None:
    matrix, right = _symmetric(60, 0.01, 5.0), torch.randn(60, dtype=torch.float64)
    found = solve(lambda vector: matrix @ vector, right)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-7)
    assert solve(lambda vector: matrix @ vector, torch.zeros(60)).norm() == 0


@pytest.mark.parametrize("size", [3, 50, 600])
def test_powers(size: int) -> None:
    matrix = _symmetric(size, 0.2, 0.9999) + 1e-3 * torch.randn(size, size, dtype=torch.float64) / size
    start, observe = torch.rand(size, dtype=torch.float64), torch.rand(size, dtype=torch.float64)
    times = [0, 1, 7, 7, 500, 20_000, 3]
    found = powers(lambda vector: matrix @ vector, start, observe, times)
    expected = [observe.numpy() @ np.linalg.matrix_power(matrix.numpy(), time) @ start.numpy() for time in times]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-6)
    for time in (3, 500):
        state = power(lambda vector: matrix @ vector, start, time)
        np.testing.assert_allclose(state, np.linalg.matrix_power(matrix.numpy(), time) @ start.numpy(), atol=1e-8)


def test_any_system_and_the_spectral_radius() -> None:
    matrix = torch.randn(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def apply(values: torch.Tensor) -> torch.Tensor:
        return (matrix @ values.flatten()).view_as(values)

    found = solve_any(lambda values: 20 * values + apply(values), right)
    np.testing.assert_allclose(20 * found + apply(found), right, atol=1e-9)
    assert solve_any(apply, torch.zeros(5, 6)).abs().max() == 0
    radius = torch.linalg.eigvals(matrix).abs().max().item()
    assert spectral_radius(apply, right) == pytest.approx(radius, rel=1e-8)
