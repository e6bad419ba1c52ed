"""The mean squared error of a linear regressor as a quadratic function of the parameters.

Letters: N samples, D features, K outputs, C columns of the design (D, and one of ones for the bias). The loss has no
1/2 and is a mean over outputs too, so the Hessian of each output's parameters is H = (2 / K) Z'Z / N.
Source: Boyd and Vandenberghe, Convex Optimization, section 9.1; for the solution, see ``affine.least_squares``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gd_lightning.affine import RANK, Affine
from gd_lightning.float64 import has_squares, svd
from gd_lightning.linear_least_squares import fitted_to, folded, scatter_over, smallest_with
from gd_lightning.theory.numerics.subsampling import drawn_evenly

_BLOCK = 65_536  # rows that are converted to float64 at a time


@dataclass(frozen=True)
class LinearLoss:
    """The loss of linear regressors on data, in the directions of its Hessian's eigenvectors; float64.

    Directions in which the data do not vary (an eigenvalue of 0 up to rounding) are left out: no gradient points there.

    Args:
        rows: The design in those directions, shape (M, R) with R <= C; M is N, or less where it is thinned.
        residuals: Targets less the least-squares predictions, shape (M, K).
        eigenvalues: Eigenvalues of the Hessian, ascending, shape (R,); each occurs once per output.
        directions: Its eigenvectors as columns, shape (C, R).
        optimum: The least-squares solution.
        least_squares: The least-squares loss: the smallest of a linear regressor on these data.
        constant: The loss of the best constant, the variance of the targets about their mean: where R2 is 0.
        n_samples: N.
        weight_decay: Factor of a parameter that updates add to its gradient; see :meth:`with_weight_decay`.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        >>> loss = LinearLoss.of(x, 2 * x, bias=False)
        >>> round(loss.lambda_max, 9), loss.optimum.weight.shape
        (15.0, torch.Size([1, 1]))
    """

    rows: Tensor
    residuals: Tensor
    eigenvalues: Tensor
    directions: Tensor
    optimum: Affine
    least_squares: float
    constant: float
    n_samples: int
    weight_decay: float = 0.0

    @classmethod
    def of(cls, x: Tensor, y: Tensor, bias: bool = True) -> LinearLoss:
        """Make the loss from data.

        Args:
            x: Features as the regressor sees them, shape (N, D).
            y: Targets, shape (N, K).
            bias: Whether the regressor has a bias.
        """
        starts = range(0, len(x), _BLOCK)
        return cls.over(lambda: ((x[i : i + _BLOCK], y[i : i + _BLOCK]) for i in starts), bias)

    @classmethod
    def over(
        cls,
        blocks: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        bias: bool = True,
        most: int | None = None,
    ) -> LinearLoss:
        """Make the loss from data that come block by block.

        Args:
            blocks: Gives all blocks, x of shape (rows, D) and y of shape (rows, K), each time it is called.
            bias: Whether the regressor has a bias.
            most: The number of rows to keep at most, see :meth:`thinned`; None: all.

        Raises:
            FloatingPointError: The curvature is beyond float64.
        """
        n, means, triangle = folded(blocks, bias)
        first_x, first_y = next(iter(blocks()))
        features, outputs = first_x.shape[1], first_y.shape[1]
        optimum, least_squares = fitted_to(n, means, triangle, features, bias)
        scatter = triangle[:, features:].square().sum().item() if bias else scatter_over(y for _, y in blocks())
        if triangle.isfinite().all() and not has_squares(triangle[:, :features].abs().amax(dim=0)).all():
            raise FloatingPointError("the squares of the features are beyond float64")
        eigenvalues, directions = _spectrum(triangle[:, :features] / n**0.5, means[:features] if bias else None)
        eigenvalues = eigenvalues * (2 / outputs)
        if not eigenvalues.isfinite().all():
            raise FloatingPointError("the squares of the features are beyond float64")
        kept, rows, residuals, start = drawn_evenly(n, most), [], [], 0
        for x, y in blocks():
            if kept is not None:
                chosen = kept[(kept >= start) & (kept < start + len(x))] - start
                start += len(x)
                x, y = x[chosen.to(x.device)], y[chosen.to(y.device)]
            rows.append(_design(x, bias) @ directions)
            residuals.append(y.detach().cpu().double() - optimum(x.detach().cpu().double()))
        constant = scatter / (n * outputs)
        return cls(torch.cat(rows), torch.cat(residuals), eigenvalues, directions, optimum, least_squares, constant, n)

    def thinned(self, most: int) -> LinearLoss:
        """Return the loss with fewer rows, drawn evenly; curvature and optimum stay those of all.

        What depends on single samples is then estimated, at a fraction of the time.

        Args:
            most: Maximum number of rows of the result.
        """
        kept = drawn_evenly(len(self.rows), most)
        return self if kept is None else replace(self, rows=self.rows[kept], residuals=self.residuals[kept])

    def with_weight_decay(self, weight_decay: float) -> LinearLoss:
        """Return the loss for updates with weight decay.

        What is descended is then the loss plus w / 2 times the squares of all parameters. In the direction of an
        eigenvector its curvature is lam + w, and its minimum is at p = -w theta* / (lam + w) from the least-squares
        solution theta*. Errors, residuals and the excess are those about this minimum. Source: Hoerl and Kennard, Ridge
        regression, Technometrics 12 (1970), https://doi.org/10.1080/00401706.1970.10488634.

        Args:
            weight_decay: w, 0 or more.
        """
        other = replace(self, weight_decay=weight_decay)
        return replace(other, residuals=self.residuals + self.rows @ (self.pull - other.pull))

    @property
    def curvatures(self) -> Tensor:
        """Eigenvalues of the Hessian of the objective, which includes the weight decay, ascending, shape (R,)."""
        return self.eigenvalues + self.weight_decay

    @property
    def pull(self) -> Tensor:
        """The change of the least-squares solution by weight decay, in the directions, shape (R, K)."""
        solution = self.directions.T @ stacked(self.optimum)
        return -(self.weight_decay / self.curvatures)[:, None] * solution

    @property
    def lowest(self) -> float:
        """The train loss at the minimum of the objective; without weight decay, the least-squares loss."""
        return self.least_squares + (self.eigenvalues[:, None] * self.pull.square()).sum().item() / 2

    @property
    def minimum(self) -> Affine:
        """The minimum of the objective; without weight decay, the least-squares solution."""
        if not self.weight_decay:
            return self.optimum
        features = self.optimum.weight.shape[1]
        found = self.directions @ (self.directions.T @ stacked(self.optimum) + self.pull)
        return Affine(found[:features].T, None if self.optimum.bias is None else found[features])

    @property
    def is_thinned(self) -> bool:
        """Whether it has fewer rows than there are samples."""
        return len(self.rows) < self.n_samples

    @property
    def n_outputs(self) -> int:
        """K."""
        return self.residuals.shape[1]

    @property
    def hessian(self) -> Tensor:
        """Hessian of the parameters of one output, weights then bias, shape (C, C); the same for each output."""
        return self.directions * self.eigenvalues @ self.directions.T

    @property
    def lambda_max(self) -> float:
        """Largest eigenvalue."""
        return self.eigenvalues[-1].item()

    @property
    def lambda_min(self) -> float:
        """Smallest eigenvalue that is not 0."""
        return self.eigenvalues[0].item()

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue that is not 0."""
        return self.lambda_max / self.lambda_min

    @property
    def sharpest(self) -> float:
        """Largest curvature of the objective."""
        return self.lambda_max + self.weight_decay

    @property
    def flattest(self) -> float:
        """Smallest curvature of the objective, in the directions of the data."""
        return self.lambda_min + self.weight_decay

    def error(self, affine: Affine) -> Tensor:
        """Return the parameters less the minimum in the directions of the eigenvectors, shape (R, K)."""
        return self.directions.T @ (stacked(affine) - stacked(self.optimum)) - self.pull

    def excess(self, error: Tensor) -> Tensor:
        """Return the train loss above the lowest, delta' H delta / 2 + delta' H p summed over outputs.

        With weight decay it can be negative: the lowest loss is the one at the minimum of the objective.

        Args:
            error: The result of :meth:`error`, shape (..., R, K).

        Returns:
            Shape (...).
        """
        found: Tensor = (self.eigenvalues[:, None] * error * (error / 2 + self.pull)).sum(dim=(-2, -1))
        return found


def stacked(affine: Affine) -> Tensor:
    """Return the parameters of an affine function, weights then bias, shape (C, K), float64."""
    weight = affine.weight.detach().cpu().double().T
    return weight if affine.bias is None else torch.cat([weight, affine.bias.detach().cpu().double()[None]])


def _design(x: Tensor, bias: bool) -> Tensor:
    """Return features of shape (rows, D) as the design, shape (rows, C), float64."""
    x = x.detach().cpu().double()
    return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1) if bias else x


def _spectrum(triangle: Tensor, means: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of Z'Z / N that are not 0, ascending, and their eigenvectors as columns.

    Where the mean of a feature is many times its spread, the smallest eigenvalue is below the rounding errors of the
    largest. Singular values of a factor of Z'Z / N give the large ones, those of its pseudo-inverse the small ones: it
    is made of the centred factor, which has as many digits as the spread. Source: Demmel et al., Computing the singular
    value decomposition with high relative accuracy, Linear Algebra Appl. 299 (1999),
    https://doi.org/10.1016/S0024-3795(99)00134-2.

    Args:
        triangle: T, with T'T / N of the features, less their means where there is a bias; shape (rows, D).
        means: The means, shape (D,); None without a bias.
    """
    sizes = triangle.norm(dim=0)
    # A column of rounding errors about a large mean is constant.
    floor = torch.finfo(torch.float64).eps * (sizes.max() * 0 if means is None else means.abs())
    sizes = torch.where(sizes > floor, sizes, torch.zeros_like(sizes))
    units = torch.where(sizes > 0, sizes, torch.ones_like(sizes))
    # With many features and few rows, the directions without variation would be a matrix of D^2 numbers.
    is_wide = triangle.shape[1] > 2 * triangle.shape[0]
    left, values, right = svd(triangle * (sizes > 0) / units, full_matrices=not is_wide)
    rank = int((values > RANK * max(triangle.shape) * values[0]).sum())
    of_rows, of_features = left[:, :rank].T / values[:rank, None], right[:rank].T
    if is_wide:
        inverse = _smallest_inverse(of_rows, of_features * units[:, None], means)
    else:
        inverse = _orthogonal_inverse(of_features @ of_rows / units[:, None], right[rank:].T / units[:, None], means)
    factor = triangle if means is None else _bordered(triangle, means)
    rank = rank if means is None else rank + 1
    large, directions = svd(factor)[1:]
    inner, small = svd(inverse)[:2]
    many = int((large[:rank] > (large[0] / small[0]).sqrt()).sum())
    found = torch.cat([large[:many], small[: rank - many].reciprocal().flip(0)])
    vectors = torch.linalg.qr(torch.cat([directions[:many].T, inner[:, : rank - many].flip(1)], dim=1)).Q
    return found.square().flip(0), vectors.flip(1)


def _orthogonal_inverse(inverse: Tensor, null_space: Tensor, means: Tensor | None) -> Tensor:
    """Return an inverse of T, bordered by the means if there are any, without its part in the null space."""
    if means is not None:
        inverse = _bordered(inverse, -means @ inverse)
        null_space = torch.cat([null_space, -(means @ null_space)[None]])
    if not null_space.shape[1]:
        return inverse
    basis: Tensor = torch.linalg.qr(null_space).Q
    return inverse - basis @ (basis.T @ inverse)


def _smallest_inverse(inverse_of_rows: Tensor, columns: Tensor, means: Tensor | None) -> Tensor:
    """Return the pseudo-inverse of T, bordered by the means where there are any, from factors of full rank.

    With T = A B' it is (B')^+ A^+.

    Args:
        inverse_of_rows: A^+, shape (R, rows).
        columns: B, shape (D, R).
        means: See :func:`_spectrum`.
    """
    if means is not None:
        columns = _bordered(columns.T, means).T
        inverse_of_rows = _bordered(inverse_of_rows, inverse_of_rows.new_zeros(inverse_of_rows.shape[1]))
    return smallest_with(columns, inverse_of_rows)


def _bordered(matrix: Tensor, row: Tensor) -> Tensor:
    """Return a matrix with a row below, a column of zeros beside, and 1 in the corner."""
    whole = torch.zeros(len(matrix) + 1, matrix.shape[1] + 1, dtype=matrix.dtype)
    whole[:-1, :-1], whole[-1, :-1], whole[-1, -1] = matrix, row, 1.0
    return whole
