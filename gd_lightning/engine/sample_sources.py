"""Engines that first convert the samples of a chunk, or gather them from a file.

Letters: N samples, D features, K outputs, B batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.engine.chunk import Chunk, Engine, HeldOut, Trace
from gd_lightning.micro_batches import Pair
from gd_lightning.variants import Variant

Take = Callable[[slice | Tensor], Pair]
"""Gives the samples at some positions, x of shape (n, D) and y of shape (n, K), as the network takes them."""


class _WithSamples(Engine):
    """An engine that passes chunks to another engine, with their samples replaced."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name  # type: ignore[misc]  # of engines that have no other one, it is that of the class
        self.first_work = engine.first_work

    @abstractmethod
    def _own(self, chunk: Chunk) -> Chunk:
        """Return the chunk to pass to the wrapped engine."""

    def prepare(self, chunk: Chunk) -> None:
        """Do what is left to do before the first of such chunks."""
        self._engine.prepare(self._own(chunk))

    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk."""
        self.interrupted = None
        try:
            return self._engine.carry_out(self._own(chunk))
        except BaseException:
            self.interrupted = self._engine.interrupted
            raise

    def sum_errors(self, held_out: HeldOut) -> NDArray[np.float64] | None:
        """Return the sums of errors of samples that the network takes."""
        return self._engine.sum_errors(held_out)


class EngineInMemory(_WithSamples):
    """Passes chunks to an engine with the samples as its network expects them, for example standardised.

    The chunks themselves have the samples as they are, which callbacks, and Lightning's own loop, are given.

    Args:
        engine: Carries out the updates.
        take: Returns samples.
        count: N.
        at_once: Samples converted at a time, to bound the memory; N if nothing is converted, in which case memory is
            shared.
    """

    def __init__(self, engine: Engine, take: Take, count: int, at_once: int) -> None:
        super().__init__(engine)
        self._x, self._y = take(slice(0, at_once))
        if at_once < count:
            first, self._x, self._y = self._x, *(each.new_empty(count, each.shape[1]) for each in (self._x, self._y))
            for start in range(0, count, len(first)):
                where = slice(start, min(start + len(first), count))
                self._x[where], self._y[where] = take(where)

    def _own(self, chunk: Chunk) -> Chunk:
        return chunk.over(self._x, self._y)

    def can_span_epochs(self, chunk: Chunk, measures: int, held_out: HeldOut | None = None) -> bool:
        """Whether it carries out several epochs like the one of a chunk in one go."""
        return self._engine.can_span_epochs(self._own(chunk), measures, held_out)

    def mean_loss(self, x: Tensor, y: Tensor) -> float | None:
        """Return the loss at the present parameters, a mean over all of its own samples and their outputs."""
        return self._engine.mean_loss(self._x, self._y)


class EngineOnFile(_WithSamples):
    """Has an engine carry out chunks over samples that are in a file: those of a chunk are gathered before its updates.

    Args:
        engine: Carries out the updates.
        take: Gathers samples.
        batch_size: B.
        row_bytes: Size of a sample.
    """

    piece_bytes: ClassVar[int] = 2**25
    """The most that is gathered at once; of batches that are larger, Lightning makes each update."""

    def __init__(self, engine: Engine, take: Take, batch_size: int, row_bytes: int) -> None:
        super().__init__(engine)
        self._take = take
        self.max_updates = max(1, int(self.piece_bytes // (batch_size * row_bytes)))

    def _own(self, chunk: Chunk) -> Chunk:
        variant, rows = chunk.variant, chunk.rows
        begin, end = (variant.samples_at(update) for update in (chunk.first, chunk.stop))
        x, y = self._take(slice(begin, end) if rows is None else rows[begin:end])
        # Treated as a small epoch; the choice of the kernel depends on the batch size alone.
        piece = Variant(variant.batch_size, end - begin)
        return Chunk(x, y, None, piece, 0, chunk.updates, chunk.lrs, chunk.save_at, chunk.check)

    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk; the returned trace keeps no reference to the gathered samples."""
        trace = super().carry_out(chunk)
        return Trace(trace.updates, trace.record, trace.suspected, trace.saved, trace.last_loss)

    def can_span_epochs(self, chunk: Chunk, measures: int, held_out: HeldOut | None = None) -> bool:
        """Return False: an epoch takes long enough."""
        return False
