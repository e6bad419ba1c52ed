"""Samples with weights, and the layers that standardise their features and targets.

Letters: N samples, D features, K targets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gd_lightning.models import Standardize


class WeightedSamples(NamedTuple):
    """Samples, with features in original units or as a network takes them.

    Args:
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        weights: Weights of the samples, of mean 1 before any are held out, shape (N, 1); None: all have the same.
    """

    x: Tensor
    y: Tensor
    weights: Tensor | None = None

    def subset(self, rows: Tensor) -> WeightedSamples:
        """Return the samples in these rows."""
        weights = None if self.weights is None else self.weights[rows]
        return WeightedSamples(self.x[rows], self.y[rows], weights)


def standardization(x: Tensor, weights: Tensor | None, centred: bool) -> Standardize:
    """Return the layer that standardises features or targets, by their weighted mean and std.

    Args:
        x: Features of the samples in original units, float64, shape (N, D).
        weights: Weights of the samples.
        centred: Whether means are subtracted; see :meth:`Standardize.fit`.
    """
    layer = Standardize.fit(lambda: [x], centred)
    if weights is None:
        return layer
    shares = weights / weights.sum()
    mean = (shares * x).sum(dim=0) if centred else torch.zeros_like(layer.mean)
    std = (shares * (x - mean).square()).sum(dim=0).sqrt()
    # A constant column is found by its values, not by what rounding leaves of its variance.
    constant = (x == x[:1]).all(dim=0) if centred else std == 0
    return Standardize(torch.where(constant, layer.mean, mean), torch.where(constant, torch.ones_like(std), std))
