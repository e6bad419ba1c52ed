"""Lightning's counters of batches, updates and epochs, advanced for the updates of a chunk (layer 4).

Lightning counts batches that it fetches, steps of the optimiser and of schedulers, and epochs. It counts a chunk as one
of each; this file adds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Moved:
    """How far a chunk has advanced a run, less what Lightning counts itself after the chunk.

    Args:
        done: Number of completed updates; one more was begun.
        epochs: Number of completed epochs.
        done_in_epoch: Number of completed updates in the current epoch.
    """

    done: int
    epochs: int
    done_in_epoch: int


def count_fetched(trainer: Trainer, more: int) -> None:
    """Add to Lightning's count of fetched batches; ``more`` may be negative."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    fetcher.fetched += more
    fetcher.done = fetcher.length is not None and fetcher.fetched >= fetcher.length
    progress = trainer.fit_loop.epoch_loop.batch_progress
    progress.total.ready += more
    progress.current.ready += more


def count_moved(trainer: Trainer, moved: Moved) -> None:
    """Add the batches, optimiser steps and epochs of a chunk to Lightning's counters."""
    epoch_loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    batches, optimizer = epoch_loop.batch_progress, epoch_loop.automatic_optimization.optim_progress.optimizer
    step, zero_grad, epochs = optimizer.step, optimizer.zero_grad, trainer.fit_loop.epoch_progress
    if more := moved.done_in_epoch + 1 - batches.current.ready:
        count_fetched(trainer, more)
        batches.is_last_batch = fetcher.done  # type: ignore[union-attr]
    made: Any = batches.total
    _place(batches.total, made.processed + moved.done)
    _place(batches.current, moved.done_in_epoch)
    within = moved.done_in_epoch if moved.epochs else moved.done
    _place(step.total, step.total.completed + moved.done)
    _place(step.current, within + (0 if moved.epochs else step.current.completed))
    # Lightning counts no gradient of a chunk as cleared.
    _place(zero_grad.total, zero_grad.total.completed + moved.done + 1, begun=0)
    _place(zero_grad.current, within + 1 + (0 if moved.epochs else zero_grad.current.completed), begun=0)
    for counter in (epochs.total, epochs.current):
        _add(counter, moved.epochs)
    epoch_loop._batches_that_stepped += moved.done


def count_scheduled(trainer: Trainer, steps: int, in_epoch: int, is_new_epoch: bool) -> None:
    """Add scheduler steps to Lightning's counters.

    Args:
        trainer: The Trainer.
        steps: Number of steps.
        in_epoch: Number of these steps in the current epoch.
        is_new_epoch: Whether the chunk ended in a later epoch than it began in.
    """
    progress: Any = trainer.fit_loop.epoch_loop.scheduler_progress
    _add(progress.total, steps)
    if is_new_epoch:
        progress.reset_on_run()
    _add(progress.current, in_epoch)


def count_validated(trainer: Trainer) -> None:
    """Set Lightning's counters as after a validation; the total starts at 0 in each epoch."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    batches = int(sum(loop.max_batches))
    _place(loop.batch_progress.current, batches, begun=0)
    loop.batch_progress.is_last_batch = True


def _place(counter: Any, done: int, begun: int = 1) -> None:
    """Set a counter to the updates that are done, and so many more that are begun."""
    for name in vars(counter):
        setattr(counter, name, done + (begun if name in ("ready", "started") else 0))


def _add(counter: Any, more: int) -> None:
    for name in vars(counter):
        setattr(counter, name, getattr(counter, name) + more)
