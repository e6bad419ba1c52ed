"""The checkpoint that a run can be judged, used and continued from."""

from __future__ import annotations

import time

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gd_lightning.callbacks.surroundings import directory_of
from gd_lightning.errors import InputError
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT


class LastCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` in the logger's directory at the end, and at intervals at an epoch's end.

    Lightning's ``ModelCheckpoint`` saves at the end of every epoch, which takes longer than an update of a small
    model; it can be used beside this one.

    Args:
        interval: Seconds between two checkpoints of a long run.
    """

    def __init__(self, interval: float = 60.0) -> None:
        if not interval > 0:
            raise InputError(f"interval {interval} is no time between checkpoints; use seconds above 0")
        self.interval = interval
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where the last checkpoint is old; every process decides as the first one does."""
        due = time.monotonic() - self._saved_at >= self.interval
        if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        directory = directory_of(trainer)
        if directory is not None:
            trainer.save_checkpoint(directory / LAST_CHECKPOINT, weights_only=False)
        self._saved_at = time.monotonic()
