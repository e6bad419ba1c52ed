"""Stopping criteria: convergence, no progress, or a time budget."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from gd_lightning.callbacks.outcome import EndsRun
from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.callbacks.recorder_lookup import recorder_before
from gd_lightning.callbacks.smallest_train_loss import Optimum
from gd_lightning.callbacks.trainer_info import batches_for_measuring, loss_of
from gd_lightning.engine import ChunkRequest
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import can_stop_early
from gd_lightning.measures import gradient_norm_over, unchanged
from gd_lightning.records.history import Outcome

_PRECISION = 0.01  # fraction of a time budget that a chunk of updates may take
_ROUNDING = 1e-12
_NOTHING = 1e-12  # fraction of the loss of the best constant that rounding in float32 leaves of a least-squares loss
_COUNTS = "gd_lightning_no_progress"  # a key of checkpoints
_NOTHING_COUNTED = {"until": -1.0, "lowest": math.inf, "waited": 0.0}
_MEASURED_AT_ONCE = 4_096  # samples; what the gradient needs of them stays on the device until it is computed


class Criterion(EndsRun):
    """Base class of criteria, checked when the train loss is measured: before the first update, and after each epoch.

    The first process decides for all. A decision depends only on the history and the state of the criterion, which are
    both saved in checkpoints. So a run that was ended by a criterion ends at once when it is continued, unless the
    options differ. A criterion waits until ``min_epochs`` and ``min_steps`` of the Trainer are reached.
    """

    outcome = Outcome.CONVERGED
    within_epochs = False
    """Whether it can be met within an epoch."""

    def __init__(self) -> None:
        self._reason = ""

    @property
    def ending(self) -> tuple[Outcome, str] | None:
        """Outcome and reason if this criterion ended the run, else None."""
        return (self.outcome, self._reason) if self._reason else None

    @abstractmethod
    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        """Return the reason to end the run now; "" if there is none."""

    def check(self, recorder: HistoryRecorder) -> None:
        """Refuse a run in which this criterion can never be met.

        Raises:
            InputError: The run does not record what the criterion needs.
        """
        if "train_loss" not in recorder.history:
            raise InputError(
                f"cannot use {type(self).__name__}, because the train loss of these data cannot be measured; give data "
                "that have a length and pairs (x, y)"
            )

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request that chunks end with the current epoch; subclasses with a bound on the train loss override this."""
        return ChunkRequest(epochs=1)

    # Trainer hooks, in the order of their calls

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the recorder."""
        if stage == "fit":
            self._recorder = recorder_before(trainer, self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the criterion at the start of the run, or at the state of a continued run."""
        self._reason = ""
        self.check(self._recorder)
        if self.within_epochs or not trainer.fit_loop.restarted_mid_epoch:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check after a complete epoch; an epoch cut short by another stop is checked when the run is continued."""
        if trainer.is_last_batch:
            self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        reason = trainer.strategy.broadcast(self.reason_to_end(self._recorder))
        if reason:
            self._end(trainer, reason)

    def _end(self, trainer: Trainer, reason: str) -> None:
        if can_stop_early(trainer):
            self._reason, trainer.should_stop = reason, True


class LossBelow(Criterion):
    """Ends a run as converged where the train loss is at most a threshold.

    Args:
        threshold: The train loss that is low enough.

    Raises:
        InputError: The bound is not a finite number.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        if not math.isfinite(threshold):
            raise InputError(f"cannot use threshold {threshold} as a train loss; use a finite number")
        self.threshold = threshold

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request that a chunk end when the train loss is low enough."""
        return ChunkRequest(low=self.threshold)

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        """Compare the latest train loss with the threshold."""
        return _is_low(recorder, "train_loss", self.threshold)


class ExcessBelow(Criterion):
    """Ends a run as converged where the train loss is close to the smallest possible one, the least-squares loss.

    Only a linear regressor with squared error on data in memory or in a mapped file has a least-squares solution.

    Args:
        excess: Allowed excess of the train loss over the least-squares loss, absolute or relative.
        relative: Whether ``excess`` is relative to the least-squares loss.

    Raises:
        InputError: The bound is not a finite number above 0.
    """

    def __init__(self, excess: float, relative: bool = False) -> None:
        super().__init__()
        if not 0 < excess < math.inf:
            raise InputError(f"excess {excess} cannot be reached with certainty; use a finite number above 0")
        self.excess = excess
        self.relative = relative

    def check(self, recorder: HistoryRecorder) -> None:
        """Refuse a run without a least-squares loss.

        Raises:
            InputError: There is no least-squares loss, or the excess is relative to one that is 0 up to rounding.
        """
        super().check(recorder)
        optimum = _optimum_of(recorder)
        if optimum is None:
            raise InputError(
                "cannot use ExcessBelow, because only a linear regressor with the loss mse, and no loss function of "
                "its own, has a least-squares solution; use LossBelow or GradientNormBelow"
            )
        if self.relative and optimum.loss <= _NOTHING * optimum.constant_loss:
            raise InputError(
                "cannot use ExcessBelow with relative, because the least-squares loss is 0 up to rounding "
                f"({optimum.loss:.3g}, that of the best constant {optimum.constant_loss:.3g}); give an excess in "
                "units of the loss"
            )

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request that a chunk end when the train loss may be low enough; the exact check follows after the chunk."""
        optimum = _optimum_of(self._recorder)
        if optimum is None:
            return ChunkRequest()
        excess = self.excess * (optimum.loss if self.relative else 1.0)
        return ChunkRequest(low=optimum.loss + excess + _ROUNDING * (optimum.loss + excess))

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        """Compare the latest train loss with the least-squares loss."""
        loss, optimum = recorder.history.in_last_row("train_loss"), _optimum_of(recorder)
        if loss is None or optimum is None:
            return ""
        smallest = optimum.loss
        unit = smallest if self.relative else 1.0
        if not loss - smallest <= self.excess * unit:
            return ""
        of = " times the least-squares loss" if self.relative else ""
        return (
            f"the train loss {loss:.6g} is {(loss - smallest) / unit:.3g}{of} above the least-squares loss, at most "
            f"{self.excess:g}"
        )


class GradientNormBelow(Criterion):
    """Ends a run as converged where the gradient of the train loss is nearly zero.

    The gradient is computed at fixed weights over the whole training set, like the train loss: without dropout and
    penalties. With a penalty it is therefore not zero at the optimum. Each check takes a forward and a backward pass;
    the norm is recorded as ``gradient_norm``.

    Args:
        threshold: The Euclidean norm, over all parameters, that is small enough.

    Raises:
        InputError: The bound is not a finite number above 0.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        if not 0 < threshold < math.inf:
            raise InputError(f"cannot use threshold {threshold} as a gradient norm; use a finite number above 0")
        self.threshold = threshold

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Measure the gradient norm, without mixed precision, in which small gradients vanish."""
        device = pl_module.device
        batches = batches_for_measuring(trainer.train_dataloader, device, _MEASURED_AT_ONCE)
        if batches is None:
            return {}
        in_full = torch.autocast(device.type, enabled=False)
        with unchanged(pl_module, device), trainer.precision_plugin.forward_context(), in_full, torch.enable_grad():
            norm = gradient_norm_over(batches, pl_module, loss_of(pl_module), pl_module.parameters())
        return {"gradient_norm": norm}

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        """Compare the latest gradient norm with the threshold."""
        return _is_low(recorder, "gradient_norm", self.threshold)


class LossPlateau(Criterion):
    """Stops a run whose train loss has not fallen for some epochs.

    An epoch is progress if its train loss is below the lowest so far by more than the fraction ``min_delta``. The
    outcome is *stopped*, not *converged*: a run may also make no progress on a plateau, or with a learning rate that is
    too large.

    Args:
        epochs: Number of consecutive epochs without progress that end the run.
        min_delta: Smallest relative decrease of the lowest train loss that counts as progress.

    Raises:
        InputError: ``epochs`` or ``min_delta`` is out of range.
    """

    outcome = Outcome.STOPPED

    def __init__(self, epochs: int = 10, min_delta: float = 0.0) -> None:
        super().__init__()
        if epochs < 1:
            raise InputError(f"cannot wait {epochs} epochs for progress; use 1 or more")
        if not 0 <= min_delta < 1:
            raise InputError(f"cannot use min_delta {min_delta} as a part of the loss; use 0 or more, and less than 1")
        self.epochs = epochs
        self.min_delta = min_delta
        self._counted, self._saved = _NOTHING_COUNTED, None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue counting, or recount from the beginning of the history of a continued run."""
        self._counted, self._saved = self._saved or _NOTHING_COUNTED, None
        super().on_train_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the count, since a long run removes rows from its history."""
        checkpoint.setdefault(_COUNTS, {})[f"{self.min_delta}"] = self._counted

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Load the count of the continued run if its ``min_delta`` was the same."""
        self._saved = checkpoint.get(_COUNTS, {}).get(f"{self.min_delta}")

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request that a chunk end at the first epoch that can be the last; one epoch each if rows are removed."""
        if self._recorder.rows.limit.removes_ends:
            return ChunkRequest(epochs=1)
        return ChunkRequest(epochs=self.epochs - self._counted["waited"])

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        """Count the epochs without progress since the last check."""
        history, (until, lowest, waited) = recorder.history, self._counted.values()
        for row in history.rows_at(history.measured("train_loss", history.first_row_behind(until))):
            if row["epoch"] != int(row["epoch"]):
                continue
            until = row["update"]
            if row["train_loss"] < lowest * (1 - self.min_delta):
                lowest, waited = row["train_loss"], 0
            elif row["update"] > 0:
                waited += 1
        self._counted = {"until": until, "lowest": lowest, "waited": waited}
        if waited < self.epochs:
            return ""
        part = f" by more than {self.min_delta:g} of it" if self.min_delta else ""
        return f"the train loss has not fallen below {lowest:.6g}{part} for {waited:g} epochs"


class TimeBudget(Criterion):
    """Ends a run after the update at which its seconds of training are used up.

    Seconds are those of the recorder: measuring, drawing and saving do not count, and a continued run keeps counting.
    ``trainer.max_time`` limits the wall-clock time instead: on the command line that of the whole command.

    Args:
        seconds: The budget.

    Raises:
        InputError: The number of seconds is not above 0.
    """

    outcome = Outcome.COMPLETED
    within_epochs = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        if not 0 < seconds < math.inf:
            raise InputError(f"cannot train for {seconds} seconds; use a finite number above 0")
        self.seconds = seconds
        self.max_chunk_seconds = _PRECISION * seconds

    def check(self, recorder: HistoryRecorder) -> None:
        """Accept every run."""

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Allow chunks of any number of epochs; their seconds are limited."""
        return ChunkRequest()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Check after every update."""
        used = trainer.strategy.reduce_boolean_decision(self._is_used(self._recorder), all=False)
        if used:
            self._end(trainer, self._words)

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        """Compare the seconds of training with the budget."""
        return self._words if self._is_used(recorder) else ""

    @property
    def _words(self) -> str:
        return f"the {self.seconds:g} seconds of training were used"

    def _is_used(self, recorder: HistoryRecorder) -> bool:
        return recorder.watch.seconds >= self.seconds


def _is_low(recorder: HistoryRecorder, column: str, threshold: float) -> str:
    """Return the reason to end a run whose newest value of a column is at most a threshold; "" if it is above."""
    value = recorder.history.in_last_row(column)
    if value is None or not value <= threshold:
        return ""
    return f"the {column.replace('_', ' ')} {value:.6g} is at most {threshold:g}"


def _optimum_of(recorder: HistoryRecorder) -> Optimum | None:
    """Return the least-squares solution of a run; None if it has none."""
    return None if recorder.report is None else recorder.report.optimum
