"""The on-disk cache of code that Numba compiles; importing this module imports Numba.

Numba invalidates cached code only when the file of the function itself changes. Compiled functions call each other
across files, so this cache is invalidated when any of the files changes.

Code is kept in ``NUMBA_CACHE_DIR``, else beside the source, else (a read-only installation) in the user's cache
directory, in a folder for each installation. Several versions, releases of Numba and machines may share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile


def _sources(folder: Any) -> Iterator[bytes]:
    """Return the contents of the Python files in a folder, which may be in a zip archive, in a fixed order."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir():
            yield from _sources(path)
        elif path.name.endswith(".py"):
            yield path.read_bytes()


def source_stamp(vector_bytes: int) -> str:
    """Return a hash of the release of Numba, of the width of vectors, and of all files with compiled functions.

    Args:
        vector_bytes: Bytes of the vectors in compiled code.
    """
    package = files("gd_lightning")
    sources = [*_sources(package / "engine"), (package / "losses.py").read_bytes()]
    return hashlib.sha256(b"".join([numba.__version__.encode(), bytes([vector_bytes]), *sources])).hexdigest()


class _CacheFile(IndexDataCacheFile):  # type: ignore[misc]  # Numba publishes no types
    """Numba's files of a function, each of which contains its own key.

    Numba writes index and code one after the other. Of two processes that write at once, for example from two versions
    of the package, one could otherwise load the code of the other, without a word.
    """

    def save(self, key: object, data: object) -> None:
        """Save the code for a signature on a kind of processor, replacing files that cannot be read."""
        try:
            super().save(key, (self._source_stamp, key, data))
        except OSError:
            raise
        except Exception:  # a damaged index: unpickling may raise anything
            self.flush()
            super().save(key, (self._source_stamp, key, data))

    def load(self, key: object) -> object:
        """Return the code; None if it is not there, is of another version, or cannot be read."""
        try:
            found = super().load(key)
        except Exception:
            return None
        return found[2] if found is not None and found[:2] == (self._source_stamp, key) else None


class CodeCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function; where it cannot be written, for example on a full disk, code is not kept.

    Args:
        function: The function.
        stamp: Code is loaded only if it was saved with the same stamp.
    """

    def __init__(self, function: Callable[..., Any], stamp: str) -> None:
        super().__init__(function)
        self._cache_file = _CacheFile(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: object, data: object) -> None:
        """Save the code for a signature."""
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()


def is_kept(dispatcher: Any) -> bool:
    """Whether the code of a compiled function is kept on disk.

    Args:
        dispatcher: The result of a decorator of ``compiling.py`` for the function.
    """
    return isinstance(dispatcher._cache, CodeCache) and dispatcher._cache._enabled
