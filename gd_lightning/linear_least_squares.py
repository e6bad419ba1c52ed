"""Least squares of affine functions, in one pass over data that need not fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gd_lightning.affine import RANK, Affine
from gd_lightning.float64 import Moments, svd
from gd_lightning.identifiability import without_rounding


def least_squares(x: Tensor, y: Tensor, bias: bool = True, rows_at_once: int = 65_536) -> tuple[Affine, float]:
    """Return the affine function with the smallest mean squared error on the data, and that error.

    Blocks of rows of the centred design, with the targets beside it, are folded into one triangular factor by
    successive QR decompositions, and the small triangular problem is solved with singular values. So the memory
    does not grow with N, and where features are collinear the solution of smallest norm is returned.
    Source: Golub and Van Loan, Matrix Computations, 4th edition, sections 5.3 and 5.5.

    Args:
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        bias: Whether the function has an intercept.
        rows_at_once: Rows of a block, which are turned into float64 at a time.

    Returns:
        The function, in float64, and its mean squared error over samples and outputs.

    Example:
        >>> hours = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
        >>> scores = torch.tensor([[480.0], [520.0], [710.0], [680.0]])
        >>> {name: round(value, 9) for name, value in least_squares(hours, scores)[0].named().items()}
        {'w': 7.9, 'b': 400.0}
    """
    blocks = [slice(i, i + rows_at_once) for i in range(0, len(x), rows_at_once)]
    return least_squares_over(lambda: ((x[block], y[block]) for block in blocks), bias)


def least_squares_over(
    blocks: Callable[[], Iterable[tuple[Tensor, Tensor]]], bias: bool = True
) -> tuple[Affine, float]:
    """Return the solution of :func:`least_squares` for data given block by block, in two passes.

    Args:
        blocks: Returns an iterable over blocks, x of shape (rows, D) and y of shape (rows, K), at each call.
        bias: Whether the function has an intercept.

    Returns:
        As :func:`least_squares`.
    """
    n, means, triangle = folded(blocks, bias)
    return fitted_to(n, means, triangle, next(iter(blocks()))[0].shape[1], bias)


def folded(blocks: Callable[[], Iterable[tuple[Tensor, Tensor]]], centred: bool) -> tuple[int, Tensor, Tensor]:
    """Fold features and targets, side by side, into their means and one triangular factor, in two passes.

    Args:
        blocks: See :func:`least_squares_over`.
        centred: Whether the means are taken away before.

    Returns:
        N; the means, shape (D + K,), 0 where they are not taken away; and a factor T, shape (rows, D + K), whose T'T
        is that of the data less the means. Features that are collinear but for rounding are so exactly.
    """
    d, eps, moments = 0, 0.0, None
    for x, y in blocks():
        d, eps, of_block = x.shape[1], max(eps, torch.finfo(x.dtype).eps), Moments.of(_side_by_side(x, y))
        moments = of_block if moments is None else moments.merged(of_block)
    assert moments is not None
    n, means = int(moments.count), moments.mean if centred else torch.zeros_like(moments.mean)
    # A constant column that is centred consists of rounding errors only.
    is_left = ~moments.is_constant if centred else torch.ones_like(means, dtype=torch.bool)
    triangle, unit = torch.zeros(0, len(means), dtype=torch.float64), moments.unit
    for x, y in blocks():
        rest = torch.where(is_left, _side_by_side(x, y) - means, 0.0) / unit
        triangle = torch.linalg.qr(torch.cat([triangle, rest]), mode="r").R
    design = without_rounding(triangle[:, :d] / math.sqrt(n), (means / unit)[:d], eps) * math.sqrt(n)
    triangle, design = triangle * unit, design * unit[:d]
    return n, means, torch.cat([design, triangle[:, d:]], dim=1)


def fitted_to(n: int, means: Tensor, triangle: Tensor, n_features: int, bias: bool) -> tuple[Affine, float]:
    """Return the least-squares solution of what :func:`folded` gives, and its loss; nan where that is not finite."""
    design, targets = triangle[:, :n_features], triangle[:, n_features:]
    is_finite = bool(triangle.isfinite().all())
    weight = _smallest_solution(design, targets).T if is_finite else torch.full_like(targets.T @ design, math.nan)
    residual = targets - design @ weight.T
    fitted = Affine(weight, means[n_features:] - weight @ means[:n_features] if bias else None)
    return fitted, (residual.square().sum() / (n * targets.shape[1])).item()


def _smallest_solution(design: Tensor, targets: Tensor) -> Tensor:
    """Return the least-squares solution of smallest norm, shape (D, K), from few rows."""
    # Columns are scaled to one length: else a spread of 1e-9 beside one of 1e9 would count as rounding.
    largest = design.abs().amax(dim=0)  # the squares of these numbers may be beyond float64
    largest = torch.where(largest > 0, largest, 1.0)
    lengths = (design / largest).norm(dim=0) * largest
    lengths = torch.where(lengths > 0, lengths, 1.0)[:, None]
    left, values, right = svd(design / lengths.T)
    rank = int((values > RANK * max(design.shape) * values[0]).sum())
    coordinates = left[:, :rank].T @ targets / values[:rank, None]
    if rank == design.shape[1]:
        weight: Tensor = right[:rank].T @ coordinates / lengths
        return weight
    # Where the data leave the solution open, the one of smallest norm is taken, in the units of the columns.
    return smallest_with(right[:rank].T * lengths, coordinates)


def smallest_with(columns: Tensor, coordinates: Tensor) -> Tensor:
    """Return the smallest W with C'W = coordinates, shape (D, K).

    With C = Q R it is Q (R')^-1 times the coordinates. Another solution that is projected on the columns would lose its
    digits where these have rows of very different sizes.

    Args:
        columns: C, independent, shape (D, R).
        coordinates: Shape (R, K).
    """
    basis, triangle = torch.linalg.qr(columns)
    smallest: Tensor = basis @ torch.linalg.solve_triangular(triangle.T, coordinates, upper=False)
    return smallest


def _side_by_side(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([block.detach().cpu().double() for block in (x, y)], dim=1)


def scatter_over(targets: Iterable[Tensor]) -> float:
    """Return the sum of squares about the mean of each output, over blocks of shape (rows, K).

    Source: Chan, Golub and LeVeque, The American Statistician 37 (1983),
        https://doi.org/10.1080/00031305.1983.10483115.
    """
    n, mean, scatter = 0, torch.zeros((), dtype=torch.float64), 0.0
    for block in targets:
        y = block.detach().cpu().double()
        away = y.mean(dim=0) - mean
        total = n + len(y)
        scatter += ((y - y.mean(dim=0)).square().sum() + away.square().sum() * (n * len(y) / total)).item()
        n, mean = total, mean + away * (len(y) / total)
    return scatter
