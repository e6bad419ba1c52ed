"""Engines that first convert the samples of a chunk, or gather them from a file.

Letters: N samples, D features, K outputs, B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from gd_lightning.engine.chunk import Chunk, Engine, HeldOut, Trace
from gd_lightning.engine.wrapped_engine import WrappedEngine
from gd_lightning.micro_batches import Pair
from gd_lightning.variants import Variant

Take = Callable[[slice | Tensor], Pair]
"""Gives the samples at some positions, x of shape (n, D) and y of shape (n, K), as the network takes them."""


class EngineInMemory(WrappedEngine):
    """Passes chunks to an engine with the samples as its network expects them, for example standardised.

    The chunks themselves have the samples as they are, which callbacks, and Lightning's own loop, are given.

    Args:
        engine: Carries out the updates.
        take: Returns samples.
        count: N.
        at_once: Samples converted at a time, to bound the memory.
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

    def mean_loss(self, x: Tensor, y: Tensor) -> float | None:
        """Return the loss at the present parameters, a mean over all of its own samples and their outputs."""
        return self._engine.mean_loss(self._x, self._y)


class EngineOnFile(WrappedEngine):
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
        # Compiled loops over samples in an order and over adjacent samples are different loops, whose sums are rounded
        # differently. So gathered samples keep an order, and the updates have the bits that they have in memory.
        order = None if rows is None else torch.arange(len(x))
        # It is treated as a small epoch; the choice of the kernel depends on the batch size alone.
        piece = Variant(variant.batch_size, end - begin)
        return Chunk(x, y, order, piece, 0, chunk.updates, chunk.lrs, chunk.save_at, chunk.check)

    def _returned(self, trace: Trace) -> Trace:
        """Return a trace without a reference to the gathered samples."""
        return Trace(trace.updates, trace.record, trace.suspected, trace.saved, trace.last_loss)

    def can_span_epochs(self, chunk: Chunk, measures: int, held_out: HeldOut | None = None) -> bool:
        """Return False: an epoch takes long enough."""
        return False
