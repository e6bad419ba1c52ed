"""Measurements at fixed weights: before the first update, at the ends of epochs, and where a run stops."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gd_lightning.callbacks.history_columns import Measuring
from gd_lightning.callbacks.replaced_weights import has_averaged, may_replace_weights, whose_weights
from gd_lightning.callbacks.trainer_info import batches_for_measuring, learning_rate, measured_loss_of
from gd_lightning.callbacks.update_rows import AtEnds, UpdateRows
from gd_lightning.data import BatchLoader
from gd_lightning.engine import Chunk, ChunkRequest, Trace
from gd_lightning.lightning_internals import callbacks_of, validates_here
from gd_lightning.measures import mean_loss_over, unchanged
from gd_lightning.module import RegressionModule, Validation, own_method
from gd_lightning.module.validation import validation_loader
from gd_lightning.records.history import BY_UPDATE
from gd_lightning.threads import one_thread_if
from gd_lightning.tracking.summary import FINAL, number

_LITTLE = 2**22  # multiply-adds; for fewer, starting threads takes longer than it saves


class Measurements:
    """Adds measurements to the last row of a history, which belongs to the current weights.

    Args:
        rows: Adds rows to the history.
        samples: N; 0 if unknown.
        parameters: P.
    """

    def __init__(self, rows: UpdateRows, samples: int, parameters: int) -> None:
        self._rows, self._numbers = rows, samples * parameters
        self.at = self.validated_at = -1
        """At which update something was measured, and validated, for the last time."""
        self.of_stop: list[str] = []
        """What was measured only because the run stopped here."""
        self.seconds = self._of_validation = 0.0
        """How long it took the last time to measure."""
        self.has_averaged = False
        """Whether the weights of the last update are gone."""
        self._newest: dict[str, float] = {}
        self._weights: list[Tensor] | None = None
        self._validation_begun, self._is_for_stop = 0.0, False

    @property
    def seconds_with_validation(self) -> float:
        """Seconds that the last measurement took, validation included."""
        return self.seconds + self._of_validation

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"validated_at": self.validated_at, "measured_at": self.at, "stop_measures": self.of_stop}

    def go_on(self, state: dict[str, Any], trainer: Trainer) -> None:
        """Load the state of a run that is continued."""
        history, every = self._rows.history, self._rows.limit.every
        self.validated_at, self.at = state["validated_at"], state["measured_at"]
        if state["stop_measures"]:
            history.forget_last(state["stop_measures"])
        # Otherwise the run stopped at the end of an epoch, where it is measured anyway.
        if "train_loss" in state["stop_measures"]:
            self.at = -1
            if trainer.global_step % every and not self._rows.has_measurements:
                history.drop_last()
        if trainer.val_dataloaders is None and "val_loss" in history.columns and trainer.enable_validation:
            # The validation loss was measured after each epoch; Lightning reads the data in the first that validates.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True

    # Measurements at the current weights

    def measure(self, trainer: Trainer, module: LightningModule) -> None:
        """Add train loss, validation measures and what criteria need."""
        begun = time.monotonic()
        self._measure_losses(trainer, module, self._loaders(trainer))
        for callback in callbacks_of(trainer, Measuring):
            others = callback.measure(trainer, module)
            self._rows.history.add_to_last_row(others)
            self._newest |= others
        self.seconds = time.monotonic() - begun

    def measure_at_end_of_epoch(self, trainer: Trainer, module: LightningModule) -> None:
        """Add train loss, validation measures and what criteria need after a complete or interrupted epoch."""
        self.measure(trainer, module)
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.of_stop = [name for name in self.of_stop if name != "val_loss"]
        else:
            # The run stopped within an epoch; had it gone on, nothing would have been measured here.
            self.of_stop += self._newest

    def measure_where_it_stopped(self, trainer: Trainer, module: LightningModule) -> None:
        """Add measurements at the end of a continued run that made no update."""
        if self.at != trainer.global_step:
            self._rows.add_present(trainer)
            self.measure(trainer, module)
            self.of_stop = list(self._newest)

    def measure_where_it_failed(self, trainer: Trainer, module: LightningModule) -> None:
        """Add the train loss at the weights of an interrupted run, if these are still usable.

        At an epoch's end, the usual measurements are added; elsewhere, ones that a continued run discards.
        """
        rows = self._rows
        rows.collect(trainer)
        if self.at == trainer.global_step:
            return
        made: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        # An exception came before all callbacks of the last update were called.
        if trainer.global_step > rows.mark["update"]:
            rows.move_to(trainer, made.processed)
        rows.add_present(trainer)
        # What interrupted the run may also make the measurement fail; the history must not be lost for that.
        with contextlib.suppress(Exception):
            if made.processed in (0, trainer.num_training_batches):
                self.measure(trainer, module)
            else:
                self.measure_train_loss(trainer, module)
                self.of_stop = list(self._newest)

    def measure_train_loss(self, trainer: Trainer, module: LightningModule) -> None:
        """Add only the train loss."""
        self._measure_losses(trainer, module, {"train_loss": trainer.train_dataloader})

    def measure_by_update(self, trainer: Trainer, module: LightningModule, with_loss: bool) -> None:
        """Add what is due within an epoch: measurements of callbacks, and the train loss for curves.

        Args:
            trainer: The Trainer.
            module: The module that it trains.
            with_loss: Whether the train loss is due, in a column that no criterion reads.
        """
        self._rows.add_present(trainer)
        history = self._rows.history
        for callback in callbacks_of(trainer, Measuring):
            if is_due(callback, trainer):
                history.add_to_last_row(callback.measure(trainer, module))
        # After a batch without an update, the value is already in this row.
        if with_loss and history.in_last_row(BY_UPDATE) is None:
            measured = self._measured(trainer, module, {"train_loss": trainer.train_dataloader})
            if measured:
                history.add_to_last_row({BY_UPDATE: measured["train_loss"]})

    def begin_validation(self, trainer: Trainer) -> None:
        """Store the reason why Lightning validates."""
        self._validation_begun = time.monotonic()
        self._is_for_stop = trainer.should_stop and not validates_here(trainer)

    def add_validation(self, trainer: Trainer) -> None:
        """Add what Lightning has validated, which may be in the middle of an epoch."""
        self._rows.add_present(trainer)
        metrics = trainer.callback_metrics.items()
        measured = {name: float(value) for name, value in metrics if name.startswith("val_")}
        self._rows.history.add_to_last_row(measured)
        if self._is_for_stop:
            self.of_stop = list(measured)
        else:
            self.validated_at = trainer.global_step
        self._of_validation = time.monotonic() - self._validation_begun

    # Measurements at the ends of epochs within a chunk

    def request(self, trainer: Trainer, module: LightningModule) -> ChunkRequest:
        """Request measurements at the ends of the epochs within the coming chunk."""
        if any(
            own_method(each, Measuring, ["measure"]) and not own_method(each, Measuring, ["measure_at"])
            for each in callbacks_of(trainer, Measuring)
        ):
            return ChunkRequest(epochs=1)
        device = module.device
        known: dict[str, object] = {"train_loss": trainer.train_dataloader}
        if _validation_of(module) is None:  # otherwise the validation loss is measured in any case
            known["val_loss"] = validation_loader(trainer)
        loaders = {name: each for name, each in known.items() if batches_for_measuring(each, device) is not None}

        def measure() -> Sequence[float]:
            measured = self._losses(module, trainer, loaders)
            return [measured[name] for name in loaders]

        self._within = list(loaders)
        return ChunkRequest(measure=measure, measures=len(loaders))

    def within(
        self, trainer: Trainer, module: LightningModule, chunk: Chunk, trace: Trace, is_interrupted: bool = False
    ) -> AtEnds:
        """Return the measurements at the ends of the epochs within a chunk.

        The last update of a chunk counts only if an exception ended the chunk in the next epoch.
        """
        all_ends = chunk.epoch_ends(trace.updates if is_interrupted else trace.updates - 1)
        ends, before = all_ends[: len(trace.measured)], trainer.global_step - trace.updates
        columns: dict[str, Any] = {}
        for name, all_values in trace.validated.items():
            values = all_values[: len(all_ends)]
            is_there = np.flatnonzero(~np.isnan(values) if name != "val_loss" else np.ones(len(values), bool))
            columns[name] = all_ends[is_there], values[is_there]
            if is_interrupted and name != "val_loss" and len(is_there):
                self.validated_at = before + int(all_ends[is_there[-1]]) + 1
        if not len(ends):
            return columns
        columns |= {name: (ends, trace.measured[: len(ends), i]) for i, name in enumerate(self._within)}
        lrs = np.full(len(ends), learning_rate(trainer))
        if chunk.lrs is not None:
            is_known = ends + 1 < len(chunk.lrs)
            lrs[is_known] = chunk.lrs[ends[is_known] + 1]
        for callback in callbacks_of(trainer, Measuring):
            for name, values in callback.measure_at(trainer, module, before + ends + 1, lrs).items():
                is_there = ~np.isnan(values)
                columns[name] = ends[is_there], values[is_there]
        if "train_loss" in columns:
            _report_train_loss(trainer, columns["train_loss"][1][-1])
        if is_interrupted:
            self.at = before + int(ends[-1]) + 1
        return columns

    # Measurements at other weights than those of the last update

    def measure_replaced(self, trainer: Trainer, module: LightningModule) -> str:
        """Measure again if a callback has replaced the weights since the last measurement.

        Returns:
            Description of the final weights; "" for those of the last update.
        """
        replacing, history = may_replace_weights(trainer), self._rows.history
        if not replacing:
            return ""
        loaders = {"train_loss": trainer.train_dataloader, "val_loss": validation_loader(trainer)}
        self.has_averaged, before = has_averaged(trainer, replacing), history.in_last_row("train_loss")
        # At the same weights, another engine computes a loss with other last digits.
        is_same = before is None or math.isnan(before) or self._are_weights_of(module)
        final = {} if is_same else self._measured(trainer, module, loaders)
        if before is None or final.get("train_loss", before) == before:
            return whose_weights(replacing) if self.has_averaged else ""
        history.add_to_last_row({f"{FINAL}{name}": value for name, value in final.items()})
        return f"{whose_weights(replacing)}; those of the last update have train loss {number(before)}"

    def _are_weights_of(self, module: LightningModule) -> bool:
        """Whether the newest train loss was measured at the current weights of a module."""
        now, then = _weights(module), self._weights
        return then is not None and len(now) == len(then) and all(map(torch.equal, now, then))

    # Losses

    def _loaders(self, trainer: Trainer) -> dict[str, object]:
        loaders: dict[str, object] = {"train_loss": trainer.train_dataloader}
        if self.validated_at != trainer.global_step:
            loaders["val_loss"] = validation_loader(trainer)
        return loaders

    def _measure_losses(self, trainer: Trainer, module: LightningModule, loaders: dict[str, object]) -> None:
        history = self._rows.history
        missing = {name: loader for name, loader in loaders.items() if history.in_last_row(name) is None}
        self._newest = self._measured(trainer, module, missing)
        history.add_to_last_row(self._newest)
        self.at = trainer.global_step
        if "train_loss" in self._newest:
            _report_train_loss(trainer, self._newest["train_loss"])
            is_asked_for = bool(may_replace_weights(trainer))
            self._weights = [each.detach().clone() for each in _weights(module)] if is_asked_for else None

    def _measured(self, trainer: Trainer, module: LightningModule, loaders: dict[str, object]) -> dict[str, float]:
        """Return mean losses at the current weights; the train loss by the engine of the run if it can compute it."""
        known = {}
        if "train_loss" in loaders and isinstance(module, RegressionModule):
            loss = module.train_loss()
            known = {} if loss is None else {"train_loss": loss}
        validation = _validation_of(module) if "val_loss" in loaders else None
        if validation is not None:
            known["val_loss"] = validation.loss()
        rest = {name: loader for name, loader in loaders.items() if name not in known and loader is not None}
        return known | (self._losses(module, trainer, rest) if rest else {})

    def _losses(self, module: LightningModule, trainer: Trainer, loaders: dict[str, object]) -> dict[str, float]:
        measured, in_threads = {}, one_thread_if(self._numbers <= _LITTLE)
        with unchanged(module, module.device), trainer.precision_plugin.forward_context(), in_threads:
            for name, loader in loaders.items():
                batches = batches_for_measuring(loader, module.device, *_batch_of_validation(name, loader))
                if batches is not None:
                    measured[name] = mean_loss_over(batches, module, measured_loss_of(module))
        return measured


def _batch_of_validation(name: str, loader: object) -> list[int]:
    """Return how many samples Lightning validates on at once, so that sums have the same last digits; [] if unknown."""
    return [loader.variant.batch_size] if name == "val_loss" and isinstance(loader, BatchLoader) else []


def _validation_of(module: LightningModule) -> Validation | None:
    return module.validation if isinstance(module, RegressionModule) else None


def _weights(module: LightningModule) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _report_train_loss(trainer: Trainer, loss: float) -> None:
    """Provide the newest train loss to callbacks that read it from Lightning's metrics."""
    trainer.callback_metrics["train_loss"] = torch.tensor(loss, dtype=torch.float64)


def is_due(callback: Callback, trainer: Trainer) -> bool:
    """Whether the number of updates is one after which a callback wants its hook."""
    every = getattr(callback, "updates_between_hooks", 0)
    return bool(every) and trainer.global_step % every == 0


def any_is_due(trainer: Trainer) -> bool:
    """Whether a callback measures within epochs after this number of updates."""
    return any(is_due(each, trainer) for each in callbacks_of(trainer, Measuring))
