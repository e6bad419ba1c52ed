"""What callbacks add to the record of a run."""

from __future__ import annotations

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray


class Measuring(Callback):
    """A callback that a recorder asks for more, wherever it measures the train loss."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Measure at the present weights what is to stand beside the train loss in the history."""
        return {}

    def measure_at(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        updates: NDArray[np.int64],
        lrs: NDArray[np.float64],
    ) -> dict[str, NDArray[np.float64]]:
        """Return what :meth:`measure` would have returned behind some earlier updates, without their weights.

        A callback that measures at weights leaves this out, and is asked at the end of every epoch.

        Args:
            trainer: Which trains.
            pl_module: What it trains.
            updates: Behind how many updates, ends of epochs since the last measurement, shape (E,).
            lrs: The learning rates behind them, shape (E,).

        Returns:
            Values by name, each of shape (E,), nan where there is none.
        """
        return {}
