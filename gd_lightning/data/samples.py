"""Samples in memory or in a mapped file, their checks and their split.

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gd_lightning.data.lost_digits import check_digits
from gd_lightning.errors import InputError
from gd_lightning.float64 import has_squares, in_float64
from gd_lightning.memory_checks import WithinFreeMemory
from gd_lightning.micro_batches import Pair
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems import Problem
from gd_lightning.shared_results import content_of

_ROW_NUMBERS = (torch.int32, torch.int64)
PIECE = 65_536  # samples checked, converted or copied at a time


class Samples(Dataset[Pair]):
    """Features x of shape (N, D) and targets y of shape (N, K), in memory or mapped from a file.

    Mapped samples stay in the file: rows are selected and values converted whenever a piece is read.

    Args:
        x: Features, shape (M, D).
        y: Targets, shape (M, K).
        dtype: The dtype of the values, of the targets where ``x_dtype`` is given; None: unchanged.
        mapped: Whether x and y are mapped from a file.
        rows: Indices of the N samples among the M rows; None: all.
        x_dtype: The dtype of the features, if it differs from that of the targets.
        check: Called before each read; raises an exception if the mapped file can no longer be read.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        dtype: torch.dtype | None = None,
        mapped: bool = False,
        rows: Tensor | None = None,
        x_dtype: torch.dtype | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.dtype = dtype or y.dtype
        self.x_dtype = x_dtype or dtype or x.dtype
        self.mapped = mapped
        self.lost_digits = ""
        """What the precision takes from the data these samples were made from; empty where it takes nothing."""
        self._rows, self._check = rows, check
        self._x, self._y = (x, y) if mapped else (x.to(self.x_dtype), y.to(self.dtype))

    def __len__(self) -> int:
        return len(self._x) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Pair:
        x, y = self.take(slice(index, index + 1) if index >= 0 else slice(index, index + 1 or None))
        return x[0], y[0]

    @property
    def x(self) -> Tensor:
        """All features, in memory, shape (N, D)."""
        return self.take(slice(None))[0]

    @property
    def y(self) -> Tensor:
        """All targets, in memory, shape (N, K)."""
        return self.take(slice(None))[1]

    @property
    def in_features(self) -> int:
        """D."""
        return self._x.shape[1]

    @property
    def out_features(self) -> int:
        """K."""
        return self._y.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the samples are."""
        return self._x.device

    @property
    def row_bytes(self) -> int:
        """Size of a sample in memory, in bytes."""
        return self.in_features * self.x_dtype.itemsize + self.out_features * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Size of all samples in memory, in bytes."""
        return len(self) * self.row_bytes

    @property
    def content(self) -> Hashable | None:
        """What other samples have in common only if they are the same to the bit; None where nothing is shared."""
        return None if self.mapped else content_of(*self.take(slice(None)))

    def take(self, where: slice | Tensor) -> Pair:
        """Return the samples at these positions, in this order; a view if they are in memory and contiguous.

        Args:
            where: Positions among the N samples, as indices or a slice.
        """
        if self._check is not None:
            self._check()
        if self._rows is not None:
            where = self._rows[where]
        x, y = self._x[where], self._y[where]
        return (x.to(self.x_dtype).contiguous(), y.to(self.dtype).contiguous()) if self.mapped else (x, y)

    def lazily(self) -> tuple[LazyRows, LazyRows]:
        """Return features and targets whose rows are read when they are indexed."""
        return LazyRows(self, 0), LazyRows(self, 1)

    def pieces(self, size: int = PIECE) -> Iterator[Pair]:
        """Yield all samples in their order, at most ``size`` at a time.

        Args:
            size: Maximum number of samples of a piece.
        """
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))

    def subset(self, rows: Tensor) -> Samples:
        """Return the samples in these rows, in this order.

        Args:
            rows: Row numbers, int64, shape (n,).
        """
        if self.mapped:
            rows = rows if self._rows is None else self._rows[rows]
            return Samples(self._x, self._y, self.dtype, True, rows, self.x_dtype, self._check)
        return Samples(*self.take(rows))

    def to(self, device: torch.device) -> Samples:
        """Return the samples on another device, in memory there.

        Args:
            device: The device.
        """
        return self if device == self.device else self._copied(device)

    def loaded(self) -> Samples:
        """Return the samples converted and loaded into memory."""
        return self._copied(self.device) if self.mapped else self

    def _copied(self, device: torch.device) -> Samples:
        x = torch.empty(len(self), self.in_features, dtype=self.x_dtype, device=device)
        y = torch.empty(len(self), self.out_features, dtype=self.dtype, device=device)
        start = 0
        for x_piece, y_piece in self.pieces():
            x[start : start + len(x_piece)], y[start : start + len(x_piece)] = x_piece, y_piece
            start += len(x_piece)
        return Samples(x, y)


class LazyRows:
    """The features or the targets of samples, whose rows are read when they are indexed.

    Args:
        samples: The N samples.
        part: 0 for features, 1 for targets.
    """

    def __init__(self, samples: Samples, part: int) -> None:
        self._samples, self._part = samples, part

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, where: slice | Tensor) -> Tensor:
        return self._samples.take(where)[self._part]


def draw_pair(problem: Problem) -> Pair:
    """Return the data of a problem in its own precision.

    Raises:
        InputError: x or y is not a floating-point tensor of shape (N, D) or (N, K), or they differ in length.
    """
    name, seed = type(problem).__name__, as_python(getattr(problem, "seed", 0))
    if not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise InputError(f"cannot use the problem seed {seed}; use a whole number from 0 to 2**32 - 1")
    x, y = _sample(problem)
    for letter, values, shape in (("x", x, "(N, D)"), ("y", y, "(N, K)")):
        if not isinstance(values, Tensor):
            raise InputError(
                f"cannot use {letter} of {name}, because it is a {type(values).__name__}; make it a tensor"
            )
        if values.ndim == 2 and 0 in values.shape:
            what = "columns" if len(values) else "rows"
            raise InputError(f"cannot use {letter} of {name}, because it has no {what}; give at least one")
        if values.ndim != 2:
            raise InputError(
                f"cannot use {letter} of shape {tuple(values.shape)} from {name}, because it must be {shape} with x of "
                f"shape {tuple(x.shape)} and y of shape {tuple(y.shape)}; reshape a column with {letter}.reshape(-1, 1)"
            )
        if not values.is_floating_point():
            raise InputError(f"cannot use {letter} of type {values.dtype} from {name}; make it float32 or float64")
    if len(x) != len(y):
        raise InputError(f"cannot pair the data of {name}, because x has {len(x)} rows and y has {len(y)}")
    return x, y


def in_precision(
    problem: Problem, x: Tensor, y: Tensor, dtype: torch.dtype, full_x: bool = False, full_y: bool = False
) -> Samples:
    """Convert the data of a problem.

    Args:
        problem: The problem that the data come from.
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        dtype: The precision.
        full_x: Whether float64 features stay in float64, to be standardised before they are converted.
        full_y: Whether float64 targets do.

    Raises:
        InputError: A value is not finite in this precision, or rounding makes a column constant.
    """
    name = type(problem).__name__
    x_dtype = torch.promote_types(x.dtype, dtype) if full_x else dtype
    y_dtype = torch.promote_types(y.dtype, dtype) if full_y else dtype
    check = problem.check_source if problem.mapped else None
    samples, start = Samples(x, y, y_dtype, problem.mapped, x_dtype=x_dtype, check=check), 0
    names, largest = _names(problem, x, y), torch.zeros(y.shape[1], dtype=torch.float64)
    for pair in samples.pieces():
        for letter, values in zip("xy", pair, strict=True):
            finite = torch.isfinite(values)  # a large float64 may be infinite in float32
            if not finite.all():
                row = start + int((~finite).any(dim=1).nonzero()[0])
                raise InputError(f"cannot use the data of {name}, because {letter} is not finite in row {row} (from 0)")
        start += len(pair[0])
        largest = torch.maximum(largest, in_float64(pair[1]).cpu().abs().amax(dim=0))
    for target, size, is_well in zip(names[1], largest.tolist(), has_squares(largest).tolist(), strict=True):
        if not is_well:
            raise InputError(
                f"cannot fit target {target!r}, because float64 does not hold the squares of its values, which are up "
                f"to {size:.2g}; give it in other units"
            )
    samples.lost_digits = check_digits((x, x_dtype), (y, y_dtype), names)
    return samples


def _names(problem: Problem, x: Tensor, y: Tensor) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of features and targets.

    Raises:
        InputError: The names given by the problem are not distinct, or not one per column.
    """
    given = {"feature_names": (problem.feature_names, x, "x"), "target_names": (problem.target_names, y, "y")}
    found: list[Sequence[str]] = []
    for kind, (names, values, letter) in given.items():
        count = values.shape[1]
        known = [f"{letter}{i}" for i in range(count)] if names is None else names
        is_list = isinstance(known, Sequence) and all(isinstance(name, str) for name in known)
        if not is_list or len(known) != count or len(set(known)) != count:
            raise InputError(
                f"cannot take {str(known)[:80]} as {kind} of {type(problem).__name__}, because its data have {count} "
                "columns there; give each a name of its own, or None"
            )
        found.append(known)
    return found[0], found[1]


def _sample(problem: Problem) -> Pair:
    """Sample a problem with float32 as default dtype, since torch draws other numbers in other precisions."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with WithinFreeMemory(f"sample {type(problem).__name__}", "fewer samples"):
            return problem.sample()
    finally:
        torch.set_default_dtype(default)


def split_samples(
    problem: Problem, samples: Samples, val_size: float | None, test_size: float, seed: int
) -> tuple[Samples, Samples, Samples]:
    """Split samples into training, validation and test; the latter two may be empty.

    Args:
        problem: The problem, which may prescribe the validation samples.
        samples: All samples.
        val_size: Samples for validation: a fraction below 1, or a number; None: as the problem prescribes.
        test_size: Samples for test: a fraction below 1, or a number.
        seed: Seed of a random split.

    Raises:
        InputError: The prescribed split is invalid, or combined with other sizes; or a size is invalid.
    """
    prescribed = problem.split() if val_size is None else None
    if prescribed is not None and test_size:
        raise InputError(
            f"cannot hold out test_size {test_size} from {type(problem).__name__}, because it prescribes "
            "its own split; give val_size too, to make a new split"
        )
    none = torch.empty(0, dtype=torch.long)
    if prescribed is not None:
        check_split(type(problem).__name__, prescribed, len(samples))
        return samples.subset(prescribed[0]), samples.subset(prescribed[1]), samples.subset(none)
    if not (val_size or test_size):
        return samples, samples.subset(none), samples.subset(none)
    train, val, test = split_rows(len(samples), val_size or 0, test_size, seed)
    return samples.subset(train), samples.subset(val), samples.subset(test)


def split_rows(n: int, val_size: float, test_size: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the rows for training, validation and test at random, each set in the given order of the samples.

    Args:
        n: Number of samples.
        val_size: Samples for validation: a fraction below 1, or a number.
        test_size: Samples for test: a fraction below 1, or a number.
        seed: Seed of the choice.

    Returns:
        Row numbers for training, validation and test; without overlap, and together all rows.

    Raises:
        InputError: A size is neither a fraction nor a count, or nothing is left for training.
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


def check_split(name: str, split: tuple[Tensor, Tensor], n: int) -> None:
    """Refuse an invalid split prescribed by a problem.

    Args:
        name: The name of the problem.
        split: Rows for training and for validation.
        n: Number of samples.

    Raises:
        InputError: The rows are not distinct integers from 0 to n - 1, or none is for training.
    """
    if not (isinstance(split, tuple) and len(split) == 2):
        raise InputError(
            f"cannot use the split of {name}, because it is not a pair of lists of rows; give "
            "rows for training and validation"
        )
    for rows in split:
        if not isinstance(rows, Tensor) or rows.ndim != 1 or rows.dtype not in _ROW_NUMBERS:
            raise InputError(
                f"cannot use the split of {name}, because its rows are not whole numbers of shape (n,); make them with "
                "torch.tensor([0, 1, 2])"
            )
        if len(rows) and not 0 <= (wrong := int(rows.max() if rows.min() >= 0 else rows.min())) < n:
            raise InputError(
                f"cannot use the split of {name}, because there is no row {wrong}; use numbers from 0 to {n - 1}"
            )
    if not len(split[0]):
        raise InputError(f"cannot use the split of {name}, because it has no rows for training; give it some")
    both = torch.cat(split)
    if len(both.unique()) < len(both):
        raise InputError(
            f"cannot use the split of {name}, because it contains a row twice; use each row once, for training or "
            "validation"
        )


def count_of(name: str, size: float, n: int) -> int:
    """Turn a fraction or a number of samples into a number of samples.

    Raises:
        InputError: The size is neither.
    """
    if isinstance(size, float) and 0 <= size < 1:
        return round(size * n)
    # 1.0 could mean all of them, or one.
    if math.isfinite(size) and size == int(size) and size >= 0 and not (isinstance(size, float) and size == 1):
        return int(size)
    raise InputError(f"{name} {size} is neither a fraction below 1 nor a number of samples; use for example 0.2 or 20")
