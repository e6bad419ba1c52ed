"""Validations at the ends of epochs within a chunk, with the same results as in Lightning (layer 4).

Letters: N samples, D features, K outputs, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.engine import Chunk, Engine, HeldOut, Trace
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.measures import unchanged
from gd_lightning.micro_batches import Pair
from gd_lightning.module.engine_choice import can_do_without, own_method
from gd_lightning.module.metrics import R2, MeanAbsoluteError, MeanLoss, MeanSquaredError
from gd_lightning.threads import is_little, one_thread_if

HOOKS = (
    "on_validation_start", "on_validation_epoch_start", "on_validation_batch_start", "on_validation_batch_end",
    "on_validation_epoch_end", "on_validation_end",
)  # fmt: skip
"""Hooks of a validation, of callbacks and modules."""

_STEP = ("validation_step", "errors_of_validation")
_METHODS = (*HOOKS, "on_validation_model_eval", "on_validation_model_train", "on_validation_model_zero_grad", *_STEP)
_FROM_TRACE = "takes_validations_from_trace"  # an attribute of callbacks that need no hooks of them within a chunk
_METRICS = {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "r2": R2}


class Validation:
    """The samples that a run validates on, and the measures of a validation from their sums of errors.

    Args:
        trainer: The Trainer, which has loaded its samples for validation.
        module: The module that it trains, whose validation is that of the plain module class.
        engine: The engine of the run.
        taken: Converts features and targets to those that the engine takes.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, engine: Engine, taken: Callable[[Tensor, Tensor], Pair]
    ) -> None:
        self._trainer, self._module, self._engine, self._taken = trainer, module, engine, taken
        self.loader = validation_loader(trainer)
        r2 = R2().to(module.device)
        for _, y in self._batches():
            with one_thread_if(is_little(module, len(y))):
                r2.update(y, y)
        self._r2, self._count = r2.cpu(), self.loader.samples.y.numel()
        self.held_out = self._held_out(self.loader.samples.x, self.loader.samples.y)

    def loss(self) -> float:
        """Return the loss at the current weights, a mean over all samples and outputs."""
        sums = self._engine.sum_errors(self.held_out)
        return float((self._sum_errors() if sums is None else sums)[0] / self._count)

    def sums_of(self, x: Tensor, y: Tensor) -> NDArray[np.float64] | None:
        """Return the sums of errors of a batch; None if the engine has no faster way than the module."""
        if self._engine.name == "autograd":
            return None
        return self._engine.sum_errors(self._held_out(x, y))

    def _held_out(self, x: Tensor, y: Tensor) -> HeldOut:
        x, y = self._taken(x, y)
        return HeldOut(x.contiguous(), y.contiguous(), self.loader.variant.batch_size, self._sum_errors)

    def give(self, trace: Trace) -> None:
        """Store the measures at the ends of epochs in the trace of a chunk, and the last ones in Lightning's metrics.

        Args:
            trace: The results of the chunk, which begins in the current epoch of the Trainer.
        """
        ends = len(trace.sums)
        if not ends:
            return
        due = are_due(self._trainer, ends)
        measures = self._measures(trace.sums)
        # The loss is recorded at the end of each epoch, whether Lightning validates there or not.
        trace.validated = {
            name: values if name == "val_loss" else np.where(due, values, math.nan) for name, values in measures.items()
        }
        if not due.any():
            return
        newest = int(np.flatnonzero(due)[-1])
        for name, values in measures.items():
            value = torch.tensor(values[newest], dtype=torch.float64)
            self._trainer.callback_metrics[name] = value
            if name in self._trainer.logged_metrics:
                self._trainer.logged_metrics[name] = value

    def complete(self, chunk: Chunk, trace: Trace) -> None:
        """Sum the errors at the end of an epoch if an exception has ended the chunk before."""
        ends = len(chunk.epoch_ends(trace.updates))
        is_at_end = bool(trace.updates) and chunk.place(trace.updates)[1] == chunk.per_epoch
        if is_at_end and len(trace.sums) == ends - 1:
            with suppress(Exception):  # what caused the exception may also make this fail
                sums = self._engine.sum_errors(self.held_out)
                newest = (self._sum_errors() if sums is None else sums)[None]
                trace.sums = np.concatenate([trace.sums, newest]) if ends > 1 else newest

    def _measures(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the measures of validations from their sums of errors, shape (E, 3 + K)."""
        of_losses = {"val_loss": sums[:, 0], "val_mae": sums[:, 2], "val_mse": sums[:, 1]}
        r2 = self._r2.of_sums(torch.from_numpy(sums[:, 3:])).numpy()
        return {name: summed / self._count for name, summed in of_losses.items()} | {"val_r2": r2}

    def _sum_errors(self) -> NDArray[np.float64]:
        """Sum the errors as the steps of a validation do."""
        module: Any = self._module
        total: NDArray[np.float64] = np.zeros(())
        with unchanged(module, module.device), self._trainer.precision_plugin.forward_context():
            for x, y in self._batches():
                with one_thread_if(is_little(module, len(x))):
                    total = total + module.errors_of_validation(x, y).numbers()
        return total

    def _batches(self) -> Iterator[Pair]:
        batches: Iterator[Pair] = self.loader.samples.pieces(self.loader.variant.batch_size)
        device = self._module.device
        return ((x.to(device), y.to(device)) for x, y in batches)


def are_due(trainer: Trainer, epochs: int) -> NDArray[np.bool_]:
    """Return whether Lightning validates at the end of each epoch, shape (E,).

    Args:
        trainer: The Trainer.
        epochs: E, the number of epochs, beginning with the current one.
    """
    every = trainer.check_val_every_n_epoch or 1
    is_due: NDArray[np.bool_] = (trainer.current_epoch + 1 + np.arange(epochs)) % every == 0
    return is_due


def validation_loader(trainer: Trainer) -> Any:
    """Return the validation loader; None if there is none yet, or more than one."""
    loaders = trainer.val_dataloaders
    if isinstance(loaders, (list, tuple)):
        return loaders[0] if len(loaders) == 1 else None
    return loaders


def can_be_summed(trainer: Trainer, plain: type[LightningModule]) -> bool:
    """Whether a validation follows from sums of errors over all samples of its loader, which is in memory.

    Args:
        trainer: The Trainer.
        plain: The module class that defines the validation; overrides of a subclass rule it out.
    """
    module: Any = trainer.lightning_module
    loader = validation_loader(trainer)
    trained: Any = trainer.train_dataloader
    if not (trainer.enable_validation and hasattr(loader, "chunk_source") and hasattr(trained, "chunk_source")):
        return False
    of_loader, of_training = (
        (of.in_features, of.out_features, of.dtype, of.device) for of in (loader.samples, trained.samples)
    )
    return (
        of_loader == of_training
        and not loader.samples.mapped
        and loader.epoch_order.order == "sequential"
        and list(trainer.num_val_batches) == [loader.variant.updates_per_epoch]
        and loader.variant.samples_per_epoch == len(loader.samples)
        # Multiplying the sums of several batches by the scale has other last bits than adding the multiplied sums.
        and (module.standardize_targets is None or loader.variant.updates_per_epoch == 1)
        and not own_method(module, plain, _STEP)
        and type(module.val_mean_loss) is MeanLoss
        and {name: type(metric) for name, metric in module.val_metrics.items(keep_base=True)} == _METRICS
    )


def why_lightning_validates(trainer: Trainer, plain: type[LightningModule]) -> str:
    """Return the reason why Lightning has to make each validation itself; "" if sums of errors do.

    Args:
        trainer: The Trainer.
        plain: See :func:`can_be_summed`.
    """
    module: Any = trainer.lightning_module
    if not can_be_summed(trainer, plain):
        return "validation does not use exactly the samples of one loader in memory"
    if own := own_method(module, plain, _METHODS):
        return f"{type(module).__name__} has a {own} of its own"
    if trainer.loggers and module.log_to_logger:
        return "each validation is logged"
    for callback in callbacks_of(trainer, Callback):
        if own_method(callback, Callback, HOOKS) and not can_do_without(callback, HOOKS, _FROM_TRACE):
            return f"{type(callback).__name__} needs each validation separately"
    return ""


def measure_errors(module: Any, stage: str, x: Tensor, y: Tensor, engine: Any = None) -> None:
    """Add samples to the loss and the metrics of a stage, and log these.

    Args:
        module: A :class:`~gd_lightning.RegressionModule` in a Trainer.
        stage: val or test.
        x: Features, shape (B, D).
        y: Targets, shape (B, K).
        engine: The engine of the run, which may have summed the errors already; None: the module sums them.
    """
    mean, metrics = getattr(module, f"{stage}_mean_loss"), getattr(module, f"{stage}_metrics")
    errors = None if engine is None else engine.errors_of_validation(x, y)
    with one_thread_if(is_little(module, len(x))):
        if errors is None:
            errors = module.errors_of_validation(x, y)
        mean.update(errors.loss, y.numel())
        metrics.update(errors, y)
    # None is Lightning's default: values go to the logger, if any, and into what validate() and test() return.
    to_logger = None if module.log_to_logger or module.trainer.state.fn != "fit" else False
    module.log(f"{stage}_loss", mean, logger=to_logger)
    module.log_dict(metrics, logger=to_logger)
