"""Modules and networks as other projects write them, without a base class of this package."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn


class ModuleWithoutForward(LightningModule):
    """A network that is trained on the mean squared error by SGD, and predicts only in its training step.

    Args:
        network: The network.
        lr: The learning rate.
    """

    def __init__(self, network: nn.Module, lr: float = 0.01) -> None:
        super().__init__()
        self.network = network
        self._lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.network(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: Lightning warns if a module without this method meets a data module."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self._lr)


class NormedNetwork(nn.Sequential):
    """A network with batch normalisation."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(nn.Linear(in_features, 4), nn.BatchNorm1d(4), nn.Linear(4, out_features))
