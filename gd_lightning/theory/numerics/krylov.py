"""Largest eigenvalues, linear systems and powers of operators that are too large to write down as matrices.

Sources: Golub and Van Loan, Matrix Computations, 4th edition, sections 10.1 (Lanczos), 10.5 (Arnoldi) and 11.3
(conjugate gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]

_SETTLED = 1e-10
_SETTLED_VALUE = 1e-8  # an eigenvalue is twice as exact as what the vector has settled to
_CHECKED = 20  # applications between two looks at whether the values have settled
_FEW = 40


def largest_eigenvalue(apply: Operator, start: Tensor, most: int = 200) -> float:
    """Return the largest eigenvalue of a symmetric operator by Lanczos' method, all vectors kept orthogonal.

    Args:
        apply: The operator on tensors of any one shape.
        start: A tensor of this shape that is not orthogonal to the eigenvector.
        most: Largest number of applications.

    Returns:
        The eigenvalue, to about eight digits unless ``most`` ended the search.
    """
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    found, quiet = 0.0, 0
    for _ in range(min(most, start.numel())):
        vector = apply(basis[-1])
        diagonal.append((vector * basis[-1]).sum())
        tridiagonal = torch.diag(torch.stack(diagonal))
        if beside:
            sides = torch.stack(beside)
            tridiagonal = tridiagonal + torch.diag(sides, 1) + torch.diag(sides, -1)
        before, found = found, torch.linalg.eigvalsh(tridiagonal)[-1].item()
        # Twice in a row: a direction of its own may only begin to show.
        quiet = quiet + 1 if abs(found - before) <= _SETTLED_VALUE * abs(found) else 0
        vector = _orthogonal(vector, basis)
        norm = vector.norm()
        if quiet == 2 or norm <= _SETTLED * abs(found):
            break
        beside.append(norm)
        basis.append(vector / norm)
    return found


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
        # Where nothing is left, a first value that is repeated changes nothing.
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


def smallest_eigenvalue(
    apply: Operator, start: Tensor, precondition: Operator, most: int = 500
) -> tuple[float, Tensor]:
    """Return the smallest eigenvalue of a symmetric operator, to about seven digits, and its eigenvector.

    It is the smallest Rayleigh quotient in the space of the last vector, its preconditioned residual, and the last
    step. Source: Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput. 23 (2001).

    Args:
        apply: The operator on tensors of any one shape.
        start: A tensor of this shape that is not orthogonal to the eigenvector.
        precondition: An operator that undoes the large part of the first one.
        most: Largest number of applications.
    """
    vectors = [start / start.norm()]
    images = [apply(vectors[0])]
    value = (vectors[0] * images[0]).sum().item()
    quiet = 0
    for _ in range(most):
        direction = precondition(images[0] - value * vectors[0])
        if direction.norm() == 0:
            break
        vectors.append(direction / direction.norm())
        images.append(apply(vectors[-1]))
        vectors, images = vectors[: start.numel()], images[: start.numel()]
        basis = torch.stack([vector.flatten() for vector in vectors], dim=1)
        orthonormal, triangle = torch.linalg.qr(basis)
        if triangle.diagonal().abs().min() < 1e-12:  # nothing new
            break
        mapped = torch.linalg.solve_triangular(
            triangle, torch.stack([image.flatten() for image in images], dim=1), upper=True, left=False
        )
        inner = orthonormal.T @ mapped
        values, coordinates = torch.linalg.eigh((inner + inner.T) / 2)
        best = coordinates[:, 0]
        step = best.clone()
        step[0] = 0  # the first column of the basis is the last vector
        pairs = [(orthonormal @ weights, mapped @ weights) for weights in (best, step)]
        size = pairs[1][0].norm()
        vectors, images = [pairs[0][0].view_as(start)], [pairs[0][1].view_as(start)]
        before, value = value, values[0].item()
        quiet = quiet + 1 if abs(value - before) <= _SETTLED_VALUE * abs(value) else 0
        if quiet == 2 or size == 0:
            break
        vectors.append((pairs[1][0] / size).view_as(start))
        images.append((pairs[1][1] / size).view_as(start))
    return value, vectors[0]


def solve(apply: Operator, right: Tensor, most: int = 10_000) -> Tensor:
    """Solve A x = right for a symmetric positive definite operator by conjugate gradients, to about ten digits."""
    x, residual = torch.zeros_like(right), right
    direction, size = residual, residual.square().sum()
    enough = _SETTLED**2 * size
    for _ in range(most):
        if size <= enough:
            break
        image = apply(direction)
        length = size / (direction * image).sum()
        x, residual = x + length * direction, residual - length * image
        size, before = residual.square().sum(), size
        direction = residual + size / before * direction
    return x


def solve_any(apply: Operator, right: Tensor, most: int = 400) -> Tensor:
    """Solve A x = right for any operator whose inverse exists by GMRES, to about ten digits.

    Source: Saad and Schultz, GMRES, SIAM J. Sci. Stat. Comput. 7 (1986).
    """
    size = right.norm()
    if size == 0:
        return right
    basis, columns = [right / size], list[Tensor]()
    for count in range(1, min(most, right.numel()) + 1):
        rest, column = _expanded(apply, basis)
        columns.append(column)
        hessenberg = _hessenberg(columns, count + 1)
        target = torch.zeros(count + 1, dtype=right.dtype)
        target[0] = size
        coordinates: Tensor = torch.linalg.lstsq(hessenberg, target[:, None]).solution[:, 0]
        left = (hessenberg @ coordinates - target).norm()
        if left <= _SETTLED * size or column[-1] <= 1e-14 * column.norm():
            break
        basis.append(rest / column[-1])
    return (coordinates @ torch.stack([vector.flatten() for vector in basis[: len(coordinates)]])).view_as(right)


def spectral_radius(apply: Operator, start: Tensor, most: int = 200) -> float:
    """Return the largest modulus of an operator's eigenvalues by Arnoldi's method, to about nine digits.

    Args:
        apply: The operator on tensors of any one shape.
        start: A tensor of this shape that has a part along the eigenvector.
        most: Largest number of applications.
    """
    basis = [start / start.norm()]
    columns: list[Tensor] = []
    found, quiet = 0.0, 0
    for count in range(1, min(most, start.numel()) + 1):
        rest, column = _expanded(apply, basis)
        columns.append(column)
        before, found = found, torch.linalg.eigvals(_hessenberg(columns, count)).abs().max().item()
        quiet = quiet + 1 if abs(found - before) <= _SETTLED * found else 0
        if quiet == 2 or column[-1] <= 1e-14 * column.norm():
            break
        basis.append(rest / column[-1])
    return found


def powers(apply: Operator, start: Tensor, observe: Tensor, times: Sequence[int], most: int = 240) -> Tensor:
    """Return <observe, A^t start> for several t by Arnoldi's method; exact where the space is exhausted.

    Args:
        apply: The operator A on vectors of shape (n,).
        start: Shape (n,).
        observe: Shape (n,).
        times: The powers t.
        most: Largest number of applications; it ends earlier where the values have settled to nine digits.

    Returns:
        Shape of ``times``.
    """
    return _projected(apply, start, lambda states, basis: states @ (basis @ observe), times, most)[0]


def power(apply: Operator, start: Tensor, times: int, most: int = 240) -> Tensor:
    """Return A^t start, shape (n,), as :func:`powers` does, or by applying A t times where that is less."""
    if times <= _FEW:
        for _ in range(times):
            start = apply(start)
        return start
    return trajectory(apply, start, [times], most)[0]


def trajectory(apply: Operator, start: Tensor, times: Sequence[int], most: int = 240) -> Tensor:
    """Return A^t start for several t, shape (times, n), as :func:`powers` does."""
    return _projected(apply, start, lambda states, basis: states.norm(dim=1), times, most)[1]


def _projected(
    apply: Operator, start: Tensor, observe: Callable[[Tensor, Tensor], Tensor], times: Sequence[int], most: int
) -> tuple[Tensor, Tensor]:
    """Return what is observed of A^t start at all times, and all A^t start, from the projection on a Krylov space.

    Args:
        apply: The operator.
        start: Shape (n,).
        observe: Makes values of shape (times,) of coordinates, shape (times, k), in an orthonormal basis, shape (k, n).
        times: The powers t.
        most: Largest k.
    """
    scale = start.norm()
    basis = [start / scale]
    columns: list[Tensor] = []
    found: Tensor | None = None
    for size in range(1, min(most, start.numel()) + 1):
        rest, column = _expanded(apply, basis)
        norm = column[-1]
        last = bool(norm <= 1e-13 * column.norm()) or size == min(most, start.numel())
        columns.append(column)
        if size % _CHECKED == 0 or last:
            states = scale * _states(columns, times)
            before, found = found, observe(states, torch.stack(basis))
            settled = before is not None and bool(((found - before).abs() <= 1e-9 * found.abs()).all())
            if last or settled:
                return found, states @ torch.stack(basis)
        basis.append(rest / norm)
    raise AssertionError("the last vector of the basis ends the loop")


def _states(columns: list[Tensor], times: Sequence[int]) -> Tensor:
    """Return H^t e_1 for each t, shape (times, k), with H the Hessenberg matrix whose columns are given."""
    size = len(columns)
    hessenberg = _hessenberg(columns, size)
    state = torch.zeros(size, dtype=hessenberg.dtype)
    state[0] = 1.0
    states, reached = torch.zeros(len(times), size, dtype=hessenberg.dtype), 0
    matrices: dict[int, Tensor] = {}  # steps between times repeat
    for place in sorted(range(len(times)), key=lambda place: times[place]):
        step = times[place] - reached
        if step not in matrices:
            matrices[step] = torch.linalg.matrix_power(hessenberg, step)
        state, reached = matrices[step] @ state, times[place]
        states[place] = state
    return states


def _expanded(apply: Operator, basis: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Apply an operator to the last vector of an orthonormal basis.

    Returns:
        What of the result is orthogonal to the basis; and the products with all k vectors of the basis, then the norm
        of that rest, shape (k + 1,).
    """
    vector = apply(basis[-1])
    inner = torch.stack([(vector * other).sum() for other in basis])
    rest = _orthogonal(vector, basis)
    return rest, torch.cat([inner, rest.norm()[None]])


def _hessenberg(columns: list[Tensor], rows: int) -> Tensor:
    """Return the first rows of the matrix of an operator in the basis that Arnoldi's method has made of it."""
    matrix = torch.zeros(rows, len(columns), dtype=columns[0].dtype)
    for index, column in enumerate(columns):
        height = min(len(column), rows)
        matrix[:height, index] = column[:height]
    return matrix


def _orthogonal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """Return a vector less its parts along a basis; twice is enough."""
    flat = torch.stack([other.flatten() for other in basis])
    rest = vector.flatten()
    for _ in range(2):
        rest = rest - flat.T @ (flat @ rest)
    return rest.view_as(vector)
