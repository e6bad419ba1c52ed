"""Ctrl-C, SIGTERM and SIGHUP end a run between two updates, so that it can be continued exactly."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gd_lightning.callbacks.last_checkpoint import LastCheckpoint
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.signals import ENDING, name_of


class EndedBySignal(SIGTERMException):
    """A signal other than Ctrl-C has ended a run; uncaught, it ends the process with the exit code of the signal.

    Args:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return f"ended by {name_of(self.number)}"


def raise_for_signal(number: int, frame: FrameType | None = None) -> NoReturn:
    """Signal handler that raises the exception for a signal.

    Raises:
        KeyboardInterrupt: The signal is SIGINT (Ctrl-C).
        EndedBySignal: The signal is another one.
    """
    raise KeyboardInterrupt if number == signal.SIGINT else EndedBySignal(number)


class StopOnSignal(Callback):
    """Ends a run after the update in which a signal arrived, in all processes, so that LastCheckpoint saves it.

    A run that has made its last update is finished before the program ends. A second Ctrl-C takes effect at once. The
    command line adds this callback; in Python, add it yourself.
    """

    max_chunk_seconds = math.inf

    def __init__(self) -> None:
        self._received = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers."""
        self._received = 0
        if threading.current_thread() is not threading.main_thread():
            return  # handlers can be set only in the main thread
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored, as for background jobs of a shell
                self._handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *of_batch: Any) -> None:
        """End the run if any process got a signal, after the other callbacks have seen the end of the update.

        Raises:
            KeyboardInterrupt: The signal was that of Ctrl-C.
            EndedBySignal: The signal was another one.
        """
        received = self._received
        if trainer.world_size > 1:
            mine = torch.tensor(float(received), device=trainer.strategy.root_device)
            received = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if not received:
            return
        callbacks = callbacks_of(trainer, Callback)
        for callback in callbacks[callbacks.index(self) + 1 :]:
            callback.on_train_batch_end(trainer, pl_module, *of_batch)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.save(trainer)
        raise_for_signal(received)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers, and end the process if a signal arrived while the run was being finished.

        Raises:
            KeyboardInterrupt: The signal was that of Ctrl-C.
            EndedBySignal: The signal was another one.
        """
        self._give_back()
        if self._received:
            raise_for_signal(self._received)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._receive:  # Lightning may have restored it
                signal.signal(number, handler)
        self._handlers.clear()
