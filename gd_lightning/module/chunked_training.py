"""Planning and carrying out chunks of updates within Lightning's training loop (layer 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gd_lightning.engine import Chunk, ChunkRequest, Engine, Record, Trace
from gd_lightning.engine.drawn_orders import MOST_SAMPLES
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.micro_batches import Pair
from gd_lightning.module.epochs_per_chunk import most_epochs
from gd_lightning.module.lightning_counters import Moved, count_fetched, count_moved, count_validated
from gd_lightning.module.schedulers_in_chunks import Schedules
from gd_lightning.module.validation import Validation, are_due, can_be_summed, validation_loader
from gd_lightning.variants import Variant

# Signals, time limits and checkpoints are handled between chunks.
_SECONDS = 0.1
_GROWTH = 16  # a chunk that was short by chance does not make the next one long
_MOST_KEPT = 10_000_000  # numbers that a chunk may save
_MOST_ORDERED = 2**21  # maximum number of samples whose order is computed for one chunk
_MOST_MEASURED = 20_000  # epochs of a chunk, if measured at their ends: recording takes longer than the epochs
_ROUND = 100  # chunks end at multiples of this number, if nothing else ends them


class Chunks:
    """Lets an engine make the updates of a run in chunks, with the same effect as Lightning's own loop.

    Lightning sees a chunk as one batch. If no hook needs single epochs, a chunk of a whole epoch is extended to as many
    epochs as fit. After a chunk, ``current_epoch``, ``global_step``, the batch index, the end of an epoch, validation
    within it, checkpoints and runs continued from them are the same as with single updates.

    Args:
        trainer: The Trainer, which has started training.
        engine: Carries out the updates.
        x: Features in the form that the engine takes, shape (N, D).
        y: Targets, shape (N, K).
        numbers: P, the number of parameters.
        plain: A module class whose hooks do not need single epochs.
        taken: Converts features and targets to those that the engine takes.
        one_by_one: Whether each chunk is a single update.
    """

    def __init__(
        self,
        trainer: Trainer,
        engine: Engine,
        x: Tensor,
        y: Tensor,
        numbers: int,
        plain: type[LightningModule],
        taken: Callable[[Tensor, Tensor], Pair],
        one_by_one: bool,
    ) -> None:
        self.engine = engine
        self._trainer, self._plain, self._one_by_one = trainer, plain, one_by_one
        of_callbacks = (getattr(each, "max_chunk_seconds", math.inf) for each in callbacks_of(trainer, Callback))
        self._seconds = min([_SECONDS, *of_callbacks])
        self._taken = taken
        self._validation: Validation | None = None
        self._x, self._y, self._buffer = x, y, torch.empty(0, dtype=torch.int64)
        loader: Any = trainer.train_dataloader
        self._loader = loader
        self._variant: Variant = loader.variant
        work = 1 if engine.name == "autograd" else self._variant.batch_size * numbers
        self._length = max(1, int(engine.first_work / work * self._seconds / _SECONDS))
        self.end = 0
        """One past the last update that is made, or about to be made, counted from the beginning of the epoch.

        A checkpoint counts the samples before it as processed."""
        self._most = int(max(1, min(_MOST_KEPT // (numbers + 1), engine.max_updates)))
        engine.prepare(Chunk(x, y, None, self._variant, 0, 0))
        if engine.name == "fused" and not one_by_one:
            loader.prepare_orders()

    def next(self, rows: Tensor | None, update: int) -> Chunk:
        """Plan the chunk that begins at an update of the epoch; Lightning is about to fetch it as one batch.

        Args:
            rows: The order of the epoch; None: the stored order.
            update: The first update, counted from the beginning of the epoch.
        """
        updates = self._updates_from(update)
        count_fetched(self._trainer, updates - 1)
        self.end = update + updates
        per_epoch = min(self._variant.updates_per_epoch, int(self._trainer.num_training_batches))
        return Chunk(self._x, self._y, rows, self._variant, update, self.end, per_epoch=per_epoch)

    def carry_out(self, chunk: Chunk) -> dict[str, Any]:
        """Make the updates of a chunk, in the training step that Lightning makes of it.

        Returns:
            The result of a training step, and the chunk with the requests of callbacks, with its trace.
        """
        begun = time.perf_counter()
        asked = (getattr(each, "chunk_request", None) for each in callbacks_of(self._trainer, Callback))
        requests = [ask(self._trainer) for ask in asked if ask is not None]
        epochs = self._epochs(chunk, requests)
        schedules = Schedules(self._trainer, chunk, epochs)
        held_out = None if epochs == 1 or self.validation is None else self.validation.held_out
        chunk = chunk.asked(requests, schedules.lrs(), epochs, self._orders(chunk, epochs), held_out)
        try:
            trace = self.engine.carry_out(chunk)
        except BaseException:
            self._take_back(chunk, schedules, requests)
            raise
        fitting = int(trace.updates * self._seconds / max(time.perf_counter() - begun, 1e-9))
        self._length = max(1, min(fitting, _GROWTH * self._length))
        if trace.updates < chunk.updates:
            schedules.go_back(trace.updates - 1)
        self._validate_within(chunk, trace)
        epochs, self.end = chunk.place(trace.updates)
        self._move(schedules, Moved(trace.updates - 1, epochs, self.end - 1))
        return {"loss": trace.last_loss, "batch_loss": trace.last_loss, "chunk": chunk, "trace": trace}

    @property
    def validation(self) -> Validation | None:
        """The validation of the run, if it can be computed from sums of errors; else None."""
        if not can_be_summed(self._trainer, self._plain):
            return None
        if self._validation is None or self._validation.loader is not validation_loader(self._trainer):
            module = self._trainer.lightning_module
            self._validation = Validation(self._trainer, module, self.engine, self._taken)
        return self._validation

    def train_loss(self) -> float | None:
        """Return the train loss at the current weights; None if the engine cannot compute it."""
        return self.engine.mean_loss(self._x, self._y)

    def _take_back(self, chunk: Chunk, schedules: Schedules, requests: Sequence[ChunkRequest]) -> None:
        """After an exception in a chunk, set the state that Lightning has if interrupted in the next update."""
        trace = self.engine.interrupted or Trace(0, Record(torch.empty(0)))
        made = trace.updates
        self._validate_within(chunk, trace, is_interrupted=True)
        schedules.go_back(made)
        epochs, self.end = divmod(chunk.first + made, chunk.per_epoch)
        self._move(schedules, Moved(made, epochs, self.end))
        for request in requests:
            if made and request.interrupted is not None:
                request.interrupted(chunk, trace)

    def _validate_within(self, chunk: Chunk, trace: Trace, is_interrupted: bool = False) -> None:
        """Compute the results of Lightning's validations at the ends of epochs within a chunk."""
        if chunk.ends is None or chunk.ends.held_out is None or self._validation is None:
            return
        if is_interrupted:
            self._validation.complete(chunk, trace)
        self._validation.give(trace)

    def _move(self, schedules: Schedules, moved: Moved) -> None:
        """Advance the counters of Lightning and of the loader by the updates made."""
        schedules.count(moved)
        if self._trainer.enable_validation and are_due(self._trainer, moved.epochs).any():
            count_validated(self._trainer)
        count_moved(self._trainer, moved)
        if moved.epochs:
            order = self._loader.epoch_order
            order.set_epoch(order.epoch + moved.epochs)

    # Chunks of several epochs

    def _epochs(self, chunk: Chunk, requests: Sequence[ChunkRequest]) -> int:
        """Return the number of epochs to carry out in one call, starting with the one that contains the chunk."""
        is_whole = chunk.first == 0 and chunk.updates == chunk.per_epoch
        fitting = min(self._length, self._most) // chunk.per_epoch
        measures = max((request.measures for request in requests), default=0)
        if chunk.rows is not None:
            fitting = min(fitting, _MOST_ORDERED // len(chunk.rows))
        if measures:
            fitting = min(fitting, _MOST_MEASURED)
        if (until_hook := self._until_hook()) < math.inf:
            fitting = min(fitting, max(1, int(until_hook) // chunk.per_epoch))
        if self._one_by_one or not is_whole or fitting < 2 or not self.engine.can_span_epochs(chunk, measures):
            return 1
        return int(min(fitting, most_epochs(self._trainer, self._plain, requests)))

    def _orders(self, chunk: Chunk, epochs: int) -> Tensor | None:
        """Return the order in which these epochs visit the samples; None for the stored order.

        All chunks have it in the same memory: in new memory for each, between what is kept of them, a long run left
        hundreds of megabytes that were free and too small for the next one.
        """
        if chunk.rows is None or epochs == 1:
            return chunk.rows
        order = self._loader.epoch_order
        n = order.n
        if len(self._buffer) < epochs * n:
            self._buffer = torch.empty(epochs * n, dtype=torch.int64)
        rows, drawn = self._buffer[: epochs * n], 0
        if n > MOST_SAMPLES:  # the order of fewer is drawn again as fast as it is copied
            rows[:n], drawn = chunk.rows, 1
        order.rows_of(order.epoch + drawn, epochs - drawn, rows[drawn * n :])
        return rows.to(chunk.rows.device)

    # The length of a chunk

    def _updates_from(self, update: int) -> int:
        """Return the number of updates in the coming chunk."""
        if self._one_by_one:
            return 1
        trainer, epoch_loop = self._trainer, self._trainer.fit_loop.epoch_loop
        updates = min(self._length, self._most)
        if updates > _ROUND:
            updates -= (trainer.global_step + updates) % _ROUND
        updates = int(min(updates, int(trainer.num_training_batches) - update, self._until_hook()))
        if trainer.max_steps != -1:
            updates = min(updates, trainer.max_steps - trainer.global_step)
        if trainer.enable_validation and math.isfinite(every := float(trainer.val_check_batch or math.inf)):
            # Batches are counted from the beginning of the epoch, or from that of the run.
            counted = update if trainer.check_val_every_n_epoch is not None else epoch_loop.total_batch_idx + 1
            updates = min(updates, int(every) - counted % int(every))
        return max(1, updates)

    def _until_hook(self) -> float:
        """Return the largest number of updates before a callback needs its hook."""
        step = self._trainer.global_step
        every = [getattr(each, "updates_between_hooks", 0) for each in callbacks_of(self._trainer, Callback)]
        return min((each - step % each for each in every if each), default=math.inf)
