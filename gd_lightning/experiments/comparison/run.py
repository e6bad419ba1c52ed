"""Training variants side by side, in Python."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning.callbacks import Forecast, GradientVariance, HistoryRecorder, StopOnDivergence
from gd_lightning.callbacks.run_loggers import end_runs
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError, first_line
from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.comparison.drawing import Scene
from gd_lightning.experiments.comparison.members import usual_batch_sizes
from gd_lightning.experiments.comparison.report import Report
from gd_lightning.experiments.copies import Names, made_by_functions, names_of, own_copy
from gd_lightning.float64 import NOT_COMPUTABLE, precision_of_run
from gd_lightning.generators import own_generator
from gd_lightning.module import RegressionModule, linear_outlooks, quadratic_network
from gd_lightning.problems import Problem, SteepLine
from gd_lightning.records.history import Outcome
from gd_lightning.theory import stable_lr
from gd_lightning.tracking.run_directory import HISTORY
from gd_lightning.tracking.run_reader import FinishedRun
from gd_lightning.variants import BatchSize, Variant

_SECTIONS = ("data", "model", "trainer")
_NOT_VARIED = ("data.batch_size", "data.problem", "data.seed", "trainer.callbacks", "trainer.logger")
_QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "devices": 1}
_TRAINER = {**_QUIET, "accelerator": "cpu", "num_sanity_val_steps": 0, "log_every_n_steps": 1}


def compare(
    problem: Problem | None = None,
    *,
    batch_sizes: Sequence[BatchSize] | None = None,
    lrs: float | Sequence[float] | Literal["best"] | None = None,
    seeds: int = 3,
    max_epochs: int = 20,
    vary: Mapping[str, Sequence[Any]] | None = None,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    target: float | None = None,
    directory: str | Path | None = None,
) -> Report:
    """Train variants of gradient descent from the same start on the same data, each from several seeds.

    A seed changes the start, where it is drawn, and the order of the samples. Each run has copies of its own of all
    objects among the options, as they are when they are given: callbacks, loggers, a network, the problem. A function
    in ``trainer`` is called for each run instead, as in ``{"callbacks": lambda: [EarlyStopping("train_loss")]}``.
    Comparisons in several threads come to the same as one after the other: their runs take turns.

    Args:
        problem: What makes the data; None: the steep line.
        batch_sizes: The variants; None: all samples, 16 (of few samples half of them) and 1, or the one in ``data``
            where something else is varied.
        lrs: A learning rate for all, one for each batch size, or best, which is what theory says of a linear regressor;
            None: the one in ``model``.
        seeds: How many seeds, from the one in ``data``.
        max_epochs: How many epochs each run has.
        vary: Any options of data, model and trainer with their values, such as {"model.momentum": [0.0, 0.9]}.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``.
        target: The train loss whose first crossing is compared; None: 1 % above the least squares, where they are
            known, else what all reach that do not diverge and get below every start.
        directory: Where the report goes, with the runs for TensorBoard; None: nowhere.

    Returns:
        Table, findings, histories and picture; a notebook draws it.

    Raises:
        InputError: Something cannot be compared.

    Example:
        >>> report = compare(batch_sizes=["full", 10], lrs=[0.1, 0.01], seeds=1, max_epochs=3)
        >>> {label: round(histories[0].last("train_loss"), 1) for label, histories in report.histories.items()}
        {'batch': 122.9, 'mini-batch 10': 118.2}
    """
    if seeds < 1:
        raise InputError(f"cannot compare with {seeds} seeds; use 1 or more")
    problem = SteepLine() if problem is None else problem
    shared = {"data": dict(data or {}), "model": dict(model or {}), "trainer": dict(trainer or {})}
    shared["trainer"] = {**_TRAINER, "max_epochs": max_epochs, **shared["trainer"]}
    runs, modules, first_data = [], [], None
    varied = {name: list(values) for name, values in (vary or {}).items()}
    copies = own_copy({"problem": problem, **shared, **varied})  # what cannot be copied is found first
    settings = _settings(copies["problem"], copies, batch_sizes, lrs, varied)
    shown = names_of(settings)
    for setting in settings:
        for seed in range(seeds):
            run, module, data_module = _train(problem, shared, setting, seed, directory, shown)
            runs.append(run)
            modules.append(module)
            first_data = first_data or data_module
    comparison = Comparison.of(runs, target)
    by_history = {id(run.history): module for run, module in zip(runs, modules, strict=True)}
    sound = {group.label: group.histories[0] for group in comparison.groups if group.histories[0] in group.sound}
    assert first_data is not None
    scene = Scene.of(first_data, {label: by_history[id(history)] for label, history in sound.items()})
    report = Report(comparison, type(problem).__name__, scene)
    if directory is not None:
        report.write(Path(directory))
    return report


def best_lr(module: RegressionModule, data: RegressionDataModule, batch_size: BatchSize) -> float:
    """Return the learning rate that shrinks the error fastest, or a smaller one where that would diverge.

    Args:
        module: A linear regressor.
        data: What it is to be trained on.
        batch_size: B.

    Raises:
        InputError: Theory does not know it.
    """
    module.configure_for(data)
    if quadratic_network(module) is None:
        raise InputError(
            "cannot find the best lr, because the loss of these options is not quadratic in the parameters; give lrs, "
            "or see what plan says"
        )
    try:
        outlooks = linear_outlooks(module, data.train.pieces, data.variant, math.inf, order=data.order)
        return stable_lr(outlooks, Variant.of(batch_size, len(data.train)).batch_size)
    except NOT_COMPUTABLE as error:
        raise InputError(
            f"cannot find the best lr, because theory comes to numbers beyond float64 ({first_line(error)[:100]}); "
            "give lrs, or standardize the data"
        ) from error


def _settings(
    problem: Problem,
    shared: Mapping[str, Mapping[str, Any]],
    batch_sizes: Sequence[BatchSize] | None,
    lrs: float | Sequence[float] | str | None,
    vary: Mapping[str, Sequence[Any]],
) -> list[dict[str, Any]]:
    """Return what each group sets, by the full names of options."""
    for name in vary:
        if name.partition(".")[0] not in _SECTIONS or name in _NOT_VARIED:
            raise InputError(f"cannot vary {name!r}; name an option of data, model or trainer, such as model.lr")
    sizes: list[BatchSize] = list(batch_sizes or [])
    if not (sizes or vary):
        data = RegressionDataModule(problem, **_section("data", shared, {"data.batch_size": "full"}))
        with precision_of_run(shared["trainer"].get("precision")):
            sizes = usual_batch_sizes(data.variant.train_samples)
    first: list[dict[str, Any]] = [{"data.batch_size": size} for size in sizes] or [{}]
    if lrs is not None:
        rates = [lrs] * len(first) if isinstance(lrs, (str, float, int)) else list(lrs)
        if len(rates) != len(first):
            raise InputError(f"cannot give {len(rates)} lrs to {len(first)} batch sizes; give one, or one for each")
        for setting, rate in zip(first, rates, strict=True):
            setting["model.lr"] = rate if rate != "best" else _best(problem, shared, setting)
    axes = [first, *([{name: value} for value in values] for name, values in vary.items())]
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*axes)]


def _best(problem: Problem, shared: Mapping[str, Mapping[str, Any]], setting: Mapping[str, Any]) -> float:
    data = RegressionDataModule(problem, **_section("data", shared, setting))
    with precision_of_run(_section("trainer", shared, setting).get("precision")):
        return best_lr(RegressionModule(**_section("model", shared, {})), data, data.variant.batch_size)


def _section(name: str, shared: Mapping[str, Mapping[str, Any]], setting: Mapping[str, Any]) -> dict[str, Any]:
    own = {key.partition(".")[2]: value for key, value in setting.items() if key.startswith(f"{name}.")}
    return {**shared[name], **own}


def _train(
    problem: Problem,
    shared: Mapping[str, Mapping[str, Any]],
    setting: Mapping[str, Any],
    seed: int,
    directory: str | Path | None,
    shown: Names,
) -> tuple[FinishedRun, RegressionModule, RegressionDataModule]:
    """Make a run."""
    given = {name: _section(name, shared, setting) for name in _SECTIONS}
    own = given["data"].pop("seed", 0) + seed
    changed = {name: shown.get((name, id(value)), value) for name, value in setting.items()}
    name = "-".join([*(f"{key.partition('.')[2]}-{value}" for key, value in changed.items()), f"seed{own}"])
    with own_generator(own):
        copies = own_copy({"problem": problem, **given})
        recorder, trainer = HistoryRecorder(), made_by_functions(copies["trainer"])
        added = trainer.pop("callbacks", None) or []
        logger = False if directory is None else TensorBoardLogger(directory, "", name, default_hp_metric=False)
        callbacks: list[Any] = [recorder, *(added if isinstance(added, Sequence) else [added])]
        callbacks += [Forecast(_say_nothing), StopOnDivergence(), GradientVariance()]
        data = RegressionDataModule(copies["problem"], **copies["data"], seed=own)
        module = RegressionModule(**copies["model"])
        module.fewest_fused_updates = 0  # seconds are compared, so that all should have one engine
        runner = Trainer(**{"logger": logger, **trainer, "callbacks": callbacks})
        try:
            runner.fit(module, data)
        finally:
            end_runs(runner.loggers)
    if recorder.summary is None or recorder.history.outcome is Outcome.INTERRUPTED:
        raise KeyboardInterrupt
    settings = {f"{section}.{key}": value for section in ("data", "model") for key, value in given[section].items()}
    settings = {**changed, **settings, **changed, "data.seed": own}
    summary = dataclasses.asdict(recorder.summary)
    return FinishedRun(name, recorder.history, HISTORY, summary, settings), module, data


def _say_nothing(_: str) -> None:
    """Leave what is beyond the limit to the report."""
