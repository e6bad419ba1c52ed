"""The directory of a run: that of its logger, or a new one."""

from __future__ import annotations

from pathlib import Path
from weakref import WeakKeyDictionary

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.tracking.run_directory import (
    LAST_CHECKPOINT,
    LOGS,
    claim_directory,
    claim_within,
    inside,
    is_name_of_a_directory,
)

_CHOSEN: WeakKeyDictionary[Trainer, Path] = WeakKeyDictionary()
_TOLD: WeakKeyDictionary[Trainer, tuple[list[Logger], Path | None]] = WeakKeyDictionary()


def choose_directory(trainer: Trainer, directory: Path) -> None:
    """Choose the directory of a run before it starts; the first process decides for all."""
    _CHOSEN[trainer] = directory


def directory_of(trainer: Trainer) -> Path | None:
    """Return the directory of a run, or None if it writes no files; a collective call, since the result is broadcast.

    It is the directory of the first logger. For a logger without a directory per run, such as MLflow's or W&B's, it is
    in its ``save_dir``, named by its name and version, or without a ``save_dir`` in ``lightning_logs``. A run without a
    logger has one in ``lightning_logs`` if a callback, such as :class:`~gd_lightning.LastCheckpoint`, has
    ``needs_directory``. If a directory contains the files of another run, a new one beside it is used.
    """
    told = _TOLD.get(trainer)
    if told is None or told[0] != trainer.loggers:
        directory = None
        if _has_directory(trainer):
            directory = Path(trainer.strategy.broadcast(_find(trainer) if trainer.is_global_zero else Path()))
        told = _TOLD[trainer] = list(trainer.loggers), directory
    return told[1]


def check_names(logger: Logger) -> None:
    """Refuse names of a logger that are invalid as directories, or lead out of its ``save_dir``.

    Raises:
        InputError: The name or version of the logger is invalid.
    """
    if not isinstance(logger, (TensorBoardLogger, CSVLogger)):
        return
    # Reading a version that was not given would make the logger take the next number.
    given = {"name": logger.name, "version": vars(logger).get("_version"), "sub_dir": getattr(logger, "sub_dir", None)}
    for kind, value in given.items():
        name = str(value or "")
        if not is_name_of_a_directory(name):
            raise InputError(
                f"cannot log with {kind} {name!r}, because no directory in save_dir can have it: it leads out, is too "
                "long, or cannot be printed; use another one"
            )


def _has_directory(trainer: Trainer) -> bool:
    if trainer.fast_dev_run or trainer.barebones:  # type: ignore[attr-defined]
        return False
    if trainer in _CHOSEN:
        return True
    if trainer.loggers:
        return not isinstance(trainer.loggers[0], DummyLogger)
    return any(getattr(callback, "needs_directory", False) for callback in callbacks_of(trainer, Callback))


def _find(trainer: Trainer) -> Path:
    if trainer in _CHOSEN:
        return _CHOSEN[trainer]
    parent, name = _place(trainer)
    run = _continued(trainer)
    if run is not None and (run == (parent / name).resolve() if name else run.parent == parent.resolve()):
        return run
    return claim_within(parent, name) if name else claim_directory(parent, "run")


def _place(trainer: Trainer) -> tuple[Path, str]:
    """Return the parent directory of a run, and the name of its directory; "" for any free name."""
    root = Path(trainer.default_root_dir)
    if not trainer.loggers:
        return root / LOGS, ""
    logger = trainer.loggers[0]
    if isinstance(logger, (TensorBoardLogger, CSVLogger)):
        check_names(logger)
        directory = Path(logger.log_dir)
        return directory.parent, directory.name
    version = f"version_{logger.version}" if isinstance(logger.version, int) else str(logger.version or "")
    *_, version = inside(Path(), version).parts or ("",)
    return inside(Path(logger.save_dir), logger.name or "") if logger.save_dir else root / LOGS, version


def _continued(trainer: Trainer) -> Path | None:
    """Return the directory of the run if its last checkpoint is being continued, else None."""
    if trainer.ckpt_path is None:
        return None
    path = Path(trainer.ckpt_path).resolve()
    directory = path.parent.parent
    return directory if path == directory / LAST_CHECKPOINT else None
