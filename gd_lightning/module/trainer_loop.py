"""How long the chunks of a run are, and how Lightning counts their updates (floor 4)."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from torch import Tensor

from gd_lightning.engine import Chunk, ChunkRequest, Engine, Trace

# Between chunks, signals are answered, limits of time are seen, and checkpoints are written.
_SECONDS = 0.1
_FIRST_WORK = {"autograd": 100.0, "fused": 1_000_000.0}  # of the first chunk, in numbers of a batch or so
_GROWTH = 16  # so that a chunk which was short by chance does not make the next one long
_MOST_KEPT = 10_000_000  # numbers that a chunk may leave
_ROUND = 100  # chunks end at multiples of it, where nothing else ends them


class Chunks:
    """Hands a run to an engine, chunk by chunk, as if Lightning had made each update.

    Lightning counts batches that it fetches, and steps of the optimiser. Of a chunk it sees one of each; what is
    left is added here, in one place, so that ``global_step``, the index of a batch, the end of an epoch, validation
    within it, checkpoints and what is continued from them are those of single updates.

    Args:
        trainer: Which has begun to train.
        engine: Carries out the updates.
        x: Features as the engine takes them, shape (N, D).
        y: Targets, shape (N, K).
        numbers: P, the number of parameters.
        seconds: How long a chunk may take, if that is less than a tenth of a second.
        one_by_one: Whether each update is a chunk of its own.
    """

    def __init__(
        self,
        trainer: Trainer,
        engine: Engine,
        x: Tensor,
        y: Tensor,
        numbers: int,
        seconds: float = _SECONDS,
        one_by_one: bool = False,
    ) -> None:
        self.engine = engine
        self._trainer, self._one_by_one = trainer, one_by_one
        self._seconds = min(seconds, _SECONDS)
        self._x, self._y = x, y
        loader: Any = trainer.train_dataloader
        self._variant = loader.variant
        work = 1 if engine.name == "autograd" else self._variant.batch_size * numbers
        self._length = max(1, int(_FIRST_WORK[engine.name] / work * self._seconds / _SECONDS))
        self.end = 0
        """The update behind the last one that is made, or about to be made, counted from the beginning of the epoch.

        A checkpoint that is written, whenever it is, takes the samples before it."""
        self._most = max(1, _MOST_KEPT // (numbers + 1))
        engine.prepare(Chunk(x, y, None, self._variant, 0, 0))

    def next(self, rows: Tensor | None, update: int) -> Chunk:
        """Plan the chunk that begins at an update of the epoch; Lightning is about to fetch it as one batch.

        Args:
            rows: The order of the epoch; None: as the samples lie.
            update: The first update, counted from the beginning of the epoch.
        """
        updates = self._updates_from(update)
        self._fetched(updates - 1)
        self.end = update + updates
        return Chunk(self._x, self._y, rows, self._variant, update, update + updates)

    def carry_out(self, chunk: Chunk) -> dict[str, Any]:
        """Make the updates of a chunk, in the training step that Lightning makes of it.

        Returns:
            What a training step returns, and the chunk as callbacks asked for it, with its trace.
        """
        schedulers = [config.scheduler for config in self._trainer.lr_scheduler_configs if config.interval == "step"]
        before = [scheduler.state_dict() for scheduler in schedulers]
        lrs = self._lrs(schedulers, chunk.updates) if schedulers else None
        chunk = chunk.asked(requests_of(self._trainer), lrs)
        begun = time.perf_counter()
        try:
            trace = self.engine.carry_out(chunk)
        except BaseException:
            # As if Lightning had made the updates that were made, and were interrupted in the next one.
            made = self.engine.made
            self._fetched(made + 1 - chunk.updates)
            self._made(made)
            self._take_back(schedulers, before, chunk, made)
            self.end = chunk.first + made
            raise
        self._learn_from(trace, time.perf_counter() - begun)
        self.end = chunk.first + trace.updates
        if trace.updates < chunk.updates:
            self._fetched(trace.updates - chunk.updates)
            self._trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = False
            self._take_back(schedulers, before, chunk, trace.updates - 1)
        self._made(trace.updates - 1)
        return {"loss": trace.last_loss, "batch_loss": trace.last_loss, "chunk": chunk, "trace": trace}

    def train_loss(self) -> float | None:
        """Return the train loss at the present weights; None where the engine has no way of its own to it."""
        return self.engine.mean_loss(self._x, self._y)

    # How long

    def _updates_from(self, update: int) -> int:
        """Return how many updates the coming chunk has."""
        if self._one_by_one:
            return 1
        trainer, epoch_loop = self._trainer, self._trainer.fit_loop.epoch_loop
        updates = min(self._length, self._most)
        if updates > _ROUND:
            updates -= (trainer.global_step + updates) % _ROUND
        updates = min(updates, int(trainer.num_training_batches) - update)
        if trainer.max_steps != -1:
            updates = min(updates, trainer.max_steps - trainer.global_step)
        if trainer.enable_validation and math.isfinite(every := float(trainer.val_check_batch or math.inf)):
            # In batches since the beginning of the epoch, or of the run.
            counted = update if trainer.check_val_every_n_epoch is not None else epoch_loop.total_batch_idx + 1
            updates = min(updates, int(every) - counted % int(every))
        return max(1, updates)

    def _learn_from(self, trace: Trace, seconds: float) -> None:
        fitting = int(trace.updates * self._seconds / max(seconds, 1e-9))
        self._length = max(1, min(fitting, _GROWTH * self._length))

    def _lrs(self, schedulers: list[Any], updates: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Let the schedulers go ahead, but for the step that Lightning makes behind the chunk."""
        (optimizer,) = self._trainer.optimizers
        (group,) = optimizer.param_groups
        vars(optimizer)["_opt_called"] = True  # torch's schedulers warn where they have seen no step
        lrs = [group["lr"]]
        for _ in range(updates - 1):
            for scheduler in schedulers:
                scheduler.step()
            lrs.append(group["lr"])
        return np.array(lrs, dtype=np.float64)

    def _take_back(self, schedulers: list[Any], states: list[Any], chunk: Chunk, steps: int) -> None:
        """Bring the schedulers to where they are after so many steps since the beginning of a chunk."""
        if chunk.lrs is None:
            return
        self._trainer.optimizers[0].param_groups[0]["lr"] = float(chunk.lrs[0])
        for scheduler, state in zip(schedulers, states, strict=True):
            scheduler.load_state_dict(state)
        for _ in range(steps):
            for scheduler in schedulers:
                scheduler.step()

    # How Lightning counts

    def _fetched(self, more: int) -> None:
        """Count more batches as fetched than Lightning does."""
        fetcher: Any = self._trainer.fit_loop._data_fetcher
        fetcher.fetched += more
        fetcher.done = fetcher.length is not None and fetcher.fetched >= fetcher.length
        progress = self._trainer.fit_loop.epoch_loop.batch_progress
        progress.total.ready += more
        progress.current.ready += more

    def _made(self, more: int) -> None:
        """Count more updates as made than Lightning does."""
        epoch_loop = self._trainer.fit_loop.epoch_loop
        progress, steps = epoch_loop.batch_progress, epoch_loop.automatic_optimization.optim_progress.optimizer
        counters: Any = (progress.total, progress.current)
        for counter in counters:
            counter.started += more
            counter.processed += more
            counter.completed += more
        steps.step.increment_by(more)
        steps.zero_grad.increment_by(more + 1)  # of which Lightning counts none
        epoch_loop._batches_that_stepped += more


def requests_of(trainer: Trainer) -> list[ChunkRequest]:
    """Return what the callbacks of a Trainer want of the chunk that is about to be carried out."""
    asked = (getattr(callback, "chunk_request", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return [ask(trainer) for ask in asked if ask is not None]
