"""``fit``: checks before a run, its callbacks, and its printed results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning.callbacks import (
    EndsRun,
    Forecast,
    GradientVariance,
    HistoryRecorder,
    LastCheckpoint,
    LongRunProgress,
    Pictures,
    StopOnDivergence,
    StopOnSignal,
    TimeLimit,
)
from gd_lightning.callbacks.progress import waiting
from gd_lightning.callbacks.return_memory import ReturnMemory
from gd_lightning.callbacks.trainer_info import most_epochs, title_of
from gd_lightning.cli.program import typed
from gd_lightning.cli.saved_config import SaveConfig
from gd_lightning.cli.shown_paths import shown
from gd_lightning.cli.subcommands.animation import write_animation_file
from gd_lightning.cli.subcommands.fit_directory import FitFiles
from gd_lightning.cli.terminal import warn
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments.animations import animated_run, shown_data
from gd_lightning.experiments.options import TRAINS_NOTHING
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.module import RegressionModule
from gd_lightning.module.library_errors import refusals_of
from gd_lightning.module.optimizer_and_scheduler_checks import make_trial_step
from gd_lightning.module.trainer_checks import check_validation
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.epoch_table import epoch_table
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT, LOGS
from gd_lightning.tracking.summary import run_report

_PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
_LITTLE = 10.0  # seconds of training after which the files of a run are kept even if an error in its options ends it
_MOST_COLUMNS = 6  # largest number of parameters in the table of epochs


def callbacks_of_fit(options: Namespace, added: list[Callback], is_member: bool, begun: float) -> list[Callback]:
    """Return the callbacks of a run that come after the recorder and those that the user adds.

    Args:
        options: The options of fit, with what was made of their classes.
        added: The callbacks that the user adds.
        is_member: Whether it is a run of a comparison, which has no pictures of its own.
        begun: When the command began, by ``time.monotonic()``.

    Raises:
        InputError: The user adds a callback that fit has itself.
    """
    if any(isinstance(callback, StopOnDivergence) for callback in added):
        raise InputError(
            "cannot add StopOnDivergence, because fit has one; give --on_divergence and --divergence_factor"
        )
    own: list[Callback] = []
    if not any(isinstance(callback, Forecast) for callback in added):
        own.append(Forecast((lambda _: None) if is_member else warn, waiting=partial(waiting, "forecast")))
    if options.trainer.max_time is not None:
        with refusals_of(TimeLimit):
            own.append(TimeLimit(options.trainer.max_time, begun))
    own += [StopOnDivergence(options.on_divergence, options.divergence_factor), StopOnSignal()]
    own.append(GradientVariance() if is_member else Pictures(options.formats))
    has_bar = any(isinstance(callback, ProgressBar) for callback in added)
    if not (options.trainer.barebones or has_bar):
        own.append(LongRunProgress())
    if not is_member:
        own.append(ReturnMemory())
    if options.trainer.enable_checkpointing is not False:
        own.append(options.checkpoint)
    return own


def check_fit(trainer: Trainer, model: RegressionModule, data: RegressionDataModule) -> None:
    """Refuse combinations of data, model and Trainer that cannot be trained.

    Args:
        trainer: The Trainer.
        model: The module.
        data: The data, which are read.

    Raises:
        InputError: The module or the data cannot be trained with these options.
    """
    data.trainer = trainer
    if trainer.precision not in _PRECISIONS:
        raise InputError(f"cannot train in {trainer.precision}; use one of {', '.join(_PRECISIONS)}")
    variant = data.variant
    if trainer.world_size > variant.train_samples:
        raise InputError(
            f"cannot share {variant.train_samples} training samples among {trainer.world_size} processes; use "
            "fewer trainer.devices"
        )
    check_validation(trainer, variant)
    make_trial_step(model.hparams, most_epochs(trainer.max_epochs, trainer.max_steps, variant))


def fit(
    train: Callable[[], None], trainer: Trainer, continued: RegressionModule | None, files: FitFiles, is_member: bool
) -> Outcome | None:
    """Train, and print the results.

    Args:
        train: Starts the training.
        trainer: The Trainer.
        continued: The module, if the run continues from a checkpoint; else None.
        files: The files of the run, which are removed if it fails before its first update.
        is_member: Whether this is a run of a comparison, which prints the results of all runs.

    Returns:
        The outcome of the run; None in processes other than the first.

    Raises:
        InputError: A limit among the options allows no update.
    """
    recorder, *_ = callbacks_of(trainer, HistoryRecorder)
    refused = False
    try:
        train()
        if recorder.summary is None and continued is not None:
            _end_without_training(trainer, continued)
        if recorder.summary is None:
            raise InputError(TRAINS_NOTHING)
    except Exception as error:
        # Some errors show only in the first epoch, such as a monitored metric that does not exist; little is lost.
        lost = recorder.history["seconds"][-1] if len(recorder.history) else 0.0
        refused = trainer.current_epoch == 0 and lost < _LITTLE and isinstance(error, InputError)
        raise
    finally:
        if trainer.is_global_zero and (recorder.summary is None or refused):
            files.remove(Path(trainer.default_root_dir) / LOGS)
        elif trainer.is_global_zero and not is_member:
            print_run(recorder, trainer)
    return recorder.history.outcome if trainer.is_global_zero else None


def _end_without_training(trainer: Trainer, model: RegressionModule) -> None:
    """Write the files of a continued run that was at its end already, since Lightning then calls no hook."""
    for hook in ("on_train_start", "on_train_end"):
        for callback in callbacks_of(trainer, Callback):
            if isinstance(callback, (HistoryRecorder, EndsRun, StopOnDivergence, Pictures, LastCheckpoint, SaveConfig)):
                getattr(callback, hook)(trainer, model)
        getattr(model, hook)()


def animate_run(trainer: Trainer, model: RegressionModule, data: RegressionDataModule, given: str) -> None:
    """Write a run in motion into a file, and say where it is.

    Args:
        trainer: The Trainer, after the run.
        model: The module.
        data: The data.
        given: The format, or the file.
    """
    recorder, *_ = callbacks_of(trainer, HistoryRecorder)
    assert recorder.summary is not None
    made = animated_run(title_of(trainer), recorder.history, recorder.summary, lambda: shown_data(data, model))
    write_animation_file(made, given, recorder.directory)


def print_run(recorder: HistoryRecorder, trainer: Trainer) -> None:
    """Print the epochs of a run, its results, and the directory of its files."""
    summary = recorder.summary
    assert summary is not None
    parameters = list(summary.parameters or {})
    columns = parameters if len(parameters) <= _MOST_COLUMNS else []
    print(epoch_table(recorder.history, ["train_loss", "val_loss", *columns]))
    print()
    print(run_report(summary, title_of(trainer)))
    directory = recorder.directory
    if directory is not None:
        print(f"\nfiles        {shown(directory)}")
    kept = next((each.update for each in trainer.checkpoint_callbacks if isinstance(each, LastCheckpoint)), None)
    if recorder.history.outcome is Outcome.DIVERGED and kept not in (None, summary.updates):
        print(f"checkpoint   the weights after update {kept}, the last ones saved before the run diverged")
    boards = [Path(each.log_dir) for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
    if boards:
        print(f"to see them  tensorboard --logdir {shown(boards[0].parent)}")
    is_unfinished = recorder.history.outcome is Outcome.INTERRUPTED
    if is_unfinished and directory is not None and (directory / LAST_CHECKPOINT).is_file():
        print(f"to continue  {typed()} fit --ckpt_path {shown(directory)}")
