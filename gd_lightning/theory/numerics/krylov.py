"""Krylov methods: extreme eigenvalues and linear systems of operators too large to store as matrices.

SciPy has such solvers, too. Installed, it makes every start of the command line 0.7 s longer, because torchmetrics
imports it where it finds it; and its vectors are NumPy's, its Lanczos method is one for a single operator.

Source: Golub and Van Loan, Matrix Computations, 4th edition, sections 10.1 (Lanczos) and 11.3 (conjugate gradients).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]

_MOST, _SETTLED = 10_000, 1e-10  # largest number of steps of conjugate gradients; relative residual at which they end
_SETTLED_VALUE = 1e-8  # relative change of an eigenvalue; its error is the square of that of the vector


def largest_eigenvalue(apply: Operator, start: Tensor) -> float:
    """Return the largest eigenvalue of a symmetric operator by Lanczos' method, all vectors kept orthogonal.

    Args:
        apply: The operator on tensors of any one shape.
        start: A tensor of this shape that is not orthogonal to the eigenvector.

    Returns:
        The eigenvalue, to about eight digits unless 200 applications do not suffice for that.
    """
    return leading_eigenpair(apply, start)[0]


def leading_eigenpair(apply: Operator, start: Tensor, most: int = 200) -> tuple[float, Tensor]:
    """Return the largest eigenvalue as :func:`largest_eigenvalue` does, and its eigenvector, of length 1."""
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    found, quiet = 0.0, 0
    shares = start.new_ones(1)
    for _ in range(min(most, start.numel())):
        vector = apply(basis[-1])
        diagonal.append((vector * basis[-1]).sum())
        tridiagonal = torch.diag(torch.stack(diagonal))
        if beside:
            sides = torch.stack(beside)
            tridiagonal = tridiagonal + torch.diag(sides, 1) + torch.diag(sides, -1)
        values, vectors = torch.linalg.eigh(tridiagonal)
        before, found, shares = found, values[-1].item(), vectors[:, -1]
        # The change must be small twice in a row: a new direction may only begin to contribute.
        quiet = quiet + 1 if abs(found - before) <= _SETTLED_VALUE * abs(found) else 0
        vector = _orthogonal(vector, basis)
        norm = vector.norm()
        if quiet == 2 or norm <= _SETTLED * abs(found):
            break
        beside.append(norm)
        basis.append(vector / norm)
    return found, torch.stack(basis[: len(shares)], dim=-1) @ shares


def largest_eigenvalues(apply: Operator, start: Tensor, most: int) -> Tensor:
    """Return the largest eigenvalue of each of m symmetric operators by Lanczos' method.

    Only the last two vectors are held. Those before lose their orthogonality, which adds copies of eigenvalues that are
    found, and changes none (section 10.3). What is returned is never above the eigenvalue, but by rounding.

    Args:
        apply: All operators, the i-th on the i-th row of a tensor of shape (m, n).
        start: Shape (m, n), no row 0.
        most: Number of applications.

    Returns:
        Shape (m,).
    """
    vector, before = start / start.norm(dim=1, keepdim=True), torch.zeros_like(start)
    diagonal: list[Tensor] = []
    beside = [torch.zeros(len(start), dtype=start.dtype)]
    for _ in range(min(most, start.shape[1])):
        rest = apply(vector) - beside[-1][:, None] * before
        along = (rest * vector).sum(dim=1)
        rest = rest - along[:, None] * vector
        norm = rest.norm(dim=1)
        # If no vector is left, the first value is repeated, which does not change the largest eigenvalue.
        diagonal.append(torch.where(vector.any(dim=1), along, diagonal[0] if diagonal else along))
        scale = torch.stack([value.abs() for value in diagonal]).amax(dim=0)
        goes_on = norm > _SETTLED * torch.maximum(scale, beside[-1])
        beside.append(torch.where(goes_on, norm, 0))
        before, vector = vector, torch.where(goes_on[:, None], rest / norm[:, None], 0)
    tridiagonal = torch.diag_embed(torch.stack(diagonal, dim=1))
    if len(diagonal) > 1:
        sides = torch.diag_embed(torch.stack(beside[1:-1], dim=1), 1)
        tridiagonal = tridiagonal + sides + sides.mT
    values: Tensor = torch.linalg.eigvalsh(tridiagonal)
    return values[:, -1]


def conjugate_gradient(apply: Operator, right: Tensor) -> Tensor:
    """Solve A x = right for a symmetric positive definite operator by conjugate gradients, to about ten digits."""
    x, residual = torch.zeros_like(right), right
    direction, size = residual, residual.square().sum()
    enough = _SETTLED**2 * size
    for _ in range(_MOST):
        if size <= enough:
            break
        image = apply(direction)
        length = size / (direction * image).sum()
        x, residual = x + length * direction, residual - length * image
        size, before = residual.square().sum(), size
        direction = residual + size / before * direction
    return x


def _orthogonal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """Return the component of a vector that is orthogonal to a basis; two passes are enough."""
    flat = torch.stack([other.flatten() for other in basis])
    rest = vector.flatten()
    for _ in range(2):
        rest = rest - flat.T @ (flat @ rest)
    return rest.view_as(vector)
