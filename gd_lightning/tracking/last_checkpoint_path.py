"""The last checkpoint of the newest run, wherever runs are."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT

_ELSEWHERE = ".runs_elsewhere"  # a file that lists the directories of runs in other places


def remember(directory: Path, logs: Path) -> None:
    """Let :func:`last_checkpoint` find a run that is not in the directory of runs."""
    if directory.resolve().parent != logs.resolve():
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / _ELSEWHERE).open("a", encoding="utf-8") as file:
            file.write(f"{directory.resolve()}\n")


def forget(directory: Path, logs: Path) -> None:
    """Undo :func:`remember`, for a run whose files are removed."""
    with contextlib.suppress(OSError, ValueError):
        file = logs / _ELSEWHERE
        lines = file.read_text(encoding="utf-8").splitlines()
        others = [line for line in lines if line != str(directory.resolve())]
        if others:
            write_text(file, "".join(f"{line}\n" for line in others))
        else:
            file.unlink()


def last_checkpoint(logs: Path) -> Path | None:
    """Return the last checkpoint of the newest run, in the directory of runs or elsewhere; None if there is no run."""
    checkpoints = list(logs.glob(f"*/{LAST_CHECKPOINT}"))
    with contextlib.suppress(OSError, ValueError):
        lines = set((logs / _ELSEWHERE).read_text(encoding="utf-8").splitlines())
        checkpoints += [file for line in lines if (file := Path(line) / LAST_CHECKPOINT).is_file()]
    return max(checkpoints, key=lambda file: file.stat().st_mtime_ns, default=None)
