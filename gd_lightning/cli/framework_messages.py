"""Filters of framework warnings that a user of the command line can do nothing about.

Nothing here happens at import or in Python use: only the command line enters :func:`quiet`.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gd_lightning.cli.terminal import warn
from gd_lightning.errors import DataWarning

# What Lightning's loggers say at the start and the end of every run, and this package says in its own words or
# not at all: which accelerators a machine lacks, adverts of other products, the seed, the reason of the end.
_LINES = (
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "LOCAL_RANK:",
    "💡 Tip:",
    "Seed set to",
    "`Trainer.fit` stopped:",
    "Loaded model weights from",
    "Restoring states from the checkpoint",
    "Restored all states from the checkpoint",
    "Detected KeyboardInterrupt",
    "Using default `ModelCheckpoint`",
    "Using bfloat16 Automatic Mixed Precision",
    "Using 16bit Automatic Mixed Precision",
    "`weights_only` was not set",
    "Initializing distributed:",
    "-----",
    "distributed_backend=",
    "All distributed processes registered",
)
_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.callbacks.model_summary",
    "lightning.pytorch.accelerators.cuda",
    "lightning.fabric.utilities.distributed",
    "lightning.pytorch.trainer.connectors.signal_connector",
)
_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 against torch 2.13, in its own code
    r".*does not have many workers.*",  # data in memory need none
    r".*You are using `torch.load` with `weights_only=False`.*",
    r"Checkpoint directory .* exists and is not empty.*",  # the directory is this run's own
    r"engine fused is not there.*",  # said in one line instead
    r".*The `srun` command is available on your system.*",
)


def _is_news(record: logging.LogRecord) -> bool:
    message = re.sub(r"^\[rank: \d+\] ", "", record.getMessage().strip())
    return not message.startswith(_LINES)


def _say_nothing_of_the_disk(args: threading.ExceptHookArgs) -> None:
    """Leave an error of TensorBoard's writing thread to its next call in the main thread, which raises it again."""
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)


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
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_is_news)
    # Whether numbers leave float64 is said by how a run ends, and not by where in a picture they did.
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("always", category=DataWarning)
        warnings.showwarning = _in_one_line(warnings.showwarning)
        thread_hook, threading.excepthook = threading.excepthook, _say_nothing_of_the_disk
        try:
            yield
        finally:
            threading.excepthook = thread_hook
            for logger in loggers:
                logger.removeFilter(_is_news)
