"""How many epochs a chunk may span, given the hooks that run between epochs (layer 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from gd_lightning.engine import ChunkRequest
from gd_lightning.lightning_internals import callbacks_of, ends_at_epochs
from gd_lightning.module.engine_choice import can_do_without, own_method
from gd_lightning.module.schedulers_in_chunks import why_not_ahead
from gd_lightning.module.validation import why_lightning_validates

_HOOKS = ("on_train_epoch_start", "on_train_epoch_end")
# Hooks of epochs; a subclass that overrides one of them may need it at every epoch.
_DECIDING = (*_HOOKS, "on_train_batch_start", "on_train_batch_end", "measure", "reason_to_end")


def most_epochs(trainer: Trainer, plain: type[LightningModule], requests: Iterable[ChunkRequest]) -> float:
    """Return how many epochs, including the current one, can pass before something needs a hook between epochs.

    Args:
        trainer: The Trainer, at the beginning of an epoch.
        plain: A module class whose hooks do not need single epochs.
        requests: The requests of the callbacks.
    """
    if why_one_epoch(trainer, plain):
        return 1
    most = [request.epochs for request in requests]
    epoch = trainer.current_epoch
    if trainer.max_epochs not in (None, -1):
        most.append((trainer.max_epochs or 0) - epoch)
    if trainer.max_steps != -1:
        per_epoch = int(trainer.num_training_batches)
        most.append((trainer.max_steps - trainer.global_step) // per_epoch)
    every = trainer.check_val_every_n_epoch
    if trainer.enable_validation and every is not None and why_lightning_validates(trainer, plain):
        most.append(every - epoch % every)
    return max(1, min(most, default=math.inf))


def why_one_epoch(trainer: Trainer, plain: type[LightningModule]) -> str:
    """Return the reason why a chunk may span only one epoch; "" if it may span more."""
    module = trainer.lightning_module
    if own := own_method(module, plain, _HOOKS):
        return f"{type(module).__name__} has a {own} of its own"
    for callback in callbacks_of(trainer, Callback):
        if own_method(callback, Callback, _HOOKS) and not _can_do_without_epochs(callback):
            return f"{type(callback).__name__} needs each epoch separately"
    if trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        return "the data are loaded again"
    if trainer.enable_validation and trainer.check_val_every_n_epoch is None:
        return "validation counts updates, or seconds"
    if trainer.should_stop or trainer.fit_loop.restarting or trainer.fit_loop.epoch_loop.restarting:
        return "the run is about to stop, or has just begun again"
    return why_not_ahead(trainer, "epoch")


def _can_do_without_epochs(callback: Callback) -> bool:
    """Whether a callback states how many epochs it can go without its hooks."""
    if type(callback) is Timer:
        return not ends_at_epochs(callback)
    return can_do_without(callback, _DECIDING, "chunk_request")
