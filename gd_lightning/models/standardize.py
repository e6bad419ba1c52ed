"""Standardisation of features, as the first layer of a model, and of targets, as its last one.

Letters: B samples, D features, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.float64 import Moments, as_float64, moved_only

Standardized = Literal["features", "targets", "both", "none"]
"""What a run standardises."""

_WORDS: tuple[Standardized, ...] = ("features", "targets", "both", "none")


def standardized_by(option: object, default: Standardized = "none") -> Standardized:
    """Return the option ``standardize`` as one of its words.

    Args:
        option: A word; true for both, false for none, None for the default.
        default: The value if the option is not given.

    Raises:
        InputError: The option has another value.

    Example:
        >>> standardized_by(True), standardized_by("targets"), standardized_by(None)
        ('both', 'targets', 'none')
    """
    if option is None:
        return default
    if isinstance(option, bool):
        return "both" if option else "none"
    for word in _WORDS:
        if option == word:
            return word
    raise InputError(f"cannot standardize {option!r}; use features, targets, both or none")


def standardized_before(option: object) -> object:
    """Return the value for runs of earlier versions, in which true or false referred to features."""
    return option if not isinstance(option, bool) else "features" if option else "none"


class Standardize(nn.Module):
    """x -> (x - mean) / scale, with statistics that are saved in the checkpoint and never trained.

    A model with this layer takes features in their original units everywhere: in training, in ``predict``, and in
    another project that loads its checkpoint. Behind the network, :meth:`original` undoes what it does to targets.

    The statistics stay in float64, and are applied in float64: the mean of Unix times, 1.7e9, would be wrong by up to
    64 in float32. The result has the precision in which the layer is made, or to which it is converted.

    Args:
        mean: Mean of each feature, shape (D,), float64.
        scale: Divisor of each feature, shape (D,), float64.

    Raises:
        InputError: Mean and scale are not tensors with one number per feature.

    Example:
        >>> layer = Standardize(torch.tensor([1.7e9], dtype=torch.float64), torch.ones(1, dtype=torch.float64)).float()
        >>> layer(torch.tensor([[1.7e9 + 3]], dtype=torch.float64))
        tensor([[3.]])
    """

    mean: Tensor
    scale: Tensor
    _precision: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        if not (isinstance(mean, Tensor) and isinstance(scale, Tensor)):
            raise InputError(
                f"cannot standardize by a mean of {mean!r} and a scale of {scale!r}, because they are not tensors with "
                "one number per feature; set standardize of the data, or give such tensors"
            )
        self.register_buffer("mean", mean.double())
        self.register_buffer("scale", scale.double())
        # This buffer is empty; its dtype follows that of the network.
        self.register_buffer("_precision", torch.empty(0, dtype=torch.get_default_dtype()), persistent=False)

    @classmethod
    def fit(cls, blocks: Callable[[], Iterable[Tensor]], centred: bool = True) -> Standardize:
        """Take mean and standard deviation (divisor N) of each feature; a constant feature is only centred.

        The prediction of a model without biases is 0 at x = 0; with centred features, it would be 0 at their mean
        instead. For such a model, features are only divided by their root mean square.

        Args:
            blocks: Returns an iterable over blocks of all samples, each of shape (rows, D).
            centred: Whether the mean is subtracted.
        """
        moments = reduce(Moments.merged, (Moments.of(block) for block in blocks()))
        if not centred:
            size = torch.hypot(moments.std, moments.mean)
            return cls(torch.zeros_like(size).cpu(), torch.where(size > 0, size, 1.0).cpu())
        scale = torch.where(moments.is_constant, torch.ones_like(moments.std), moments.std)
        return cls(moments.mean.cpu(), scale.cpu())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Standardize:
        """Convert the precision of the result; the statistics are only moved."""
        kept = moved_only(fn)
        self.mean, self.scale, self._precision = kept(self.mean), kept(self.scale), fn(self._precision)
        return self

    def standardized(self, x: Tensor) -> Tensor:
        """Standardise x of shape (B, D), in float64 and where x is; on the CPU where that has no float64.

        Args:
            x: Features in original units, shape (B, D).
        """
        x = as_float64(x)
        return (x - self.mean.to(x.device)) / self.scale.to(x.device)

    def original(self, z: Tensor) -> Tensor:
        """Return standardised values z of shape (B, K) in original units, in float64 where their device has it.

        Args:
            z: Standardised values, shape (B, K).
        """
        dtype = torch.float32 if z.device.type == "mps" else torch.float64
        return (z.to(self.mean.device).double() * self.scale + self.mean).to(z.device, dtype)

    def undivided(self, start: Affine) -> Affine:
        """Return an affine function of which the values are in original units, less the means of the targets.

        Gradient descent on the squared error of targets that are divided by numbers takes the same steps as on targets
        that are not, with parameters that are so many times as large: all outputs have the same curvature. So it is
        enough to subtract the means of the targets, and losses are in original units, also those of several targets.

        Args:
            start: The function, with standardised values.
        """
        return start.times_plus(self.scale, torch.zeros_like(self.mean))

    @property
    def centers(self) -> bool:
        """Whether anything is subtracted from the features."""
        return bool(self.mean.any())

    @property
    def has_one_scale(self) -> bool:
        """Whether all columns are divided by the same number."""
        return bool((self.scale == self.scale[:1]).all())

    @property
    def largest_gain(self) -> float:
        """The largest factor by which standardising can raise the limit of the learning rate of a linear layer.

        The limit is 2 over the largest eigenvalue of the mean of 2 x x', with mean x x' = covariance + mean mean'. The
        largest eigenvalue of a covariance is at most the largest variance times that of the correlation matrix, which
        is at least 1.
        """
        return (self.scale.square().max() + self.mean.square().sum()).item()

    def forward(self, x: Tensor) -> Tensor:
        """Standardise x of shape (B, D), in the precision of the network."""
        return self.standardized(x).to(x.device, self._precision.dtype)
