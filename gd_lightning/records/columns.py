"""Columns of an append-only table with empty cells (layer 0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)

_LEAST = 16  # number of values for which memory is reserved at first


def union(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the union of ascending arrays of whole numbers, sorted; faster than NumPy's, which hashes them.

    Example:
        >>> union([np.array([1, 4]), np.array([2, 4, 6])])
        array([1, 2, 4, 6])
    """
    if len(arrays) == 1:
        return arrays[0]
    numbers = np.concatenate([np.empty(0, np.int64), *arrays])
    numbers.sort(kind="stable")
    is_new = np.ones(len(numbers), dtype=bool)
    np.not_equal(numbers[1:], numbers[:-1], out=is_new[1:])
    return numbers[is_new]


def are_in(numbers: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which numbers some others have, which ascend; of few numbers, in far less time than ``np.isin``.

    Example:
        >>> are_in(np.array([1, 5, 9]), np.array([1, 4, 5]))
        array([ True,  True, False])
    """
    places = np.searchsorted(ascending, numbers)
    found = places < len(ascending)
    found[found] = ascending[places[found]] == numbers[found]
    return found


class Numbers(Generic[_Number]):
    """An array that grows at its end without being copied each time.

    Args:
        values: The first values, shape (n,), which are not copied.

    Example:
        >>> numbers = Numbers(np.array([1.0, 2.0]))
        >>> numbers.extend(2, 5.0)
        >>> numbers.all
        array([1., 2., 5., 5.])
    """

    def __init__(self, values: NDArray[_Number]) -> None:
        self._buffer, self._count = values, len(values)

    def __len__(self) -> int:
        return self._count

    @property
    def all(self) -> NDArray[_Number]:
        """The numbers, shape (n,), a view."""
        return self._buffer[: self._count]

    def extend(self, count: int, values: NDArray[_Number] | float, reserve: int = 0) -> None:
        """Append ``count`` numbers, or one number ``count`` times; reserve memory for numbers that will follow."""
        before, self._count = self._count, self._count + count
        if self._count > len(self._buffer):
            larger = np.empty(max(self._count, before + reserve, 2 * before, _LEAST), self._buffer.dtype)
            larger[:before] = self._buffer[:before]
            self._buffer = larger
        self._buffer[before : self._count] = values

    def pop(self) -> None:
        """Remove the last number."""
        self._count -= 1


class Column:
    """The values of a column and their ascending rows, since most rows of, for example, a train loss are empty.

    Rows without gaps are not stored, since they would take half of the memory of a long column.

    Args:
        rows: The rows of the first values, int64, shape (n,).
        values: The first values, float64, shape (n,).

    Example:
        >>> column = Column()
        >>> column.extend(0, 2, 0.5)
        >>> column.extend(4, 1, 0.25)
        >>> column.rows, column.values, column.dense(5)
        (array([0, 1, 4]), array([0.5 , 0.5 , 0.25]), array([0.5 , 0.5 ,  nan,  nan, 0.25]))
    """

    def __init__(self, rows: NDArray[np.int64] | None = None, values: NDArray[np.float64] | None = None) -> None:
        self._values = Numbers(np.empty(0) if values is None else values)
        self._start = 0
        self._rows: Numbers[np.int64] | None = None
        if rows is not None and len(rows):
            self._start = int(rows[0])
            if rows[-1] - rows[0] + 1 != len(rows):
                self._rows = Numbers(rows)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> NDArray[np.float64]:
        """The values, shape (n,), a view."""
        return self._values.all

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows of the values, shape (n,)."""
        if self._rows is None:
            return np.arange(self._start, self._start + len(self), dtype=np.int64)
        return self._rows.all

    @property
    def has_gaps(self) -> bool:
        """Whether a row between the first and the last one may have no value."""
        return self._rows is not None

    @property
    def last_row(self) -> int:
        """The last row that has a value; -1 if none has."""
        if not len(self):
            return -1
        return self._start + len(self) - 1 if self._rows is None else int(self._rows.all[-1])

    def extend(self, start: int, rows: int, values: NDArray[np.float64] | float, reserve: int = 0) -> None:
        """Fill consecutive rows, all of them after the last one that has a value.

        Args:
            start: The first row.
            rows: Number of rows.
            values: One value per row, shape (rows,), or one for all rows.
            reserve: Number of values to reserve memory for.
        """
        if not len(self):
            self._start, self._rows = start, None
        elif self._rows is None and start != self._start + len(self):
            self._rows = Numbers(self.rows)
        if self._rows is not None:
            self._rows.extend(rows, np.arange(start, start + rows, dtype=np.int64))
        self._values.extend(rows, values, reserve)

    def extend_at(self, rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Fill rows, in ascending order, all after the last one that has a value.

        Args:
            rows: The rows, int64, shape (n,).
            values: One value per row, shape (n,).
        """
        if not len(rows) or rows[-1] - rows[0] + 1 == len(rows):
            self.extend(int(rows[0]) if len(rows) else 0, len(rows), values)
            return
        self._rows = Numbers(self.rows) if self._rows is None or not len(self) else self._rows
        self._rows.extend(len(rows), rows)
        self._values.extend(len(values), values)

    def pop(self) -> None:
        """Empty the last row that has a value."""
        self._values.pop()
        if self._rows is not None:
            self._rows.pop()

    def take(self, rows: NDArray[np.int64]) -> Column:
        """Return a column of some ascending rows, which become the rows 0, 1, 2, ... of the result."""
        places, values = self.find(rows)
        return Column(places, values)

    def dense(self, rows: int) -> NDArray[np.float64]:
        """Return the values of the first rows, shape (rows,), nan where one is missing."""
        if self._rows is not None:
            dense = np.full(rows, np.nan)
            dense[self.rows] = self.values
            return dense
        dense = np.empty(rows)
        behind = self._start + len(self)
        dense[: self._start], dense[behind:] = np.nan, np.nan
        dense[self._start : behind] = self.values
        return dense

    def find(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the indices of those given rows that have a value, and the values."""
        if self._rows is None:
            places = rows - self._start
            found = np.flatnonzero((places >= 0) & (places < len(self)))
        else:
            places = np.searchsorted(self.rows, rows)
            inside = np.flatnonzero(places < len(self))
            found = inside[self.rows[places[inside]] == rows[inside]]
        return found, self.values[places[found]]
