"""Groups of runs that differ only in their seed, with the mean and band of each group (layer 0)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.records.history import History, Outcome

Values = NDArray[np.float64]


def sample_std(values: Values) -> Values:
    """Return the standard deviation of samples along the last axis, with the divisor n - 1; nan for fewer than two."""
    found: Values = values.std(-1, ddof=1) if values.shape[-1] > 1 else np.full(values.shape[:-1], math.nan)
    return found


@dataclass(frozen=True)
class Band:
    """Mean and standard deviation of a measure over the runs of a group.

    Args:
        x: Positions on an axis, shape (n,); means if the runs differ there, as in seconds.
        mean: Mean over the runs, shape (n,).
        std: Standard deviation of the sample (divided by n - 1), shape (n,); nan where only one run has a value.
        runs: Number of runs that have a value, shape (n,); some may have ended before others.
    """

    x: Values
    mean: Values
    std: Values
    runs: NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Runs with the same settings, each with another seed.

    Args:
        label: Name in tables and pictures, unique among the groups of a comparison.
        histories: The histories of the runs, in the order of their seeds.
        variant: batch, mini-batch or stochastic, for the colour; None if unknown.
        settings: Settings that differ between groups, such as batch_size and lr.
        predicted_loss: The final train loss predicted by theory, least-squares loss plus noise floor; None without a
            prediction, ``inf`` if the run is predicted to diverge.
        limit: The largest stable learning rate by theory; None if unknown.

    Example:
        >>> runs = []
        >>> for end in (1.0, 3.0):
        ...     runs.append(History())
        ...     runs[-1].append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=4.0)
        ...     runs[-1].append(update=1, epoch=1, samples=8, seconds=0.1, train_loss=end)
        >>> band = Group("batch", tuple(runs)).band("train_loss", "samples")
        >>> band.x.tolist(), band.mean.tolist(), band.std.tolist()
        ([0.0, 8.0], [4.0, 2.0], [0.0, 1.4142135623730951])
    """

    label: str
    histories: tuple[History, ...]
    variant: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    predicted_loss: float | None = None
    limit: float | None = None

    @property
    def diverged(self) -> tuple[History, ...]:
        """The runs that diverged."""
        return tuple(history for history in self.histories if history.outcome is Outcome.DIVERGED)

    @property
    def sound(self) -> tuple[History, ...]:
        """The runs that did not diverge."""
        return tuple(history for history in self.histories if history.outcome is not Outcome.DIVERGED)

    def band(self, column: str, axis: str = "update") -> Band:
        """Return mean and std of a measure over the runs that did not diverge, at every update where one has it.

        Args:
            column: The measure, such as ``train_loss``.
            axis: update, epoch, samples or seconds.
        """
        runs = [(*history.curve(column), history.curve(column, axis)[0]) for history in self.sound if column in history]
        if not runs:
            return Band(np.empty(0), np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
        updates, values, x = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        found, place, count = np.unique(updates, return_inverse=True, return_counts=True)

        def sums(numbers: Values) -> Values:
            summed: Values = np.bincount(place, numbers, len(found)).astype(np.float64)
            return summed

        mean = sums(values) / count
        squares = sums(np.square(values - mean[place]))
        with np.errstate(divide="ignore", invalid="ignore"):
            std = np.where(count > 1, np.sqrt(squares / (count - 1)), math.nan)
        return Band(sums(x) / count, mean, std, count)

    def start(self, column: str = "train_loss") -> Values:
        """Return a measure before the first update of each run, shape (runs,); nan if it was not measured."""
        found = []
        for history in self.histories:
            updates, values = history.series(column) if column in history else (np.ones(1), np.ones(1))
            found.append(float(values[0]) if updates[0] == 0 else math.nan)
        return np.array(found)

    def final(self, column: str = "train_loss") -> Values:
        """Return the last value of a measure in each run, shape (runs,); nan if there is none."""
        return np.array([history.last(column) if column in history else math.nan for history in self.histories])

    def reached(self, target: float, axis: str = "update") -> Values:
        """Return where on an axis each run first reaches a target train loss, shape (runs,); nan if it never does."""
        found = []
        for history in self.histories:
            there: Values = np.empty(0)
            if "train_loss" in history:
                where, values = history.series("train_loss", axis)
                there = where[values <= target]
            found.append(there[0] if len(there) else math.nan)
        return np.array(found)
