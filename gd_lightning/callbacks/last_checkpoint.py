"""The callback that saves ``last.ckpt``, from which a run can be evaluated, used and continued."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gd_lightning.callbacks.logger_directory import directory_of
from gd_lightning.callbacks.stop_on_divergence import StopOnDivergence
from gd_lightning.engine import ChunkRequest
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.module import CheckedCheckpoints, WholeCheckpoints, is_at_its_end
from gd_lightning.tracking.checkpoint_file import clear_parts, read_checkpoint, write_checkpoint
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT

_UPDATES_BETWEEN_QUESTIONS = 100  # with several processes, where asking whether a checkpoint is due takes communication


class LastCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` in the run's directory: at the start, at intervals, and at the end.

    The run's directory is the logger's, or without a logger a new one in ``lightning_logs``.

    In between it saves after an update or epoch if at least ``interval`` seconds have passed since the last checkpoint.
    Weights that are not finite, or of a run that :class:`~gd_lightning.StopOnDivergence` is about to stop, are not
    saved: the checkpoint before them is kept.
    It makes all checkpoints of the run, including those of Lightning's ``ModelCheckpoint``, atomic. Loggers that upload
    checkpoints (``log_model``) upload it.

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
            raise InputError(f"cannot use interval {interval} as the seconds between checkpoints; use a number above 0")
        self.interval = self.max_chunk_seconds = interval
        self.update: int | None = None
        """The update after which this run saved its present checkpoint."""
        self._saved_at = time.monotonic()
        # Attributes read by loggers that upload checkpoints: there is one checkpoint, the last, and no best one.
        self.last_model_path = self.best_model_path = ""
        self.current_score = self.best_model_score = None
        self.save_top_k = 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make all checkpoints of the run atomic."""
        if stage == "fit" and type(trainer.strategy.checkpoint_io) in (TorchCheckpointIO, CheckedCheckpoints):
            trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Load the paths that ``ModelCheckpoint`` has kept, also if the path of the run's directory has changed.

        It forgets what was best where its directory is not, letter by letter, the one that it was.
        """
        directory = directory_of(trainer)
        if directory is None or trainer.ckpt_path is None:
            return
        if Path(trainer.ckpt_path).resolve() != (directory / LAST_CHECKPOINT).resolve():
            return  # the run is continued in another directory, and the files in this one are kept
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            if not isinstance(callback, ModelCheckpoint) or not state or callback.dirpath is None:
                continue
            if Path(callback.dirpath).resolve().is_relative_to(directory.resolve()):
                _move(state, str(callback.dirpath))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the start, so that a run killed early can be repeated, and check that the checkpoint can be loaded.

        Raises:
            InputError: The checkpoint contains something other than plain values and tensors.
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
            writer = trainer.strategy.checkpoint_io
            if trainer.is_global_zero and not (isinstance(writer, WholeCheckpoints) and writer.last_certainly_loads):
                _check_plain(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within a long epoch if due, except after its last update, which the end of the epoch follows."""
        if trainer.world_size > 1 and trainer.global_step % _UPDATES_BETWEEN_QUESTIONS:
            return
        if not trainer.is_last_batch and self._is_due(trainer):
            self.save(trainer)

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Allow chunks of any number of epochs that take no longer than the interval."""
        return ChunkRequest()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the last checkpoint is older than the interval, unless the run is about to end."""
        if not is_at_its_end(trainer) and self._is_due(trainer):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        self.save(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        """Whether the last checkpoint is older than the interval; the first process decides for all."""
        due = time.monotonic() - self._saved_at >= self.interval
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def save(self, trainer: Trainer) -> None:
        """Save the current state unless the run has diverged; all processes must call this.

        Args:
            trainer: The Trainer.
        """
        directory = directory_of(trainer)
        if directory is not None:
            path = directory / LAST_CHECKPOINT
            if _is_sound(trainer):
                self._write(trainer, path)
            elif trainer.is_global_zero and trainer.ckpt_path is not None and not path.exists():
                # The run continues in a new directory, and diverged before its first checkpoint there.
                write_checkpoint(read_checkpoint(Path(trainer.ckpt_path)), path)
        self._saved_at = time.monotonic()

    def _write(self, trainer: Trainer, path: Path) -> None:
        trainer.save_checkpoint(path, weights_only=False)
        self.update = trainer.global_step
        self.last_model_path = str(path)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)  # type: ignore[arg-type]  # typed for ModelCheckpoint


def _move(state: dict[str, Any], directory: str) -> None:
    """Replace the directory of the paths in a ``ModelCheckpoint``'s state by the one in which the files are now."""
    before, state["dirpath"] = str(state["dirpath"]), directory

    def moved(path: str) -> str:
        is_inside = path and Path(path).is_relative_to(before)
        return str(Path(directory) / Path(path).relative_to(before)) if is_inside else path

    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])
    state["best_k_models"] = {moved(path): value for path, value in state["best_k_models"].items()}


def _is_sound(trainer: Trainer) -> bool:
    """Whether a run has not diverged, with the same answer in all processes."""
    diverged = any(not each.is_sound(trainer) for each in callbacks_of(trainer, StopOnDivergence))
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
