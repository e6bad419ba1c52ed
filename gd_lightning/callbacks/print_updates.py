"""Printing of the first updates, step by step."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from gd_lightning.callbacks.chunk_rows import batch_loss
from gd_lightning.callbacks.trainer_info import variant_of
from gd_lightning.errors import InputError
from gd_lightning.measures import unchanged
from gd_lightning.micro_batches import MicroBatches
from gd_lightning.tracking.summary import number

_SHOWN = 5


class PrintUpdates(Callback):
    """Prints the first updates step by step: predictions, loss, gradients, and the parameters before and after.

    Args:
        updates: How many updates are shown.

    Raises:
        InputError: The number of updates is below 1.
    """

    def __init__(self, updates: int = 1) -> None:
        if updates < 1:
            raise InputError(f"cannot show {updates} updates; use a whole number from 1")
        self.updates = updates
        self._before: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Reset the state of the previous update."""
        self._before = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Save parameters and gradients before the update; optimisers such as LBFGS call this several times."""
        if trainer.global_step < self.updates and not self._before:
            named = [(name, p) for name, p in pl_module.named_parameters() if p.grad is not None]
            self._before = {name: p.detach().clone() for name, p in named}
            self._gradients = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the update that was just made."""
        if trainer.global_step > self.updates or not self._before:
            return
        x, y = batch.part(0) if isinstance(batch, MicroBatches) else batch
        variant, loss = variant_of(trainer), batch_loss(outputs)
        samples = len(x) if variant is None else variant.size_of(batch_idx)
        if loss is not None and trainer.world_size > 1:  # each process has computed the loss of its part of the batch
            loss = torch.as_tensor(trainer.strategy.reduce(loss, reduce_op="mean"))
        if not trainer.is_global_zero:
            return
        after = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        with unchanged(pl_module, pl_module.device):
            predictions = torch.func.functional_call(pl_module, self._before, (x[:_SHOWN],))
        layers = {"features": "standardize", "targets": "standardize_targets"}
        parts = [part for part, name in layers.items() if getattr(pl_module, name, None) is not None]
        standardized = f", with standardised {' and '.join(parts)}" if parts else ""
        print(f"update {trainer.global_step}, from {samples} samples{standardized}")
        print(f"  predictions  {_row(predictions)}")
        print(f"  targets      {_row(y[:_SHOWN])}")
        print(f"  batch loss   {number(None if loss is None else loss.item())}")
        for name, gradient in self._gradients.items():
            print(f"  {name}: gradient {_row(gradient)}, {_row(self._before[name])} -> {_row(after[name])}")


def _row(values: Tensor) -> str:
    flat = values.flatten()
    return ", ".join(number(value) for value in flat[:_SHOWN].tolist()) + (", ..." if len(flat) > _SHOWN else "")
