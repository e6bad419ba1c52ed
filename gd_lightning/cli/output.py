"""Paths, as the command line shows them."""

from __future__ import annotations

from pathlib import Path

from gd_lightning.texts import in_one_line


def from_here(path: Path) -> Path:
    """Return a path as a person would type it from where they stand."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def shown(path: Path) -> str:
    """Return a path as :func:`from_here` does, in one line for a terminal."""
    return in_one_line(str(from_here(path)))
