"""How functions are compiled by Numba, and when code that was kept on disk is compiled anew; importing imports Numba.

Numba compares a function's own file alone with what it has kept. Compiled functions call each other across files, so
here what is kept is compared with the contents of all files that they come from.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from gd_lightning import losses

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FOLDER = Path(__file__).parent
_NAMES = ("compiling", "kernels", "member_kernels")
_FILES = [*(_FOLDER / f"{name}.py" for name in _NAMES), Path(inspect.getfile(losses))]


def _stamp() -> str:
    """Return what changes with the contents of any of the files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in _FILES)).hexdigest()


STAMP = _stamp()
"""Of the files as they are."""


def compiler(stamp: str = STAMP, **options: Any) -> Callable[[_Function], _Function]:
    """Return what compiles functions, when they are first called, and keeps their code on disk.

    Args:
        stamp: What is kept on disk is used where it was kept with the same one.
        **options: Of ``numba.njit``.
    """

    def compiled(function: _Function) -> _Function:
        try:
            dispatcher = numba.njit(function, cache=True, nogil=True, **options)
        except RuntimeError:  # no folder can be written, so each process compiles for itself
            return numba.njit(function, nogil=True, **options)  # type: ignore[no-any-return]
        dispatcher._cache._cache_file._source_stamp = stamp
        return dispatcher  # type: ignore[no-any-return]

    return compiled
