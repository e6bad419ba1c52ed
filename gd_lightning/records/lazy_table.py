"""An append-only table of numbers whose last rows are computed when they are read (layer 0)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gd_lightning.records.columns import Column

# Maximum number of parts, and of numbers held to compute them, that wait before rows are computed.
_MOST_WAITING, _MOST_HELD = 1_000, 2**24
# Rows that are computed at a time, and rows that are read as dictionaries at a time.
_MOST_COMPUTED, _ROWS_AT_ONCE = 4_096, 256
_NOTHING = (np.empty(0, np.int64), np.empty(0))

Columns = Callable[[slice], Mapping[str, "NDArray[np.float64] | float"]]


@dataclass
class _Waiting:
    """Rows that are computed when they are read, since a fast engine makes a million of them per second."""

    start: int
    rows: int
    columns: Columns
    names: Collection[str]
    last: dict[str, float]
    measured: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = field(default_factory=dict)
    added: dict[str, float] = field(default_factory=dict)
    _is_complete: bool = False

    def last_row(self) -> dict[str, float]:
        """Compute only the last row."""
        if not self._is_complete:
            for name, values in self.columns(slice(self.rows - 1, self.rows)).items():
                self.last.setdefault(name, float(np.asarray(values).reshape(-1)[0]))
            self._is_complete = True
        return self.last | self.added

    def in_last_row(self, name: str) -> float | None:
        """Return a value of the last row; None if it is missing there."""
        for known in (self.added, self.last):
            if name in known:
                return known[name]
        rows, values = self.measured.get(name, _NOTHING)
        if len(rows) and rows[-1] == self.rows - 1:
            return float(values[-1])
        return self.last_row().get(name) if name in self.names else None

    def last_measured(self, name: str) -> float | None:
        """Return the last value of a column in these rows; None if they have none."""
        _, values = self.measured.get(name, _NOTHING)
        newest = self.in_last_row(name)
        return float(values[-1]) if newest is None and len(values) else newest


class LazyTable:
    """Columns of numbers by their names; values that were not measured are missing, which differs from nan.

    Args:
        names: Names of the first columns.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._columns: dict[str, Column] = {name: Column() for name in names}
        self._waiting: list[_Waiting] = []
        self._held = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def columns(self) -> list[str]:
        """Names of the columns, beginning with the first ones."""
        names = dict.fromkeys(self._columns)
        for waiting in self._waiting:
            names |= dict.fromkeys([*waiting.names, *waiting.measured, *waiting.added])
        return list(names)

    # Adding and removing rows

    def append(self, **values: float) -> None:
        """Add a row; a new column is empty in earlier rows."""
        self._settle()
        self._length += 1
        self.add_to_last_row(values)

    def extend(
        self,
        rows: int,
        columns: Columns,
        names: Collection[str],
        last: Mapping[str, float],
        held: int = 0,
        measured: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]] | None = None,
    ) -> None:
        """Add rows whose values are computed when they are read.

        Args:
            rows: Number of rows, at least one.
            columns: Returns the columns of a part of these rows: arrays of one value per row, or one value for all.
            names: The names of these columns.
            last: Some values of the last row, which can then be read without computing.
            held: Number of numbers that are kept in memory until the rows are computed.
            measured: Values of further columns in some of these rows: by name, the rows, from 0, and the values.
        """
        if len(self._waiting) >= _MOST_WAITING or self._held + held > _MOST_HELD:
            self._settle()
        self._held += held
        self._waiting.append(_Waiting(self._length, rows, columns, names, dict(last), measured or {}))
        self._length += rows

    def _settle(self) -> None:
        """Compute the rows that have not been computed."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        for part in waiting:
            for first in range(0, part.rows, _MOST_COMPUTED):  # computing takes several times the memory of its results
                start, count = part.start + first, min(_MOST_COMPUTED, part.rows - first)
                for name, values in part.columns(slice(first, first + count)).items():
                    self._columns.setdefault(name, Column()).extend(start, count, values, reserve=self._length - start)
            for name, (rows, values) in part.measured.items():
                self._columns.setdefault(name, Column()).extend_at(part.start + rows, values)
            for name, value in part.added.items():
                self._columns.setdefault(name, Column()).extend(part.start + part.rows - 1, 1, value)

    def add_to_last_row(self, values: Mapping[str, float]) -> None:
        """Fill empty cells of the last row."""
        if self._waiting:
            self._waiting[-1].added |= values
            return
        row = self._length - 1
        for name, value in values.items():
            self._columns.setdefault(name, Column()).extend(row, 1, value)

    def forget_last(self, names: Iterable[str]) -> None:
        """Empty some cells of the last row."""
        self._settle()
        for name in list(names):
            column = self._columns.get(name)
            if column is not None and column.last_row == self._length - 1:
                column.pop()

    def drop_last(self) -> None:
        """Remove the last row."""
        self._length -= 1
        if self._waiting and self._waiting[-1].rows == 1:  # a single row that waits is removed without being computed
            self._waiting.pop()
            return
        self._settle()
        for column in self._columns.values():
            if column.last_row == self._length:
                column.pop()

    def _retain(self, rows: NDArray[np.int64]) -> None:
        """Keep only these rows, given in ascending order."""
        self._settle()
        self._columns = {name: column.take(rows) for name, column in self._columns.items()}
        self._length = len(rows)

    # Reading values

    def __contains__(self, name: str) -> bool:
        if name in self._columns and len(self._columns[name]):
            return True
        return any(waiting.last_measured(name) is not None for waiting in self._waiting)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return a column as an array of shape (rows,); missing values are nan."""
        self._settle()
        return self._columns[name].dense(self._length)

    def series(self, name: str, axis: str = "update") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the positions on an axis at which a column was measured, and its values, both of shape (values,)."""
        self._settle()
        column = self._columns[name]
        return self._columns[axis].dense(self._length)[column.rows], column.values.copy()

    def first(self, name: str) -> float:
        """Return the first measured value of a column."""
        if name not in self._columns or not len(self._columns[name]):
            for waiting in self._waiting:
                if name in waiting.names:
                    return float(np.asarray(waiting.columns(slice(0, 1))[name]).reshape(-1)[0])
                if len(waiting.measured.get(name, _NOTHING)[1]):
                    return float(waiting.measured[name][1][0])
                if name in waiting.added:
                    return waiting.added[name]
        return float(self._columns[name].values[0])

    def last(self, name: str) -> float:
        """Return the last measured value of a column."""
        for waiting in reversed(self._waiting):
            if (value := waiting.last_measured(name)) is not None:
                return value
        return float(self._columns[name].values[-1])

    def in_last_row(self, name: str) -> float | None:
        """Return the value of a column in the last row; None if it is missing there."""
        if self._waiting:
            return self._waiting[-1].in_last_row(name)
        column = self._columns.get(name)
        if column is None or column.last_row != self._length - 1:
            return None
        return float(column.values[-1])

    @property
    def names_in_last_row(self) -> list[str]:
        """The names of the columns that have a value in the last row."""
        if self._waiting:
            newest = self._waiting[-1]
            at_last = [name for name, (rows, _) in newest.measured.items() if len(rows) and rows[-1] == newest.rows - 1]
            return [*newest.names, *at_last, *newest.added]
        return [name for name, column in self._columns.items() if len(column) and column.last_row == self._length - 1]

    def rows(self, start: int = 0) -> Iterator[dict[str, float]]:
        """Yield the rows from ``start`` on, each with its values."""
        return self.rows_at(np.arange(start, self._length))

    def rows_at(self, numbers: NDArray[np.int64]) -> Iterator[dict[str, float]]:
        """Yield the rows with these ascending numbers, without reading the whole of a long history.

        Some are read at a time: as dictionaries they take fifty times the memory that they have here. The table must
        not change before the last one.
        """
        for start in range(0, len(numbers), _ROWS_AT_ONCE):
            self._settle()
            chosen: list[dict[str, float]] = [{} for _ in numbers[start : start + _ROWS_AT_ONCE]]
            for name, column in self._columns.items():
                found, values = column.find(numbers[start : start + _ROWS_AT_ONCE])
                for i, value in zip(found.tolist(), values.tolist(), strict=True):
                    chosen[i][name] = value
            yield from chosen

    def measured(self, name: str, start: int = 0) -> NDArray[np.int64]:
        """Return the numbers of those rows from ``start`` on that have a value in a column."""
        self._settle()
        if name not in self._columns:
            return np.empty(0, np.int64)
        rows = self._columns[name].rows
        behind: NDArray[np.int64] = rows[np.searchsorted(rows, start) :].copy()
        return behind
