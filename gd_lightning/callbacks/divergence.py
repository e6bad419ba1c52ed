"""Divergence: noticed where it happens, and a result with a cause."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from gd_lightning.callbacks.chunk_rows import carried_out
from gd_lightning.callbacks.recorder import recorder_before
from gd_lightning.engine import ChunkRequest, DivergenceCheck, Trace
from gd_lightning.errors import InputError
from gd_lightning.records.history import DIVERGENCE_FACTOR

_ROUNDING = 1e-12


class StopOnDivergence(Callback):
    """Stops a run that has diverged: a loss is no finite number, or the train loss exceeds many times its start.

    It checks where the train loss is measured, and within an epoch at the recorded batch losses, every 100 updates. The
    loss of a few samples is no reference for the whole set, so that a batch loss beyond that bound only means that the
    train loss is measured there, and the train loss decides.

    The ``LastCheckpoint`` of a run keeps the weights that it had before. The
    :class:`~gd_lightning.HistoryRecorder` must come before it; it says in the history, and by the exit code of the
    command line, that the run diverged, with and without the stop.

    Args:
        on_divergence: stop, or continue to the limits of the run as if nothing had happened.
        divergence_factor: How many times the train loss at update 0 is no fluctuation any more.

    Raises:
        InputError: The reaction is unknown, or the factor is no finite number above 1.
    """

    max_chunk_seconds = math.inf
    updates_between_checks: int = 100
    """Updates from one check of the batch losses to the next: to read them is to wait for the device."""

    def __init__(
        self, on_divergence: Literal["stop", "continue"] = "stop", divergence_factor: float = DIVERGENCE_FACTOR
    ) -> None:
        if on_divergence not in ("stop", "continue"):
            raise InputError(f"cannot {on_divergence} on divergence; use stop or continue")
        if not 1 < divergence_factor < math.inf:
            raise InputError(
                f"cannot take {divergence_factor} times the first train loss for divergence; use a number above 1"
            )
        self.on_divergence = on_divergence
        self.divergence_factor = divergence_factor
        self._checked_at = 0.0
        self._suspected = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the recorder."""
        if stage == "fit":
            self._recorder = recorder_before(trainer, self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the start, or what a run that is continued had come to."""
        history = self._recorder.history
        history.divergence_factor = self.divergence_factor
        # To check again batch losses behind the newest train loss finds what it found, which was nothing.
        is_continued = trainer.global_step > 0
        self._checked_at = history.series("train_loss")[0][-1] if is_continued and "train_loss" in history else 0.0
        self._suspected = is_continued and self._is_suspect(trainer)
        self._stop_if_diverged(trainer)

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Have the engine check where this would check behind single updates."""
        if self.on_divergence == "continue":
            return ChunkRequest()
        history, every = self._recorder.history, self.updates_between_checks
        first = history.first("train_loss") if "train_loss" in history else 0.0
        bound = first * self.divergence_factor if first > 0 else math.inf
        start = every - trainer.global_step % every
        # An infinite bound would be none; infinite losses are beyond every bound.
        bound = min(bound, sys.float_info.max)
        check = DivergenceCheck(bound, start, every, self._suspected)
        # At an epoch's end the quotient is compared, which may be rounded otherwise: the chunk ends, and that decides.
        return ChunkRequest(check=check, high=bound * (1 - _ROUNDING))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the batch losses within a long epoch; behind its last update, the train loss is measured."""
        if (carried := carried_out(outputs)) is not None:
            _, trace = carried
            self._check_trace(trainer, pl_module, trace)
            return
        since_check = trainer.global_step % self.updates_between_checks
        if self.on_divergence == "continue" or trainer.is_last_batch or since_check:
            return
        if self._is_suspect(trainer):
            self._recorder.measure_within_epoch(trainer, pl_module)
            self._stop_if_diverged(trainer)
        self._checked_at = trainer.global_step

    def _check_trace(self, trainer: Trainer, pl_module: LightningModule, trace: Trace) -> None:
        """Decide where the engine of a chunk has found something."""
        if self.on_divergence == "continue":
            return
        self._suspected = trace.suspected
        since_check = trainer.global_step % self.updates_between_checks
        if self._suspected and (since_check or trainer.is_last_batch):
            return
        if self._suspected:
            self._recorder.measure_within_epoch(trainer, pl_module)
            self._stop_if_diverged(trainer)
        self._suspected, self._checked_at = False, trainer.global_step - since_check

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the train loss."""
        self._checked_at, self._suspected = trainer.global_step, False
        self._stop_if_diverged(trainer)

    def is_sound(self, trainer: Trainer) -> bool:
        """Whether the present weights are worth to be saved in the place of earlier ones; every process must ask."""
        if self.on_divergence == "continue":
            return True
        return not (self._is_suspect(trainer) or self._recorder.history.has_diverged)

    def _is_suspect(self, trainer: Trainer) -> bool:
        """Whether a batch loss since the last check is beyond what the train loss may be."""
        history = self._recorder.history
        self._recorder.rows.collect(trainer)
        return any(map(history.is_beyond, history.since("batch_loss", self._checked_at)))

    def _stop_if_diverged(self, trainer: Trainer) -> None:
        # The same on every process, should their devices round differently.
        diverged = trainer.strategy.reduce_boolean_decision(self._recorder.history.has_diverged, all=False)
        if diverged and self.on_divergence == "stop":
            trainer.should_stop = True
