"""A ``DataLoader`` that yields whole batches, micro-batches, or chunks of updates.

Letters: N samples, D features, K outputs, B batch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from gd_lightning.data.order import EpochOrder, Order, uses_stored_order
from gd_lightning.data.process_shares import share_of
from gd_lightning.data.samples import PIECE, Samples
from gd_lightning.engine import Chunk, ChunkSource
from gd_lightning.engine.drawn_orders import prepare_to_draw
from gd_lightning.errors import InputError
from gd_lightning.micro_batches import MicroBatches, Pair
from gd_lightning.tracking.schema import kind_of
from gd_lightning.variants import Variant


class BatchLoader(DataLoader[Pair]):
    """Yields batches (x, y) of shapes (B, D) and (B, K); its ``batch_size`` is the variant's B.

    ``DataLoader`` fetches single samples and collates them. Here a batch is a slice of the samples, which may be on the
    training device; unless the order is sequential, many batches are gathered at once.

    With several processes, each yields its contiguous part of every batch, without padding, so that together they see
    exactly the batch; a part is empty where a batch has fewer samples than there are processes.

    It can be interrupted and resumed anywhere: ``state_dict`` says how many samples of the epoch are consumed, which
    holds for any number of processes and any size of micro-batches. Outside a ``Trainer``, each complete pass is
    the next epoch.

    Args:
        samples: The samples.
        variant: B, N and whether a short last batch is dropped.
        order: In which order an epoch visits the samples.
        seed: Seed of the order.
        rank: Index of this process, from 0.
        world_size: Number of processes.
        micro_batch_size: Maximum number of samples loaded at once; a larger batch is yielded as
            :class:`~gd_lightning.MicroBatches`. None: unlimited.
    """

    def __init__(
        self,
        samples: Samples,
        variant: Variant,
        order: Order = "sequential",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        micro_batch_size: int | None = None,
    ) -> None:
        self.samples = samples
        self.variant = variant
        self.epoch_order = EpochOrder(order, variant.train_samples, seed)
        self.rank, self.world_size = rank, world_size
        self.micro_batch_size = micro_batch_size
        self.chunk_source: ChunkSource | None = None
        """Plans chunks for an engine; None, and where it plans none: batches come singly to the end of the epoch."""
        self._is_in_chunk = False
        self._consumed = self._resume_at = 0
        super().__init__(samples, batch_size=variant.batch_size, sampler=self.epoch_order, drop_last=variant.drop_last)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private class
        done, self._resume_at = self._resume_at, 0
        return self._batches(done)

    def _batches(self, done: int) -> Iterator[Pair | MicroBatches | Chunk]:
        """Yield the batches of the epoch after the first ``done`` samples."""
        # A generator, so that the epoch is read at the first batch: Lightning sets it after creating the iterator.
        rows, update = self._rows(), -(-done // self.variant.batch_size)
        if self.chunk_source is not None:
            rows, update = yield from self._chunks(self.chunk_source, rows, update)
        yield from self._single_batches(rows, update)
        self._consumed = 0
        self.epoch_order.set_epoch(self.epoch_order.epoch + 1)

    def _single_batches(self, rows: Tensor | None, update: int) -> Iterator[Pair | MicroBatches]:
        """Yield the batches of the epoch from an update on."""
        variant, in_parts = self.variant, self.comes_in_parts
        per_gather = 1 if in_parts else max(1, PIECE // variant.batch_size)
        # The last bits of a sum depend on the memory alignment of its terms. Batches are copied to be aligned as those
        # of engines are, not by their offset among gathered batches, which differs in a continued epoch.
        is_gathered = per_gather > 1 and (rows is not None or self.samples.mapped)
        for first in range(update, variant.updates_per_epoch, per_gather):
            last = min(first + per_gather, variant.updates_per_epoch)
            begin, end = variant.samples_at(first), variant.samples_at(last)
            if in_parts:
                self._consumed = end
                yield self._micro_batches(rows, begin, end)
                continue
            x, y = self.samples.take(slice(begin, end) if rows is None else rows[begin:end])
            for update in range(first, last):
                self._consumed = variant.samples_at(update + 1)
                of_batch = variant.samples_at(update) - begin, self._consumed - begin
                part = slice(*share_of(*of_batch, self.rank, self.world_size))
                yield (x[part].clone(), y[part].clone()) if is_gathered else (x[part], y[part])

    def _chunks(
        self, source: ChunkSource, rows: Tensor | None, update: int
    ) -> Generator[Chunk, None, tuple[Tensor | None, int]]:
        """Yield the updates of the epoch from a given one on, in chunks.

        Returns:
            The order of the epoch in which the last chunk ended, and the first update that is not in a chunk.
        """
        epoch = self.epoch_order.epoch
        while update < self.variant.updates_per_epoch:
            chunk = source.next_chunk(rows, update)
            if chunk is None:
                break
            self._consumed, self._is_in_chunk = self.variant.samples_at(chunk.stop), True
            yield chunk
            self._is_in_chunk = False
            update = chunk.first + 1 if self.chunk_source is None else source.end
            if self.epoch_order.epoch != epoch:
                epoch, rows = self.epoch_order.epoch, self._rows()
        return rows, update

    def prepare_orders(self) -> None:
        """Compile the code that draws the orders of many epochs, or load it, if it will be used."""
        if not uses_stored_order(self.epoch_order.order, self.variant):
            prepare_to_draw(self.epoch_order.n)

    def _rows(self) -> Tensor | None:
        """Return the order of the epoch; None for the stored order."""
        if uses_stored_order(self.epoch_order.order, self.variant):
            return None
        return self.epoch_order.rows().to(self.samples.device)

    @property
    def comes_in_parts(self) -> bool:
        """Whether batches are yielded as micro-batches."""
        share = -(-self.variant.batch_size // self.world_size)
        return self.micro_batch_size is not None and share > self.micro_batch_size

    def _micro_batches(self, rows: Tensor | None, begin: int, end: int) -> MicroBatches:
        assert self.micro_batch_size is not None
        first, last = share_of(begin, end, self.rank, self.world_size)

        def take(start: int, stop: int) -> Pair:
            where = slice(first + start, first + stop)
            return self.samples.take(where if rows is None else rows[where])

        return MicroBatches(take, last - first, self.micro_batch_size)

    def state_dict(self) -> dict[str, int]:
        """Return how many samples of the present epoch are consumed."""
        if self._is_in_chunk and self.chunk_source is not None:
            self._consumed = self.variant.samples_at(self.chunk_source.end)
        return {"samples": self._consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next pass after the samples consumed so far.

        Args:
            state: The result of :meth:`state_dict`.

        Raises:
            InputError: The number of samples is not a multiple of the batch size, or exceeds an epoch.
        """
        samples = state.get("samples")
        if type(samples) is not int or not 0 <= samples <= self.variant.samples_per_epoch:
            raise InputError(
                f"cannot continue within an epoch after {kind_of(samples)} samples, because an epoch has "
                f"{self.variant.samples_per_epoch}; continue with the data of the checkpoint"
            )
        if samples % self.variant.batch_size and samples != self.variant.samples_per_epoch:
            raise InputError(
                f"cannot continue within an epoch after {samples} samples, because that is not a multiple of "
                f"batch_size {self.variant.batch_size}; continue with the batch_size of the checkpoint"
            )
        self._consumed = self._resume_at = samples
