"""The callback that measures and records a run, and so makes its :class:`~gd_lightning.History`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.optim import Optimizer

from gd_lightning.callbacks.chunk_rows import batch_loss, carried_out
from gd_lightning.callbacks.forecast import Forecast
from gd_lightning.callbacks.logger_directory import directory_of
from gd_lightning.callbacks.loss_measurements import Measurements, any_is_due, is_due
from gd_lightning.callbacks.outcome import ending
from gd_lightning.callbacks.parameter_columns import LinearPath
from gd_lightning.callbacks.replaced_weights import averages_before, may_replace_weights
from gd_lightning.callbacks.row_limit import RowLimit
from gd_lightning.callbacks.run_writer import RunReport
from gd_lightning.callbacks.trainer_info import problem_of, variant_of
from gd_lightning.callbacks.update_rows import UpdateRows
from gd_lightning.engine import Chunk, ChunkRequest, Trace
from gd_lightning.errors import InputError, first_line
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.measures import Stopwatch
from gd_lightning.module import RegressionModule, check_processes
from gd_lightning.plain_numbers import as_python
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.summary import RunSummary
from gd_lightning.variants import Variant

_RECORD = "gd_lightning_record"  # a key of checkpoints


class HistoryRecorder(Callback):
    """Records train loss, batch loss, learning rate and parameters, without changing a bit of the result.

    Train loss and validation loss are measured at one set of weights: before the first update and at each epoch's
    end, the train loss in a pass of its own over the training set. Batch loss, learning rate and, for linear
    regressors, parameters and gradients are recorded at every update, or every k-th of a long run. If
    the length of a run is unknown, k is doubled as it grows, and of the rows with measured losses only the first in
    each k updates is kept: memory, files and checkpoints stay small. The history is written to
    ``history.csv`` and ``summary.json`` in the run's directory, the logger's or that of a ``LastCheckpoint``, and to
    every logger: to TensorBoard a family of tags per axis, to others as metrics against the number of updates.
    ``train_loss`` is also among the metrics that callbacks such as ``EarlyStopping`` can monitor.

    It also works with any ``LightningModule`` that trains on batches (x, y): its ``forward`` gives the predictions, and
    the loss is its ``summed_loss(prediction, target)``, by default the squared error.

    Args:
        every_n_updates: How often an update is recorded; auto: as often as max_rows allows.
        title: Title of the run in its run card; null: the name of the problem.
        max_rows: How many updates auto records at most; twice as many where the length of the run is not known.
        train_loss_every: How often the train loss is measured within epochs, in updates; each time is a pass over the
            training set. auto: never, and of linear regressors with the loss mse it is computed from the parameters
            that are recorded, whatever is given here.

    Raises:
        InputError: An interval or a number of rows is below 1.

    Example:
        >>> recorder = HistoryRecorder()
        >>> trainer = Trainer(callbacks=[recorder], logger=False)  # doctest: +SKIP
        >>> len(recorder.history)
        0
    """

    max_chunk_seconds = math.inf
    updates_between_hooks: int = 0
    """Number of updates after which a chunk ends, so that hooks are called; 0: a chunk may have any length."""
    takes_validations_from_trace = True
    """Validations of epochs within a chunk are read from its trace, and their hooks are not needed."""
    rows: UpdateRows
    """Adds the rows of updates; made when training begins, as are the next two."""
    measurements: Measurements
    """Adds what is measured at one set of weights."""
    report: RunReport | None = None
    """Writes the history, and the summary at the end."""

    def __init__(
        self,
        every_n_updates: int | Literal["auto"] = "auto",
        title: str | None = None,
        max_rows: int = 20_000,
        train_loss_every: int | Literal["auto"] = "auto",
    ) -> None:
        every_n_updates, max_rows, train_loss_every = map(as_python, (every_n_updates, max_rows, train_loss_every))
        if every_n_updates != "auto" and every_n_updates < 1:
            raise InputError(f"cannot record every {every_n_updates} updates; use auto or a whole number from 1")
        if max_rows < 1:
            raise InputError(f"cannot record at most {max_rows} updates; use a whole number from 1")
        if train_loss_every != "auto" and train_loss_every < 1:
            raise InputError(
                f"cannot measure the train loss every {train_loss_every} updates; use auto or a whole number from 1"
            )
        self.every_n_updates = every_n_updates
        self.train_loss_every = train_loss_every
        self.title = title
        self.max_rows = max_rows
        self.history = History()
        self.variant: Variant | None = None
        self.directory: Path | None = None
        self.watch = Stopwatch()
        """Counts the seconds of training, over all continuations of a run."""
        self.varied: Mapping[str, Any] = {}
        """The options in which the run differs from those that it is compared with, by their full names."""
        self._recording = False
        self._weights = ""
        self._resumed: dict[str, Any] | None = None
        self._reported: dict[str, Tensor] = {}

    @property
    def summary(self) -> RunSummary | None:
        """The summary of a run; None before its end."""
        return None if self.report is None else self.report.summary

    # Trainer hooks, in the order of their calls

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move after the callbacks that average weights, and take over the logging of validation metrics."""
        if stage == "fit":
            check_processes(trainer)
            averages_before(trainer, self)
        if stage == "fit" and trainer.loggers and isinstance(pl_module, RegressionModule):
            pl_module.log_to_logger = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the logging of validation metrics."""
        if isinstance(pl_module, RegressionModule):
            pl_module.log_to_logger = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first update, or continue the history of a continued run."""
        resumed, self._resumed = self._resumed, None
        self._recording, self._weights, self._reported = False, "", {}
        self.watch = Stopwatch(0.0 if resumed is None else resumed["seconds"])
        self.history = History() if resumed is None else History.from_state_dict(resumed["history"])
        self.history.outcome, self.history.reason = None, ""
        # The directory is determined now, while all processes respond: after an exception the others may have ended.
        self.directory, self.variant = directory_of(trainer), variant_of(trainer)
        path = LinearPath.of(pl_module, trainer.train_dataloader, problem_of(trainer))
        # Numbers of updates are int64.
        every = None if self.every_n_updates == "auto" else min(self.every_n_updates, 2**62)
        limit = RowLimit(float(trainer.estimated_stepping_batches), self.max_rows, every)
        is_known = self.train_loss_every == "auto" or (path is not None and path.knows_train_loss)
        self.updates_between_hooks = 0 if is_known else int(self.train_loss_every)
        samples = 0 if self.variant is None else self.variant.train_samples
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        self.rows = UpdateRows(trainer, self.history, path, self.variant, limit, self.watch)
        self.measurements = Measurements(self.rows, samples, parameters)
        self.report = RunReport(trainer, pl_module, self.variant, path, self.directory, self.title, self.varied)
        self._recording = True
        if resumed is None:
            self.rows.add_present(trainer)
            # Set first: if this measurement fails, so would another one after the failure.
            self.measurements.at = trainer.global_step
            self.measurements.measure(trainer, pl_module)
            return
        limit.go_on(resumed, self.history, trainer.global_step)
        self.measurements.go_on(resumed, trainer)
        within_epoch = trainer.fit_loop.restarted_mid_epoch
        self.rows.move_to(trainer, trainer.fit_loop.batch_idx + 1 if within_epoch else 0)
        self.report.begin_again(trainer.global_step)
        if within_epoch:  # the epoch has started, so no hook will start the stopwatch
            self.watch.start()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the history, so that a continued run has it from the beginning."""
        if self._recording:
            self.rows.collect(trainer)
        if len(self.history):
            checkpoint[_RECORD] = {
                "history": self.history.state_dict(),
                "seconds": self.watch.seconds,
                **self.rows.limit.state(),
                **self.measurements.state(),
                "averaged": self._weights if self.measurements.has_averaged else "",
            }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Load the history of the run that is continued.

        Raises:
            InputError: The weights of the run's last update were not saved.
        """
        self._resumed = checkpoint.get(_RECORD)
        if trainer.state.fn == "fit" and self._resumed is not None and self._resumed.get("averaged"):
            raise InputError(
                f"cannot continue this run, because its weights are {self._resumed['averaged'].partition(';')[0]}, and "
                "those of its last update are not kept; start a new run with more epochs"
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the stopwatch."""
        self.watch.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Decide whether the next update is recorded."""
        self.rows.begin_update(trainer)

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request that recorded updates be saved, and that the ends of epochs be measured."""
        module = trainer.lightning_module
        request = self.measurements.request(trainer, module)

        def add(chunk: Chunk, trace: Trace) -> None:
            at_ends = self.measurements.within(trainer, module, chunk, trace, is_interrupted=True)
            self.rows.add_chunk(trainer, chunk, trace, at_ends)

        left = self.rows.limit.epochs_left(trainer.global_step, int(trainer.num_training_batches))
        epochs = min(request.epochs, left)
        return replace(request, save_at=self.rows.begin_chunk(trainer), epochs=epochs, interrupted=add)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Save the parameters and gradients before the update."""
        self.rows.begin_step(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the rows of an update or of a chunk."""
        if (carried := carried_out(outputs)) is None:
            self.rows.add_update(trainer, batch_loss(outputs), batch_idx + 1)
        else:
            self.rows.add_chunk(trainer, *carried, self.measurements.within(trainer, pl_module, *carried))
        with_loss = is_due(self, trainer)
        if not trainer.is_last_batch and (with_loss or any_is_due(trainer)):  # the end of an epoch is measured anyway
            self.watch.stop()
            self.measurements.measure_by_update(trainer, pl_module, with_loss)
            self.watch.start()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the stopwatch: validation does not count as training."""
        if self._recording:
            self.measurements.begin_validation(trainer)
        self._resume = self.watch.running
        self.watch.stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the stopwatch."""
        if self._recording:
            self.measurements.add_validation(trainer)
        if self._resume:
            self.watch.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure at the epoch's end, and write to the loggers if that is due."""
        assert self.report is not None
        self.watch.stop()
        self.rows.add_present(trainer)
        self.measurements.measure_at_end_of_epoch(trainer, pl_module)
        self.report.write_from_time_to_time(self.history)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record and write how the run ended."""
        self.watch.stop()
        self.measurements.measure_where_it_stopped(trainer, pl_module)
        self._weights = self.measurements.measure_replaced(trainer, pl_module)
        outcome, reason = ending(trainer)
        if self.history.has_diverged:
            outcome, forecasts = Outcome.DIVERGED, callbacks_of(trainer, Forecast)
            cause = forecasts[0].cause_and_cure(trainer, pl_module) if forecasts else ""
            reason = "; ".join(part for part in (self.history.divergence, cause) if part)
        self._finish(trainer, outcome, reason)
        if may_replace_weights(trainer, behind=self):
            self._reported = {name: value.detach().cpu().clone() for name, value in pl_module.named_parameters()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Correct the summary if a later callback has replaced the weights since they were measured."""
        reported, self._reported = self._reported, {}
        now = {name: value.detach().cpu() for name, value in pl_module.named_parameters() if name in reported}
        is_same = (torch.equal(now[name].nan_to_num(), reported[name].nan_to_num()) for name in now)
        if now and not all(is_same) and self.report is not None:
            self.report.correct(
                trainer, "those of the last update, which a callback listed after HistoryRecorder has replaced"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the history of a run that was interrupted or has failed.

        Raises:
            InputError: Processes were forked or spawned, and each of them refused to train.
        """
        from_processes = isinstance(exception, (ProcessRaisedException, ProcessExitedException))
        if from_processes and trainer.state.fn == "fit":
            try:
                check_processes(trainer)
            except InputError as refusal:
                raise refusal from None
        if self._recording:
            self.watch.stop()
            if trainer.world_size == 1:  # other processes may have ended, with their parts of the losses
                self.measurements.measure_where_it_failed(trainer, pl_module)
            self._finish(trainer, Outcome.INTERRUPTED, first_line(exception))

    def measure_within_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the train loss at the current weights, after an update; all processes must call this.

        Args:
            trainer: The Trainer.
            pl_module: The module that it trains.
        """
        self.watch.stop()
        self.rows.add_present(trainer)
        self.measurements.measure_train_loss(trainer, pl_module)
        self.watch.start()

    def _finish(self, trainer: Trainer, outcome: Outcome, reason: str) -> None:
        assert self.report is not None
        self._recording = False
        self.report.finish(trainer, self.history, outcome, reason, self._weights)
