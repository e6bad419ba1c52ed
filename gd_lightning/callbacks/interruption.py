"""Ctrl-C and SIGTERM end a run between two updates, so that it can be continued exactly."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gd_lightning.callbacks.checkpoint import LastCheckpoint

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EndBetweenUpdates(Callback):
    """Ends a run behind the update in which it got a signal, in all processes alike, and saves it with LastCheckpoint.

    A second Ctrl-C does not wait for the end of the update. The command line uses it; in Python, signals are yours.
    """

    max_chunk_seconds = math.inf

    def __init__(self) -> None:
        self._received = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there can handlers be set
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
                self._handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """End the run if any process got a signal.

        Raises:
            KeyboardInterrupt: It was Ctrl-C.
            SIGTERMException: It was SIGTERM.
        """
        received = self._received
        if trainer.world_size > 1:
            mine = torch.tensor(float(received), device=trainer.strategy.root_device)
            received = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if not received:
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.save(trainer)
        raise KeyboardInterrupt if received == signal.SIGINT else SIGTERMException

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
