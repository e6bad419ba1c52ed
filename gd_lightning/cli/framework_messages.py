"""Filters of warnings of frameworks that a user of the command line can do nothing about.

The filters act only while the command line is in :func:`quiet`, never at import or in use from Python.
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
from gd_lightning.experiments.lightning_messages import quiet_lightning

_NO_STAGES = "6"  # above the levels of errors and of stages


def _say_of_a_thread(args: threading.ExceptHookArgs) -> None:
    """Print in one line which error ended a thread of a library.

    Disk errors in TensorBoard's writing thread are left out: its next call in the main thread raises them again.
    """
    if args.exc_value is not None and not isinstance(args.exc_value, (OSError, SystemExit)):
        name = "" if args.thread is None else f" {args.thread.name}"
        warn(f"the thread{name} ended, because of {type(args.exc_value).__name__}: {first_line(args.exc_value)}")


def _in_one_line(others: Callable[..., None]) -> Callable[..., None]:
    """Return a function that shows each warning on data once, in one line, without the source location."""
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
    """Suppress known noise while the command line runs."""
    # An overflow is reported by the outcome of a run, not by the place in a picture where it occurs.
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
    """Suppress the warning on callbacks whose state is in a checkpoint of which only the weights are used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks")
        yield
