"""The outcome of a run: how and why it ended, whether by a criterion, a limit or the Trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from gd_lightning.callbacks.history_columns import Measuring
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.records.history import Outcome

_EARLY_STOPS = {
    EarlyStoppingReason.STOPPING_THRESHOLD: Outcome.CONVERGED,
    EarlyStoppingReason.PATIENCE_EXHAUSTED: Outcome.STOPPED,
    EarlyStoppingReason.DIVERGENCE_THRESHOLD: Outcome.DIVERGED,
    EarlyStoppingReason.NON_FINITE_METRIC: Outcome.DIVERGED,
}


class EndsRun(Measuring, ABC):
    """Base class of callbacks that can end a run; they state outcome and reason, and may record measurements."""

    @property
    @abstractmethod
    def ending(self) -> tuple[Outcome, str] | None:
        """Outcome and reason if this callback ended the run, else None."""


def ending(trainer: Trainer) -> tuple[Outcome, str]:
    """Return outcome and reason of a run that was not interrupted."""
    for callback in callbacks_of(trainer, Callback):
        if isinstance(callback, EndsRun) and callback.ending is not None:
            return callback.ending
        if trainer.should_stop and isinstance(callback, EarlyStopping) and callback.stopping_reason in _EARLY_STOPS:
            reason = f"early stopping: {callback.stopping_reason_message}"
            return _EARLY_STOPS[callback.stopping_reason], reason
        if isinstance(callback, Timer):
            remaining = callback.time_remaining()
            if remaining is not None and remaining <= 0:
                return Outcome.COMPLETED, "the time limit max_time was reached"
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return Outcome.COMPLETED, f"max_steps {trainer.max_steps} reached"
    if trainer.max_epochs not in (None, -1) and trainer.current_epoch >= (trainer.max_epochs or 0):
        return Outcome.COMPLETED, f"max_epochs {trainer.max_epochs} reached"
    return Outcome.STOPPED, "a callback asked the Trainer to stop"
