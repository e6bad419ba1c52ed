"""Training and loading a run in Python, with the option names of the command line."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from gd_lightning.callbacks import Forecast, HistoryRecorder, LastCheckpoint, Pictures, StopOnDivergence
from gd_lightning.callbacks.logger_directory import choose_directory
from gd_lightning.callbacks.loggers import end_runs
from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments.best_learning_rate import best_lr
from gd_lightning.experiments.lightning_messages import quiet_lightning
from gd_lightning.experiments.options import TRAINER_DEFAULTS, TRAINS_NOTHING, sections, taken_problem, with_default_lr
from gd_lightning.experiments.single.run import Run, data_of
from gd_lightning.float64 import precision_of_run
from gd_lightning.module import RegressionModule
from gd_lightning.module.library_errors import GivenClasses
from gd_lightning.module.optimizer_and_scheduler_checks import make_trial_step
from gd_lightning.module.options import OPTIONS
from gd_lightning.module.trainer_options import make_trainer
from gd_lightning.problems import Arrays, Frame, ProblemLike
from gd_lightning.random_numbers import own_generator
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint
from gd_lightning.tracking.run_by_name import checkpoint_of, no_checkpoint
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT, LOGS, SUMMARY, as_directory, as_path, is_taken
from gd_lightning.tracking.run_files import read_summary
from gd_lightning.tracking.summary import RunSummary


def fit(
    problem: ProblemLike | None = None,
    *,
    directory: str | Path | None = None,
    ckpt_path: str | Path | None = None,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Train a run as ``fit`` on the command line does, and return it with its history, results and module.

    Args:
        problem: A problem, or data, as for :func:`~gd_lightning.as_problem`; None: the steep line, or
            the problem of the run that is continued.
        directory: Directory for its files, such as ``lightning_logs/NAME``; None: no files, see :meth:`Run.save`.
        ckpt_path: A run to continue: its directory, a checkpoint file, or last, the newest run in ``lightning_logs``;
            best is the best checkpoint that a ModelCheckpoint of that run kept, ``RUN/best`` that of another one.
            Options that are not given are those of the run.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``.
        options: Options of data, model and trainer by their names alone, such as ``batch_size=16, lr=0.05, epochs=50``,
            and ``targets`` of a data frame. The ``seed`` determines split, order and initial weights. The lr of a
            linear regressor may be best: fastest to its target in these epochs, else with the lowest final loss; for
            another network, best is the one with the lowest train loss in a trial.

    Returns:
        The :class:`~gd_lightning.Run`: its ``history``, ``summary`` and ``module``, and ``predict(x)``, ``plot()``,
        ``animate()`` and ``save()``.

    Raises:
        InputError: An option or the data cannot be used.

    Example:
        >>> run = fit(batch_size=10, epochs=3)
        >>> run.history.last("epoch"), run.predict([[1.0], [2.0]]).shape
        (3.0, (2,))
    """
    given = sections(options, data, model, trainer)
    with GivenClasses(given["model"], given["trainer"]).refusals_in_a_run():
        if ckpt_path is None:
            of_data = RegressionDataModule(taken_problem(problem, given["data"]), **given["data"])
            return _train(of_data, _with_number(given, of_data), directory)
        path, _ = _checkpoint(ckpt_path)
        return _train(_continued(path, problem, given), given, directory, path)


def _with_number(given: Mapping[str, Mapping[str, Any]], data: RegressionDataModule) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of a new run with a number as lr; the one that ``lr="best"`` stands for is announced."""
    if given["model"].get("lr") != "best":
        return {**given, "model": with_default_lr(given["model"], data)}
    others = {name: value for name, value in given["model"].items() if name != "lr"}
    limits = {"max_epochs": 20, "max_steps": -1, "precision": None, **given["trainer"]}
    with own_generator(data.seed), precision_of_run(limits["precision"]):
        epochs = most_epochs(limits["max_epochs"], limits["max_steps"], data.variant)
        found = best_lr(RegressionModule(**others), data, data.variant.batch_size, epochs)
    if "ipykernel" not in sys.modules:  # a notebook would show the line as an error; the module has the number
        rank_zero_info(f"lr is {found.lr:g}: {found.purpose}")
    return {**given, "model": {**others, "lr": found.lr}}


def _train(
    data: RegressionDataModule,
    given: Mapping[str, Mapping[str, Any]],
    directory: str | Path | None,
    checkpoint: Path | None = None,
) -> Run:
    """Train, or continue from a checkpoint.

    Raises:
        InputError: The directory contains other files, or a limit allows no update.
    """
    place = None if directory is None else as_directory(directory)
    if place is not None and checkpoint != place / LAST_CHECKPOINT and is_taken(place):
        raise InputError(f"cannot train in {place}, because it contains other files; use another name")
    recorder = HistoryRecorder()
    with own_generator(data.seed), quiet_lightning():
        module = RegressionModule(**given["model"])
        trainer = _trainer(given["trainer"], recorder, place)
        make_trial_step(module.hparams, most_epochs(trainer.max_epochs, trainer.max_steps, data.variant))
        try:
            with _interruptible():
                trainer.fit(module, data, ckpt_path=checkpoint, weights_only=None if checkpoint is None else True)
        finally:
            end_runs(trainer.loggers)
    if recorder.summary is None:
        raise InputError(TRAINS_NOTHING)
    return Run(
        recorder.history,
        recorder.summary,
        module,
        type(data.problem).__name__,
        recorder.directory,
        lambda path: trainer.save_checkpoint(path, weights_only=False),
        data.problem.columns_state(),
        isinstance(data.problem, (Arrays, Frame)) and data.problem.has_column,
        lambda _: data,
    )


def load(run: str | Path, network: Any = None) -> Run:
    """Load a run that was trained before, from its files.

    Args:
        run: The directory of the run, such as ``lightning_logs/NAME``; or last, the newest run in ``lightning_logs``.
            With best, or ``lightning_logs/NAME/best``, the module has the weights of the best checkpoint that a
            ModelCheckpoint kept.
        network: The network of your own that it was trained with, if it was: a module, a class or a function.

    Raises:
        InputError: There is no such run, or it has not ended, or one of its files is damaged.
    """
    path, directory = _checkpoint(run)
    summary = read_summary(directory / SUMMARY)
    if summary is None:
        raise InputError(
            f"cannot load {directory}, because it has no {SUMMARY}; continue the run with fit(ckpt_path=...)"
        )
    known = {name: value for name, value in summary.items() if name in RunSummary.__dataclass_fields__}
    given = {} if network is None else {"network": network}
    module = RegressionModule.load_from_checkpoint(path, weights_only=True, **given)
    checkpoint = read_checkpoint(path)
    title, columns = _title(checkpoint), checkpoint.get(RegressionDataModule.__qualname__, {}).get("columns")
    history = History.from_run(directory)
    history.outcome, history.reason = Outcome(summary["outcome"]), summary["reason"]
    return Run(
        history,
        RunSummary(**known),
        module,
        title,
        directory,
        partial(shutil.copyfile, path),
        columns,
        read_data=partial(data_of, path),
    )


def _checkpoint(run: str | Path) -> tuple[Path, Path]:
    """Return the checkpoint of a run, and its directory."""
    as_path(run)
    path, directory = checkpoint_of(os.fspath(run), Path(LOGS))
    if not path.is_file():
        raise no_checkpoint(path)
    return path, directory or path.parent.parent


def _title(checkpoint: Mapping[str, Any]) -> str:
    """Return the name of the problem of a run."""
    problem = checkpoint.get(RegressionDataModule.CHECKPOINT_HYPER_PARAMS_KEY, {}).get("problem") or {}
    return str(problem.get("class_path", "run")).rpartition(".")[2]


def _continued(path: Path, problem: ProblemLike | None, given: dict[str, dict[str, Any]]) -> RegressionDataModule:
    """Return the data of a run that is continued, and complete the options of its module."""
    checkpoint = read_checkpoint(path)
    check_checkpoint(checkpoint, path)
    saved = checkpoint.get(RegressionModule.CHECKPOINT_HYPER_PARAMS_KEY, {})
    given["model"] = {**{name: value for name, value in saved.items() if name in OPTIONS}, **given["model"]}
    if problem is None:
        return RegressionDataModule.load_from_checkpoint(path, **given["data"])
    made = taken_problem(problem, given["data"])
    return RegressionDataModule.load_from_checkpoint(path, problem=made, **given["data"])


def _trainer(options: Mapping[str, Any], recorder: HistoryRecorder, directory: Path | None) -> Trainer:
    """Return a Trainer with the callbacks of a run; callbacks that the user adds come after the recorder."""
    added = options.get("callbacks") or []
    added = added if isinstance(added, Sequence) else [added]
    given = {"max_epochs": 20, **TRAINER_DEFAULTS, **_needed_by(added), **options}
    callbacks: list[Callback] = [recorder, *added]
    callbacks += [
        made() for made in (Forecast, StopOnDivergence) if not any(isinstance(each, made) for each in callbacks)
    ]
    if directory is not None:
        given = {"logger": TensorBoardLogger(directory.parent, "", directory.name, default_hp_metric=False), **given}
        callbacks += [Pictures(), LastCheckpoint()]
        given["enable_checkpointing"] = True
    trainer = make_trainer({"logger": False, **given, "callbacks": callbacks})
    if directory is not None:
        choose_directory(trainer, directory)
    return trainer


def _needed_by(callbacks: Iterable[object]) -> dict[str, bool]:
    """Return options of the Trainer without which it refuses these callbacks."""
    needed = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    return {name: True for name, kind in needed.items() if any(isinstance(each, kind) for each in callbacks)}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end only the training: Lightning would exit Python; the run then states how it ended."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        if not isinstance(exit_.__context__, KeyboardInterrupt):
            raise
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
