"""Whether compiled code is kept on disk, and a line where it is compiled (layer 3); Numba is imported when asked."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

_COMPILES = "updates are being compiled, which takes some seconds"
ONCE = f"{_COMPILES} and is done once"
IN_EACH_PROCESS = (
    f"{_COMPILES} in each process, because no directory for compiled code can be written; set NUMBA_CACHE_DIR to a "
    "directory that can be written"
)
FROM_ARCHIVE = (
    f"{_COMPILES} in each process, because Numba cannot cache the code of a package in an archive; install it"
)


class Announced:
    """Whether this process has said that it compiles."""

    already: ClassVar[bool] = False


def keeps_compiled_code() -> bool:
    """Whether compiled updates are kept on disk, so that other processes need not compile them."""
    # Imported here, so that only runs that could use compiled code wait for Numba.
    from gd_lightning.engine import kernels
    from gd_lightning.engine.compilation_cache import is_kept

    return all(is_kept(function) for function in vars(kernels).values() if hasattr(function, "py_func"))


def _sentence() -> str:
    """Return the message that is printed when updates are compiled."""
    if keeps_compiled_code():
        return ONCE
    return IN_EACH_PROCESS if Path(__file__).exists() else FROM_ARCHIVE


@contextmanager
def announcing_compilation(say: Callable[[str], object], engine: str = "fused") -> Iterator[None]:
    """Say in one line, once in a process, that updates are compiled, if they are while this context lasts.

    Nothing is said where they are loaded from the cache, nor in a notebook if they are kept from then on.

    Args:
        say: Called with the line, before the compilation.
        engine: Name of the engine; only fused compiles updates.
    """
    if engine != "fused":
        yield
        return
    from numba.core.event import install_listener

    with install_listener("numba:compile", _listener_class()(say)):
        yield


@functools.cache
def _listener_class() -> Any:
    """Return the class of the listener that Numba calls; making a class takes longer than a short fit."""
    from numba.core.event import Listener

    class Compilation(Listener):  # type: ignore[misc]  # Numba publishes no types
        def __init__(self, say: Callable[[str], object]) -> None:
            self._say = say

        def on_start(self, event: Any) -> None:
            if not Announced.already:
                Announced.already = True
                said = _sentence()
                if said != ONCE or "ipykernel" not in sys.modules:
                    self._say(said)

        def on_end(self, event: Any) -> None:
            """Nothing."""

    return Compilation
