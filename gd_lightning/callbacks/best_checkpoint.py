"""Finding the best of the checkpoints that Lightning's ``ModelCheckpoint`` has kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gd_lightning.records.history import History
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.summary import BestCheckpoint


def best_of(trainer: Trainer, history: History, directory: Path | None) -> BestCheckpoint | None:
    """Return the best checkpoint that the first ``ModelCheckpoint`` with a monitored value has kept; None without one.

    Args:
        trainer: The Trainer, whose run has ended.
        history: The record of the run, which says to which epoch an update belongs.
        directory: The directory of the run; files inside it are named relative to it.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or callback.monitor is None or callback.best_model_score is None:
            continue
        path = Path(callback.best_model_path)
        if not path.is_file():  # removed since, or on another machine
            continue
        update = int(read_checkpoint(path)["global_step"])
        row = int(np.searchsorted(history["update"], update, side="right")) - 1
        return BestCheckpoint(
            path=_named_from(directory, path.absolute()),
            monitor=callback.monitor,
            value=float(callback.best_model_score),
            epoch=float(history["epoch"][max(row, 0)]),
            update=update,
        )
    return None


def _named_from(directory: Path | None, path: Path) -> str:
    inside = directory is not None and path.is_relative_to(directory.absolute())
    return path.relative_to(directory.absolute()).as_posix() if inside and directory is not None else str(path)
