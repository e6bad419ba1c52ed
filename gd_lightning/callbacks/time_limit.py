"""The time that a whole command may take: set-up, training, and what comes behind it."""

from __future__ import annotations

import math
import time
from datetime import timedelta

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import RunningStage

from gd_lightning.callbacks.pictures import Pictures
from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.engine import ChunkRequest


class TimeLimit(Timer):
    """Ends a run so that the command that made it takes the time that it may take.

    Lightning's ``Timer`` counts from the first update on, to the last. This one counts from the beginning of the
    command, and leaves the time that measuring, writing and drawing will take behind the last update. One update is
    made in any case. As in Lightning, it is the time of the whole run: one that is continued has what is left.

    Args:
        duration: The time, as DD:HH:MM:SS, as a timedelta, or as its arguments.
        begun: When the command began, by ``time.monotonic()``.
    """

    max_chunk_seconds = math.inf
    seconds_of_pictures: float = 0.4
    """How long :class:`~gd_lightning.Pictures` take to draw."""
    seconds_of_exit: float = 0.3
    """How long Python takes to end threads and libraries."""

    def __init__(self, duration: str | timedelta | dict[str, int], begun: float) -> None:
        super().__init__(duration, interval="step", verbose=False)
        self.begun = begun
        self._is_used = False
        self._made = time.monotonic(), time.process_time()

    @property
    def state_key(self) -> str:
        """The name under which checkpoints hold the time that was used, which is Lightning's."""
        return "Timer"

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Let chunks be as long as they may: it looks at the clock behind each."""
        return ChunkRequest()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the beginning of the command on."""
        self._start_time[RunningStage.TRAINING] = self.begun

    def time_elapsed(self, stage: str = RunningStage.TRAINING) -> float:
        """Return the seconds that were used; all of them, once the run has ended for it."""
        elapsed = super().time_elapsed(stage)
        return elapsed if stage != RunningStage.TRAINING or not self._is_used else max(elapsed, self._duration or 0.0)

    def _check_time_remaining(self, trainer: Trainer) -> None:
        assert self._duration is not None
        is_training = self.start_time() is not None  # else a run may be continued whose time was used before
        needed = self._seconds_to_finish(trainer) if is_training else 0.0
        is_used = trainer.strategy.broadcast(self.time_elapsed() + needed >= self._duration)
        self._is_used = self._is_used or is_used
        trainer.should_stop = trainer.should_stop or is_used

    def _seconds_to_finish(self, trainer: Trainer) -> float:
        """Return how long what comes behind the last update will take."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        recorders = [callback for callback in callbacks if isinstance(callback, HistoryRecorder)]
        draws = any(isinstance(callback, Pictures) for callback in callbacks)
        working = self.seconds_of_exit + self.seconds_of_pictures * draws
        working += sum(recorder.report.seconds_of_writing(recorder.rows) for recorder in recorders if recorder.report)
        # Where others use the machine, too, all of it takes longer.
        clock, work = time.monotonic() - self._made[0], time.process_time() - self._made[1]
        slower = clock / work if 0 < work < clock else 1.0
        # At an epoch's end it is measured in any case, and would be once more if the run went on.
        measured = 2 if trainer.is_last_batch else 1
        measuring = sum(recorder.measurements.seconds_with_validation for recorder in recorders if recorder.report)
        return measured * measuring + working * slower
