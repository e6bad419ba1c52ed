"""Learning-rate schedulers in a chunk: stepped in advance, and rewound if the chunk ends early (layer 4)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch.optim import lr_scheduler

from gd_lightning.engine import Chunk
from gd_lightning.module.lightning_counters import Moved, count_scheduled
from gd_lightning.torch_internals import note_step


def why_not_ahead(trainer: Trainer, interval: Literal["step", "epoch"]) -> str:
    """Return the reason why schedulers cannot be stepped in advance of a chunk; "" if they can be.

    Args:
        trainer: The Trainer.
        interval: ``step`` for schedulers stepped after updates, ``epoch`` for those stepped after epochs.
    """
    configs: list[Any] = [config for config in trainer.lr_scheduler_configs if config.interval == interval]
    unit = "update" if interval == "step" else "epoch"
    if any(config.reduce_on_plateau for config in configs):
        return f"a scheduler needs each {unit} separately"
    if any(changes_more_than_lr(config.scheduler) for config in configs):
        return f"a scheduler may change more than the learning rate at every {unit}"
    if configs and len(trainer.optimizers[0].param_groups) > 1:
        return f"several learning rates change at every {unit}"
    return ""


def changes_more_than_lr(scheduler: object) -> bool:
    """Whether a scheduler may change more than the learning rate, as schedulers that cycle the momentum do."""
    if type(scheduler).__module__ != lr_scheduler.__name__ or getattr(scheduler, "cycle_momentum", False):
        return True
    return any(map(changes_more_than_lr, getattr(scheduler, "_schedulers", ())))


class Schedules:
    """The schedulers of a Trainer, stepped after each update or after the last update of an epoch.

    Args:
        trainer: The Trainer.
        chunk: A part of an epoch that is about to be carried out.
        epochs: How many epochs are carried out, where it is more than that part.
    """

    def __init__(self, trainer: Trainer, chunk: Chunk, epochs: int = 1) -> None:
        self._trainer, self._first, self._per_epoch = trainer, chunk.first, chunk.per_epoch
        self._updates = chunk.updates + (epochs - 1) * chunk.per_epoch
        configs: list[Any] = trainer.lr_scheduler_configs
        self._by_step = [config for config in configs if config.interval == "step"]
        self._by_epoch = [config for config in configs if config.interval == "epoch" and epochs > 1]
        self._all = [config.scheduler for config in (*self._by_step, *self._by_epoch)]
        self._states = [scheduler.state_dict() for scheduler in self._all]
        self._lr = self._group["lr"]
        self._steps = self._steps_in_epoch = self._epoch = 0

    @property
    def _group(self) -> dict[str, Any]:
        return self._trainer.optimizers[0].param_groups[0]

    def lrs(self) -> NDArray[np.float64] | None:
        """Step the schedulers through the chunk, except for the step that Lightning makes after it.

        Where a step fails, as one beyond the ``total_steps`` of ``OneCycleLR`` does, the chunk ends before the update
        of this step. A chunk of this update alone follows, after which Lightning makes the step, which fails again.

        Returns:
            The learning rate of each update, of fewer than all where a step fails; None if it is constant.
        """
        if not self._all:
            return None
        note_step(self._trainer.optimizers[0])
        try:
            return self._go(self._updates - 1)
        except Exception:
            return self.go_back(max(0, self._at - 1))

    def go_back(self, updates: int) -> NDArray[np.float64] | None:
        """Set the schedulers to their state after the first ``updates`` updates of the chunk.

        Returns:
            The learning rates of these updates and of the next one; None if they are constant.
        """
        if not self._all:
            return None
        self._group["lr"] = self._lr
        for scheduler, state in zip(self._all, self._states, strict=True):
            scheduler.load_state_dict(state)
        self._steps = self._steps_in_epoch = self._epoch = 0
        return self._go(updates)

    def count(self, moved: Moved) -> None:
        """Add the scheduler steps of the updates made to Lightning's counters."""
        in_epoch = self._steps_in_epoch if self._epoch == moved.epochs else 0
        count_scheduled(self._trainer, self._steps, in_epoch, moved.epochs > 0)

    def _go(self, updates: int) -> NDArray[np.float64]:
        """Step through ``updates`` updates; returns the learning rate of each of them and of the next one."""
        of_ends = range(self._per_epoch - 1 - self._first, updates if self._by_epoch else 0, self._per_epoch)
        positions = range(updates) if self._by_step else of_ends
        lrs = [self._group["lr"]]
        for position in positions:
            self._step(position)
            lrs.append(self._group["lr"])
        return np.repeat(np.array(lrs, dtype=np.float64), np.diff([-1, *positions, updates]))

    def _step(self, position: int) -> None:
        self._at = position
        epoch, in_epoch = divmod(self._first + position, self._per_epoch)
        if epoch > self._epoch:
            self._epoch, self._steps_in_epoch = epoch, 0
        due = self._by_step
        if in_epoch == self._per_epoch - 1:
            behind = self._trainer.current_epoch + epoch + 1
            due = [*due, *(config for config in self._by_epoch if behind % config.frequency == 0)]
        for config in due:
            config.scheduler.step()
        self._steps, self._steps_in_epoch = self._steps + len(due), self._steps_in_epoch + len(due)
