"""Adding the rows of updates to the history of a run, one by one or for a whole chunk.

Letters: E ends of epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from gd_lightning.callbacks.chunk_rows import Begin, ChunkRows, add_rows
from gd_lightning.callbacks.parameter_columns import LinearPath
from gd_lightning.callbacks.row_limit import RowLimit
from gd_lightning.callbacks.trainer_info import learning_rate
from gd_lightning.engine import Chunk, SaveAt, Trace
from gd_lightning.measures import Stopwatch
from gd_lightning.records.axes import AXES, axes_at
from gd_lightning.records.columns import union
from gd_lightning.records.history import History
from gd_lightning.variants import Variant

_PENDING = 2_000  # updates whose tensors are kept before they are turned into numbers

AtEnds = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
"""What was measured at the ends of epochs within a chunk: by name, positions in the chunk and values, shape (E,)."""


class UpdateRows:
    """Adds the rows of updates to a history.

    Args:
        trainer: The Trainer, which is about to train.
        history: The history, changed in place.
        path: The columns of a linear regressor's parameters; None for other models.
        variant: B and N; None if the loader does not define them.
        limit: Decides which updates are recorded.
        watch: Counts the seconds of training.
    """

    def __init__(
        self,
        trainer: Trainer,
        history: History,
        path: LinearPath | None,
        variant: Variant | None,
        limit: RowLimit,
        watch: Stopwatch,
    ) -> None:
        self.history, self.path, self.limit = history, path, limit
        self._variant, self._watch = variant, watch
        self.of_updates = {*AXES, "batch_loss", "lr", *([] if path is None else path.column_names(True))}
        """Names of the columns that the row of an update has."""
        self._marks: list[dict[str, float]] = []
        self._tensors: list[Tensor] = []
        self._gradients: Tensor | None = None
        self._is_recorded = False
        self._lr = learning_rate(trainer)
        self.move_to(trainer, updates_in_epoch=0)

    @property
    def has_measurements(self) -> bool:
        """Whether the last row has more than the row of an update: it would be there without a stop."""
        others = (name for name in self.history.columns if name not in self.of_updates)
        return any(self.history.in_last_row(name) is not None for name in others)

    def move_to(self, trainer: Trainer, updates_in_epoch: int, epoch: int | None = None) -> None:
        """Set the current position of the run on each axis.

        Args:
            trainer: The Trainer, which counts the updates.
            updates_in_epoch: Number of updates made in the epoch.
            epoch: Index of the epoch; None: the current one.
        """
        epoch = trainer.current_epoch if epoch is None else epoch
        axes: dict[str, Any] = {"epoch": float(epoch), "samples": 0}
        if self._variant is not None:
            axes = axes_at(self._variant, _updates_per_epoch(trainer, self._variant), epoch, updates_in_epoch)
        self.mark = {"update": trainer.global_step, **axes, "seconds": self._watch.seconds, "lr": self._lr}

    def begin_update(self, trainer: Trainer) -> None:
        """Decide whether the next update is recorded; the last of an epoch always is."""
        if self.limit.is_due(trainer.global_step):
            self.collect(trainer)
        self.limit.apply(self.history, trainer.global_step, self.of_updates)
        self._is_recorded = trainer.is_last_batch or (trainer.global_step + 1) % self.limit.every == 0
        self._gradients = None

    def begin_step(self, optimizer: Optimizer) -> None:
        """Save parameters and gradients before the update; optimisers such as LBFGS call this several times."""
        self._lr = float(optimizer.param_groups[0]["lr"])
        if self._gradients is None and self._is_recorded and self.path is not None and self.path.names_gradients:
            self._gradients = self.path.gradients()

    def add_update(self, trainer: Trainer, loss: Tensor | None, updates_in_epoch: int) -> None:
        """Save the results of an update as tensors, since reading each value would synchronise with the device.

        Args:
            trainer: The Trainer after the batch; there may be no update, if a module accumulates or skips.
            loss: The batch loss, shape (1,), if there is one.
            updates_in_epoch: Number of updates made in the current epoch.
        """
        made_update = trainer.global_step > self.mark["update"]
        self.move_to(trainer, updates_in_epoch)
        if not self._is_recorded or not made_update or loss is None:
            return
        saved = [loss]
        if self.path is not None:
            saved.append(self.path.parameters())
            if self._gradients is not None:
                saved.append(self._gradients)
        self._marks.append(self.mark)
        self._tensors.append(torch.cat(saved))
        if len(self._marks) >= _PENDING:
            self.collect(trainer)

    def begin_chunk(self, trainer: Trainer) -> SaveAt:
        """Return which updates of the coming chunk are to be saved."""
        path = self.path
        self._lr = learning_rate(trainer)
        self._begin = Begin(trainer.global_step, trainer.current_epoch, self._watch.seconds, self._lr)
        self._save_at = SaveAt(
            start=self._first_recorded(),
            every=self.limit.every,
            last=trainer.is_last_batch,
            parameters=path is not None and (path.names_parameters or path.has_optimum),
            gradients=path is not None and path.names_gradients,
        )
        return self._save_at

    def _first_recorded(self) -> int:
        """Return the position in the chunk of its first update that is recorded."""
        return -(self._begin.update + 1) % self.limit.every

    def add_chunk(self, trainer: Trainer, chunk: Chunk, trace: Trace, at_ends: AtEnds) -> None:
        """Add the rows of a chunk.

        Args:
            trainer: The Trainer after the chunk, or after the exception that ended it.
            chunk: The chunk that was carried out.
            trace: The results of the chunk.
            at_ends: Measurements at the ends of epochs within it.
        """
        self._watch.leave_out(min(trace.seconds, self._watch.seconds - self._begin.seconds))
        if chunk.lrs is not None:
            self._lr = float(chunk.lrs[trace.updates - 1])
        last_begin = self._begin.update + trace.updates - 1
        if self.limit.is_due(last_begin):  # before there are more rows than it leaves
            self.limit.widen(self.history, last_begin, self.of_updates)
            self._save_at = replace(self._save_at, start=self._first_recorded(), every=self.limit.every)
        epochs, in_epoch = chunk.place(trace.updates)
        self.move_to(trainer, in_epoch, self._begin.epoch + epochs)
        positions = chunk.saved_positions(self._save_at, trace.updates)
        ends = union([at for at, _ in at_ends.values()])
        if len(ends) and self.limit.removes_ends:
            of_names = {name: at + (self._begin.update + 1) for name, (at, _) in at_ends.items()}
            remaining = self.limit.remaining(of_names) - (self._begin.update + 1)
            positions = positions[~np.isin(positions, ends) | np.isin(positions, remaining)]
        per_epoch = _updates_per_epoch(trainer, chunk.variant)
        rows = ChunkRows(
            *(chunk, trace, self._save_at, positions, self._begin, self._watch.seconds, per_epoch, self.path)
        )
        rows.add_to(self.history, at_ends)

    def collect(self, trainer: Trainer) -> None:
        """Turn the saved results of updates into rows of the history."""
        if not self._marks:
            return
        saved = torch.stack(self._tensors)
        if trainer.world_size > 1:
            # Each process has its part of every batch; the batch loss is the average over processes.
            losses = trainer.strategy.reduce(saved[:, 0].contiguous(), reduce_op="mean")
            assert isinstance(losses, Tensor)
            saved[:, 0] = losses
        saved = saved.double().cpu()
        columns = {name: np.array([mark[name] for mark in self._marks]) for name in self.mark}
        parameters, gradients = (None if self.path is None else saved[:, 1:]), None
        if self.path is not None and self.path.names_gradients:
            parameters, gradients = saved[:, 1:].chunk(2, dim=1)
        add_rows(self.history, self.path, {**columns, "batch_loss": saved[:, 0].numpy()}, parameters, gradients)
        self._marks, self._tensors = [], []

    def add_present(self, trainer: Trainer) -> None:
        """Ensure that the last row belongs to the current weights."""
        self.collect(trainer)
        if not len(self.history) or self.history.last("update") != trainer.global_step:
            parameters = None if self.path is None else self.path.parameters()[None]
            add_rows(self.history, self.path, self.mark, parameters)


def _updates_per_epoch(trainer: Trainer, variant: Variant) -> int:
    """Return the number of updates per epoch, with ``limit_train_batches`` taken into account."""
    return int(min(variant.updates_per_epoch, trainer.num_training_batches))
