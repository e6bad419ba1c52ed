"""Formatting of file paths in the output of the command line."""

from __future__ import annotations

from pathlib import Path

from gd_lightning.escaping import in_one_line


def from_here(path: Path) -> Path:
    """Return a path relative to the current directory, if it is inside, else the absolute path."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def shown(path: Path) -> str:
    """Return a path like :func:`from_here`, in one line for a terminal."""
    return in_one_line(str(from_here(path)))


def files_shown(directory: Path, tab: str, board: Path | None = None) -> str:
    """Return lines with the directory of several runs, and the command that shows them in TensorBoard.

    Args:
        directory: The directory.
        tab: The tab of TensorBoard to open.
        board: Directory of the files of TensorBoard; None: the same.
    """
    seen = f"tensorboard --logdir {shown(board or directory)}, then http://localhost:6006/#{tab}"
    return f"\nfiles        {shown(directory)}\nto see them  {seen}"
