"""Whose code an exception has passed: that of a library, of this package, or of the user (layer 4)."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def is_of_a_library(file: str) -> bool:
    """Whether code belongs to an installed library or to Python itself, and not to this package."""
    path = Path(file)
    is_installed = bool(_INSTALLED & set(path.parts)) or path.is_relative_to(_STANDARD_LIBRARY) or file.startswith("<")
    return is_installed and not path.is_relative_to(_PACKAGE)


def is_of_this_package(file: str) -> bool:
    """Whether code belongs to this package."""
    return Path(file).is_relative_to(_PACKAGE)


def place_of_ones_own(error: BaseException) -> str:
    """Return the innermost place of an exception in code of the user's own; "" if it passed none."""
    frames = traceback.walk_tb(error.__traceback__)
    codes = [(frame.f_code, line) for frame, line in frames]
    for code, line in reversed(codes):
        if not (is_of_a_library(code.co_filename) or is_of_this_package(code.co_filename)):
            return f"{code.co_name} of {Path(code.co_filename).name}, line {line}"
    return ""
