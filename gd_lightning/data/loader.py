"""A ``DataLoader`` over tensors in memory that fetches a batch at a time.

Letters: N samples, D features, K outputs, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gd_lightning.data.order import EpochOrder, Order
from gd_lightning.variants import Variant

_GATHER = 65_536  # samples gathered in their new order at a time; batches are then views of them


class BatchLoader(DataLoader[tuple[Tensor, ...]]):
    """Yields batches (x, y) of shapes (B, D) and (B, K); its ``batch_size`` is the variant's B.

    ``DataLoader`` would fetch single samples and stack them. Here a batch is a slice of the tensors, which may live
    on the training device; in another order than the given one, many batches are gathered at once.

    With several processes, each yields its contiguous part of every batch, without padding, so that together they see
    exactly the batch; a part is empty where a batch has fewer samples than there are processes.

    Outside a ``Trainer``, each complete pass is the next epoch.

    Args:
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        variant: B, N and whether a short last batch is dropped.
        order: In which order an epoch visits the samples.
        seed: Seed of the order.
        rank: Which process this is, from 0.
        world_size: Number of processes.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        variant: Variant,
        order: Order = "sequential",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.x, self.y = x, y
        self.variant = variant
        self.epoch_order = EpochOrder(order, variant.train_samples, seed)
        self.rank, self.world_size = rank, world_size
        super().__init__(
            TensorDataset(x, y), batch_size=variant.batch_size, sampler=self.epoch_order, drop_last=variant.drop_last
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private class
        # A generator, so that the epoch is read at the first batch: Lightning makes the iterator before it sets it.
        variant, rows = self.variant, None
        # All samples are in the one batch whatever their order, so they are taken as they lie.
        if self.epoch_order.order == "with_replacement" or (
            self.epoch_order.order == "shuffled" and variant.updates_per_epoch > 1
        ):
            rows = self.epoch_order.rows().to(self.x.device)
        per_gather = max(1, _GATHER // variant.batch_size)
        for first in range(0, variant.updates_per_epoch, per_gather):
            last = min(first + per_gather, variant.updates_per_epoch)
            begin, end = variant.samples_at(first), variant.samples_at(last)
            x, y = self.x[begin:end], self.y[begin:end]
            if rows is not None:
                x, y = self.x[rows[begin:end]], self.y[rows[begin:end]]
            for update in range(first, last):
                part = self._part(variant.samples_at(update) - begin, variant.samples_at(update + 1) - begin)
                yield x[part], y[part]
        self.epoch_order.set_epoch(self.epoch_order.epoch + 1)

    def _part(self, start: int, stop: int) -> slice:
        """Return this process's contiguous part of the samples from start to stop."""
        size = stop - start
        return slice(start + size * self.rank // self.world_size, start + size * (self.rank + 1) // self.world_size)
