"""Decorators that compile functions by Numba; importing this module imports Numba."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic as numba_intrinsic
from numba.np.numpy_support import as_dtype

from gd_lightning.engine.compilation_cache import CodeCache, source_stamp

intrinsic: Callable[[Callable[..., Any]], Any] = numba_intrinsic
"""Makes compiled code of a function that writes it; Numba publishes no types."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

REGISTER = 64 if "+avx512f" in get_host_cpu_features() else 32
"""Bytes of the vectors in compiled code: of a register of this processor, or of two."""

STAMP = source_stamp(REGISTER)
"""The stamp of the present files."""


def compiler(stamp: str = STAMP, **options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function at its first call and caches its code on disk.

    Args:
        stamp: Cached code is reused only if it was saved with the same stamp.
        options: Options of ``numba.njit``.
    """

    def compiled(function: _Function) -> _Function:
        dispatcher = numba.njit(function, nogil=True, **options)
        with suppress(RuntimeError):  # no writable cache directory, so each process compiles for itself
            dispatcher._cache = CodeCache(function, stamp)
        return dispatcher  # type: ignore[no-any-return]

    return compiled


# A run may diverge, so nan and inf must stay what they are. Only sums may be reordered, and only within a function that
# does nothing else: what is saved, or where a chunk is cut, must not change how an update is rounded.
_SUMS, _ELSE = {"contract", "reassoc", "nsz"}, {"contract"}
# Without Numba's run time there are no reference counts, which would take longer than the arithmetic, and no memory.
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
    """A compiled function that other compiled functions call by its address.

    Args:
        function: Raises nothing.
        signature: The signature, that is, the types of result and arguments.
        compiler: Compiles it.
    """

    def __init__(self, function: Callable[..., Any], signature: Signature, compiler: Callable[..., Any] = leaf) -> None:
        self.compiled: Any = compiler(function)
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
