"""The checkpoint that the name or the path of a run stands for (layer 3)."""

from __future__ import annotations

from pathlib import Path

from gd_lightning.errors import InputError
from gd_lightning.tracking.last_checkpoint_path import last_checkpoint
from gd_lightning.tracking.run_directory import CHECKPOINTS, LAST_CHECKPOINT, LOGS, SUMMARY
from gd_lightning.tracking.run_files import read_summary

_BEST = "best"  # the name of the best checkpoint: alone of the newest run, or after the directory of a run


def checkpoint_of(given: str, logs: Path) -> tuple[Path, Path | None]:
    """Return the path of a checkpoint, which need not exist, and the directory of its run, if any.

    Args:
        given: The path of a checkpoint, or of the directory of a run, or such a directory and ``best``; ``last`` or
            ``best`` of the newest run.
        logs: The directory of the runs.

    Raises:
        InputError: There is no run, or it has not ended, or has kept no best checkpoint.
    """
    path = Path(given)
    if given in ("last", _BEST) and not path.exists():
        newest = last_checkpoint(logs)
        if newest is None:
            raise InputError(
                f"cannot find the {given} run, because {logs} contains none; train first, or give its path"
            )
        run = newest.parent.parent
        return (newest if given == "last" else _best_checkpoint(run)), run
    if path.name == _BEST and path.parent.is_dir() and not path.exists():
        return _best_checkpoint(path.parent), path.parent
    if path.is_dir():
        return path / LAST_CHECKPOINT, path
    return path, path.parent.parent if path.parent.name == CHECKPOINTS else None


def no_checkpoint(path: Path) -> InputError:
    """Return the error for a path without a checkpoint."""
    return InputError(
        f"cannot find a checkpoint at {path}; give the directory of a run, such as {LOGS}/NAME, a checkpoint file, "
        "last, or best"
    )


def _best_checkpoint(run: Path) -> Path:
    """Return the checkpoint with the best monitored value of a run."""
    summary = read_summary(run / SUMMARY)
    if summary is None:
        raise InputError(
            f"cannot find the best checkpoint of {run}, because it has not ended; continue it with fit "
            f"--ckpt_path {run}"
        )
    best = summary.get("best_checkpoint")
    name = best.get("path") if isinstance(best, dict) else None
    if not isinstance(name, str):
        raise InputError(
            f"cannot find the best checkpoint of {run}, because it kept none; train with --data.val_size 0.2 "
            "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val_loss"
        )
    if not (run / name).is_file():
        raise InputError(
            f"cannot find the best checkpoint of {run}, because {name} does not exist any more; give another one"
        )
    return run / name
