"""The first updates, worked out for a reader."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from gd_lightning.errors import InputError
from gd_lightning.tracking.summary import number

_SHOWN = 5


class ShowSteps(Callback):
    """Prints the first updates step by step: predictions, loss, gradients, and the parameters before and after.

    Args:
        updates: How many updates are shown.
    """

    def __init__(self, updates: int = 1) -> None:
        if updates < 1:
            raise InputError(f"cannot show {updates} updates; use a whole number from 1")
        self.updates = updates
        self._before: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep parameters and gradients before the update."""
        if trainer.global_step < self.updates:
            named = [(name, p) for name, p in pl_module.named_parameters() if p.grad is not None]
            self._before = {name: p.detach().clone() for name, p in named}
            self._gradients = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the update that was just made."""
        if trainer.global_step > self.updates or not trainer.is_global_zero:
            return
        x, y = batch
        after = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        with torch.no_grad():
            predictions = torch.func.functional_call(pl_module, self._before, (x[:_SHOWN],))
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        print(f"update {trainer.global_step}, from {len(x)} samples")
        print(f"  predictions  {_row(predictions)}")
        print(f"  targets      {_row(y[:_SHOWN])}")
        print(f"  batch loss   {number(float(loss))}")
        for name, gradient in self._gradients.items():
            print(f"  {name}: gradient {_row(gradient)}, {_row(self._before[name])} -> {_row(after[name])}")


def _row(values: Tensor) -> str:
    flat = values.flatten()
    return ", ".join(number(value) for value in flat[:_SHOWN].tolist()) + (", ..." if len(flat) > _SHOWN else "")
