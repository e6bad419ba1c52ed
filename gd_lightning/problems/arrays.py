"""The problem for data in memory: arrays, tensors and data frames.

Letters: N samples, D features, K targets.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from gd_lightning.errors import InputError
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems.exact_numbers import as_array, as_numbers, without_tensors
from gd_lightning.problems.frames import DataFrame, Frame, columns_of, frame_inputs, is_frame
from gd_lightning.problems.problem import Problem
from gd_lightning.problems.tables import Names, Table

ProblemLike = Problem | tuple[Any, Any] | DataFrame | Mapping[str, Any] | Dataset[Any] | str | Path
"""What :func:`as_problem` takes."""


class Arrays(Problem):
    """Data in memory: NumPy arrays, tensors, lists of numbers, or columns of a data frame.

    Data that are float32 or float64 in memory already are not copied, so do not change them while they are used.
    Checkpoints hold a fingerprint of the data instead of the data: a run is continued in Python with the same arrays,
    and others are refused.

    Args:
        x: Features of real numbers, shape (N, D); one feature may have shape (N,).
        y: Targets, shape (N, K) or (N,).
        feature_names: Names of the D features; None: those of a data frame, else none.
        target_names: Names of the K targets; None: those of a data frame or a named column, else none.

    Raises:
        InputError: The values are not real numbers, not finite, or have another shape.

    Example:
        >>> problem = Arrays([[1, 2], [3, 4], [5, 6]], [1.5, 2.5, 3.5], feature_names=["a", "b"])
        >>> [tuple(values.shape) for values in problem.sample()]
        [(3, 2), (3, 1)]
    """

    holds_data = is_read = True

    def __init__(
        self, x: Any, y: Any, feature_names: Sequence[str] | None = None, target_names: Sequence[str] | None = None
    ) -> None:
        self.x, of_x = numbers_of(x, "x")
        self.y, of_y = numbers_of(y, "y")
        self.has_column = is_frame(y) or np.ndim(without_tensors(y, "y")) == 2
        """Whether the targets are given as columns, and not as a vector."""
        if len(self.x) != len(self.y):
            raise InputError(
                f"cannot pair x of {len(self.x)} rows with y of {len(self.y)}; give both a row for each sample"
            )
        self._features = _names(feature_names, of_x, self.x, "feature_names")
        self._targets = _names(target_names, of_y, self.y, "target_names")
        if self._targets is None and self._features is not None:
            self._targets = default_names("y", self.y.shape[1], self._features)
        elif self._features is None and self._targets is not None:
            self._features = default_names("x", self.x.shape[1], self._targets)
        _refuse_twice([*(self._features or []), *(self._targets or [])])

    def __deepcopy__(self, memo: dict[int, Any]) -> Arrays:
        """Share the data, which nothing changes: each run of a comparison has a copy of its own of what it is given."""
        return copy.copy(self)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return x of shape (N, D) and y of shape (N, K), float32 where they are given so, else float64."""
        return self.x, self.y

    @property
    def label(self) -> str:
        """The name of the data in messages."""
        return "these arrays"

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the D features, if they have names."""
        return self._features

    @property
    def target_names(self) -> list[str] | None:
        """Names of the K targets, if they have names."""
        return self._targets

    def by_names(self, features: Sequence[str], targets: Sequence[str]) -> Arrays:
        """Return the columns that a run was trained on, by name, in the run's order; columns without names stay.

        Raises:
            InputError: A column is missing.
        """
        chosen = copy.copy(self)
        chosen.x, chosen._features = _chosen(self.x, self._features, features)
        chosen.y, chosen._targets = _chosen(self.y, self._targets, targets)
        return chosen

    def read_inputs(self, path: str | Path) -> Tensor:
        """Read the features, shape (N, D), from a table by their names.

        Raises:
            InputError: The features have no names, or the table lacks a feature.
        """
        if self._features is None:
            raise InputError(
                f"cannot predict on {path}, because the features of these arrays have no names; use predict(x) in "
                "Python, or give feature_names"
            )
        return Table(str(path)).by_names(self._features, []).read_inputs(path)

    def hyperparameters(self) -> dict[str, Any]:
        """Return nothing, since data and their names are not options of a run; it has a fingerprint of them."""
        return {}


def as_problem(
    given: ProblemLike, targets: Names | None = None, features: Names | None = None, **columns: Any
) -> Problem:
    """Return the problem for data of any kind.

    Args:
        given: A problem; a pair (x, y) of arrays, tensors, lists or data frames; a data frame of pandas, polars or
            Arrow, or a mapping from names to columns; a ``TensorDataset`` of x and y, a ``Subset`` of one, or
            several in a ``ConcatDataset``; or the path of a table.
        targets: The columns of a data frame or table to predict; None: the last one.
        features: The columns of a data frame or table to predict from; None: all others.
        columns: Of a data frame or table, other options of :class:`~gd_lightning.Frame` or
            :class:`~gd_lightning.Table`, such as ``categories="auto"``.

    Raises:
        InputError: The value is none of these, or lacks a column.

    Example:
        >>> as_problem({"hours": [1, 2, 3], "score": [10, 20, 35]}, targets="score").feature_names
        ['hours']
    """
    options = {name: as_python(value) for name, value in columns.items() if value is not None}
    if targets is not None or features is not None:
        options |= {"targets": as_python(targets), "features": as_python(features)}
    if isinstance(given, (str, Path)):
        return Table(str(given), **options)
    if is_frame(given) and not isinstance(given, Problem):
        return Frame(given, **options)
    if options:
        raise InputError(
            f"cannot choose {next(iter(options))} of {_kind_of(given)}, because its columns have no names; give a "
            "DataFrame, or leave it out"
        )
    if isinstance(given, Problem):
        return given
    pair = given if isinstance(given, tuple) else _tensors_of(given)
    if len(pair) == 2:
        return Arrays(*pair)
    loader = ", or a DataLoader to Trainer.fit with a RegressionModule" * isinstance(given, (Dataset, DataLoader))
    raise InputError(
        f"cannot train on {_kind_of(given)}; give (x, y), a DataFrame with targets=, a TensorDataset of x and y, the "
        f"path of a table, or a Problem{loader}"
    )


def _tensors_of(given: object) -> tuple[Tensor, ...]:
    """Return the tensors of a dataset that holds tensors, or parts of them; empty for others."""
    if isinstance(given, TensorDataset):
        return given.tensors
    if isinstance(given, Subset):
        return tuple(whole[torch.as_tensor(given.indices, dtype=torch.long)] for whole in _tensors_of(given.dataset))
    if isinstance(given, ConcatDataset):
        parts = [_tensors_of(each) for each in given.datasets]
        return tuple(torch.cat(each) for each in zip(*parts, strict=True)) if len({*map(len, parts)}) == 1 else ()
    return ()


def numbers_of(given: Any, name: str) -> tuple[Tensor, list[str] | None]:
    """Convert real numbers to a tensor of shape (N, columns), float32 or float64, with the names of its columns.

    Args:
        given: An array, a tensor, a list of numbers, a data frame, or a column of one.
        name: The name of the array in messages.

    Raises:
        InputError: The array contains other values than finite real numbers, or has another shape.
    """
    if is_frame(given):
        names = columns_of(given).header
        return frame_inputs(given, names), names
    if not isinstance(given, Tensor) and hasattr(given, "to_numpy"):  # a column of a data frame
        own = getattr(given, "name", None)
        named = name if own in (None, "") else str(own)
        return frame_inputs({named: given}, [named]), None if own in (None, "") else [named]
    values = torch.from_numpy(_own(as_numbers(_array(given, name), name)))
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim == 2 and 0 in values.shape:
        raise InputError(
            f"cannot use {name}, because it has no {'columns' if len(values) else 'rows'}; give at least one"
        )
    if values.ndim != 2:
        raise InputError(
            f"cannot use {name} of shape {tuple(values.shape)}, because it has to have one row for each sample, and a "
            f"column for each {'feature' if name == 'x' else 'target'}; reshape it"
        )
    finite = torch.isfinite(values)
    if not finite.all():
        row, column = (~finite).nonzero()[0].tolist()
        raise InputError(
            f"cannot use {name}, because {int((~finite).any(dim=1).sum())} of its {len(values)} rows have a value that "
            f"is not finite, first {values[row, column]:g} in row {row + 1}, column {column + 1}; drop these rows, or "
            "fill them"
        )
    return values, None


def inputs_of(given: Any, features: Sequence[str] | None, columns: Any = None) -> Tensor:
    """Return features for predictions, shape (N, D); columns of a frame or a table are chosen by name.

    Args:
        given: An array as for :func:`numbers_of`, or the path of a table.
        features: Names of the features of a trained model, if they have names.
        columns: How columns of a table became features in the training, as its checkpoint holds it; None or empty: they
            are numbers.

    Raises:
        InputError: A feature is missing, or a value is not a finite number.
    """
    if isinstance(given, (str, Path)):
        if features is None:
            raise InputError(f"cannot predict on {given}, because the features have no names; give an array")
        return Table(str(given)).with_columns_state(columns).by_names(features, []).read_inputs(given)
    if is_frame(given) and features is not None:
        return frame_inputs(given, columns or features)
    return numbers_of(given, "x")[0]


def _array(given: Any, name: str) -> np.ndarray[Any, Any]:
    values = as_array(given, name)
    if values.ndim == 0:
        raise InputError(f"cannot use {_kind_of(given)} as {name}; give an array with a row for each sample")
    return values


def _own(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that torch can share: writable, in this machine's byte order, without negative strides."""
    is_shareable = values.flags.writeable and values.dtype.isnative and all(step >= 0 for step in values.strides)
    return values if is_shareable else np.array(values, values.dtype.newbyteorder("="))


def _names(given: Sequence[str] | None, own: list[str] | None, values: Tensor, what: str) -> list[str] | None:
    names = own if given is None else [str(name) for name in as_python([*given])]
    if names is not None and len(names) != values.shape[1]:
        raise InputError(
            f"cannot use {len(names)} {what} for {values.shape[1]} columns; give one for each, or leave them out"
        )
    return names


def default_names(letter: str, count: int, taken: Sequence[str] = ()) -> list[str]:
    """Return names of columns without any: x, or x0, x1, ..., with underscores where these are taken."""
    names = [letter] if count == 1 else [f"{letter}{i}" for i in range(count)]
    return default_names(f"{letter}_", count, taken) if set(names) & set(taken) else names


def _refuse_twice(names: Sequence[str]) -> None:
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InputError(f"cannot use the name {repeated[0]!r} twice; give each feature and target its own")


def _chosen(values: Tensor, own: list[str] | None, names: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the columns of these names, in their order."""
    names = list(names)
    if own is None or own == names:
        return values, names
    if missing := [name for name in names if name not in own]:
        raise InputError(
            f"cannot find column {missing[0]!r}, because there are only {', '.join(own)}; correct the name, or the data"
        )
    return values[:, [own.index(name) for name in names]], names


def _kind_of(given: object) -> str:
    return f"an object of type {type(given).__name__}"
