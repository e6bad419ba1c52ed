"""Base class of callbacks that add columns to the history of a run."""

from __future__ import annotations

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray


class Measuring(Callback):
    """A callback whose measurements a recorder adds whenever it measures the train loss."""

    updates_between_hooks: int = 0
    """After how many updates a recorder asks for measurements within epochs, too; 0: only at their ends."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Return measurements at the current weights, by the name of their column in the history."""
        return {}

    def measure_at(
        self, trainer: Trainer, pl_module: LightningModule, updates: NDArray[np.int64], lrs: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return what :meth:`measure` would have returned after earlier updates, without their weights.

        A callback that needs the weights does not implement this, and :meth:`measure` is called after every epoch.

        Args:
            trainer: The Trainer.
            pl_module: The module that it trains.
            updates: Numbers of updates at the ends of epochs since the last measurement, shape (E,).
            lrs: The learning rates after these updates, shape (E,).

        Returns:
            Values by name, each of shape (E,), nan if missing.
        """
        return {}
