"""How Lightning counts batches, updates and epochs: moved on here for the updates of a chunk (layer 4).

Lightning counts batches that it fetches, steps of the optimiser and of schedulers, and epochs. Of a chunk it sees one
of each; what is left is added in this file alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Moved:
    """How far a chunk has moved a run on, but for what Lightning counts itself behind it.

    Args:
        done: Updates that are made.
        begun: Updates that are begun.
        epochs: Epochs that are over.
        done_in_epoch: Updates that are made in the present epoch.
        begun_in_epoch: Updates that are begun in it.
    """

    done: int
    begun: int
    epochs: int
    done_in_epoch: int
    begun_in_epoch: int


def count_fetched(trainer: Trainer, more: int) -> None:
    """Count more batches as fetched than Lightning does, or fewer."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    fetcher.fetched += more
    fetcher.done = fetcher.length is not None and fetcher.fetched >= fetcher.length
    progress = trainer.fit_loop.epoch_loop.batch_progress
    progress.total.ready += more
    progress.current.ready += more


def count_moved(trainer: Trainer, moved: Moved) -> None:
    """Count what a chunk has moved on: batches, steps of the optimiser, and epochs."""
    epoch_loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    batches, optimizer = epoch_loop.batch_progress, epoch_loop.automatic_optimization.optim_progress.optimizer
    step, zero_grad, epochs = optimizer.step, optimizer.zero_grad, trainer.fit_loop.epoch_progress
    if more := moved.begun_in_epoch - batches.current.ready:
        count_fetched(trainer, more)
        batches.is_last_batch = fetcher.done  # type: ignore[union-attr]
    made: Any = batches.total
    _place(batches.total, made.processed, moved.begun, moved.done)
    _place(batches.current, 0, moved.begun_in_epoch, moved.done_in_epoch)
    within = (moved.begun, moved.done) if not moved.epochs else (moved.begun_in_epoch, moved.done_in_epoch)
    _place(step.total, step.total.completed, moved.begun, moved.done)
    _place(step.current, 0 if moved.epochs else step.current.completed, *within)
    # Lightning counts no gradient of a chunk as cleared.
    _place(zero_grad.total, zero_grad.total.completed, moved.begun, moved.begun)
    _place(zero_grad.current, 0 if moved.epochs else zero_grad.current.completed, within[0], within[0])
    for counter in (epochs.total, epochs.current):
        _add(counter, moved.epochs)
    epoch_loop._batches_that_stepped += moved.done


def count_scheduled(trainer: Trainer, steps: int, in_epoch: int, is_new_epoch: bool) -> None:
    """Count more steps of schedulers than Lightning does.

    Args:
        trainer: Whose counters.
        steps: How many.
        in_epoch: How many of them in the present epoch.
        is_new_epoch: Whether it is another one than before.
    """
    progress: Any = trainer.fit_loop.epoch_loop.scheduler_progress
    _add(progress.total, steps)
    if is_new_epoch:
        progress.reset_on_run()
    _add(progress.current, in_epoch)


def _place(counter: Any, before: int, begun: int, done: int) -> None:
    """Set a counter to so many behind what it was before."""
    for name in vars(counter):
        setattr(counter, name, before + (begun if name in ("ready", "started") else done))


def _add(counter: Any, more: int) -> None:
    for name in vars(counter):
        setattr(counter, name, getattr(counter, name) + more)
