"""The variance of the mini-batch gradient, measured before the first update."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.callbacks.history_columns import Measuring
from gd_lightning.callbacks.trainer_info import loss_of
from gd_lightning.data import BatchLoader
from gd_lightning.data.order import uses_stored_order
from gd_lightning.measures import gradient_variance_over, unchanged


class GradientVariance(Measuring):
    """Measures at the start how much the gradient varies over the batches of the first epoch.

    All runs of a comparison start from the same weights, so the value depends only on the batch size. It is recorded in
    the history as ``gradient_variance``, at update 0. If an epoch has more than 1,000 batches, 1,000 of them are used,
    evenly spaced.
    """

    max_batches: int = 1000
    """The most batches of an epoch that are taken."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Measure before the first update, unless an epoch is a single batch that is drawn with replacement."""
        loader = trainer.train_dataloader
        if trainer.global_step or not isinstance(loader, BatchLoader):
            return {}
        if loader.variant.updates_per_epoch == 1 and loader.epoch_order.order == "with_replacement":
            return {}
        with unchanged(pl_module, pl_module.device), torch.enable_grad():
            batches = _batches_of_first_epoch(loader, pl_module.device, self.max_batches)
            found = gradient_variance_over(batches, pl_module, loss_of(pl_module), pl_module.parameters())
        return {"gradient_variance": found}

    def measure_at(self, *_: Any) -> dict[str, NDArray[np.float64]]:
        """Measure nothing after updates."""
        return {}


def _batches_of_first_epoch(loader: BatchLoader, device: torch.device, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    variant, order = loader.variant, loader.epoch_order
    updates = variant.updates_per_epoch
    rows = None
    if not uses_stored_order(order.order, variant):
        rows = order.rows_of(0).to(loader.samples.device)
    for update in torch.linspace(0, updates - 1, min(updates, most)).round().long().tolist():
        where = slice(variant.samples_at(update), variant.samples_at(update + 1))
        x, y = loader.samples.take(where if rows is None else rows[where])
        yield x.to(device), y.to(device)
