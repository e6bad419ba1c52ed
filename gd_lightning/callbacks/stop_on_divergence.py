"""Detection of divergence, which stops a run and is reported with its cause."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from gd_lightning.callbacks.chunk_rows import carried_out
from gd_lightning.callbacks.recorder_lookup import recorder_before
from gd_lightning.engine import ChunkRequest, DivergenceCheck, Trace
from gd_lightning.errors import InputError
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR, UPDATES_BETWEEN_CHECKS

_ROUNDING = 1e-12


class StopOnDivergence(Callback):
    """Stops a run that has diverged: a loss is not finite, or the train loss is far above its initial value.

    It checks where the train loss is measured, and within an epoch at the recorded batch losses, every 100 updates. The
    loss of a few samples may differ much from that of the whole set, so a batch loss beyond the bound only triggers a
    measurement of the train loss, which decides.

    The ``LastCheckpoint`` of a run keeps the weights that it had before. The
    :class:`~gd_lightning.HistoryRecorder` must come before it. History and exit code of the command line tell that the
    run diverged, whether it was stopped or continued.

    Args:
        on_divergence: stop, or continue to the limits of the run.
        divergence_factor: A train loss above this multiple of the one at update 0 has diverged.

    Raises:
        InputError: ``on_divergence`` is unknown, or the factor is not a finite number above 1.
    """

    max_chunk_seconds = math.inf
    updates_between_checks: int = UPDATES_BETWEEN_CHECKS

    def __init__(
        self, on_divergence: Literal["stop", "continue"] = "stop", divergence_factor: float = DIVERGENCE_FACTOR
    ) -> None:
        if on_divergence not in ("stop", "continue"):
            raise InputError(f"cannot use {on_divergence} as on_divergence; use stop or continue")
        if not 1 < divergence_factor < math.inf:
            raise InputError(f"cannot use {divergence_factor} as divergence_factor; use a number above 1")
        self.on_divergence = on_divergence
        self.divergence_factor = divergence_factor
        self._checked_at = 0.0
        self._suspected = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the recorder."""
        if stage == "fit":
            self._recorder = recorder_before(trainer, self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the losses at the start, or those of a continued run."""
        history = self._recorder.history
        history.divergence_factor = self.divergence_factor
        # The batch losses after the newest train loss were checked before: another check would find nothing.
        is_continued = trainer.global_step > 0
        self._checked_at = history.series("train_loss")[0][-1] if is_continued and "train_loss" in history else 0.0
        self._suspected = is_continued and self._is_suspect(trainer)
        self._stop_if_diverged(trainer)

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request the engine to check after the updates at which this callback would check."""
        if self.on_divergence == "continue":
            return ChunkRequest()
        history, every = self._recorder.history, self.updates_between_checks
        first = history.first("train_loss") if "train_loss" in history else 0.0
        bound = first * self.divergence_factor if first > 0 else math.inf
        start = every - trainer.global_step % every
        # With an infinite bound, nothing would be checked; infinite losses are beyond every finite one.
        bound = min(bound, sys.float_info.max)
        check = DivergenceCheck(bound, start, every, self._suspected)
        # At an epoch's end the quotient is compared, which may be rounded otherwise: the chunk ends, and that decides.
        return ChunkRequest(check=check, high=bound * (1 - _ROUNDING))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the batch losses within a long epoch, except after its last update, when the train loss is measured."""
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
        """Decide, by the train loss, on a divergence that the engine suspects."""
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
        """Whether the current weights may replace saved ones; all processes must call this.

        Args:
            trainer: The Trainer.
        """
        if self.on_divergence == "continue":
            return True
        return not (self._is_suspect(trainer) or self._recorder.history.has_diverged)

    def _is_suspect(self, trainer: Trainer) -> bool:
        """Whether a batch loss since the last check exceeds the bound of the train loss."""
        history = self._recorder.history
        self._recorder.rows.collect(trainer)
        return any(map(history.is_beyond, history.since("batch_loss", self._checked_at)))

    def _stop_if_diverged(self, trainer: Trainer) -> None:
        # The same decision in every process, even if their devices round differently.
        diverged = trainer.strategy.reduce_boolean_decision(self._recorder.history.has_diverged, all=False)
        if diverged and self.on_divergence == "stop":
            trainer.should_stop = True
