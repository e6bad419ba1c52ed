"""Iterative methods against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gd_lightning.theory.numerics.krylov import conjugate_gradient, largest_eigenvalue, largest_eigenvalues


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


def test_a_linear_system() -> None:
    matrix, right = _symmetric(60, 0.01, 5.0), torch.randn(60, dtype=torch.float64)
    found = conjugate_gradient(lambda vector: matrix @ vector, right)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-7)
    assert conjugate_gradient(lambda vector: matrix @ vector, torch.zeros(60)).norm() == 0
