"""Giving memory back to the system during a run, in a process that does nothing else."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gd_lightning.free_memory import forget_code, return_free_memory

_SECONDS = 5.0


class ReturnMemory(Callback):
    """Keeps the memory of a long run close to its minimum.

    Every five seconds, and before the last checkpoint, free memory is given back; once also the code that was read for
    starting up and compiling: of a run without a limit, before and after its first updates; of others, most of which
    have ended by then, after five seconds.
    """

    max_chunk_seconds = math.inf

    def __init__(self) -> None:
        self._is_running = False
        self._due = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Release the memory of the start-up, if the run has no limit."""
        self._is_running = False
        self._due = time.monotonic() + _SECONDS
        if (trainer.max_epochs, trainer.max_steps) == (-1, -1):
            self._return()
            self._due = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Release free memory every few seconds, and once the memory that a compiler has left."""
        if time.monotonic() > self._due:
            self._return(code=not self._is_running)
            self._is_running, self._due = True, time.monotonic() + _SECONDS

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Release the memory of the pictures and files that were made at the end."""
        return_free_memory()

    def _return(self, code: bool = True) -> None:
        if code:
            forget_code()
        return_free_memory()
