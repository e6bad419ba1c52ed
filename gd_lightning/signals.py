"""Handling of SIGINT, SIGTERM and SIGHUP: the program exits at once while it loads; later, they raise (layer 0)."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, "FrameType | None"], None]

# Those that a person, a system or a closed terminal sends; Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def name_of(number: int) -> str:
    """Return the usual name of a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def end_at_once(speaks: bool = True) -> None:
    """Have signals end this process while there is nothing to lose, and ignore them once its work is done.

    Libraries that are being imported swallow the exception that Python would raise, or fail in other words. While
    Python takes itself down, all is written, and a signal would only hide the exit code.

    Args:
        speaks: Whether this process says so; of several of a run, the first one speaks for all.
    """
    atexit.register(_ignore_all)  # registered before the functions of all libraries, this function is called after them
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _say_and_exit if speaks else _exit)


def _ignore_all() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _say_and_exit(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"gd_lightning: ended by {name_of(number)}\n".encode())
    _exit(number, frame)


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignore signals meanwhile: a second Ctrl-C is not to take away what is written because of the first one."""
    is_main = threading.current_thread() is threading.main_thread()  # only there can handlers be set
    before = {number: signal.getsignal(number) for number in ENDING if is_main}
    known = {number: found for number, found in before.items() if found is not None}  # None: not set by Python
    try:
        for number in known:
            signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, found in known.items():
            signal.signal(number, found)


@contextlib.contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Have signals call a function meanwhile; those that are ignored, or that a program handles itself, stay so.

    Args:
        handler: Called with the number of the signal.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():  # only there can handlers be set
        ours = (signal.SIG_DFL, signal.default_int_handler, _say_and_exit, _exit)
        before = {number: found for number in ENDING if (found := signal.getsignal(number)) in ours}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)
