"""Checks that refuse Trainer options which would change the algorithm that ``batch_size`` means (layer 4)."""

from __future__ import annotations

import sys

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.xla import XLAStrategy

from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import callbacks_of, forks, seconds_between_validations, skips_backward
from gd_lightning.variants import Variant


def check_trainer(trainer: Trainer) -> None:
    """Refuse options that would change the algorithm of ``batch_size``, or leave the result in another process.

    Args:
        trainer: The Trainer, which is about to train.

    Raises:
        InputError: The Trainer has such a strategy, option or callback.
    """
    check_strategy(trainer)
    check_accumulation(trainer)
    batches: float = getattr(trainer, "overfit_batches", 0)
    if batches:
        raise InputError(
            f"cannot train with overfit_batches {batches}, because Lightning would replace the order of the samples; "
            "give the data module a smaller problem, or the Trainer limit_train_batches"
        )
    for callback in callbacks_of(trainer, Callback):
        if isinstance(callback, GradientAccumulationScheduler) and callback.going_to_accumulate_grad_batches():
            raise InputError(_ACCUMULATION.format("a GradientAccumulationScheduler"))
        if isinstance(callback, BatchSizeFinder):
            raise InputError(
                "cannot train with a BatchSizeFinder, because batch_size is the algorithm and not what fits into "
                "memory; leave it out, and bound what is on the device with micro_batch_size"
            )
        if isinstance(callback, LearningRateFinder):
            raise InputError(
                "cannot train with a LearningRateFinder, because its losses are those of single batches while the lr "
                "changes; leave it out, and see which lr gd_lightning.sweep or compare(lrs='best') finds"
            )


_ACCUMULATION = (
    "cannot train with {}, because Lightning weights a short batch like a full one; give data.batch_size, and bound "
    "what is on the device with data.micro_batch_size"
)


def check_accumulation(trainer: Trainer) -> None:
    """Refuse to accumulate gradients over batches.

    Raises:
        InputError: ``accumulate_grad_batches`` is not 1, whether set in the Trainer or by a callback.
    """
    parts = trainer.accumulate_grad_batches
    # In its last epoch, StochasticWeightAveraging makes forward passes only, to update batch norms.
    if parts != 1 and not skips_backward(trainer):
        raise InputError(_ACCUMULATION.format(f"accumulate_grad_batches {parts}"))


def check_processes(trainer: Trainer) -> None:
    """Refuse to train in processes whose results do not reach this one.

    Raises:
        InputError: The strategy of the Trainer starts such processes.
    """
    if forks(trainer):
        interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
        remedy = "devices=1" if interactive else 'strategy="ddp", or devices=1'
        raise InputError(
            "cannot train in processes that are spawned or forked, because they would return neither network nor "
            f"history; use {remedy}"
        )


def check_strategy(trainer: Trainer) -> None:
    """Refuse strategies that split a model, or train in processes whose results do not reach this one.

    Raises:
        InputError: The Trainer has such a strategy.
    """
    check_processes(trainer)
    strategy = trainer.strategy
    whole = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))
    if not whole or isinstance(strategy, (DeepSpeedStrategy, XLAStrategy)):
        raise InputError(
            f"cannot train with {type(strategy).__name__}, because it does not leave a whole network on each device; "
            'use strategy="ddp", or devices=1'
        )


def check_validation(trainer: Trainer, variant: Variant) -> None:
    """Refuse an interval between validations that Lightning would misuse, or refuse after the run has begun.

    Args:
        trainer: The Trainer, which is about to train.
        variant: The batches, with the number of updates per epoch.

    Raises:
        InputError: The Trainer has such an interval.
    """
    seconds = seconds_between_validations(trainer)
    if seconds is not None:
        if seconds <= 0:
            raise InputError(
                f"cannot validate at intervals of {seconds:g} seconds, because an interval must be above 0; give a "
                "longer one as trainer.val_check_interval"
            )
        return
    every, validates = trainer.val_check_interval, (trainer.limit_val_batches or 0) > 0
    in_epochs = isinstance(every, int) and trainer.check_val_every_n_epoch is not None
    if in_epochs and validates and every > variant.updates_per_epoch:
        raise InputError(
            f"cannot validate every {every} updates, because an epoch has {variant.updates_per_epoch}; use a smaller "
            "trainer.val_check_interval, or leave it out"
        )


def check_early_copies(trainer: Trainer, kind: type[LightningModule]) -> None:
    """Refuse callbacks that copied a module in their set-up, before its network was made.

    Args:
        trainer: The Trainer, which is about to train.
        kind: The class of modules whose network may not exist yet.

    Raises:
        InputError: There is such a callback, which would continue with the copy.
    """
    for callback in callbacks_of(trainer, Callback):
        for copied in vars(callback).values():
            if isinstance(copied, kind) and copied.network is None:
                raise InputError(
                    f"cannot train with {type(callback).__name__}, because it copies the model before its network is "
                    "made for these data; give the model in_features and out_features"
                )
