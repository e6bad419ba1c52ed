"""Formatting of file paths in the output of the command line."""

from __future__ import annotations

from pathlib import Path

from gd_lightning.escaping import in_one_line


def from_here(path: Path) -> Path:
    """Return a path as a person would type it from where they stand."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def shown(path: Path) -> str:
    """Return a path as :func:`from_here` does, in one line for a terminal."""
    return in_one_line(str(from_here(path)))


def files_shown(directory: Path, tab: str) -> str:
    """Return where the files of several runs are, and how TensorBoard shows them.

    Args:
        directory: Where they are.
        tab: Which of its tabs shows most.
    """
    seen = f"tensorboard --logdir {shown(directory)}, then http://localhost:6006/#{tab}"
    return f"\nfiles        {shown(directory)}\nto see them  {seen}"
