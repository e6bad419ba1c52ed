"""The record of a run: whatever trains produces a :class:`History`, what shows or compares consumes one (floor 0)."""

from __future__ import annotations

import csv
import io
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gd_lightning.errors import InputError

AXES = ("update", "epoch", "samples", "seconds")
LEADING_COLUMNS = (*AXES, "train_loss", "batch_loss", "lr")
PREDICTED = "train_loss_predicted"  # the column beside train_loss, where a theory predicts it

# A train loss this many times the one at update 0 is no fluctuation: on system 1 at lr 0.1, B = 1, the factor
# separates all of 40 seeds that diverge from all that converge.
DIVERGENCE_FACTOR = 1e6


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


@dataclass
class _Column:
    """The values of one column and the rows they stand in; most rows of a train loss are empty."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


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
        self._columns: dict[str, _Column] = {name: _Column() for name in LEADING_COLUMNS}
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
        return list(self._columns)

    def append(self, **values: float) -> None:
        """Add a row; a column that is new is empty in the earlier rows."""
        self._length += 1
        self.add_to_last_row(values)

    def add_to_last_row(self, values: Mapping[str, float]) -> None:
        """Fill empty cells of the newest row."""
        row = self._length - 1
        for name, value in values.items():
            column = self._columns.setdefault(name, _Column())
            column.rows.append(row)
            column.values.append(value)

    def forget_last(self, names: Iterable[str]) -> None:
        """Empty some cells of the newest row."""
        for name in names:
            column = self._columns.get(name)
            if column is not None and column.rows and column.rows[-1] == self._length - 1:
                column.rows.pop()
                column.values.pop()

    def drop_last(self) -> None:
        """Remove the newest row."""
        self.forget_last(self._columns)
        self._length -= 1

    def __contains__(self, name: str) -> bool:
        return name in self._columns and len(self._columns[name].rows) > 0

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return a column as an array of shape (rows,), nan where a value is missing."""
        dense = np.full(self._length, math.nan)
        column = self._columns[name]
        dense[np.asarray(column.rows, dtype=np.int64)] = column.values
        return dense

    def series(self, name: str, axis: str = "update") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the measured values of a column and where on an axis they were measured, both of shape (values,)."""
        column = self._columns[name]
        rows = np.asarray(column.rows, dtype=np.int64)
        return self[axis][rows], np.asarray(column.values)

    def first(self, name: str) -> float:
        """Return the first measured value of a column."""
        return self._columns[name].values[0]

    def last(self, name: str) -> float:
        """Return the newest measured value of a column."""
        return self._columns[name].values[-1]

    def newest(self, name: str) -> float | None:
        """Return the value of a column in the newest row; None where it is missing there."""
        column = self._columns.get(name)
        if column is None or not column.rows or column.rows[-1] != self._length - 1:
            return None
        return column.values[-1]

    def since(self, name: str, update: float) -> list[float]:
        """Return the measured values of a column in the rows behind an update."""
        column = self._columns[name]
        row = bisect_right(self._columns["update"].values, update)
        return column.values[bisect_left(column.rows, row) :].tolist()

    def rows(self, start: int = 0) -> Iterator[dict[str, float]]:
        """Yield the rows from ``start`` on, each with the values it has."""
        cursors = [
            (name, column, int(np.searchsorted(np.asarray(column.rows, dtype=np.int64), start)))
            for name, column in self._columns.items()
        ]
        for row in range(start, self._length):
            values = {}
            for i, (name, column, at) in enumerate(cursors):
                if at < len(column.rows) and column.rows[at] == row:
                    values[name] = column.values[at]
                    cursors[i] = (name, column, at + 1)
            yield values

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
        columns = {
            name: (torch.tensor(column.rows, dtype=torch.int64), torch.tensor(column.values, dtype=torch.float64))
            for name, column in self._columns.items()
        }
        outcome = None if self.outcome is None else str(self.outcome)
        return {"columns": columns, "length": self._length, "outcome": outcome, "reason": self.reason}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> History:
        """Make a history again from what :meth:`state_dict` returned."""
        history = cls()
        for name, (rows, values) in state["columns"].items():
            history._columns[name] = _Column(array("q", rows.tolist()), array("d", values.tolist()))
        history._length = state["length"]
        history.outcome = None if state["outcome"] is None else Outcome(state["outcome"])
        history.reason = state["reason"]
        return history

    def to_csv(self) -> str:
        """Return the history as CSV: a header, then one line a row; a missing value is an empty cell."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows():
            writer.writerow([_cell(row.get(name)) for name in self.columns])
        return out.getvalue()

    @classmethod
    def from_csv(cls, path: str | Path) -> History:
        """Read a history that :meth:`to_csv` wrote.

        Raises:
            InputError: The file is no such table.
        """
        with Path(path).open(newline="", encoding="utf-8") as lines:
            return cls._from_rows(csv.DictReader(lines), str(path))

    @classmethod
    def _from_rows(cls, rows: Iterable[dict[str, str]], source: str) -> History:
        history = cls()
        for number, row in enumerate(rows, start=2):
            try:
                values = {name: float(cell) for name, cell in row.items() if cell}
                if missing := [name for name in AXES if name not in values]:
                    raise ValueError(f"{missing[0]} is missing")
            except (TypeError, ValueError) as error:
                raise InputError(f"cannot read a history from {source}, because of line {number}: {error}") from error
            history.append(**values)
        return history


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)
