"""When a run is measured, and where the record goes: the callback that makes the :class:`~gd_lightning.History`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.optim import Optimizer

from gd_lightning.callbacks.chunk_rows import Begin, ChunkRows, add_rows, axes_at, carried_out
from gd_lightning.callbacks.directories import directory_of
from gd_lightning.callbacks.ending import ending
from gd_lightning.callbacks.forecast import Forecast
from gd_lightning.callbacks.linear_path import LinearPath
from gd_lightning.callbacks.measuring import Measuring
from gd_lightning.callbacks.replaced_weights import averages_before, has_averaged, may_replace_weights, whose_weights
from gd_lightning.callbacks.row_limit import RowLimit
from gd_lightning.callbacks.run_loggers import RunLoggers
from gd_lightning.callbacks.trainer_info import (
    batches_for_measuring,
    learning_rate,
    measured_loss_of,
    problem_of,
    title_of,
    validation_loader,
    variant_of,
)
from gd_lightning.engine import Chunk, ChunkRequest, SaveAt, Trace
from gd_lightning.errors import InputError, first_line
from gd_lightning.lightning_internals import validates_here
from gd_lightning.measures import Stopwatch, mean_loss_over, unchanged
from gd_lightning.module import (
    RegressionModule,
    check_processes,
    has_least_squares,
    is_squared_error,
    linear_network,
)
from gd_lightning.records.history import AXES, History, Outcome
from gd_lightning.threads import one_thread_if
from gd_lightning.tracking.run_directory import HISTORY, SUMMARY, write_json, write_text
from gd_lightning.tracking.summary import FINAL, RunSummary, number, run_card, summarize
from gd_lightning.variants import Variant

_PENDING = 2_000  # updates whose tensors are kept before they are turned into numbers
_SECONDS_BETWEEN_WRITES = 5.0
_SECONDS_PER_ROW, _SECONDS_PER_CELL = 3e-4, 1e-6  # of a row for a logger, and of a number in history.csv
_LITTLE = 2**22  # multiply-adds of a measurement, for which threads are not worth while
_RECORD = "gd_lightning_record"  # a key of checkpoints


class HistoryRecorder(Callback):
    """Records train loss, batch loss, learning rate and parameters, without changing a bit of the result.

    Train loss and validation loss are measured at one set of weights: before the first update and at each epoch's
    end, the train loss in a pass of its own over the training set. Batch loss, learning rate and, for linear
    regressors, parameters and gradients are recorded at every update, or every k-th of a long run. Where nobody knows
    how long a run is, k is doubled as it grows, and of the rows at the ends of epochs, and of others with measured
    losses, the first of each k updates remains: memory, files and checkpoints stay small. The record goes to
    ``history.csv`` and ``summary.json`` in the run's directory, the logger's or that of a ``LastCheckpoint``, and to
    every logger: to TensorBoard a family of tags per axis, to others as metrics against the number of updates.
    ``train_loss`` is also among the metrics that callbacks such as ``EarlyStopping`` can monitor.

    It also serves on a ``LightningModule`` of your own that trains on batches (x, y): its ``forward`` gives the
    predictions, and the loss is its ``summed_loss(prediction, target)``, or the squared error without one.

    Args:
        every_n_updates: How often an update is recorded; auto: as often as max_rows allows.
        title: What the run is called in its run card; null: the name of the problem.
        max_rows: How many updates auto records at most; twice as many where the length of the run is not known.

    Raises:
        InputError: An interval or a number of rows is below 1.

    Example:
        >>> recorder = HistoryRecorder()
        >>> trainer = Trainer(callbacks=[recorder], logger=False)  # doctest: +SKIP
        >>> len(recorder.history)
        0
    """

    max_chunk_seconds = math.inf

    def __init__(
        self, every_n_updates: int | Literal["auto"] = "auto", title: str | None = None, max_rows: int = 20_000
    ) -> None:
        if every_n_updates != "auto" and every_n_updates < 1:
            raise InputError(f"cannot record every {every_n_updates} updates; use auto or a whole number from 1")
        if max_rows < 1:
            raise InputError(f"cannot record at most {max_rows} updates; use a whole number from 1")
        self.every_n_updates = every_n_updates
        self.title = title
        self.max_rows = max_rows
        self.history = History()
        self.variant: Variant | None = None
        self.directory: Path | None = None
        self._summary: RunSummary | Callable[[], RunSummary] | None = None
        self._path: LinearPath | None = None
        self._has_least_squares = False
        self._watch = Stopwatch()
        self._measuring = self._validating = 0.0  # seconds that it took the last time
        self._recording = False
        self._resumed: dict[str, Any] | None = None
        self._weights, self._averaged = "", False
        self._reported: dict[str, Tensor] = {}
        self._gradients: Tensor | None = None

    # Trainer hooks, in the order of their calls

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come behind the callbacks that average weights, and take the writing of validation metrics over."""
        if stage == "fit":
            check_processes(trainer)
            averages_before(trainer, self)
        if stage == "fit" and trainer.loggers and isinstance(pl_module, RegressionModule):
            pl_module.log_to_logger = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give it back."""
        if isinstance(pl_module, RegressionModule):
            pl_module.log_to_logger = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first update, or go on with the record of the run that is continued."""
        resumed, self._resumed = self._resumed, None
        self._watch = Stopwatch(0.0 if resumed is None else resumed["seconds"])
        self._recording = False
        self.history, self._summary = History(), None
        self._marks: list[dict[str, float]] = []
        self._tensors: list[Tensor] = []
        self._validated_at = -1
        # Asked for now, while every process can answer: in an exception the others may be gone.
        self.directory = directory_of(trainer)
        self.variant = variant_of(trainer)
        self._parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        self._path = LinearPath.of(pl_module, trainer.train_dataloader, problem_of(trainer))
        self._has_least_squares = self._path is not None and has_least_squares(pl_module)
        updates = float(trainer.estimated_stepping_batches)
        self._limit = RowLimit(updates, self.max_rows, None if self.every_n_updates == "auto" else self.every_n_updates)
        self._of_updates = {*AXES, "batch_loss", "lr", *([] if self._path is None else self._path.column_names(True))}
        self._stop_measures: list[str] = []
        self._weights, self._averaged, self._reported = "", False, {}
        self._written_at = time.monotonic()
        self._lr = learning_rate(trainer)
        self._loggers = RunLoggers(trainer, pl_module, self.variant)  # it may refuse to begin
        self._recording = True
        if resumed is not None:
            self._continue(trainer, resumed)
            return
        self._mark = self._mark_of(trainer, updates_in_epoch=0)
        self._append_newest(trainer)
        self._measured_at = trainer.global_step  # a network that cannot be measured here cannot be when it has failed
        self._measure(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the record, so that a continued run has it from its beginning."""
        if self._recording:
            self.collect(trainer)
        if len(self.history):
            checkpoint[_RECORD] = {
                "history": self.history.state_dict(),
                "seconds": self._watch.seconds,
                **self._limit.state(),
                "validated_at": self._validated_at,
                "measured_at": self._measured_at,
                "stop_measures": self._stop_measures,
                "averaged": self._weights if self._averaged else "",
            }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up the record of the run that is continued.

        Raises:
            InputError: The weights of its last update are gone.
        """
        self._resumed = checkpoint.get(_RECORD)
        if trainer.state.fn == "fit" and self._resumed is not None and self._resumed.get("averaged"):
            raise InputError(
                f"cannot continue this run, because its weights are {self._resumed['averaged'].partition(';')[0]}, and "
                "those of its last update are not kept; train anew with more epochs"
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock run."""
        self._watch.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Decide whether the coming update is recorded; the last of an epoch always is."""
        if self._limit.is_due(trainer.global_step):
            self.collect(trainer)
        self._limit.apply(self.history, trainer.global_step, self._of_updates)
        self._recorded = trainer.is_last_batch or (trainer.global_step + 1) % self._limit.every == 0
        self._gradients = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Save what the update starts from; such as LBFGS asks again within an update."""
        self._lr = float(optimizer.param_groups[0]["lr"])
        if self._gradients is None and self._recorded and self._path is not None and self._path.names_gradients:
            self._gradients = self._path.gradients()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what the update leaves behind, as tensors: to read each would be to wait for the device."""
        if (carried := carried_out(outputs)) is not None:
            self._extend(trainer, *carried)
            return
        made_update = trainer.global_step > self._mark["update"]  # a module may accumulate, or skip
        self._mark = self._mark_of(trainer, batch_idx + 1)
        loss = batch_loss(outputs)
        if not self._recorded or not made_update or loss is None:
            return
        kept = [loss]
        if self._path is not None:
            kept.append(self._path.parameters())
            if self._gradients is not None:
                kept.append(self._gradients)
        self._marks.append(self._mark)
        self._tensors.append(torch.cat(kept))
        if len(self._marks) >= _PENDING:
            self.collect(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is no training: stop the clock."""
        self._validation_begun = time.monotonic()
        self._for_stop = self._recording and trainer.should_stop and not _validates_anyway(trainer)
        self._resume = self._watch.running
        self._watch.stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock run on."""
        if self._recording:
            # They belong to the present weights, in the middle of an epoch too.
            self.collect(trainer)
            self._append_newest(trainer)
            metrics = trainer.callback_metrics.items()
            measured = {name: float(value) for name, value in metrics if name.startswith("val_")}
            self.history.add_to_last_row(measured)
            if self._for_stop:
                self._stop_measures = list(measured)
            else:
                self._validated_at = trainer.global_step
            self._validating = time.monotonic() - self._validation_begun
        if self._resume:
            self._watch.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure at the epoch's end, and write from time to time."""
        self._watch.stop()
        self.collect(trainer)
        self._append_newest(trainer)
        self._measure(trainer, pl_module)
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stop_measures = [name for name in self._stop_measures if name != "val_loss"]
        else:
            # Stopped within the epoch: without the stop, nothing would have been measured here.
            self._stop_measures += self._measured
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self._loggers.write_new(self.history)
            self._written_at = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell how the run ended."""
        self._watch.stop()
        if self._measured_at != trainer.global_step:  # continued, and at its end at once
            self._append_newest(trainer)
            self._measure(trainer, pl_module)
            self._stop_measures = list(self._measured)
        self._weights = self._measure_replaced(trainer, pl_module)
        outcome, reason = ending(trainer)
        if self.history.has_diverged:
            outcome, forecast = Outcome.DIVERGED, _forecast_among(trainer)
            cause = "" if forecast is None else forecast.cause_and_cure(trainer, pl_module)
            reason = "; ".join(part for part in (self.history.divergence, cause) if part)
        self._finish(trainer, pl_module, outcome, reason)
        if may_replace_weights(trainer, behind=self):
            self._reported = {name: value.detach().cpu().clone() for name, value in pl_module.named_parameters()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so where a callback behind this one has replaced the weights since they were measured."""
        reported, self._reported = self._reported, {}
        now = {name: value.detach().cpu() for name, value in pl_module.named_parameters() if name in reported}
        is_same = (torch.equal(now[name].nan_to_num(), reported[name].nan_to_num()) for name in now)
        if not now or all(is_same) or self.summary is None:
            return
        self.summary.weights = "those of the last update, which a callback behind HistoryRecorder has replaced since"
        if self.directory is not None and trainer.is_global_zero:
            write_json(self.directory / SUMMARY, self.summary.as_dict())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lose nothing of what was recorded.

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
            self._watch.stop()
            if trainer.world_size == 1:  # the other processes may be gone, and their parts of the losses with them
                self.collect(trainer)
                self._measure_where_it_stopped(trainer, pl_module)
            self._finish(trainer, pl_module, Outcome.INTERRUPTED, first_line(exception))

    def _measure_where_it_stopped(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the train loss at the weights that an interrupted run has come to, if they can still be used."""
        if self._measured_at == trainer.global_step:
            return
        if trainer.global_step > self._mark["update"]:  # the callbacks behind its last update were not all called
            in_epoch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            self._mark = self._mark_of(trainer, in_epoch.processed)
        self._append_newest(trainer)
        # What interrupted the run may do the same to a measurement, and the record is not to be lost for that.
        with contextlib.suppress(Exception):
            self._measure_losses(trainer, pl_module, {"train_loss": trainer.train_dataloader})
            self._stop_measures = list(self._measured)

    # What others may ask

    @property
    def summary(self) -> RunSummary | None:
        """What a run came to; None before its end."""
        if callable(self._summary):
            self._summary = self._summary()
        return self._summary

    @property
    def least_squares_loss(self) -> float | None:
        """The smallest train loss that there is, where the module is linear and its loss the squared error."""
        optimum = self._path.optimum if self._path is not None and self._has_least_squares else None
        return None if optimum is None else optimum.loss

    @property
    def constant_loss(self) -> float | None:
        """The train loss of the best constant, where R2 is 0; known where the least squares are."""
        optimum = self._path.optimum if self._path is not None and self._has_least_squares else None
        return None if optimum is None else optimum.constant_loss

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all continuations of the run."""
        return self._watch.seconds

    @property
    def seconds_of_measuring(self) -> float:
        """How many seconds it took the last time to measure at one set of weights, with the validation."""
        return self._measuring + self._validating

    @property
    def seconds_of_writing(self) -> float:
        """How many seconds of work it is to write what would be written if the run ended now."""
        rows = self._loggers.rows_due(self.history)
        cells = len(self.history) * len(self._of_updates) if rows or self.directory is not None else 0
        return rows * _SECONDS_PER_ROW + cells * _SECONDS_PER_CELL

    def measure_within_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the train loss at the present weights, behind an update; every process must call it."""
        self._watch.stop()
        self.collect(trainer)
        self._append_newest(trainer)
        self._measure_losses(trainer, pl_module, {"train_loss": trainer.train_dataloader})
        self._watch.start()

    # Recording

    def _continue(self, trainer: Trainer, resumed: dict[str, Any]) -> None:
        """Go on with the record of a run, as if it had never been stopped."""
        self.history = History.from_state_dict(resumed["history"])
        self.history.outcome, self.history.reason = None, ""
        self._limit.go_on(resumed, self.history, trainer.global_step)
        self._validated_at, self._measured_at = resumed["validated_at"], resumed["measured_at"]
        if resumed["stop_measures"]:
            self.history.forget_last(resumed["stop_measures"])
        if "train_loss" in resumed["stop_measures"]:  # else it stopped at an epoch's end, where that is measured
            self._measured_at = -1
            if trainer.global_step % self._limit.every and self._validated_at != trainer.global_step:
                self.history.drop_last()
        if trainer.val_dataloaders is None and "val_loss" in self.history.columns and trainer.enable_validation:
            # It was measured at the end of every epoch; Lightning reads the data in the first epoch that validates.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True
        within_epoch = trainer.fit_loop.restarted_mid_epoch
        self._mark = self._mark_of(trainer, trainer.fit_loop.batch_idx + 1 if within_epoch else 0)
        self._loggers.begin_again(trainer.global_step)
        if within_epoch:  # no epoch starts
            self._watch.start()

    def _mark_of(self, trainer: Trainer, updates_in_epoch: int) -> dict[str, float]:
        """Return where a run stands on each axis."""
        axes: dict[str, Any] = {"epoch": float(trainer.current_epoch), "samples": 0}
        if self.variant is not None:
            per_epoch = self._updates_per_epoch(trainer, self.variant)
            axes = axes_at(self.variant, per_epoch, trainer.current_epoch, updates_in_epoch)
        return {"update": trainer.global_step, **axes, "seconds": self._watch.seconds, "lr": self._lr}

    def _updates_per_epoch(self, trainer: Trainer, variant: Variant) -> int:
        """Return how many updates an epoch makes: less than a pass where limit_train_batches says so."""
        return int(min(variant.updates_per_epoch, trainer.num_training_batches))

    def _append_newest(self, trainer: Trainer) -> None:
        """Make sure that the newest row is the one of the present weights."""
        if not len(self.history) or self.history.last("update") != trainer.global_step:
            parameters = None if self._path is None else self._path.parameters()[None]
            add_rows(self.history, self._path, self._mark, parameters)

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Have the updates that are recorded leave what is recorded of them."""
        done, path = trainer.global_step, self._path
        self._lr = learning_rate(trainer)
        self._begin = Begin(done, trainer.current_epoch, self._watch.seconds, self._lr)
        self._save_at = SaveAt(
            start=-(done + 1) % self._limit.every,
            every=self._limit.every,
            last=trainer.is_last_batch,
            parameters=path is not None and (path.names_parameters or path.has_optimum),
            gradients=path is not None and path.names_gradients,
        )
        return ChunkRequest(self._save_at, epochs=1)

    def _extend(self, trainer: Trainer, chunk: Chunk, trace: Trace) -> None:
        """Add the rows of a chunk to the history."""
        self._mark = self._mark_of(trainer, chunk.first + trace.updates)
        per_epoch = self._updates_per_epoch(trainer, chunk.variant)
        rows = ChunkRows(chunk, trace, self._save_at, self._begin, self._watch.seconds, per_epoch, self._path)
        rows.add_to(self.history)

    def collect(self, trainer: Trainer) -> None:
        """Turn what updates left behind into rows of the history."""
        if not self._marks:
            return
        kept = torch.stack(self._tensors)
        if trainer.world_size > 1:
            # Each process has its part of every batch; the average of the parts is the batch loss.
            losses = trainer.strategy.reduce(kept[:, 0].contiguous(), reduce_op="mean")
            assert isinstance(losses, Tensor)
            kept[:, 0] = losses
        kept = kept.double().cpu()
        columns = {name: np.array([mark[name] for mark in self._marks]) for name in self._mark}
        parameters, gradients = (None if self._path is None else kept[:, 1:]), None
        if self._path is not None and self._path.names_gradients:
            parameters, gradients = kept[:, 1:].chunk(2, dim=1)
        add_rows(self.history, self._path, {**columns, "batch_loss": kept[:, 0].numpy()}, parameters, gradients)
        self._marks, self._tensors = [], []

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add train loss, validation measures and what criteria need, at the present weights, to the newest row."""
        begun = time.monotonic()
        loaders = {"train_loss": trainer.train_dataloader}
        if self._validated_at != trainer.global_step:
            loaders["val_loss"] = validation_loader(trainer)
        self._measure_losses(trainer, pl_module, loaders)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Measuring):
                others = callback.measure(trainer, pl_module)
                self.history.add_to_last_row(others)
                self._measured |= others
        self._measuring = time.monotonic() - begun

    def _measure_losses(self, trainer: Trainer, pl_module: LightningModule, loaders: dict[str, object]) -> None:
        self._measured: dict[str, float] = {}
        self._has_least_squares = self._path is not None and has_least_squares(pl_module)
        missing = {name: loader for name, loader in loaders.items() if self.history.newest(name) is None}
        if "train_loss" in missing and isinstance(pl_module, RegressionModule):
            loss = pl_module.train_loss()
            if loss is not None:
                self._measured["train_loss"] = loss
                del missing["train_loss"]
        if any(loader is not None for loader in missing.values()):
            self._measured |= self._losses(pl_module, trainer, missing)
        self.history.add_to_last_row(self._measured)
        self._measured_at = trainer.global_step
        if "train_loss" in self._measured:
            measured = torch.tensor(self._measured["train_loss"], dtype=torch.float64)
            trainer.callback_metrics["train_loss"] = measured

    def _losses(self, pl_module: LightningModule, trainer: Trainer, loaders: dict[str, object]) -> dict[str, float]:
        samples = 0 if self.variant is None else self.variant.train_samples
        in_threads = one_thread_if(samples * self._parameters <= _LITTLE)
        measured = {}
        with unchanged(pl_module, pl_module.device), trainer.precision_plugin.forward_context(), in_threads:
            for name, loader in loaders.items():
                batches = batches_for_measuring(loader, pl_module.device)
                if batches is not None:
                    measured[name] = mean_loss_over(batches, pl_module, measured_loss_of(pl_module))
        return measured

    def _measure_replaced(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Measure again where a callback has replaced the weights since they were measured.

        Returns:
            In words, which weights the run ends with; empty for those of the last update.
        """
        replacing = may_replace_weights(trainer)
        if not replacing:
            return ""
        final, before = self._losses_now(trainer, pl_module), self.history.newest("train_loss")
        self._averaged = has_averaged(trainer, replacing)
        if before is None or math.isnan(before) or final.get("train_loss", before) == before:
            return whose_weights(replacing) if self._averaged else ""
        self.history.add_to_last_row({f"{FINAL}{name}": value for name, value in final.items()})
        return f"{whose_weights(replacing)}; those of the last update have train loss {number(before)}"

    def _losses_now(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Return train loss and validation loss at the present weights, whatever was measured before."""
        measured = {}
        loaders: dict[str, object] = {"train_loss": trainer.train_dataloader, "val_loss": validation_loader(trainer)}
        loss = pl_module.train_loss() if isinstance(pl_module, RegressionModule) else None
        if loss is not None:
            measured["train_loss"] = loss
            del loaders["train_loss"]
        return measured | self._losses(pl_module, trainer, loaders)

    # Writing

    def _finish(self, trainer: Trainer, pl_module: LightningModule, outcome: Outcome, reason: str) -> None:
        self._recording = False
        self.history.outcome, self.history.reason = outcome, reason
        path, problem, forecast = self._path, problem_of(trainer), _forecast_among(trainer)
        affine = pl_module.affine() if isinstance(pl_module, RegressionModule) else None
        names = (None, None) if path is None else (path.features, path.targets)
        is_linear, has_noise = linear_network(pl_module) is not None, is_squared_error(pl_module)
        known: dict[str, Any] = {
            "parameters": None if affine is None else affine.named(*names),
            "said": {} if forecast is None else forecast.said,
            "weights": self._weights,
            **_engine_of(pl_module),
        }

        def make_summary() -> RunSummary:
            optimum = path.optimum if path is not None and is_linear else None
            truth = problem.true_parameters if path is not None and problem is not None and is_linear else None
            return summarize(
                self.history,
                self.variant,
                least_squares=None if optimum is None else optimum.affine.named(*names),
                least_squares_loss=self.least_squares_loss,
                constant_loss=self.constant_loss,
                undetermined=path.undetermined if path is not None and is_linear else [],
                truth=None if truth is None else truth.named(*names),
                irreducible_loss=problem.irreducible_loss if problem is not None and has_noise else None,
                **known,
            )

        # Where nobody reads it, the least squares are not solved for it.
        self._summary = make_summary
        if trainer.is_global_zero and (self.directory is not None or trainer.loggers):
            self._write(trainer, make_summary())

    def _write(self, trainer: Trainer, summary: RunSummary) -> None:
        self._summary = summary
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_text(self.directory / HISTORY, self.history.to_csv())
            write_json(self.directory / SUMMARY, summary.as_dict())
        card = run_card(summary, self.title or title_of(trainer))
        self._loggers.finish(self.history, _results(summary), card, trainer.global_step)


def recorder_before(trainer: Trainer, callback: Callback) -> HistoryRecorder:
    """Return the recorder that a callback reads.

    Raises:
        InputError: None comes before it among the callbacks of the Trainer.
    """
    for earlier in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(earlier, HistoryRecorder):
            return earlier
        if earlier is callback:
            break
    name = type(callback).__name__
    raise InputError(f"cannot use {name}, because no HistoryRecorder comes before it; put one first in callbacks")


def _validates_anyway(trainer: Trainer) -> bool:
    """Whether Lightning validates behind the present batch if nothing asks it to stop there."""
    asked, trainer.should_stop = trainer.should_stop, False
    try:
        return validates_here(trainer)
    finally:
        trainer.should_stop = asked


def _forecast_among(trainer: Trainer) -> Forecast | None:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, Forecast)), None)


def batch_loss(outputs: Any) -> Tensor | None:
    """Return the loss that an update was computed from, shape (1,), from what a training step returned, if any."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("batch_loss", outputs.get("loss"))
    if isinstance(outputs, Tensor):
        return outputs.detach().reshape(1)
    return None


def _engine_of(pl_module: LightningModule) -> dict[str, str]:
    """Return what carried out the updates, and why no compiled engine did."""
    if not isinstance(pl_module, RegressionModule):
        return {"engine": "autograd", "engine_reason": f"{type(pl_module).__name__} is no RegressionModule"}
    return {"engine": pl_module.decision.engine, "engine_reason": pl_module.decision.reason}


def _results(summary: RunSummary) -> dict[str, float]:
    """Return the results of a run for the HParams tab."""
    results = {"train_loss": summary.train_loss_last, "updates": summary.updates, "seconds": summary.seconds}
    results |= {"samples": summary.samples, **summary.measures}
    return {name: float(value) for name, value in results.items() if value is not None}
