"""A progress bar that only long runs show."""

from __future__ import annotations

import math
import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from gd_lightning.callbacks.chunk_rows import carried_out


class LongRunProgress(ProgressBar):
    """One progress bar over all updates of a run, shown on a terminal after a delay.

    Args:
        delay: Seconds after which the bar appears.
    """

    max_chunk_seconds = math.inf

    def __init__(self, delay: float = 3.0) -> None:
        super().__init__()
        self.delay = delay
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Disable the bar; Lightning calls this on all processes except the first."""
        self.delay = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        if math.isfinite(self.delay) and sys.stderr is not None and sys.stderr.isatty():
            total = float(trainer.estimated_stepping_batches)
            self._bar = tqdm(
                total=total if math.isfinite(total) else None,
                unit=" updates",
                delay=self.delay,
                initial=trainer.global_step,
                dynamic_ncols=True,
                leave=False,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count an update, or those of a chunk."""
        if self._bar is not None:
            carried = carried_out(outputs)
            self._bar.update(1 if carried is None else carried[1].updates)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
