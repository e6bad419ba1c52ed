"""Whether two comparisons have the same runs."""

from __future__ import annotations

import numpy as np

from gd_lightning.experiments import Report


def same_runs(one: Report, other: Report) -> bool:
    """Whether the runs of two comparisons have the same losses, bit for bit."""
    pairs = zip(one.comparison.runs, other.comparison.runs, strict=True)
    columns = ("train_loss", "update", "samples")
    return list(one.histories) == list(other.histories) and all(
        np.array_equal(first.history[name], second.history[name], equal_nan=True)
        for firsts, seconds in pairs
        for first, second in zip(firsts, seconds, strict=True)
        for name in columns
    )
