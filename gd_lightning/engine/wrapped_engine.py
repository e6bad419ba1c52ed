"""The base of engines that change the chunks which they pass to another engine, and what it returns.

Letters: K outputs.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.engine.chunk import Chunk, Engine, HeldOut, Trace


class WrappedEngine(Engine):
    """Passes chunks to another engine, after a change of each; subclasses may also change the results.

    Args:
        engine: Carries out the updates.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name  # type: ignore[misc]  # of engines that have no other one, it is that of the class
        self.first_work, self.max_updates = engine.first_work, engine.max_updates

    @abstractmethod
    def _own(self, chunk: Chunk) -> Chunk:
        """Return the chunk to pass to the wrapped engine."""

    def _returned(self, trace: Trace) -> Trace:
        """Return the trace of this engine, given that of the wrapped one."""
        return trace

    def prepare(self, chunk: Chunk) -> None:
        """Prepare the wrapped engine."""
        self._engine.prepare(self._own(chunk))

    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk."""
        self.interrupted = None
        try:
            return self._returned(self._engine.carry_out(self._own(chunk)))
        except BaseException:
            if self._engine.interrupted is not None:
                self.interrupted = self._returned(self._engine.interrupted)
            raise

    def can_span_epochs(self, chunk: Chunk, measures: int, held_out: HeldOut | None = None) -> bool:
        """Whether the wrapped engine can carry out several such epochs in one call."""
        return self._engine.can_span_epochs(self._own(chunk), measures, held_out)

    def sum_errors(self, held_out: HeldOut) -> NDArray[np.float64] | None:
        """Return the sums of errors of samples in the form that the wrapped engine takes, shape (3 + K,)."""
        return self._engine.sum_errors(held_out)

    def mean_loss(self, x: Tensor, y: Tensor) -> float | None:
        """Return the loss over samples in the form that the wrapped engine takes."""
        return self._engine.mean_loss(x, y)
