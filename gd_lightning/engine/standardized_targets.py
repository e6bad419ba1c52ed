"""An engine that is trained on standardised targets, with losses and errors in the units of the targets.

Letters: R saved updates, K outputs.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.engine.chunk import Chunk, Engine, HeldOut, Record, Trace
from gd_lightning.engine.wrapped_engine import WrappedEngine

_ROUNDING = 1e-6  # relative change of a bound, so that a chunk ends where the loss may be beyond the bound


class EngineInUnits(WrappedEngine):
    """Passes chunks over standardised targets to another engine, and multiplies what that measures by factors.

    Bounds of chunks, and all that comes back, are in the units of the targets.

    Args:
        engine: Carries out the updates, on targets that are all divided by the same number.
        scale: The number by which targets are divided.
        degree: With errors a times as large, the loss is a**degree times as large.
    """

    def __init__(self, engine: Engine, scale: float, degree: int) -> None:
        super().__init__(engine)
        self._scale, self._factor = scale, scale**degree

    def sum_errors(self, held_out: HeldOut) -> NDArray[np.float64] | None:
        """Return the sums of errors of some samples."""
        sums = super().sum_errors(held_out)
        return None if sums is None else self._errors(sums)

    def mean_loss(self, x: Tensor, y: Tensor) -> float | None:
        """Return the loss over samples with standardised targets."""
        loss = super().mean_loss(x, y)
        return None if loss is None else loss * self._factor

    def _own(self, chunk: Chunk) -> Chunk:
        """Return the chunk with its bounds as the engine measures."""
        check, ends = replace(chunk.check, bound=self._bound(chunk.check.bound, -1)), chunk.ends
        if ends is not None:
            ends = replace(ends, low=self._bound(ends.low, 1), high=self._bound(ends.high, -1))
        own = chunk.x, chunk.y, chunk.rows, chunk.variant, chunk.first, chunk.stop, chunk.lrs, chunk.save_at
        return Chunk(*own, check, chunk.per_epoch, ends)

    def _bound(self, bound: float, towards: int) -> float:
        return bound if math.isinf(bound) else bound / self._factor * (1 + towards * math.copysign(_ROUNDING, bound))

    def _returned(self, trace: Trace) -> Trace:
        in_memory = trace.in_memory
        # A record that is computed when it is read stays one that is computed when it is read.
        record = (lambda: self._record(trace.record)) if in_memory is None else self._record(in_memory)
        last = trace.last_loss.double() * self._factor
        sums = self._errors(trace.sums) if trace.sums.size else trace.sums
        measured = trace.measured * self._factor
        return Trace(trace.updates, record, trace.suspected, trace.saved, last, measured, trace.seconds, sums)

    def _record(self, record: Record) -> Record:
        return record._replace(losses=record.losses.double() * self._factor)

    def _errors(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return sums of errors, shape (..., 3 + K): loss, squares, absolute values, and squares of each output."""
        square = self._scale**2
        factors = np.array([self._factor, square, self._scale, *[square] * (sums.shape[-1] - 3)])
        scaled: NDArray[np.float64] = sums * factors
        return scaled
