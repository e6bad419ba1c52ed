"""The recorder that a callback reads, found among the callbacks of its Trainer."""

from __future__ import annotations

from lightning.pytorch import Callback, Trainer

from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import callbacks_of


def recorder_before(trainer: Trainer, callback: Callback) -> HistoryRecorder:
    """Return the recorder that a callback reads.

    Raises:
        InputError: No recorder comes before it among the callbacks of the Trainer.
    """
    for earlier in callbacks_of(trainer, Callback):
        if isinstance(earlier, HistoryRecorder):
            return earlier
        if earlier is callback:
            break
    name = type(callback).__name__
    raise InputError(f"cannot use {name}, because no HistoryRecorder comes before it; put one first in callbacks")
