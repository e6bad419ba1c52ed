"""A trial update of a variant before the first run of a comparison, without side effects."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.loggers.logger import DummyLogger

from gd_lightning.callbacks import Forecast, GradientVariance
from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.data import RegressionDataModule
from gd_lightning.lightning_internals import seconds_between_validations
from gd_lightning.module import RegressionModule
from gd_lightning.module.optimizer_and_scheduler_checks import make_trial_step

_NOTHING_KEPT = {"profiler": None, "enable_checkpointing": False, "enable_model_summary": False}
_NOTHING_SHOWN = {"enable_progress_bar": False, "num_sanity_val_steps": 0}
# Callbacks that write or show something, or that take longer than an update, such as the prediction by theory.
_LEFT_OUT = (Checkpoint, ProgressBar, Forecast, GradientVariance)


def trial_options(trainer: Mapping[str, Any], callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return the options of a Trainer that trains like another one, but writes and shows nothing.

    Args:
        trainer: The options of the other Trainer.
        callbacks: Callbacks of the run.
    """
    others = [callback for callback in callbacks if not isinstance(callback, _LEFT_OUT)]
    return {**trainer, **_NOTHING_KEPT, **_NOTHING_SHOWN, "logger": DummyLogger(), "callbacks": others}


def make_one_update(trainer: Trainer, module: RegressionModule, data: RegressionDataModule) -> None:
    """Try the optimiser, and make one update and one validation step, so that invalid options fail at once.

    Args:
        trainer: A Trainer with :func:`trial_options`.
        module: The module to train.
        data: Data of the run.

    Raises:
        InputError: Optimiser or scheduler fail within the epochs of the run.
    """
    make_trial_step(module.hparams, most_epochs(trainer.max_epochs, trainer.max_steps, data.variant))
    trainer.fit_loop.max_epochs = trainer.limit_train_batches = 1
    trainer.limit_val_batches = 1 if trainer.limit_val_batches else 0
    is_by_updates = seconds_between_validations(trainer) is None and isinstance(trainer.val_check_interval, int)
    if is_by_updates and trainer.check_val_every_n_epoch is not None:
        trainer.val_check_interval = 1.0  # the trial makes only one update
    lines = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    lines.addFilter(_nothing)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the warnings are shown when the run itself is trained
            trainer.fit(module, data)
    finally:
        lines.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False
