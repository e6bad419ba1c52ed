"""The one rule of this package: ``batch_size`` is the algorithm (layer 0).

Letters: N training samples, B samples per update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gd_lightning.errors import InputError
from gd_lightning.plain_numbers import as_python

BatchSize = int | Literal["full"]
VariantName = Literal["batch", "mini-batch", "stochastic"]


@dataclass(frozen=True)
class Variant:
    """What a batch size means for a training set: the algorithm and its bookkeeping.

    B = N is batch gradient descent, B = 1 is stochastic gradient descent, anything between is mini-batch gradient
    descent. An epoch makes ceil(N / B) updates, or floor(N / B) with ``drop_last``.

    Args:
        batch_size: B, the number of samples per update, summed over all devices.
        train_samples: N, the number of training samples.
        drop_last: Leave out the last batch of an epoch where it would be shorter than B.

    Example:
        >>> variant = Variant.of(16, train_samples=100)
        >>> variant.name, variant.updates_per_epoch, variant.batch_sizes
        ('mini-batch', 7, ((6, 16), (1, 4)))
        >>> print(variant)
        mini-batch gradient descent: batch_size 16 of 100 samples, 7 updates per epoch (6 x 16, 1 x 4)
        >>> Variant.of("full", train_samples=100).name
        'batch'
    """

    batch_size: int
    train_samples: int
    drop_last: bool = False

    @classmethod
    def of(cls, batch_size: BatchSize, train_samples: int, drop_last: bool = False) -> Variant:
        """Resolve ``"full"`` and check B against N.

        Args:
            batch_size: B, or ``"full"`` for all training samples.
            train_samples: N.
            drop_last: See the class.

        Raises:
            InputError: B is not a whole number from 1 to N.
        """
        batch_size, train_samples = as_python(batch_size), as_python(train_samples)
        if train_samples < 1:
            raise InputError(f"cannot train on {train_samples} samples; leave at least one sample for training")
        if batch_size == "full":
            return cls(train_samples, train_samples, drop_last)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"cannot use {batch_size!r} as batch_size; use 'full' or a whole number from 1")
        if batch_size > train_samples:
            raise InputError(
                f"cannot use batch_size {batch_size}, because there are only {train_samples} training samples; use "
                f"'full' or a number from 1 to {train_samples}"
            )
        return cls(batch_size, train_samples, drop_last)

    @property
    def name(self) -> VariantName:
        """``batch``, ``mini-batch`` or ``stochastic``; a single training sample makes batch gradient descent."""
        if self.batch_size == self.train_samples:
            return "batch"
        return "stochastic" if self.batch_size == 1 else "mini-batch"

    @property
    def short_batch(self) -> int:
        """Number of samples in the short last batch of an epoch; 0 where there is none."""
        return 0 if self.drop_last else self.train_samples % self.batch_size

    @property
    def updates_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch."""
        return self.train_samples // self.batch_size + (self.short_batch > 0)

    @property
    def samples_per_epoch(self) -> int:
        """Number of samples that an epoch consumes: N, or less with ``drop_last``."""
        return self.samples_at(self.updates_per_epoch)

    @property
    def batch_sizes(self) -> tuple[tuple[int, int], ...]:
        """The batches of an epoch in their order, as (how many, of which size)."""
        full = (self.train_samples // self.batch_size, self.batch_size)
        return (full, (1, self.short_batch)) if self.short_batch else (full,)

    def size_of(self, index: int) -> int:
        """Return the number of samples in batch ``index`` (from 0) of an epoch.

        Args:
            index: Index of the batch, from 0.
        """
        return self.samples_at(index + 1) - self.samples_at(index)

    def samples_at(self, update: int) -> int:
        """Return the number of samples consumed by the first ``update`` updates of an epoch.

        Args:
            update: Number of updates of the epoch.
        """
        return min(update * self.batch_size, self.train_samples)

    def __str__(self) -> str:
        updates = self.updates_per_epoch
        sizes = ", ".join(f"{count} x {size}" for count, size in self.batch_sizes)
        return (
            f"{self.name} gradient descent: batch_size {self.batch_size} of {self.train_samples} samples, "
            f"{updates} update{'s' * (updates != 1)} per epoch ({sizes})"
        )
