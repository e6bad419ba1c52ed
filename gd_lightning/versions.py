"""The versions that the files of a run name: which code made it (layer 0)."""

from __future__ import annotations

import platform

import torch

from gd_lightning import __version__


def versions() -> dict[str, str]:
    """Return the versions of this package, torch and Python."""
    return {"gd_lightning": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
