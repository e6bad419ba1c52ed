"""Samples, and how they are checked and split.

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.problems import Problem


class Samples(NamedTuple):
    """Features x of shape (N, D) and targets y of shape (N, K)."""

    x: Tensor
    y: Tensor

    def at(self, rows: Tensor) -> Samples:
        """Return the samples in these rows, in this order."""
        return Samples(self.x[rows], self.y[rows])

    def to(self, target: torch.dtype | torch.device) -> Samples:
        """Return the samples in another dtype or on another device."""
        return Samples(self.x.to(target), self.y.to(target))

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return self.x.nbytes + self.y.nbytes


def draw(problem: Problem, dtype: torch.dtype) -> Samples:
    """Make the data of a problem in a precision, and refuse what cannot be trained on.

    Args:
        problem: What makes the data.
        dtype: The precision.

    Raises:
        InputError: x or y is no floating-point tensor of shape (N, D) or (N, K), they differ in length, or a value is
            not finite.
    """
    name, seed = type(problem).__name__, getattr(problem, "seed", 0)
    if not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise InputError(f"problem seed {seed} is no seed; use a whole number from 0 to 2**32 - 1")
    x, y = problem.sample()
    for letter, values, shape in (("x", x, "(N, D)"), ("y", y, "(N, K)")):
        if not isinstance(values, Tensor):
            raise InputError(
                f"cannot use {letter} of {name}, because it is a {type(values).__name__}; make it a tensor"
            )
        if values.ndim != 2 or 0 in values.shape:
            raise InputError(
                f"cannot use {letter} of shape {tuple(values.shape)} from {name}, because it must be {shape} with x of "
                f"shape {tuple(x.shape)} and y of shape {tuple(y.shape)}; reshape a column with {letter}.reshape(-1, 1)"
            )
        if not values.is_floating_point():
            raise InputError(f"cannot use {letter} of type {values.dtype} from {name}; make it float32 or float64")
        finite = torch.isfinite(values.to(dtype))  # a large float64 may be infinite in float32
        if not finite.all():
            row = int((~finite).any(dim=1).nonzero()[0])
            raise InputError(f"cannot use the data of {name}, because {letter} is not finite in row {row} (from 0)")
    if len(x) != len(y):
        raise InputError(f"cannot pair the data of {name}, because x has {len(x)} rows and y has {len(y)}")
    return Samples(x.to(dtype), y.to(dtype))


def split_rows(n: int, val_size: float, test_size: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the rows for training, validation and test at random, each set in the given order of the samples.

    Args:
        n: Number of samples.
        val_size: For validation: a fraction below 1, or a number of samples.
        test_size: For test, likewise.
        seed: Seed of the choice.

    Returns:
        Row numbers for training, validation and test; without overlap, and together all rows.

    Raises:
        InputError: A size is no fraction and no count, or nothing is left for training.
    """
    n_val, n_test = count_of("val_size", val_size, n), count_of("test_size", test_size, n)
    if n_val + n_test >= n:
        raise InputError(
            f"cannot split {n} samples into {n_val} for validation and {n_test} for test, because none is left for "
            "training; use a smaller val_size or test_size"
        )
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    n_train = n - n_val - n_test
    train, val, test = rows[:n_train], rows[n_train : n_train + n_val], rows[n_train + n_val :]
    return train.sort().values, val.sort().values, test.sort().values


def count_of(name: str, size: float, n: int) -> int:
    """Turn a fraction or a number of samples into a number of samples.

    Raises:
        InputError: It is neither.
    """
    if isinstance(size, float) and 0 <= size < 1:
        return round(size * n)
    # 1.0 could mean all of them, or one.
    if size == int(size) and size >= 0 and not (isinstance(size, float) and size == 1):
        return int(size)
    raise InputError(f"{name} {size} is neither a fraction below 1 nor a number of samples; use for example 0.2 or 20")
