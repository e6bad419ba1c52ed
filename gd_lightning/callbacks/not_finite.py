"""Stopping where nothing more can be learned."""

from __future__ import annotations

import math

from lightning.pytorch import Callback, LightningModule, Trainer


class StopWhenNotFinite(Callback):
    """Stops a run whose train loss is no finite number any more: no later update can bring it back.

    It reads the ``train_loss`` that the :class:`~gd_lightning.HistoryRecorder` measures, which must come before it.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the newest train loss; every process has measured the same one."""
        loss = trainer.callback_metrics.get("train_loss")
        if loss is not None and not math.isfinite(loss):
            trainer.should_stop = True
