"""Compilation by Numba, and its on-disk cache; importing this module imports Numba.

Numba invalidates cached code only when the file of the function itself changes. Compiled functions call each other
across files, so this cache is invalidated when any of the files changes.

Code is kept in ``NUMBA_CACHE_DIR``, else beside the source, else (a read-only installation) in the user's cache
directory, in a folder for each installation. Several versions, releases of Numba and machines may share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic as numba_intrinsic
from numba.np.numpy_support import as_dtype

intrinsic: Callable[[Callable[..., Any]], Any] = numba_intrinsic
"""Makes compiled code of a function that writes it; Numba publishes no types."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _sources(folder: Any) -> Iterator[bytes]:
    """Return the contents of the Python files in a folder, which may be in a zip archive, in a fixed order."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir():
            yield from _sources(path)
        elif path.name.endswith(".py"):
            yield path.read_bytes()


REGISTER = 64 if "+avx512f" in get_host_cpu_features() else 32
"""Bytes of the vectors in compiled code: of a register of this processor, or of two."""


def _stamp() -> str:
    """Return a hash of the release of Numba, of the vectors, and of all files with compiled functions."""
    package = files("gd_lightning")
    sources = [*_sources(package / "engine"), (package / "losses.py").read_bytes()]
    return hashlib.sha256(b"".join([numba.__version__.encode(), bytes([REGISTER]), *sources])).hexdigest()


STAMP = _stamp()
"""Of the files as they are."""


class _CacheFile(IndexDataCacheFile):  # type: ignore[misc]  # Numba publishes no types
    """Numba's files of a function, each of which says what it is.

    Numba writes index and code one after the other. Of two processes that write at once, for example from two versions
    of the package, one could otherwise load the code of the other, without a word.
    """

    def save(self, key: object, data: object) -> None:
        """Save the code for a signature on a kind of processor, replacing files that cannot be read."""
        try:
            super().save(key, (self._source_stamp, key, data))
        except OSError:
            raise
        except Exception:  # of the index, if it is damaged: unpickling may raise anything
            self.flush()
            super().save(key, (self._source_stamp, key, data))

    def load(self, key: object) -> object:
        """Return the code; None if it is not there, is of another version, or cannot be read."""
        try:
            found = super().load(key)
        except Exception:
            return None
        return found[2] if found is not None and found[:2] == (self._source_stamp, key) else None


class _Cache(FunctionCache):  # type: ignore[misc]
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


def compiler(stamp: str = STAMP, **options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function at its first call and caches its code on disk.

    Args:
        stamp: Cached code is reused only if it was saved with the same stamp.
        options: Options of ``numba.njit``.
    """

    def compiled(function: _Function) -> _Function:
        dispatcher = numba.njit(function, nogil=True, **options)
        with suppress(RuntimeError):  # no writable cache directory, so each process compiles for itself
            dispatcher._cache = _Cache(function, stamp)
        return dispatcher  # type: ignore[no-any-return]

    return compiled


def is_kept(dispatcher: Any) -> bool:
    """Whether the code of a compiled function is kept on disk.

    Args:
        dispatcher: What a decorator of this module has made of the function.
    """
    return isinstance(dispatcher._cache, _Cache) and dispatcher._cache._enabled


# A run may diverge, so nan and inf must stay what they are. Only sums may be reordered, and only within a function that
# does nothing else: what is saved, or where a chunk is cut, must not change how an update is rounded.
_SUMS, _ELSE = {"contract", "reassoc", "nsz"}, {"contract"}
# Without Numba's run time there are no reference counts, which would take longer than the arithmetic; nor allocations.
# Division is that of NumPy: Python's exception would need a branch, which keeps a loop out of vector registers.
_INNER: dict[str, Any] = {
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
}
summing = compiler(fastmath=_SUMS, forceinline=True, **_INNER)
inlined = compiler(fastmath=_ELSE, forceinline=True, **_INNER)
merged = compiler(fastmath=_ELSE, inline="always", **_INNER)
leaf = compiler(fastmath=_ELSE, **_INNER)
outer = compiler(fastmath=_ELSE, _nrt=False, no_cfunc_wrapper=True, error_model="numpy")
allocating = compiler(fastmath=_ELSE, no_cfunc_wrapper=True, error_model="numpy")
parallel = compiler(fastmath=_ELSE, parallel=True, error_model="numpy")


class Signature:
    """Of functions that others call by their address, as ones that they are linked with.

    Numba compiles what a function calls again with each function that calls it, and with each that calls that one.
    What is called by its address is compiled once, and where it is first used.

    Args:
        examples: Returns arguments as the functions take them, for some precision; the first one has an array of it.
        result: The type of what they return.
    """

    def __init__(self, examples: Callable[[np.dtype[Any]], tuple[Any, ...]], result: Any = types.none) -> None:
        self._examples, self._result = examples, result
        self.call: Any = self._make_call()
        """Compiled code that calls such a function, given its address and a tuple of its arguments."""

    def arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the types of the arguments, for some precision."""
        return tuple(numba.typeof(example) for example in self._examples(dtype))

    def _make_call(self) -> Any:
        @intrinsic
        def call(typing: Any, address: Any, arguments: Any) -> Any:
            first = arguments[0]
            while not isinstance(first, types.Array):
                first = first.types[0]
            expected = self.arguments(as_dtype(first.dtype))

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                kind = context.call_conv.get_function_type(self._result, expected)
                function = builder.inttoptr(values[0], kind.as_pointer())
                given = [
                    context.cast(builder, builder.extract_value(values[1], at), arguments[at], expected[at])
                    for at in range(len(expected))
                ]
                _, result = context.call_conv.call_function(builder, function, self._result, expected, given)
                return context.get_dummy_value() if self._result is types.none else result

            return self._result(types.int64, arguments), generate

        return call


class CompiledApart:
    """A function that others call by its address.

    Args:
        function: Raises nothing.
        signature: Of its arguments.
    """

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.compiled: Any = leaf(function)
        self._signature = signature
        self._addresses: dict[np.dtype[Any], int] = {}

    def address(self, dtype: np.dtype[Any]) -> int:
        """Return the address of the function for some precision, in this process."""
        if dtype not in self._addresses:
            signature = self._signature.arguments(dtype)
            self.compiled.compile(signature)
            compiled = self.compiled.overloads[signature]
            self._addresses[dtype] = int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
        return self._addresses[dtype]
