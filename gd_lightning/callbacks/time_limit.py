"""A time limit for a whole command: set-up, training, and writing of results."""

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
from gd_lightning.lightning_internals import callbacks_of


class TimeLimit(Timer):
    """Ends a run in time for the whole command to stay within a time limit.

    Lightning's ``Timer`` counts from the first update to the last. This one counts from the start of the command, and
    reserves the time for measuring, writing and drawing after the last update. At least one update is made. As in
    Lightning, the limit is for the whole run: a continued run has the remaining time.

    Args:
        duration: The limit, as DD:HH:MM:SS, a timedelta, or a dict of its arguments.
        begun: ``time.monotonic()`` at the start of the command.
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
        """The key of the elapsed time in checkpoints, the same as that of Lightning's ``Timer``."""
        return "Timer"

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Allow chunks of any number of epochs: the clock is checked after each chunk."""
        return ChunkRequest()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting from the beginning of the command."""
        self._start_time[RunningStage.TRAINING] = self.begun

    def time_elapsed(self, stage: str = RunningStage.TRAINING) -> float:
        """Return the elapsed seconds; the whole limit, once it has ended the run."""
        elapsed = super().time_elapsed(stage)
        return elapsed if stage != RunningStage.TRAINING or not self._is_used else max(elapsed, self._duration or 0.0)

    def _check_time_remaining(self, trainer: Trainer) -> None:
        assert self._duration is not None
        is_training = self.start_time() is not None  # otherwise the run may continue although its time is used up
        needed = self._seconds_to_finish(trainer) if is_training else 0.0
        is_used = trainer.strategy.broadcast(self.time_elapsed() + needed >= self._duration)
        self._is_used = self._is_used or is_used
        trainer.should_stop = trainer.should_stop or is_used

    def _seconds_to_finish(self, trainer: Trainer) -> float:
        """Return an estimate of the seconds needed after the last update."""
        recorders = callbacks_of(trainer, HistoryRecorder)
        working = self.seconds_of_exit + self.seconds_of_pictures * bool(callbacks_of(trainer, Pictures))
        working += sum(recorder.report.seconds_of_writing(recorder.rows) for recorder in recorders if recorder.report)
        # Other programs that use the processor make this one slower.
        clock, work = time.monotonic() - self._made[0], time.process_time() - self._made[1]
        slower = clock / work if 0 < work < clock else 1.0
        # After the last batch of an epoch, the loss is measured in any case, and once more if the run went on.
        measured = 2 if trainer.is_last_batch else 1
        measuring = sum(recorder.measurements.seconds_with_validation for recorder in recorders if recorder.report)
        return measured * measuring + working * slower
