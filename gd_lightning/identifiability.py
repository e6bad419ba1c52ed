"""Which parameters of an affine function the data determine, and which they leave open (layer 0).

Letters: N samples, D features, R directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gd_lightning.float64 import svd

_EPS = torch.finfo(torch.float64).eps
_MOST_ROUNDINGS = 64  # allowed error of a triangular factor, in units of its rounding error in float64


def undetermined(blocks: Iterable[Tensor], bias: bool = True) -> Tensor:
    """Tell the parameters that the data leave open: those of a constant feature beside a bias, of collinear features.

    A parameter is open where some function that is 0 on all samples has it. The design is folded into one triangular
    factor, block by block, and the singular vectors of the columns, each measured in its own standard deviation so that
    units do not matter, are the functions. What rounding the features to the precision that they come in can have made
    of nothing counts as nothing: a direction whose singular value is below the rounding errors along it.
    Source: Golub and Van Loan, Matrix Computations, 4th edition, sections 2.4 (Weyl's inequality) and 5.4.

    Args:
        blocks: The features, each block of shape (rows, D).
        bias: Whether the function has an intercept.

    Returns:
        Shape (D + 1,): whether each weight is open, then whether the intercept is.

    Example:
        >>> hours = torch.tensor([[1.0], [2.0], [4.0]])
        >>> undetermined([torch.cat([hours, 60 * hours, hours**2], dim=1)]).tolist()
        [True, True, False, False]
    """
    n, triangle, eps = 0, None, _EPS
    for x in blocks:
        n, eps = n + len(x), max(eps, torch.finfo(x.dtype).eps)
        # With the column of ones first, the first row becomes that of the means, and the others are centred.
        ones = torch.full((len(x), 1), 1.0 if bias else 0.0, dtype=torch.float64)
        rows = torch.cat([ones, x.detach().cpu().double()], dim=1)
        triangle = torch.linalg.qr(rows if triangle is None else torch.cat([triangle, rows]), mode="r").R
    if triangle is None:
        return torch.ones(1, dtype=torch.bool)
    first, factor = triangle[0, 1:], triangle[bias:, 1:] / math.sqrt(n)
    center = first / triangle[0, 0] if bias else torch.zeros_like(first)
    vectors, spread = _seen(factor, center, eps)[2:]
    directions = vectors.T  # shape (D, R), orthonormal
    accuracy = 1000 * eps if eps > _EPS else math.sqrt(eps)
    weights = 1 - directions.square().sum(dim=1) > accuracy
    # The intercept is the prediction at x = 0: not determined if this point has a part outside of the directions.
    point = -center / spread
    outside = point - directions @ (directions.T @ point)
    return torch.cat([weights, (outside.norm() > accuracy * (1 + point.norm()))[None]])


def without_rounding(factor: Tensor, center: Tensor, eps: float) -> Tensor:
    """Return a design without what rounding can have made of nothing, so that it is of the rank that is meant.

    Args:
        factor: Triangular factor of the centred design, divided by the root of N; shape (rows, D).
        center: The value subtracted from each feature, shape (D,); 0 if there is none.
        eps: The precision that the features come in.

    Returns:
        Shape (rows, D); the same bits where all directions are seen.
    """
    left, values, vectors, spread = _seen(factor, center, eps)
    return factor if len(values) == factor.shape[1] else (left * values) @ vectors * spread


def _seen(factor: Tensor, center: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return singular vectors and values that are no rounding, (rows, R), (R,), (R, D), and the units of columns."""
    std = factor.norm(dim=0)
    size = (std.square() + center.square()).sqrt()
    rounding = size * (eps / 2 + _MOST_ROUNDINGS * _EPS)
    varies = std > rounding
    spread = torch.where(varies, std, torch.where(size > 0, size, 1.0))
    left, values, vectors = svd(torch.where(varies, factor / spread, 0.0))
    shares = torch.where(varies, rounding / spread, 0.0)
    seen = values > vectors.abs() @ shares + _MOST_ROUNDINGS * _EPS * math.sqrt(len(size))
    return left[:, seen], values[seen], vectors[seen], spread
