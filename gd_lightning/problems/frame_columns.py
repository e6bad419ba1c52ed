"""Columns of numbers from data frames of any library, without importing that library.

Letters: N rows, C columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.float64 import EXACT

_WAY_OF_TIMES = "write it as a number, such as the days since the first one"


class Frame(Protocol):
    """A data frame of pandas, polars or another library."""

    @property
    def columns(self) -> Any:
        """The labels of its columns, or the columns themselves."""


def is_frame(given: object) -> bool:
    """Whether an object is a data frame: of pandas, of polars, of Arrow, or a mapping from names to columns."""
    is_column = hasattr(given, "to_numpy")  # which in some libraries is a stream of Arrow, too
    has_columns = hasattr(type(given), "columns") or (hasattr(given, "__arrow_c_stream__") and not is_column)
    return isinstance(given, Mapping) or has_columns


def frame_columns(frame: Any) -> dict[str, Any]:
    """Return the columns of a data frame by their names, in their order; their values are not read.

    Raises:
        InputError: Two columns have the same name, or the frame has no columns yet, or only pyarrow can read it.
    """
    if type(frame).__name__ == "LazyFrame":
        raise InputError("cannot use a LazyFrame, because its rows are not computed yet; use its collect()")
    columns = _by_label(frame)
    if repeated := [name for name, count in Counter(str(label) for label, _ in columns).items() if count > 1]:
        raise InputError(
            f"cannot use the frame, because several of its columns are called {repeated[0]!r}; give each its own name"
        )
    return {str(label): column for label, column in columns}


def _by_label(frame: Any) -> list[tuple[Any, Any]]:
    """Return labels and columns of a data frame."""
    if isinstance(frame, Mapping):
        return list(frame.items())
    if hasattr(frame, "column_names"):  # Arrow's own
        return list(zip(frame.column_names, frame.columns, strict=True))
    if hasattr(frame, "iloc"):  # pandas, whose labels may be of any type, and occur twice
        return [(label, frame.iloc[:, i]) for i, label in enumerate(frame.columns)]
    if hasattr(frame, "get_columns"):  # polars
        return list(zip(frame.columns, frame.get_columns(), strict=True))
    try:
        import pyarrow  # optional, and slow to import
    except ImportError as error:
        raise InputError(
            f"cannot read a {type(frame).__name__} without pyarrow; install pyarrow, or give arrays (x, y)"
        ) from error
    return _by_label(pyarrow.table(frame))


def column_numbers(name: str, column: Any) -> NDArray[Any]:
    """Return a column of a data frame as numbers, shape (N,): float32 where it is that, else float64.

    Args:
        name: The name of the column, for messages.
        column: A pandas or polars ``Series``, an Arrow array, or anything that NumPy makes an array of.

    Raises:
        InputError: A value is missing, or is no number, or has more digits than float64.
    """
    values = as_array(column)
    if values.ndim != 1:
        raise InputError(
            f"cannot use {name!r}, because it is of shape {values.shape}, and no column; give one number for each row"
        )
    missing = np.array([_is_missing(value) for value in values], bool) if values.dtype.kind == "O" else _nan(values)
    if missing.any():
        raise InputError(
            f"cannot use {name!r}, because {_count(int(missing.sum()), len(values))} missing, first in row "
            f"{int(missing.argmax()) + 1}; drop or fill these rows, or choose other columns "
            "with features and targets"
        )
    return as_numbers(values, repr(name))


def as_array(given: Any) -> NDArray[Any]:
    """Return what NumPy makes of a list or another object, with whole numbers as they are."""
    values = np.asarray(given)
    if isinstance(given, (list, tuple)) and values.dtype == np.float64 and (np.abs(values) > EXACT).any():
        return np.asarray(given, object)  # NumPy takes whole numbers of more than 63 bits for floats
    return values


def as_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of real numbers of any type as float32 where it is that, or has fewer digits, else as float64.

    Args:
        values: Of any shape (N, ...).
        name: What it is called in messages.

    Raises:
        InputError: A value is no real number, or has more digits than float64.
    """
    kind = values.dtype.kind
    if kind == "O" and all(isinstance(value, _NUMBERS) for value in values.flat):
        check_exact(values, name)
        return values.astype(np.float64)
    if kind not in "biuf":
        what = {"c": "complex numbers", "M": "times", "m": "lengths of time"}.get(kind, _first_of(values))
        way = _WAY_OF_TIMES if kind in "mM" else "use real numbers"
        raise InputError(
            f"cannot use {name}, because it holds {what}; {way}, or choose other columns with features and targets"
        )
    if kind in "iu" and values.dtype.itemsize > 4:
        check_exact(values, name)
    return values.astype(np.float32 if kind == "f" and values.dtype.itemsize <= 4 else np.float64, copy=False)


_NUMBERS = (Real, Decimal, np.bool_)


def check_exact(values: NDArray[Any], name: str) -> None:
    """Refuse whole numbers that are others in float64, such as identifiers of 19 digits.

    Raises:
        InputError: There is one.
    """
    large = np.argwhere((values > EXACT) | (values < -EXACT))
    for place in large:
        value = values[tuple(place)]
        if isinstance(value, Integral) and int(float(value)) != int(value):
            raise InputError(
                f"cannot use {name}, because {value} in row {int(place[0]) + 1} has more digits than a float64 number; "
                "leave out a column of identifiers, or subtract a constant from it"
            )


def _first_of(values: NDArray[Any]) -> str:
    """Say what an array without numbers holds, by its first value that is none."""
    value = next((value for value in values.flat if not isinstance(value, _NUMBERS)), None)
    return f"{str(value)[:40]!r}" if isinstance(value, (str, bytes)) else f"a {type(value).__name__}"


def _nan(values: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    return found


def _is_missing(value: object) -> bool:
    """Whether a value of an array of objects stands for a missing one; the kinds of pandas are known by their names."""
    is_nan = isinstance(value, (float, Decimal)) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _count(some: int, all_values: int) -> str:
    return f"{some} of its {all_values} values {'is' if some == 1 else 'are'}"
