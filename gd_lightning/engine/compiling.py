"""Compilation by Numba, and its on-disk cache; importing this module imports Numba.

Numba invalidates cached code only when the file of the function itself changes. Compiled functions call each other
across files, so this cache is invalidated when any of the files changes.
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
_FILES = [*sorted(_FOLDER.glob("**/*.py")), Path(inspect.getfile(losses))]


def _stamp() -> str:
    """Return a hash of the contents of all files with compiled functions."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in _FILES)).hexdigest()


STAMP = _stamp()
"""Of the files as they are."""


def compiler(stamp: str = STAMP, **options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function at its first call and caches its code on disk.

    Args:
        stamp: Cached code is reused only if it was saved with the same stamp.
        options: Options of ``numba.njit``.
    """

    def compiled(function: _Function) -> _Function:
        try:
            dispatcher = numba.njit(function, cache=True, nogil=True, **options)
        except RuntimeError:  # no writable cache directory, so each process compiles for itself
            return numba.njit(function, nogil=True, **options)  # type: ignore[no-any-return]
        dispatcher._cache._cache_file._source_stamp = stamp
        return dispatcher  # type: ignore[no-any-return]

    return compiled


# A run may diverge, so nan and inf must stay what they are. Only sums may be reordered, and only within a function that
# does nothing else: what is saved, or where a chunk is cut, must not change how an update is rounded.
_SUMS, _ELSE = {"contract", "reassoc", "nsz"}, {"contract"}
# Without Numba's run time there are no reference counts, which would take longer than the arithmetic; nor allocations.
_INNER: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
summing = compiler(fastmath=_SUMS, forceinline=True, **_INNER)
inlined = compiler(fastmath=_ELSE, forceinline=True, **_INNER)
leaf = compiler(fastmath=_ELSE, **_INNER)
outer = compiler(fastmath=_ELSE, _nrt=False, no_cfunc_wrapper=True)
allocating = compiler(fastmath=_ELSE, no_cfunc_wrapper=True)
parallel = compiler(fastmath=_ELSE, parallel=True)
