"""Standardisation of features, as the first layer of a model.

Letters: B samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    def fit(cls, blocks: Callable[[], Iterable[Tensor]], centred: bool = True) -> Standardize:
        """Take mean and standard deviation (divisor N) of each feature; a constant feature is only centred.

        A model without biases is 0 where its features are 0. Centred features would move that place, which the model
        was asked to have at x = 0, to their mean. For such a model features are divided by their root mean square, and
        nothing is subtracted.

        Args:
            blocks: Gives all samples, block by block, each of shape (rows, D), each time it is called.
            centred: Whether the mean is subtracted.
        """
        n, total = 0, torch.zeros((), dtype=torch.float64)
        for block in blocks():
            n, total = n + len(block), total + block.double().sum(dim=0)
        mean = total / n
        squares = torch.zeros_like(mean)
        for block in blocks():
            squares += (block.double() - mean).square().sum(dim=0)
        scale = (squares / n).sqrt()
        if not centred:
            size = (scale.square() + mean.square()).sqrt()
            return cls(torch.zeros_like(mean), torch.where(size > 0, size, 1.0))
        constant = scale <= 1e-12 * mean.abs()
        return cls(mean, torch.where(constant, torch.ones_like(scale), scale))

    @property
    def centers(self) -> bool:
        """Whether anything is subtracted from the features."""
        return bool(self.mean.any())

    def forward(self, x: Tensor) -> Tensor:
        """Standardise x of shape (B, D)."""
        return (x - self.mean) / self.scale
