"""A server that imports the modules of workers while the command itself does so, and is forked for each worker."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

_OF_WORKERS = ["gd_lightning.cli.subcommands.workers", "gd_lightning.cli.execution"]  # the modules that workers import
_ONLY_SHOWS = ("-h", "--help", "--print_config")
_SAFE_PATH = "PYTHONSAFEPATH"  # keeps Python from importing modules in the current directory


def start_fork_server(arguments: Sequence[str]) -> None:
    """Start the server if a command line asks for workers, which then need not spend 3 s each on importing torch.

    It imports and does nothing else, so that torch and Numba have no threads yet when it is forked; OpenBLAS ends its
    own before a fork. Some libraries of other systems may not be forked: there, workers import everything themselves.

    Args:
        arguments: The command line, without the program's name.
    """
    if sys.platform == "linux" and arguments[:1] in (["compare"], ["sweep"]) and _asks_for_workers(arguments):
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload(_OF_WORKERS)
        with without_ctrl_c(), _same_modules():
            forkserver.ensure_running()
        _started.set()


def context_of_workers() -> BaseContext:
    """Return the context that starts workers: by the server, or as new processes that import everything."""
    # A process forked from this one, which has threads, may hang, or be ended by numerical libraries.
    return multiprocessing.get_context("forkserver" if _started.is_set() else "spawn")


@contextlib.contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Let processes that are started in this context ignore Ctrl-C, which would print a traceback while they start."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    before: Any = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _asks_for_workers(arguments: Sequence[str]) -> bool:
    if any(argument.startswith(_ONLY_SHOWS) for argument in arguments):
        return False
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, is_one, value = argument.partition("=")
        if name == "--workers" and (value if is_one else following) not in ("", "0", "1"):
            return True
    return False


@contextlib.contextmanager
def _same_modules() -> Iterator[None]:
    """Let processes that are started in this context find modules in the current directory only if this one does."""
    here = {"", str(Path.cwd())} & set(sys.path)
    if here or _SAFE_PATH in os.environ:
        yield
        return
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH]


_started = threading.Event()
