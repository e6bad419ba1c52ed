"""Filters of framework warnings that a user of the command line can do nothing about.

Nothing here happens at import or in Python use: only the command line enters :func:`quiet`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gd_lightning.cli.terminal import warn
from gd_lightning.errors import DataWarning, first_line
from gd_lightning.experiments.quiet import quiet_lightning

_NO_STAGES = "6"  # above the levels of errors and of stages


def _say_of_a_thread(args: threading.ExceptHookArgs) -> None:
    """Say in one line what ended a thread of a library.

    An error of TensorBoard's writing thread, of the disk, is left to its next call in the main thread, which raises it
    again.
    """
    if args.exc_value is not None and not isinstance(args.exc_value, (OSError, SystemExit)):
        name = "" if args.thread is None else f" {args.thread.name}"
        warn(f"the thread{name} ended, because of {type(args.exc_value).__name__}: {first_line(args.exc_value)}")


def _in_one_line(others: Callable[..., None]) -> Callable[..., None]:
    """Return what shows warnings of the data in one line, once, without the place in the source of this package."""
    shown = set[str]()

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if not issubclass(category, DataWarning):
            others(message, category, *where)
        elif str(message) not in shown:  # each run of a comparison warns of the same data
            shown.add(str(message))
            warn(str(message))

    return show


@contextmanager
def quiet() -> Iterator[None]:
    """Leave the known noise out while the command line runs."""
    # Whether numbers leave float64 is said by how a run ends, and not by where in a picture they did.
    with quiet_lightning(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # torch's profiler says on standard error where it starts and stops; it reads the level when it starts first.
        os.environ.setdefault("KINETO_LOG_LEVEL", _NO_STAGES)
        warnings.filterwarnings("always", category=DataWarning)
        warnings.showwarning = _in_one_line(warnings.showwarning)
        thread_hook, threading.excepthook = threading.excepthook, _say_of_a_thread
        try:
            yield
        finally:
            threading.excepthook = thread_hook


@contextmanager
def weights_alone() -> Iterator[None]:
    """Say nothing of callbacks whose state a checkpoint holds, where its weights are all that is used of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks")
        yield
