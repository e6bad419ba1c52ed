"""The least-squares solution of a linear regressor on its training set, and the train loss beside it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.data.samples import Samples
from gd_lightning.linear_least_squares import fitted_to, folded, scatter_over
from gd_lightning.models import LinearRegressor, Standardize
from gd_lightning.shared_results import content_of, shared


class SquaredError(NamedTuple):
    """The mean squared error of affine functions on a training set, from what ``linear_least_squares.folded`` returns.

    With the triangular factor T of features and targets side by side, split into R and S, it is the sum of the squares
    of S - R W', over N, and of those of what W and b leave of the means, over K. No product of the data is formed, so
    it is as exact as a pass over the data in float64.

    Args:
        n: N.
        means: Means of features and targets, shape (D + K,); 0 if the function has no intercept.
        triangle: T, shape (rows, D + K).
    """

    n: int
    means: Tensor
    triangle: Tensor

    def __call__(self, weights: Tensor, biases: Tensor) -> Tensor:
        """Return the errors of R functions, shape (R,).

        Args:
            weights: Shape (R, K, D), float64.
            biases: Shape (R, K); (R, 0) of functions without intercept.
        """
        n_features = weights.shape[2]
        design, targets = self.triangle[:, :n_features], self.triangle[:, n_features:]
        scattered = (targets.T - weights @ design.T).square().sum(dim=(1, 2)) / self.n
        left = self.means[n_features:] - weights @ self.means[:n_features]
        left = left - biases if biases.shape[1] else left
        errors: Tensor = (scattered + left.square().sum(dim=1)) / weights.shape[1]
        return errors


class Optimum(NamedTuple):
    """The least-squares solution on the training set, in original units, its loss, and that of the best constant."""

    affine: Affine
    loss: float
    constant_loss: float
    squared_error: SquaredError
    """Of functions of what the network is given, which may be standardised features."""


@torch.no_grad()
def least_squares_of(network: LinearRegressor, layer: Standardize | None, samples: Samples) -> Optimum:
    """Return the least-squares solution of a linear regressor, shared by runs on the same samples.

    Args:
        network: The regressor, with or without a bias.
        layer: The layer that standardises its features, if any.
        samples: The training samples.
    """
    has_bias, content = network.affine().bias is not None, samples.content
    units = None if layer is None else content_of(layer.mean, layer.scale)
    is_known = content is not None and (units is None) == (layer is None)
    key = ("least squares", content, units, has_bias) if is_known else None
    return shared(key, lambda: _least_squares_of(has_bias, layer, samples))


def _least_squares_of(has_bias: bool, layer: Standardize | None, samples: Samples) -> Optimum:
    factors = folded(
        lambda: ((x if layer is None else layer.standardized(x), y) for x, y in samples.pieces()), has_bias
    )
    affine, loss = fitted_to(*factors, samples.in_features, has_bias)
    constant_loss = scatter_over(y for _, y in samples.pieces()) / (len(samples) * samples.out_features)
    affine = affine if layer is None else affine.in_original_units(layer.mean, layer.scale)
    return Optimum(affine, loss, constant_loss, SquaredError(*factors))
