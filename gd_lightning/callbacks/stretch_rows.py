"""The rows of a history that a stretch of updates makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.callbacks.linear_path import LinearPath
from gd_lightning.engine import Keep, ParameterPath, Stretch, Trace
from gd_lightning.history import History
from gd_lightning.variants import Variant

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Begin:
    """Where a run stands before a stretch.

    Args:
        update: Updates made so far.
        epoch: The present epoch, from 0.
        seconds: Seconds of training so far.
        lr: The learning rate.
    """

    update: int
    epoch: int
    seconds: float
    lr: float


@dataclass(frozen=True)
class StretchRows:
    """Computes the rows of a stretch when they are read: there can be many more of them in a second than are read.

    Args:
        stretch: Which was carried out.
        keep: Which of its updates are rows.
        begin: Where the run stood before it.
        seconds: Seconds of training behind it.
        variant: B and N.
        updates_per_epoch: How many updates an epoch makes in this run.
        path: Names the parameters of a linear regressor; None for others.
    """

    stretch: Stretch
    keep: Keep
    begin: Begin
    seconds: float
    variant: Variant
    updates_per_epoch: int
    path: LinearPath | None

    @cached_property
    def _trace(self) -> Trace:
        trace = self.stretch.trace
        assert trace is not None
        return trace

    @cached_property
    def _reached(self) -> Keep:
        """What is kept of the updates that were made; the last one only where the stretch was not ended early."""
        return replace(self.keep, last=self.keep.last and self._trace.updates == self.stretch.updates)

    @cached_property
    def _of_kept(self) -> slice | NDArray[np.int64]:
        """Which of the updates that left something are rows; others may have asked for more."""
        if (self.stretch.keep.start, self.stretch.keep.every) == (self.keep.start, self.keep.every):
            return slice(0, self.rows)
        kept = self.stretch.keep.positions(self.stretch.updates)[: len(self._trace.losses)]
        return np.flatnonzero(np.isin(kept, self._reached.positions(self._trace.updates)))

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._reached.count(self._trace.updates)

    def add_to(self, history: History) -> None:
        """Append the rows to a history."""
        if self.rows:
            last = self._marks(self._reached.last_position(self._trace.updates))
            losses = self._trace.losses[self._of_kept]
            named = [] if self.path is None else self.path.column_names(self.keep.gradients)
            names = [*last, "batch_loss", *named]
            history.extend(self.rows, self._columns, names, {**last, "batch_loss": losses[-1].item()})

    def _columns(self, where: slice) -> Mapping[str, Column | float]:
        if where.start == self.rows - 1:  # asked for far more often than all of them
            positions = np.array([self._reached.last_position(self._trace.updates)])
        else:
            positions = self._reached.positions(self._trace.updates)[where]
        marks = self._marks(positions)
        columns: dict[str, Column | float] = {**marks, "batch_loss": self._part(self._trace.losses, where).numpy()}
        parameters, gradients = self._trace.path if self.keep.parameters else ParameterPath()
        if self.path is not None and parameters is not None:
            columns |= self.path.columns(
                self._part(parameters, where),
                None if gradients is None else self._part(gradients, where),
            )
        return columns

    def _part(self, values: Tensor, where: slice) -> Tensor:
        return values[self._of_kept][where].double()

    def _marks(self, position: NDArray[np.int64] | int) -> dict[str, Any]:
        """Return where the run stood behind updates of the stretch, by their positions."""
        in_epoch = self.stretch.first + 1 + position
        of_epoch = self.variant.samples_at(self.updates_per_epoch)
        lrs, part = self.stretch.lrs, (position + 1) / self._trace.updates
        return {
            "update": self.begin.update + 1 + position,
            "epoch": self.begin.epoch + in_epoch / self.updates_per_epoch,
            "samples": self.begin.epoch * of_epoch
            + np.minimum(in_epoch * self.variant.batch_size, self.variant.train_samples),
            "seconds": self.begin.seconds + part * (self.seconds - self.begin.seconds),
            "lr": self.begin.lr if lrs is None else lrs[position],
        }
