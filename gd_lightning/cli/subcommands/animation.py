"""``--animate`` of ``fit`` and ``compare``: the path of its file, and checks that are made before training."""

from __future__ import annotations

from pathlib import Path

from gd_lightning.cli.shown_paths import shown
from gd_lightning.errors import InputError
from gd_lightning.plots.interactive.animation import FORMATS, Animation, check_animation_file
from gd_lightning.tracking.run_directory import is_taken


def check_animation(given: str | None) -> None:
    """Refuse an animation that could not be written after training.

    Args:
        given: A format or a file; None: no animation.

    Raises:
        InputError: The format is unknown, or the file already exists.
    """
    if given is None:
        return
    check_animation_file(_file(given, Path()))
    if given not in FORMATS and is_taken(Path(given)):
        raise InputError(f"cannot animate into {given}, because it already exists; give another name")


def write_animation_file(animation: Animation, given: str, directory: Path | None) -> None:
    """Write an animation, and say where it is.

    Args:
        animation: The animation.
        given: A format or a file.
        directory: The directory of the run or comparison; None: the current one.
    """
    path = animation.save(_file(given, directory or Path()))
    print(f"animation    {shown(path)}: {animation.note}")


def _file(given: str, directory: Path) -> Path:
    return directory / f"animation.{given}" if given in FORMATS else Path(given)
