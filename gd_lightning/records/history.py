"""The history of a run, produced by training and read by plots, reports and comparisons (layer 0)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.records.axes import AXES
from gd_lightning.records.columns import Column, union
from gd_lightning.records.csv_columns import read_csv, to_csv
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR, is_beyond
from gd_lightning.records.lazy_table import LazyTable

LEADING_COLUMNS = (*AXES, "train_loss", "batch_loss", "lr")
PREDICTED = "train_loss_predicted"  # the column beside train_loss, where a theory predicts it
BY_UPDATE = "train_loss_by_update"
"""The column beside train_loss of the train loss within epochs: criteria and tables go by the one at their ends."""


class Outcome(str, Enum):
    """How a run ended."""

    COMPLETED = "completed"
    """It reached the limit of epochs, updates or seconds."""
    CONVERGED = "converged"
    """A convergence criterion was met."""
    STOPPED = "stopped"
    """Something else stopped it, such as early stopping."""
    DIVERGED = "diverged"
    """The train loss grew beyond its bound, or a loss is not finite."""
    INTERRUPTED = "interrupted"
    """A signal or an error ended it."""

    def __str__(self) -> str:
        return self.value


class History(LazyTable):
    """Losses and measures against updates, epochs, samples and seconds, with one row per recorded update.

    Row 0 is the state before the first update. In row u the ``train_loss``, the parameters and every other measure
    belong to the weights *after* u updates; ``batch_loss``, ``lr`` and gradients belong to the update that led there.
    ``seconds`` are seconds of training, without measurements.

    A value that was not measured is missing; nan is a measured value that is not a number.

    Example:
        >>> history = History()
        >>> history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=4.0)
        >>> history.append(update=1, epoch=0.5, samples=8, seconds=0.1, batch_loss=3.0)
        >>> len(history), history.last("train_loss"), history["train_loss"]
        (2, 4.0, array([ 4., nan]))
    """

    def __init__(self) -> None:
        super().__init__(LEADING_COLUMNS)
        self.outcome: Outcome | None = None
        self.reason = ""
        self.divergence_factor = DIVERGENCE_FACTOR
        """A train loss above this multiple of its first value has diverged."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling and copying, with all rows computed."""
        self._settle()
        return vars(self).copy()

    def __repr__(self) -> str:
        losses = ""
        if "train_loss" in self:
            losses = f", train loss {self.first('train_loss'):.4g} -> {self.last('train_loss'):.4g}"
        return f"<History of {len(self):,} rows{losses}{'' if self.outcome is None else f', {self.outcome}'}>"

    def first_row_behind(self, update: float) -> int:
        """Return the index of the first row after an update.

        Args:
            update: Number of updates.
        """
        self._settle()
        return int(np.searchsorted(self._columns["update"].values, update, side="right"))

    def since(self, name: str, update: float) -> list[float]:
        """Return the measured values of a column in rows after an update.

        Args:
            name: Name of the column.
            update: Number of updates.
        """
        row = self.first_row_behind(update)
        column = self._columns[name]
        behind: list[float] = column.values[int(np.searchsorted(column.rows, row)) :].tolist()
        return behind

    def curve(self, name: str, axis: str = "update") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a column for drawing: like ``series``, but the train loss includes values within epochs.

        Args:
            name: Name of the column.
            axis: update, epoch, samples or seconds.
        """
        if name != "train_loss" or BY_UPDATE not in self:
            return self.series(name, axis)
        self._settle()
        known = [self._columns[each] for each in (BY_UPDATE, "train_loss") if each in self]
        rows = union([column.rows for column in known])
        values = np.empty(len(rows))
        for column in known:  # what was measured comes last
            values[np.searchsorted(rows, column.rows)] = column.values
        return self._columns[axis].dense(len(self))[rows], values

    def thin(self, every: int, of_updates: Collection[str]) -> None:
        """Remove rows so that their number is bounded, but keep quantities that are measured rarely.

        Of every ``every`` updates, the first row remains and, for each quantity that single updates do not have, such
        as the train loss, the first row that has it. Thinning by 2 and then by 4 equals thinning by 4.

        Args:
            every: Number of updates per remaining row.
            of_updates: Names of the columns that every row of an update has.
        """
        self._settle()
        updates = self["update"]
        remaining = [np.flatnonzero(updates % every == 0)]
        for name, column in self._columns.items():
            if name not in of_updates:
                _, first = np.unique(updates[column.rows] // every, return_index=True)
                remaining.append(column.rows[first])
        self._retain(np.unique(np.concatenate(remaining)))

    # How the run ended

    @property
    def has_diverged(self) -> bool:
        """Whether a loss is not finite, or the train loss exceeds ``divergence_factor`` times its first value.

        If the first train loss is 0, only losses that are not finite count.
        """
        return self.divergence != ""

    @property
    def divergence(self) -> str:
        """A description of the divergence; "" if the run has not diverged."""
        for name in ("train_loss", "batch_loss"):
            if name in self and not math.isfinite(self.last(name)):
                return f"the {name.replace('_', ' ')} is {self.last(name)}, no longer a finite number"
        if "train_loss" in self and self.is_beyond(self.last("train_loss")):
            return f"the train loss grew from {self.first('train_loss'):.4g} to {self.last('train_loss'):.4g}"
        return ""

    def is_beyond(self, loss: float) -> bool:
        """Whether a loss is not finite, or exceeds ``divergence_factor`` times the first train loss, if any.

        Args:
            loss: The loss.
        """
        first = self.first("train_loss") if "train_loss" in self else 0.0
        return is_beyond(loss, first, self.divergence_factor)

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain values and tensors, for a checkpoint."""
        self._settle()
        shared: dict[tuple[int, int], Tensor] = {}  # most columns have the same row numbers, which are saved once
        columns = {}
        for name, column in self._columns.items():
            rows = torch.from_numpy(column.rows.copy())
            if not column.has_gaps:
                rows = shared.setdefault((column.last_row, len(column)), rows)
            columns[name] = rows, torch.from_numpy(column.values.copy())
        outcome = None if self.outcome is None else str(self.outcome)
        return {"columns": columns, "length": self._length, "outcome": outcome, "reason": self.reason}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> History:
        """Return the history from its :meth:`state_dict`.

        Args:
            state: The result of :meth:`state_dict`.
        """
        history = cls()
        for name, (rows, values) in state["columns"].items():
            history._columns[name] = Column(rows.numpy().copy(), values.numpy().copy())
        history._length = state["length"]
        history.outcome = None if state["outcome"] is None else Outcome(state["outcome"])
        history.reason = state["reason"]
        return history

    def to_csv(self, rows_at_once: int = 2_048) -> str:
        """Return the history as CSV: a header, then one line per row; a missing value is an empty cell.

        Args:
            rows_at_once: Number of rows that are turned into text at a time; text takes ten times the memory of
                numbers.
        """
        return "".join(self.csv_pieces(rows_at_once))

    def csv_pieces(self, rows_at_once: int = 2_048) -> Iterator[str]:
        """Yield the result of :meth:`to_csv` in pieces of ``rows_at_once`` rows, which saves memory.

        Args:
            rows_at_once: Number of rows of a piece.
        """
        self._settle()
        return to_csv(self._columns, self._length, rows_at_once)

    @classmethod
    def from_csv(cls, path: str | Path) -> History:
        """Read a history written by :meth:`to_csv`.

        Args:
            path: Path of the file.

        Raises:
            InputError: The file is not such a table.
        """
        history = cls()
        columns, history._length = read_csv(Path(path), AXES)
        history._columns |= columns
        return history

    @classmethod
    def from_run(cls, directory: str | Path) -> History:
        """Read the history of a run from its directory; :func:`~gd_lightning.load` also gives its outcome.

        Args:
            directory: The directory of the run, such as ``lightning_logs/NAME``.

        Raises:
            InputError: There is no ``history.csv``, or it is damaged.
        """
        place = Path(directory)
        if not (place / "history.csv").is_file():
            raise InputError(f"cannot read the history of {directory}, because it has no history.csv; give another run")
        return cls.from_csv(place / "history.csv")

    def to_pandas(self) -> Any:
        """Return the history as a ``pandas.DataFrame``; missing values are nan.

        Raises:
            InputError: pandas is not installed.
        """
        return self._as_frame("pandas")

    def to_polars(self) -> Any:
        """Return the history as a ``polars.DataFrame``; missing values are nan.

        Raises:
            InputError: polars is not installed.
        """
        return self._as_frame("polars")

    def _as_frame(self, library: str) -> Any:
        try:
            made = importlib.import_module(library)  # pandas and polars are no dependencies
        except ImportError as error:
            raise InputError(
                f"cannot make a frame of {library}, because it is not installed; install it, or use to_csv()"
            ) from error
        return made.DataFrame({name: self[name] for name in self.columns if name in self})
