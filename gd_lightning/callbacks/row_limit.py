"""The choice of the updates that are recorded, which bounds the rows of a history however long the run is.

The interval of the updates that are recorded is a function of the number of updates, and whether a row is kept depends
on the number of its update alone. So a continued run has the same rows as one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.records.columns import union
from gd_lightning.records.history import History


class RowLimit:
    """Decides which updates are recorded, and removes rows of a run of unknown length.

    Where the number of updates is known, every k-th of them is recorded, with the smallest k that makes at most
    ``most`` rows, and also every row at an epoch's end. Otherwise k starts at 1 and is doubled after 2 k ``most``
    updates, and the existing rows are thinned accordingly. Of the rows with measured losses, such as those at the ends
    of epochs, the first in each k updates is kept. A run of known length that is continued far beyond it is thinned in
    the same way.

    Args:
        updates: Number of updates of the run; infinite if unknown.
        most: Maximum number of recorded updates; for unknown length, between half and twice as many are recorded.
        every: A fixed k; None: as above.

    Example:
        >>> RowLimit(50_000, 20_000).every, RowLimit(math.inf, 20_000).every, RowLimit(math.inf, 20_000, 7).every
        (3, 1, 7)
    """

    def __init__(self, updates: float, most: int, every: int | None = None) -> None:
        is_known = math.isfinite(updates)
        self.most = most
        self.every = every or max(1, math.ceil(updates / most) if is_known else 1)
        """Each so many updates, one is recorded."""
        self.thins = every is None and not is_known
        """Whether rows with measured losses are removed, too."""
        self._is_fixed = every is not None
        self._last_kept: dict[str, float] = {}

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"every": self.every, "thins": self.thins}

    def go_on(self, state: dict[str, Any], history: History, update: int) -> None:
        """Load the state of a run that is continued at an update, from a checkpoint of any version."""
        self.every = state["every"]
        self.thins = not self._is_fixed and (self.thins or state.get("thins", False))
        self._last_kept = _newest_updates(history, update)

    def apply(self, history: History, update: int, of_updates: Collection[str]) -> None:
        """Remove rows that are not kept, before the next update; all rows must have been added.

        Args:
            history: The history; its last row may be kept only as that of the current update.
            update: Number of updates made so far.
            of_updates: Names of the columns recorded per update; the other columns are measurements.
        """
        if self.is_due(update):
            self.widen(history, update, of_updates)
        elif self.removes_ends and history.last("update") == update:
            self._decide_on_newest(history, update, of_updates)

    def widen(self, history: History, update: int, of_updates: Collection[str]) -> None:
        """Double the interval as often as is due before the next update, and remove rows accordingly."""
        while self.is_due(update):
            self.every *= 2
        self.thins = True
        history.thin(self.every, of_updates)
        self._last_kept = _newest_updates(history, math.inf)

    def epochs_left(self, update: int, per_epoch: int) -> float:
        """Return the number of epochs from an update until the interval is doubled; at least one."""
        left = math.inf if self._is_fixed else (2 * self.most * self.every + 1 - update) // per_epoch
        return max(1, left)

    def is_due(self, update: int) -> bool:
        """Whether the interval is doubled before the next update."""
        return not self._is_fixed and update > 2 * self.most * self.every

    @property
    def removes_ends(self) -> bool:
        """Whether rows at the ends of epochs are removed."""
        return self.thins and self.every > 1

    def remaining(self, updates: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
        """Decide which rows at the ends of epochs are kept, for several at once, as :meth:`apply` does one by one.

        Args:
            updates: By name, the updates at which each quantity was measured since the last decision.

        Returns:
            The updates whose rows are kept.
        """
        found = []
        for name, at in updates.items():
            parts = at // self.every
            is_first = np.diff(parts, prepend=self._last_kept.get(name, -1.0) // self.every) != 0
            found.append(at[is_first | (at % self.every == 0)])
        remaining = union(found)
        for name, at in updates.items():
            if len(behind := at[np.isin(at, remaining)]):
                self._last_kept[name] = float(behind[-1])
        return remaining

    def _decide_on_newest(self, history: History, update: int, of_updates: Collection[str]) -> None:
        measured = [name for name in history.names_in_last_row if name not in of_updates]
        part = update // self.every
        if update % self.every and all(self._last_kept.get(name, -1.0) // self.every == part for name in measured):
            history.drop_last()
        else:
            self._last_kept |= dict.fromkeys(measured, float(update))


def _newest_updates(history: History, before: float) -> dict[str, float]:
    """Return, for each column, the update of its latest value before a given update."""
    newest = {}
    for name in history.columns:
        updates = history.series(name)[0]
        if len(behind := updates[updates < before]):
            newest[name] = float(behind[-1])
    return newest
