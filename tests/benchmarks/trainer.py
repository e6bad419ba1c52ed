"""How long Lightning's Trainer trains, for their modules and ours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

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
