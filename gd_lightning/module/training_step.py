"""The loss of an update, which does not depend on how micro-batches and processes split the batch (layer 4).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from gd_lightning.engine import overflow_to_nan
from gd_lightning.micro_batches import MicroBatches
from gd_lightning.module.run_engine import RunEngine
from gd_lightning.variants import Variant

SummedLosses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass
class UpdateState:
    """State of a module within an update; a copy of the module starts without it."""

    engine: RunEngine | None = None
    has_earlier_gradients: bool = False
    in_update: bool = False
    first_loss: Tensor | None = None

    def __reduce__(self) -> tuple[type[UpdateState], tuple[()]]:
        """Copy nothing, as Lightning does with the Trainer of a module."""
        return UpdateState, ()

    @contextmanager
    def update(self, optimizer: Optimizer) -> Iterator[None]:
        """Context of an update by autograd: the first loss computed in it is the batch loss."""
        self.in_update, self.first_loss = True, None
        try:
            with overflow_to_nan(optimizer):
                yield
        finally:
            self.in_update, self.first_loss = False, None

    def batch_loss(self, loss: Tensor) -> Tensor:
        """Return the batch loss of the current update: the first loss computed in it.

        LBFGS evaluates the loss several times per update; the batch loss is the first value.
        """
        if self.first_loss is not None:
            return self.first_loss
        self.first_loss = loss.detach() if self.in_update else None
        return loss.detach()


def descend_parts(
    module: LightningModule, summed_losses: SummedLosses, batch: MicroBatches, batch_idx: int
) -> tuple[Tensor, Tensor, bool]:
    """Compute the gradients of all parts of a batch but the last, one part after the other.

    Args:
        module: The module whose parameters receive the gradients.
        summed_losses: Function of features and targets that returns the summed loss to minimise, and the reported one.
        batch: The micro-batches.
        batch_idx: Index of the batch in the epoch.

    Returns:
        The loss to minimise, attached to the graph of the last part only; the batch loss; and whether there were other
        parts.
    """
    trainer = module.trainer
    optimizer = trainer.optimizers[0]
    optimizer.zero_grad()
    earlier = None
    for i in range(batch.count):
        x, y = batch.part(i)
        trained, of_report = summed_losses(x, y)  # also refuses targets of another shape
        weight = weight_in_mean(trainer, y, batch_idx, batch.samples)
        part, reported = trained * weight, of_report * weight
        if i == batch.count - 1:
            break
        # The strategy scales the loss if the precision requires it. Gradients are not synchronised among processes
        # here, but after the training step, for the last part.
        with torch.autocast(module.device.type, enabled=False):
            trainer.strategy.backward(part, optimizer)
        made = part.detach(), reported.detach()
        earlier = made if earlier is None else (earlier[0] + made[0], earlier[1] + made[1])
    return (part, reported, False) if earlier is None else (part + earlier[0], reported + earlier[1], True)


def weight_in_mean(trainer: Trainer | None, y: Tensor, batch_idx: int, local: int | None = None) -> float:
    """Return the factor that turns a sum over some samples of a batch into their share of the batch mean.

    DDP averages the gradients of the processes. A sum over the local samples, divided by the samples of the whole
    batch and multiplied by the number of processes, makes that average the gradient of the mean over the batch.

    Args:
        trainer: The Trainer, if there is one.
        y: Targets of the samples, shape (n, K).
        batch_idx: Index of the batch in the epoch.
        local: Number of samples of the batch in this process; None: the number in y.
    """
    variant = None if trainer is None else getattr(trainer.train_dataloader, "variant", None)
    if trainer is not None and isinstance(variant, Variant) and trainer.world_size > 1:
        return trainer.world_size / (variant.size_of(batch_idx) * y.shape[1])
    return 1 / ((len(y) if local is None else local) * y.shape[1])


def with_l1(batch_loss: Tensor, module: nn.Module, l1: float) -> Tensor:
    """Return the batch loss plus an L1 penalty on the weights of a module; biases are not penalised."""
    if not l1:
        return batch_loss
    weights = [p for name, p in module.named_parameters() if p.ndim > 1]
    penalty: Tensor = l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()
    return batch_loss + penalty
