"""The checkpoint that a run can be judged, used and continued from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gd_lightning.callbacks.directories import directory_of
from gd_lightning.callbacks.divergence import StopOnDivergence
from gd_lightning.engine import ChunkRequest
from gd_lightning.errors import InputError
from gd_lightning.module import CheckedCheckpoints, WholeCheckpoints, is_at_its_end
from gd_lightning.tracking.checkpoint_file import clear_parts, read_checkpoint, write_checkpoint
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT

_UPDATES_BETWEEN_QUESTIONS = 100  # among several processes, where to ask whether a checkpoint is due takes time


class LastCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` in the run's directory: at the start, at intervals, and at the end.

    That is the logger's, or without a logger one in ``lightning_logs`` that no other run has.

    Between the start and the end it saves where an update or an epoch ends later than ``interval`` after the last time.
    Weights that are not finite, or of a run that :class:`~gd_lightning.StopOnDivergence` is about to stop, are not
    saved: the checkpoint before them is kept.
    With it, all checkpoints of the run, those of Lightning's ``ModelCheckpoint`` too, are written as a whole or not at
    all. A logger that takes checkpoints (``log_model``) gets it.

    Lightning's ``ModelCheckpoint`` saves at the end of every epoch, which takes longer than an update of a small
    model; it can be used beside this one.

    Args:
        interval: Seconds between two checkpoints of a long run.

    Raises:
        InputError: The interval is not above 0.
    """

    needs_directory = True

    def __init__(self, interval: float = 60.0) -> None:
        if not interval > 0:
            raise InputError(f"interval {interval} is no time between checkpoints; use seconds above 0")
        self.interval = self.max_chunk_seconds = interval
        self.update: int | None = None
        """Behind which update this run saved the checkpoint that there is."""
        self._saved_at = time.monotonic()
        # What loggers that take checkpoints ask of a callback: there is one, the last, and nothing says which is best.
        self.last_model_path = self.best_model_path = ""
        self.current_score = self.best_model_score = None
        self.save_top_k = 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have all checkpoints of the run written whole."""
        if stage == "fit" and type(trainer.strategy.checkpoint_io) in (TorchCheckpointIO, CheckedCheckpoints):
            trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the start, from which a run that is killed early can be made again; and see whether it can be loaded.

        Raises:
            InputError: Something that the checkpoint holds is no plain value.
        """
        self._saved_at = time.monotonic()
        directory = directory_of(trainer)
        if directory is None:
            return
        path = directory / LAST_CHECKPOINT
        if trainer.is_global_zero:
            clear_parts(path.parent)
        self.update = trainer.global_step
        if not trainer.fit_loop.is_resuming:
            self._write(trainer, path)
            if trainer.is_global_zero:
                _check_plain(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within a long epoch; behind its last update, the epoch's end is near."""
        if trainer.world_size > 1 and trainer.global_step % _UPDATES_BETWEEN_QUESTIONS:
            return
        if not trainer.is_last_batch and self._is_due(trainer):
            self.save(trainer)

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Let chunks have any number of epochs, as long as they take no longer than an interval."""
        return ChunkRequest()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where the last checkpoint is old, and the end of the run is not at hand."""
        if not is_at_its_end(trainer) and self._is_due(trainer):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        self.save(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        """Whether the last checkpoint is old; every process decides as the first one does."""
        due = time.monotonic() - self._saved_at >= self.interval
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def save(self, trainer: Trainer) -> None:
        """Save where the run stands, unless it has diverged; every process must call it."""
        directory = directory_of(trainer)
        if directory is not None:
            path = directory / LAST_CHECKPOINT
            if _is_sound(trainer):
                self._write(trainer, path)
            elif trainer.is_global_zero and trainer.ckpt_path is not None and not path.exists():
                # Continued into a directory of its own, and diverged before its first checkpoint.
                write_checkpoint(read_checkpoint(Path(trainer.ckpt_path)), path)
        self._saved_at = time.monotonic()

    def _write(self, trainer: Trainer, path: Path) -> None:
        trainer.save_checkpoint(path, weights_only=False)
        self.update = trainer.global_step
        self.last_model_path = str(path)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)  # type: ignore[arg-type]  # typed for ModelCheckpoint


def _is_sound(trainer: Trainer) -> bool:
    """Whether a run has not diverged, for all processes alike."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    diverged = any(isinstance(each, StopOnDivergence) and not each.is_sound(trainer) for each in callbacks)
    finite = all(bool(parameter.isfinite().all()) for parameter in trainer.lightning_module.parameters())
    return trainer.strategy.reduce_boolean_decision(finite and not diverged)


def _check_plain(path: Path) -> None:
    try:
        read_checkpoint(path)
    except InputError as error:
        raise InputError(
            "cannot train with checkpoints that could not be loaded again, because the options or callbacks of this "
            "run hold more than plain values and tensors; use numbers, strings, lists and dicts"
        ) from error
