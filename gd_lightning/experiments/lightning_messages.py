"""Filters for the messages that Lightning shows for every run, in Python and on the command line.

Nothing here happens at import.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# What Lightning's loggers say at the start and the end of every run, and this package says in its own words or
# not at all: which accelerators a machine lacks, adverts of other products, the seed, and why the run ended.
_LINES = (
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "LOCAL_RANK:",
    "You are using a CUDA device",  # and could multiply with fewer digits
    "💡 Tip:",
    "Seed set to",
    "`Trainer.fit` stopped:",
    "Loaded model weights from",
    "Restoring states from the checkpoint",
    "Restored all states from the checkpoint",
    "Detected KeyboardInterrupt",
    "Received SIGTERM",  # reported in one line after the run
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
    r"GPU available but not used.*",  # an option says where a run computes
    r".*does not have many workers.*",  # data in memory need none
    r".*You are using `torch.load` with `weights_only=False`.*",
    r"Checkpoint directory .* exists and is not empty.*",  # the directory is this run's own
    r"engine fused is not available.*",  # the command line prints its own line instead
    r".*The `srun` command is available on your system.*",
)
_lock, _entered, _filters = threading.Lock(), list[None](), contextlib.ExitStack()


def _is_news(record: logging.LogRecord) -> bool:
    message = re.sub(r"^\[rank: \d+\] ", "", record.getMessage().strip())
    return not message.startswith(_LINES)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress the messages that Lightning shows for every run; runs of several threads share the filters."""
    with _lock:
        if not _entered:
            _filters.enter_context(warnings.catch_warnings())
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            for logger in map(logging.getLogger, _LOGGERS):
                logger.addFilter(_is_news)
                _filters.callback(logger.removeFilter, _is_news)
        _entered.append(None)
    try:
        yield
    finally:
        with _lock:
            _entered.pop()
            if not _entered:
                _filters.close()
