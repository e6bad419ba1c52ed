"""The choice of history rows that are written to loggers: at most some hundred points per series (layer 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.records.history import BY_UPDATE, History

POINTS = 500
"""Points per series, so that writing them does not take longer than the training; the history has all of them."""


class LoggedRows:
    """Chooses which rows of a growing history are written, each once.

    Args:
        updates: Expected number of updates; if infinite, 500 rows are written for each doubling of the run's length.
        epochs: Expected number of epochs; infinite if unlimited.
    """

    def __init__(self, updates: float, epochs: float) -> None:
        self._updates, self._epochs = updates, epochs
        self._written = -1.0
        self._count = 0.0  # an estimate of the number of rows written so far

    def new(self, history: History, to_the_end: bool = False) -> Iterator[Mapping[str, float]]:
        """Yield the rows to write that were added since the last call.

        Args:
            history: The growing history.
            to_the_end: Yield the last row in any case.
        """
        updates = history["update"]
        start = history.first_row_behind(self._written)  # rows may have been removed since the last call
        at_ends = history.measured("train_loss", start)
        at_ends = at_ends[_is_in_turn(history["epoch"][at_ends].astype(int), self._epochs)]
        in_turn = start + np.flatnonzero(_is_in_turn(updates[start:], self._updates))
        last = [len(history) - 1] if to_the_end and start < len(history) else []
        chosen = np.unique(np.concatenate([at_ends, in_turn, np.array(last, dtype=np.int64)]))
        yield from map(_with_one_train_loss, history.rows_at(chosen))
        self._written = max(self._written, history.last("update"))
        self._count = self._in_turn(self._written, history.last("epoch"))

    def due(self, update: float, epoch: float) -> float:
        """Return an upper estimate of the number of rows to write since the last call of :meth:`new`."""
        return max(0.0, self._in_turn(update, epoch) - self._count)

    def _in_turn(self, update: float, epoch: float) -> float:
        return _number_in_turn(update, self._updates) + _number_in_turn(epoch, self._epochs)


def _with_one_train_loss(row: dict[str, float]) -> Mapping[str, float]:
    """Return a row with the train loss under one name, whether it was measured at the end of an epoch or within it."""
    within = row.pop(BY_UPDATE, None)
    return row if within is None else {"train_loss": within, **row}


def _is_in_turn(numbers: NDArray[Any], expected: float) -> NDArray[np.bool_]:
    """Return whether the updates or epochs with these numbers, shape (R,), are written, given the expected number."""
    if math.isfinite(expected):
        stride: Any = max(1, math.ceil(expected / POINTS))
    else:
        stride = 2.0 ** np.ceil(np.log2(np.maximum(numbers / (2 * POINTS), 1)))
    is_in_turn: NDArray[np.bool_] = numbers % stride == 0
    return is_in_turn


def _number_in_turn(number: float, expected: float) -> float:
    """Return an estimate of how many of the first updates or epochs :func:`_is_in_turn` chooses."""
    if math.isfinite(expected):
        return number / max(1, math.ceil(expected / POINTS))
    return min(number, 2 * POINTS) + POINTS * math.log2(max(number / (2 * POINTS), 1))
