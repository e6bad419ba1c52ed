"""The reference engine on a network of tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gd_lightning.engine import AutogradEngine
from gd_lightning.losses import Loss, summed_loss


def autograd_engine(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss = "mse", huber_delta: float = 1.0, l1: float = 0.0
) -> AutogradEngine:
    """Return the engine that updates a network by autograd; arguments as for :class:`FusedEngine`."""

    def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        batch_loss = summed_loss(network(x), y, loss, huber_delta) / y.numel()
        penalty = sum((p.abs().sum() for p in network.parameters() if p.ndim > 1), torch.zeros(()))
        return batch_loss + l1 * penalty if l1 else batch_loss, batch_loss

    return AutogradEngine(losses, optimizer, network.parameters())
