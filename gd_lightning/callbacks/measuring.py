"""What callbacks add to the record of a run."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class Measuring(Callback):
    """A callback that a recorder asks for more, wherever it measures the train loss."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Measure at the present weights what is to stand beside the train loss in the history."""
        return {}
