"""Callbacks that replace the weights of the last update, for example by an average (layer 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)

from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.module import own_method

_AVERAGING = (StochasticWeightAveraging, WeightAveraging)
# These classes change no weights at the end of a run; a subclass may.
_LEAVE_WEIGHTS = (EarlyStopping, ModelCheckpoint, RichProgressBar, Timer, TQDMProgressBar)
_PACKAGE = __name__.partition(".")[0]


def averages_before(trainer: Trainer, reader: Callback) -> None:
    """Move the callbacks that average weights before one that reads the final weights.

    They set the average when training ends, in the order of the callbacks.

    Args:
        trainer: The Trainer whose callbacks are reordered.
        reader: The callback that reads.
    """
    callbacks = callbacks_of(trainer, Callback)
    behind = callbacks[callbacks.index(reader) :]
    averaging = [callback for callback in behind if isinstance(callback, _AVERAGING)]
    if averaging:
        before = callbacks[: callbacks.index(reader)]
        rest = [callback for callback in behind if callback not in averaging]
        trainer.callbacks = [*before, *averaging, *rest]  # type: ignore[attr-defined]


def may_replace_weights(trainer: Trainer, behind: Callback | None = None) -> list[Callback]:
    """Return the callbacks with hooks after the last update of an epoch or run, in which they may change weights.

    Callbacks of this package are never returned.

    Args:
        trainer: The Trainer with the callbacks.
        behind: Only callbacks after this one; None: all.
    """
    callbacks = callbacks_of(trainer, Callback)
    callbacks = callbacks if behind is None else callbacks[callbacks.index(behind) + 1 :]
    return [
        callback
        for callback in callbacks
        if own_method(callback, Callback, ("on_train_epoch_end", "on_train_end"))
        and type(callback) not in _LEAVE_WEIGHTS
        and type(callback).__module__.partition(".")[0] != _PACKAGE
    ]


def has_averaged(trainer: Trainer, callbacks: Sequence[Callback]) -> bool:
    """Whether one of these callbacks has replaced the last weights by an average without keeping them."""
    return any(
        isinstance(callback, WeightAveraging)
        or (
            isinstance(callback, StochasticWeightAveraging)
            # An average with batch norms is in place during the last epoch already. Without a last epoch, it always is.
            and (callback.swa_end <= trainer.current_epoch - 1 or callback.swa_end == math.inf)
        )
        for callback in callbacks
    )


def whose_weights(replacing: Sequence[Callback]) -> str:
    """Describe the final weights of a run that are not those of its last update.

    Args:
        replacing: The callbacks that may have replaced them.

    Example:
        >>> whose_weights([WeightAveraging()])
        'averaged by WeightAveraging, which validates at its averages, too'
    """
    for callback in replacing:
        if isinstance(callback, WeightAveraging):
            return f"averaged by {type(callback).__name__}, which validates at its averages, too"
        if isinstance(callback, StochasticWeightAveraging):
            if callback.n_averaged is None:
                return f"those of the start, put in place by {type(callback).__name__}, which has averaged no epoch"
            return f"averaged by {type(callback).__name__}"
    return f"changed by {' or '.join(type(callback).__name__ for callback in replacing)}"
