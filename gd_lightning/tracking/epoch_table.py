"""The table of losses at the ends of epochs that is printed after a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gd_lightning.records.history import History
from gd_lightning.tracking.summary import aligned, number


def milestones(epochs: int) -> list[int]:
    """Choose epochs to print: all of a short run, else 0, 1, 2, 5, 10, 20, 50, ... and the last.

    Example:
        >>> milestones(100)
        [0, 1, 2, 5, 10, 20, 50, 100]
    """
    if epochs <= _FEW_EPOCHS:
        return list(range(epochs + 1))
    steps = (mantissa * 10**power for power in range(int(math.log10(epochs)) + 1) for mantissa in (1, 2, 5))
    return [0, *(step for step in steps if step < epochs), epochs]


def epoch_table(history: History, names: Sequence[str]) -> str:
    """Return a table of measured columns at the ends of epochs, with epoch 0 before the first update."""
    measured = history.measured("train_loss")
    epochs = history["epoch"][measured]
    is_end = epochs == np.floor(epochs)
    shown_epochs = milestones(int(epochs[is_end][-1])) if is_end.any() else []
    rows = list(history.rows_at(measured[is_end & np.isin(epochs, shown_epochs)]))
    shown = [name for name in names if any(name in row for row in rows)]
    cells = [["epoch", *shown]]
    cells += [[str(int(row["epoch"])), *(number(row.get(name)) for name in shown)] for row in rows]
    return aligned(cells)


_FEW_EPOCHS = 20  # a run with so few epochs prints all of them
