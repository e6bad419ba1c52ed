"""How long Lightning's Trainer trains, for their modules and ours."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader


class _Start(Callback):
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.at = time.perf_counter()


class _End(Callback):
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.at = time.perf_counter()


def seconds_inside(
    module: LightningModule,
    data: LightningDataModule | DataLoader[Any],
    epochs: int,
    callbacks: Sequence[Callback] = (),
    logger: Any = False,
    **options: Any,
) -> float:
    """Fit, and return the seconds from ``on_train_start`` to ``on_train_end``, those of the callbacks included."""
    start, end = _Start(), _End()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=logger,
        callbacks=[start, *callbacks, end],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, data)
    return end.at - start.at


class _Empty(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing, by which Lightning skips the update."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@functools.cache
def seconds_of_empty_fit(repeats: int = 20) -> float:
    """Return the median seconds of a fit of one batch of which nothing is made: those of Lightning's loop itself."""
    data: DataLoader[Any] = DataLoader([torch.zeros(1)], batch_size=None)  # type: ignore[arg-type]  # a list is a data set, too
    return statistics.median(seconds_inside(_Empty(), data, 1) for _ in range(repeats))
