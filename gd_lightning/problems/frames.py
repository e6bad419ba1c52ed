"""The problem for the user's own data in a data frame, of any library, without importing that library."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.problems.exact_numbers import as_array, as_numbers, is_numeric, without_tensors
from gd_lightning.problems.tables import Names, Table

if TYPE_CHECKING:  # pyarrow takes 0.2 s to import
    from gd_lightning.problems.named_columns import NamedColumns


class DataFrame(Protocol):
    """A data frame of pandas, polars or another library."""

    @property
    def columns(self) -> Any:
        """The labels of its columns, or the columns themselves."""


def is_frame(given: object) -> bool:
    """Whether an object is a data frame: of pandas, of polars, of Arrow, or a mapping from names to columns."""
    is_column = hasattr(given, "to_numpy")  # in some libraries, a column also has the interface of an Arrow stream
    has_columns = hasattr(type(given), "columns") or (hasattr(given, "__arrow_c_stream__") and not is_column)
    is_sparse = hasattr(given, "tocsr")  # one form of sparse matrices is a mapping from positions to values
    return (isinstance(given, Mapping) and not is_sparse) or has_columns


class Frame(Table):
    """Columns of a data frame of pandas, polars or Arrow, or of a mapping from names to columns.

    Columns become features and targets like those of a table in a file: booleans are 0 and 1, texts of few values can
    become indicators, and missing values are refused, dropped or filled. Checkpoints contain these conversions, and a
    fingerprint instead of the data.

    Args:
        frame: The data frame.
        features: Names or numbers of the columns to predict from; None: all that are not targets and do not number the
            rows.
        targets: Names or numbers of the columns to predict; None: the last column.
        exclude: Names or numbers of columns to leave out.
        categories: Columns whose values become indicator columns; auto: each text of few values.
        dates: Columns of dates that become days since 1970-01-01; auto: all of them.
        missing: The treatment of rows with a missing value: drop leaves them out, mean fills them with the mean of the
            column; None: they are refused.

    Raises:
        InputError: The frame has no columns, or they have no values yet, or other options are invalid.

    Example:
        >>> frame = {"size": [30, 50, None], "heated": [True, False, True], "price": [1, 2, 3]}
        >>> x, y = Frame(frame, targets="price", missing="mean").sample()
        >>> x.tolist()
        [[30.0, 1.0], [50.0, 0.0], [40.0, 1.0]]
    """

    holds_data = True
    map_above = sys.maxsize
    """It is in memory."""

    def __init__(
        self,
        frame: Any,
        features: Names = None,
        targets: Names = None,
        exclude: Names = None,
        categories: Names = None,
        dates: Names = None,
        missing: Literal["drop", "mean"] | None = None,
    ) -> None:
        super().__init__("the frame", features, targets, exclude, categories, dates, missing)
        self.frame = frame
        self.has_column = targets is not None and not isinstance(targets, (str, int)) and len(targets) > 1
        """Whether the targets are given as columns, and not as one."""
        self._table: NamedColumns = columns_of(frame)

    def __deepcopy__(self, memo: dict[int, Any]) -> Frame:
        """Share the data, which nothing changes."""
        made = type(self).__new__(type(self))
        vars(made).update(vars(self))
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling: the columns, without the object of another library."""
        return {**vars(self), "frame": None}

    @property
    def label(self) -> str:
        """The name of the data in messages."""
        return "the frame"

    def hyperparameters(self) -> dict[str, Any]:
        """Return nothing: a run has a fingerprint of the data, and how columns become features."""
        return {}

    def read_inputs(self, path: str | Path) -> Tensor:
        """Read the features, shape (N, D), from a table in a file; it needs no targets."""
        table = Table(str(path))
        table._columns = self._resolved()
        return table.read_inputs(path)

    def _open(self) -> NamedColumns:
        return self._table


def frame_inputs(frame: Any, columns: Any) -> Tensor:
    """Return the features of new rows in a data frame, shape (N, D), float64.

    Args:
        frame: A data frame.
        columns: How the columns of the training became features, as a checkpoint holds it; or their names.

    Raises:
        InputError: The frame lacks a column, or has a value that cannot be used.
    """
    from gd_lightning.problems.table_columns import TableColumns
    from gd_lightning.problems.table_files import read_table

    known = TableColumns.from_state(columns) or TableColumns.of_numbers(columns, [])
    found, _ = read_table(columns_of(frame), known.inputs, sys.maxsize)
    return torch.from_numpy(np.ascontiguousarray(found))


def columns_of(frame: Any) -> NamedColumns:
    """Return the named columns of a data frame, which stay in memory as they are.

    Raises:
        InputError: The frame has no columns, or they have no values yet, or different lengths.
    """
    import pyarrow as pa

    from gd_lightning.problems.named_columns import FrameColumns

    if type(frame).__name__ == "LazyFrame":
        raise InputError("cannot use a LazyFrame, because its rows are not computed yet; use its collect()")
    if isinstance(frame, Mapping):
        columns = list(frame.items())
    elif hasattr(frame, "iloc"):  # pandas, whose labels may be of any type, and whose index is not a column
        columns = [(label, frame.iloc[:, i]) for i, label in enumerate(frame.columns)]
    else:
        return FrameColumns("the frame", _as_table(frame))
    if not columns:
        raise InputError("cannot use the frame, because it has no columns; give at least one")
    arrays = [_arrow(name, column) for name, column in columns]
    lengths = {str(name): len(array) for (name, _), array in zip(columns, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{length} ({name})" for name, length in lengths.items())
        raise InputError(f"cannot use the frame, because its columns have {shown} rows; give each a value for each row")
    return FrameColumns("the frame", pa.table(arrays, [str(name) for name, _ in columns]))


def _as_table(frame: Any) -> Any:
    """Return the Arrow table of a frame that can make one."""
    import pyarrow as pa

    try:
        return frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
    except MemoryError:
        raise
    except Exception as error:  # the library of the frame may raise anything
        kind = type(frame).__name__
        raise InputError(
            f"cannot use the frame, because a {kind} cannot be converted to an Arrow table; give a mapping of columns"
        ) from error


def _arrow(name: Any, column: Any) -> Any:
    """Return a column as an Arrow array; one of mixed values as texts, which are refused where it is used."""
    import pyarrow as pa

    known = f"column {str(name)!r} of the frame"
    if hasattr(column, "to_arrow"):  # a column of polars
        column = column.to_arrow()
    column = without_tensors(column, known)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biufc":  # numbers of any width and byte order
        own = column.dtype.newbyteorder("=")
        column = column.astype(own, copy=False) if column.dtype.kind in "biu" else as_numbers(column, known)
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        values = as_array(column, known)
    if values.ndim != 1:
        raise InputError(f"cannot use {known}, because it is of shape {values.shape}; give one value for each row")
    if is_numeric(values):
        return pa.array(as_numbers(values, known), from_pandas=True)
    return pa.array([None if value is None else str(value) for value in values], pa.string())
