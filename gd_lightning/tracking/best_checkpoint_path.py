"""The best checkpoint of a run, as named in ``summary.json``."""

from __future__ import annotations

from pathlib import Path

from gd_lightning.errors import InputError
from gd_lightning.tracking.run_directory import SUMMARY
from gd_lightning.tracking.run_files import read_summary

BEST = "best"
"""The name of the best checkpoint: alone of the newest run, or after the directory of a run."""


def best_checkpoint(run: Path) -> Path:
    """Return the checkpoint with the best monitored value of a run.

    Args:
        run: The directory of the run.

    Raises:
        InputError: The run has not ended, or has kept no best checkpoint, or its file does not exist.
    """
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
