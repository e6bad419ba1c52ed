"""The record of a run: whatever trains produces a :class:`History`, what shows or compares consumes one (floor 0)."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.records.columns import Column
from gd_lightning.texts import csv_text, from_cell

AXES = ("update", "epoch", "samples", "seconds")
LEADING_COLUMNS = (*AXES, "train_loss", "batch_loss", "lr")
PREDICTED = "train_loss_predicted"  # the column beside train_loss, where a theory predicts it

# A train loss this many times the one at update 0 is no fluctuation: on system 1 at lr 0.1, B = 1, the factor
# separates all of 40 seeds that diverge from all that converge.
DIVERGENCE_FACTOR = 1e6

# Rows wait to be computed, in as many parts, or until their computation holds as many numbers.
_MOST_WAITING, _MOST_HELD = 1_000, 2**24
_WRITTEN_AT_ONCE = 2_048  # rows
_NOTHING = (np.empty(0, np.int64), np.empty(0))


class Outcome(str, Enum):
    """How a run ended."""

    COMPLETED = "completed"
    """It reached the number of epochs, updates or seconds that was asked for."""
    CONVERGED = "converged"
    """A convergence criterion was met."""
    STOPPED = "stopped"
    """Something else asked it to stop, such as early stopping."""
    DIVERGED = "diverged"
    """The loss grew beyond every bound or is no longer a finite number."""
    INTERRUPTED = "interrupted"
    """It was ended from outside, or by an error."""

    def __str__(self) -> str:
        return self.value


Columns = Callable[[slice], Mapping[str, "NDArray[np.float64] | float"]]


@dataclass
class _Waiting:
    """Rows that are known, and computed when someone reads them; a fast engine has a million of them in a second."""

    start: int
    rows: int
    columns: Columns
    names: Collection[str]
    last: dict[str, float]
    measured: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = field(default_factory=dict)
    added: dict[str, float] = field(default_factory=dict)
    _is_complete: bool = False

    def last_row(self) -> dict[str, float]:
        """Compute the last row alone."""
        if not self._is_complete:
            for name, values in self.columns(slice(self.rows - 1, self.rows)).items():
                self.last.setdefault(name, float(np.asarray(values).reshape(-1)[0]))
            self._is_complete = True
        return self.last | self.added

    def newest(self, name: str) -> float | None:
        """Return a value of the last row; None where it is missing there."""
        for known in (self.added, self.last):
            if name in known:
                return known[name]
        rows, values = self.measured.get(name, _NOTHING)
        if len(rows) and rows[-1] == self.rows - 1:
            return float(values[-1])
        return self.last_row().get(name) if name in self.names else None

    def last_measured(self, name: str) -> float | None:
        """Return the last value of these rows; None where they have none."""
        _, values = self.measured.get(name, _NOTHING)
        newest = self.newest(name)
        return float(values[-1]) if newest is None and len(values) else newest


class History:
    """Losses and measures against updates, epochs, samples and seconds, one row for each update recorded.

    Row 0 stands before the first update. In row u the ``train_loss``, the parameters and every other measure belong
    to the weights *after* u updates; ``batch_loss``, ``lr`` and gradients belong to the update that led there.
    ``seconds`` are seconds of training; the time that measuring takes is left out.

    A value that was not measured is missing; nan is a value that was measured and is no number.

    Example:
        >>> history = History()
        >>> history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=4.0)
        >>> history.append(update=1, epoch=0.5, samples=8, seconds=0.1, batch_loss=3.0)
        >>> len(history), history.last("train_loss"), history["train_loss"]
        (2, 4.0, array([ 4., nan]))
    """

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {name: Column() for name in LEADING_COLUMNS}
        self._waiting: list[_Waiting] = []
        self._held = 0
        self._length = 0
        self.outcome: Outcome | None = None
        self.reason = ""
        self.divergence_factor = DIVERGENCE_FACTOR
        """How many times its first value the train loss must exceed to have diverged."""

    def __len__(self) -> int:
        return self._length

    @property
    def columns(self) -> list[str]:
        """Names of the columns, the leading ones first."""
        names = dict.fromkeys(self._columns)
        for waiting in self._waiting:
            names |= dict.fromkeys([*waiting.names, *waiting.measured, *waiting.added])
        return list(names)

    def append(self, **values: float) -> None:
        """Add a row; a column that is new is empty in the earlier rows."""
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
            rows: How many, at least one.
            columns: Gives the columns of a part of these rows: an array of one value a row, or one value for all.
            names: The names of these columns.
            last: Some values of the last row, so that to ask for them computes nothing.
            held: How many numbers are kept in memory until they are computed, and no longer.
            measured: Values of further columns that some rows have: by name, which of these rows, from 0, and values.
        """
        if len(self._waiting) >= _MOST_WAITING or self._held + held > _MOST_HELD:
            self._settle()
        self._held += held
        self._waiting.append(_Waiting(self._length, rows, columns, names, dict(last), measured or {}))
        self._length += rows

    def _settle(self) -> None:
        """Compute the rows that wait for it."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        for part in waiting:
            for name, values in part.columns(slice(0, part.rows)).items():
                column = self._columns.setdefault(name, Column())
                column.extend(part.start, part.rows, values, room=self._length - part.start)
            for name, (rows, values) in part.measured.items():
                self._columns.setdefault(name, Column()).extend_at(part.start + rows, values)
            for name, value in part.added.items():
                self._columns.setdefault(name, Column()).extend(part.start + part.rows - 1, 1, value)

    def add_to_last_row(self, values: Mapping[str, float]) -> None:
        """Fill empty cells of the newest row."""
        if self._waiting:
            self._waiting[-1].added |= values
            return
        row = self._length - 1
        for name, value in values.items():
            self._columns.setdefault(name, Column()).extend(row, 1, value)

    def forget_last(self, names: Iterable[str]) -> None:
        """Empty some cells of the newest row."""
        self._settle()
        for name in list(names):
            column = self._columns.get(name)
            if column is not None and column.last_row == self._length - 1:
                column.pop()

    def drop_last(self) -> None:
        """Remove the newest row."""
        self._length -= 1
        if self._waiting and self._waiting[-1].rows == 1:  # it need not be computed for that
            self._waiting.pop()
            return
        self._settle()
        for column in self._columns.values():
            if column.last_row == self._length:
                column.pop()

    def thin(self, every: int, of_updates: Collection[str]) -> None:
        """Remove rows so that their number is bounded, and each quantity stays where it is measured seldom.

        Of each ``every`` updates, there remain the first one and, for each quantity that single updates do not have,
        such as the train loss, the first row that has it. To thin by 2, then by 4 is to thin by 4.

        Args:
            every: How many updates have one row.
            of_updates: Names of the columns that every row of an update has.
        """
        self._settle()
        updates = self["update"]
        remaining = [np.flatnonzero(updates % every == 0)]
        for name, column in self._columns.items():
            if name not in of_updates:
                _, first = np.unique(updates[column.rows] // every, return_index=True)
                remaining.append(column.rows[first])
        rows = np.unique(np.concatenate(remaining))
        self._columns = {name: column.take(rows) for name, column in self._columns.items()}
        self._length = len(rows)

    def __contains__(self, name: str) -> bool:
        if name in self._columns and len(self._columns[name]):
            return True
        return any(waiting.last_measured(name) is not None for waiting in self._waiting)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return a column as an array of shape (rows,), nan where a value is missing."""
        self._settle()
        return self._columns[name].dense(self._length)

    def series(self, name: str, axis: str = "update") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the measured values of a column and where on an axis they were measured, both of shape (values,)."""
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
        """Return the newest measured value of a column."""
        for waiting in reversed(self._waiting):
            if (value := waiting.last_measured(name)) is not None:
                return value
        return float(self._columns[name].values[-1])

    def newest(self, name: str) -> float | None:
        """Return the value of a column in the newest row; None where it is missing there."""
        if self._waiting:
            return self._waiting[-1].newest(name)
        column = self._columns.get(name)
        if column is None or column.last_row != self._length - 1:
            return None
        return float(column.values[-1])

    @property
    def newest_names(self) -> list[str]:
        """The names of the columns that have a value in the newest row."""
        if self._waiting:
            newest = self._waiting[-1]
            at_last = [name for name, (rows, _) in newest.measured.items() if len(rows) and rows[-1] == newest.rows - 1]
            return [*newest.names, *at_last, *newest.added]
        return [name for name, column in self._columns.items() if len(column) and column.last_row == self._length - 1]

    def first_row_behind(self, update: float) -> int:
        """Return the number of the first row behind an update."""
        self._settle()
        return int(np.searchsorted(self._columns["update"].values, update, side="right"))

    def since(self, name: str, update: float) -> list[float]:
        """Return the measured values of a column in the rows behind an update."""
        row = self.first_row_behind(update)
        column = self._columns[name]
        behind: list[float] = column.values[int(np.searchsorted(column.rows, row)) :].tolist()
        return behind

    def rows(self, start: int = 0) -> Iterator[dict[str, float]]:
        """Yield the rows from ``start`` on, each with the values it has."""
        return self.rows_at(np.arange(start, self._length))

    def rows_at(self, numbers: NDArray[np.int64]) -> Iterator[dict[str, float]]:
        """Yield the rows of these numbers, which ascend; of a long history a few are found without reading it all."""
        self._settle()
        chosen: list[dict[str, float]] = [{} for _ in numbers]
        for name, column in self._columns.items():
            found, values = column.find(numbers)
            for i, value in zip(found.tolist(), values.tolist(), strict=True):
                chosen[i][name] = value
        return iter(chosen)

    def measured(self, name: str, start: int = 0) -> NDArray[np.int64]:
        """Return the numbers of the rows from ``start`` on that have a value in a column."""
        self._settle()
        if name not in self._columns:
            return np.empty(0, np.int64)
        rows = self._columns[name].rows
        behind: NDArray[np.int64] = rows[np.searchsorted(rows, start) :].copy()
        return behind

    @property
    def has_diverged(self) -> bool:
        """Whether a loss is not finite, or the train loss has grown past ``divergence_factor`` times its first value.

        A perfect start (train loss 0) has no scale to grow from; only a loss that is not finite counts there.
        """
        return self.divergence != ""

    @property
    def divergence(self) -> str:
        """How it has diverged, in words; empty where it has not."""
        for name in ("train_loss", "batch_loss"):
            if name in self and not math.isfinite(self.last(name)):
                return f"the {name.replace('_', ' ')} is {self.last(name)}, and no finite number any more"
        if "train_loss" in self and self.is_beyond(self.last("train_loss")):
            return f"the train loss grew from {self.first('train_loss'):.4g} to {self.last('train_loss'):.4g}"
        return ""

    def is_beyond(self, loss: float) -> bool:
        """Whether a loss is not finite, or past ``divergence_factor`` times the first train loss, if there is one."""
        if not math.isfinite(loss):
            return True
        return "train_loss" in self and 0 < self.first("train_loss") < loss / self.divergence_factor

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values and tensors, for a checkpoint."""
        self._settle()
        columns = {
            name: (torch.from_numpy(column.rows.copy()), torch.from_numpy(column.values.copy()))
            for name, column in self._columns.items()
        }
        outcome = None if self.outcome is None else str(self.outcome)
        return {"columns": columns, "length": self._length, "outcome": outcome, "reason": self.reason}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> History:
        """Make a history again from what :meth:`state_dict` returned."""
        history = cls()
        for name, (rows, values) in state["columns"].items():
            history._columns[name] = Column(rows.numpy().copy(), values.numpy().copy())
        history._length = state["length"]
        history.outcome = None if state["outcome"] is None else Outcome(state["outcome"])
        history.reason = state["reason"]
        return history

    def to_csv(self) -> str:
        """Return the history as CSV: a header, then one line a row; a missing value is an empty cell."""
        self._settle()
        out = io.StringIO()
        out.write(csv_text([self.columns]))
        # A cell as a text takes ten times the memory of its number.
        for start in range(0, self._length, _WRITTEN_AT_ONCE):
            numbers = np.arange(start, min(start + _WRITTEN_AT_ONCE, self._length))
            columns = [_cells(*column.find(numbers), len(numbers)) for column in self._columns.values()]
            out.writelines(f"{','.join(row)}\n" for row in zip(*columns, strict=True))
        return out.getvalue()

    @classmethod
    def from_csv(cls, path: str | Path) -> History:
        """Read a history that :meth:`to_csv` wrote.

        Raises:
            InputError: The file is no such table.
        """
        with Path(path).open(newline="", encoding="utf-8") as lines:
            header, *rows = [row for row in csv.reader(lines) if row] or [[]]
        history, names = cls(), list(map(from_cell, header))
        of_columns = itertools.zip_longest(*rows, fillvalue="") if rows else ((),) * len(names)
        try:
            columns = {name: _column(cells) for name, cells in zip(names, of_columns, strict=True)}
            if rows and any(name not in columns or len(columns[name]) < len(rows) for name in AXES):
                raise ValueError
        except ValueError:
            number, reason = next(_unreadable(names, rows))
            raise InputError(f"cannot read a history from {path}, because of line {number}: {reason}") from None
        history._columns |= columns
        history._length = len(rows)
        return history


def _column(cells: Sequence[str]) -> Column:
    """Read a column; an empty cell has no value."""
    rows = np.flatnonzero([bool(cell) for cell in cells])
    return Column(rows, np.array([float(cell) for cell in cells if cell]))


def _unreadable(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """Yield the lines of a table that cannot be read, each with the reason."""
    for number, row in enumerate(rows, start=2):
        if len(row) > len(names):
            yield number, "it has more cells than there are columns"
        given = {name: cell for name, cell in zip(names, row, strict=False) if cell}
        for cell in given.values():
            try:
                float(cell)
            except ValueError as error:
                yield number, str(error)
        yield from ((number, f"{name} is missing") for name in AXES if name not in given)


def _cells(places: NDArray[np.int64], values: NDArray[np.float64], rows: int) -> list[str]:
    """Write a column of some rows; empty where there is no value."""
    cells = [""] * rows
    for place, text in zip(places.tolist(), _texts(values), strict=True):
        cells[place] = text
    return cells


def _texts(values: NDArray[np.float64]) -> list[str]:
    """Write numbers, whole ones without a point."""
    is_whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 1e15)
    texts = list(map(repr, values.tolist()))
    for i, number in zip(np.flatnonzero(is_whole).tolist(), values[is_whole].astype(np.int64).tolist(), strict=True):
        texts[i] = str(number)
    return texts
