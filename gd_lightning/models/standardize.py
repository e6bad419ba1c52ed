"""Standardisation of features, as the first layer of a model.

Letters: B samples, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """x -> (x - mean) / scale, with statistics that are saved in the checkpoint and never trained.

    A model with this layer takes features in their original units everywhere: in training, in ``predict``, and in
    another project that loads its checkpoint.

    Args:
        mean: Mean of each feature, shape (D,), float64.
        scale: What each feature is divided by, shape (D,), float64.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, x: Tensor) -> Standardize:
        """Take mean and standard deviation (divisor N) from x of shape (N, D); a constant feature is only centred."""
        x = x.double()
        mean = x.mean(dim=0)
        scale = (x - mean).square().mean(dim=0).sqrt()
        constant = scale <= 1e-12 * mean.abs()
        return cls(mean, torch.where(constant, torch.ones_like(scale), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise x of shape (B, D)."""
        return (x - self.mean) / self.scale
