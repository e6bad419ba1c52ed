"""The loss of an update over a batch, whatever the parts and processes that share it (layer 4).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from gd_lightning.engine import overflow_to_nan
from gd_lightning.micro_batches import MicroBatches
from gd_lightning.module.run_engine import RunEngine
from gd_lightning.variants import Variant

SummedLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class UpdateState:
    """What a module notes while it is trained; a copy of the module, made within a run, begins with nothing of it."""

    engine: RunEngine | None = None
    has_earlier_gradients: bool = False
    in_update: bool = False
    first_loss: Tensor | None = None

    def __reduce__(self) -> tuple[type[UpdateState], tuple[()]]:
        """Copy nothing, as Lightning does with the Trainer of a module."""
        return UpdateState, ()

    @contextmanager
    def update(self, optimizer: Optimizer) -> Iterator[None]:
        """Carry out an update by autograd: of all its losses, the first one is the batch loss."""
        self.in_update, self.first_loss = True, None
        try:
            with overflow_to_nan(optimizer):
                yield
        finally:
            self.in_update, self.first_loss = False, None

    def batch_loss(self, loss: Tensor) -> Tensor:
        """Return the batch loss of the update that a loss is of.

        LBFGS asks again within an update, whose batch loss is the one that it starts from.
        """
        if self.first_loss is not None:
            return self.first_loss
        self.first_loss = loss.detach() if self.in_update else None
        return loss.detach()


def descend_parts(
    module: LightningModule, summed_loss: SummedLoss, batch: MicroBatches, batch_idx: int
) -> tuple[Tensor, bool]:
    """Compute the gradients of all parts of a batch but the last, one part after the other.

    Args:
        module: Whose parameters have the gradients.
        summed_loss: From predictions and targets to a sum.
        batch: The parts.
        batch_idx: Which batch of the epoch.

    Returns:
        The batch loss, with the gradient of the last part, and whether there were others.
    """
    trainer = module.trainer
    optimizer = trainer.optimizers[0]
    optimizer.zero_grad()
    earlier = None
    for i in range(batch.count):
        x, y = batch.part(i)
        part = summed_loss(module(x), y) * weight_in_mean(trainer, y, batch_idx, batch.samples)
        if i == batch.count - 1:
            break
        # The strategy scales the loss where the precision needs it. It does not yet share gradients among
        # processes: that is prepared behind the training step, for the last part.
        with torch.autocast(module.device.type, enabled=False):
            trainer.strategy.backward(part, optimizer)
        earlier = part.detach() if earlier is None else earlier + part.detach()
    return (part, False) if earlier is None else (part + earlier, True)


def weight_in_mean(trainer: Trainer | None, y: Tensor, batch_idx: int, local: int | None = None) -> float:
    """Return what makes the sum over some samples of a batch their share of the mean over the batch.

    DDP averages the gradients of the processes. A sum over the local samples, divided by the samples of the whole
    batch and multiplied by the number of processes, makes that average the gradient of the mean over the batch.

    Args:
        trainer: Which trains, if one does.
        y: Targets of the samples, shape (n, K).
        batch_idx: Which batch of the epoch.
        local: Samples of the batch in this process; None: those of y.
    """
    variant = None if trainer is None else getattr(trainer.train_dataloader, "variant", None)
    if trainer is not None and isinstance(variant, Variant) and trainer.world_size > 1:
        return trainer.world_size / (variant.size_of(batch_idx) * y.shape[1])
    return 1 / ((len(y) if local is None else local) * y.shape[1])


def penalized(batch_loss: Tensor, module: LightningModule) -> Tensor:
    """Add the L1 penalty of a module's weights, if it has one; biases are free."""
    l1 = module.hparams["l1"]
    if not l1:
        return batch_loss
    weights = [p for name, p in module.named_parameters() if p.ndim > 1]
    penalty: Tensor = l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()
    return batch_loss + penalty
