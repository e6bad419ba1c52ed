"""Means of pairwise products of the samples' coordinates, from which updates of second moments are computed.

Letters: N samples, K outputs, R directions, S = R (R + 1) / 2 pairs of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gd_lightning.theory.quadratic_loss import LinearLoss

FEW_PAIRS = 500  # maximum number of pairs for which the products of samples are summed up in a matrix
_AT_ONCE = 2**22  # maximum number of products at a time


@dataclass(frozen=True, eq=False)
class SampleProducts:
    """The operator F of shape (S, S) or (S, N), with F F'M the mean over samples of z z'M z z', and what goes with it.

    Symmetric matrices of shape (R, R) are held as the numbers of their pairs i <= j. One off the diagonal is held times
    the root of 2, so that inner products are those of matrices.

    Args:
        loss: The loss on the training set, with the rows z and the residuals e.
    """

    loss: LinearLoss

    @cached_property
    def pairs(self) -> Tensor:
        """The pairs i <= j, shape (2, S)."""
        directions = len(self.loss.eigenvalues)
        return torch.triu_indices(directions, directions)

    @cached_property
    def gram(self) -> Tensor:
        """The products g_i g_j, shape (S,), of the eigenvalues of Z'Z / N."""
        i, j = self.pairs
        return self.loss.eigenvalues[i] * self.loss.eigenvalues[j] * (self.loss.n_outputs / 2) ** 2

    @cached_property
    def _units(self) -> Tensor:
        i, j = self.pairs
        return torch.sqrt(2.0 - (i == j).double())

    @property
    def identity(self) -> Tensor:
        """The identity as the numbers of its pairs."""
        return self.packed(torch.eye(len(self.loss.eigenvalues), dtype=torch.float64))

    def packed(self, matrix: Tensor) -> Tensor:
        """Return a symmetric matrix of shape (R, R) as the numbers of its pairs, shape (S,)."""
        i, j = self.pairs
        return matrix[i, j] * self._units

    @cached_property
    def noise(self) -> Tensor:
        """The covariance of z e' over all samples, summed over outputs, shape (S,).

        At the least-squares solution the mean of z e' is 0; with weight decay it is not, at the minimum.
        """
        mean = self.mean_of_residuals
        return self.weighted(self.loss.residuals.square().sum(dim=1)) - self.packed(mean @ mean.T)

    @cached_property
    def mean_of_residuals(self) -> Tensor:
        """The mean of z e' over all samples, -G p, shape (R, K)."""
        return -(self.loss.n_outputs / 2 * self.loss.eigenvalues)[:, None] * self.loss.pull

    def weighted(self, weights: Tensor) -> Tensor:
        """Return the mean of w z z' over all samples, for w of shape (N,)."""
        rows = self.loss.rows
        return self.packed(rows.T @ (rows * weights[:, None])) / len(rows)

    @property
    def is_dense(self) -> bool:
        """Whether the products of samples are summed up in a matrix, as there are more samples than pairs."""
        return len(self.gram) <= min(FEW_PAIRS, len(self.loss.rows) - 1)

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor] | None:
        """F, shape (S, S), and the mean of z z' (z (x) e), shape (S, R K), where these are small; else None."""
        i, j = self.pairs
        if not self.is_dense:
            return None
        unit = self.gram.sqrt().clamp(
            min=sys.float_info.min
        )  # in these units, small numbers are not lost beside large ones
        squared, crossed = torch.zeros(2, 1, dtype=torch.float64)
        pieces = (tensor.split(max(1, _AT_ONCE // len(i))) for tensor in (self.loss.rows, self.loss.residuals))
        for rows, residuals in zip(*pieces, strict=True):
            products = rows[:, i] * rows[:, j] * (self._units / unit)
            squared = squared + products.T @ products
            crossed = crossed + products.T @ (rows[:, :, None] * residuals[:, None]).flatten(1)
        values, vectors = torch.linalg.eigh(squared / len(self.loss.rows))
        unit = unit[:, None]
        return unit * vectors * values.clamp(min=0).sqrt(), unit * crossed / len(self.loss.rows)

    def crossed(self, mean: Tensor) -> Tensor:
        """Return the covariance of z z'm and z e over samples, shape (S,), for m of shape (R, K)."""
        if self._sums is not None:
            found = self._sums[1] @ mean.flatten()
        else:
            found = self.weighted((self.loss.rows @ mean * self.loss.residuals).sum(dim=1))
        moved = (self.loss.n_outputs / 2 * self.loss.eigenvalues)[:, None] * mean @ self.mean_of_residuals.T
        return found - self.packed(moved + moved.T) / 2

    def down(self, m: Tensor) -> Tensor:
        """Return F'm, z'M z / sqrt(N) of each sample where F is not small, for m of shape (S,)."""
        if self._sums is not None:
            return self._sums[0].T @ m
        i, j = self.pairs
        rows, matrix = self.loss.rows, torch.zeros(self.loss.rows.shape[1], self.loss.rows.shape[1]).double()
        matrix[i, j] = m * self._units  # twice the values above the diagonal, and zeros below
        found: Tensor = (rows @ matrix * rows).sum(dim=1) / len(rows) ** 0.5
        return found

    def up(self, y: Tensor) -> Tensor:
        """Return F y, shape (S,)."""
        return self.weighted(y) * len(self.loss.rows) ** 0.5 if self._sums is None else self._sums[0] @ y
