"""Training variants side by side, in Python.

Example:
    >>> report = compare(batch_sizes=["full", 10], lrs=[0.1, 0.01], seeds=1, max_epochs=3)
    >>> {label: round(histories[0].last("train_loss"), 1) for label, histories in report.histories.items()}
    {'batch': 122.9, 'mini-batch 10': 118.2}
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning.callbacks import Forecast, GradientVariance, HistoryRecorder, StopOnDivergence
from gd_lightning.callbacks.loggers import end_runs
from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError, first_line
from gd_lightning.experiments.comparison.members import (
    Setting,
    check_seeds,
    check_target,
    combinations,
    name_of,
    usual_batch_sizes,
)
from gd_lightning.experiments.comparison.report import Report
from gd_lightning.experiments.comparison.task import CompareTask, MemberResult
from gd_lightning.experiments.comparison.trial_update import make_one_update, trial_options
from gd_lightning.experiments.copies import made_by_functions, names_of, own_copy
from gd_lightning.experiments.lightning_messages import quiet_lightning
from gd_lightning.experiments.options import TRAINER_DEFAULTS, TRAINS_NOTHING, check_name, sections, taken_problem
from gd_lightning.float64 import NOT_COMPUTABLE, precision_of_run
from gd_lightning.module import RegressionModule, predictor_of, quadratic_network
from gd_lightning.module.trainer_options import make_trainer, refusals_of_lightning
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems import Problem, ProblemLike
from gd_lightning.random_numbers import own_generator
from gd_lightning.records.history import Outcome
from gd_lightning.theory import BestRate, BestRates
from gd_lightning.tracking.run_directory import HISTORY, as_directory
from gd_lightning.tracking.run_reader import FinishedRun
from gd_lightning.variants import BatchSize, Variant

_SECTIONS = ("data", "model", "trainer")
_NOT_VARIED = ("data.batch_size", "data.problem", "data.seed", "trainer.callbacks", "trainer.logger")


def compare(
    problem: ProblemLike | None = None,
    *,
    batch_sizes: BatchSize | Sequence[BatchSize] | None = None,
    lrs: float | Sequence[float] | Literal["best"] | None = None,
    seeds: int = 3,
    vary: Mapping[str, Sequence[Any]] | None = None,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    target: float | None = None,
    directory: str | Path | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> Report:
    """Train variants of gradient descent from the same start on the same data, each from several seeds.

    A seed changes the order of the samples, and the initial weights if they are random. Each run has its own copies of
    all objects; a function in ``trainer``, such as ``lambda: [Timer()]``, is called once per run. Runs of several
    threads take turns.

    Args:
        problem: What makes the data, or the data, as for :func:`~gd_lightning.as_problem`; None: the steep line.
        batch_sizes: One or several; None: all samples, 16 (or half of few samples) and 1; the one in ``data`` where
            ``vary`` is given.
        lrs: One learning rate for all, one per batch size, or best by theory; None: the one in ``model``, or best.
        seeds: Number of seeds, counted up from the one in ``data``.
        vary: Options of data, model and trainer with their values, such as {"model.momentum": [0.0, 0.9]}.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``.
        target: The train loss whose first crossing is compared; None: see :meth:`Comparison.of`.
        directory: Directory for the report and the runs for TensorBoard; None: no files.
        executor: Trains the runs in parallel, with the same results: a process pool, Dask's ``Client.get_executor()``,
            or another executor of ``concurrent.futures``. None: this process, one run after the other.
        options: Options of data, model and trainer by their names alone, as for :func:`~gd_lightning.fit`; ``epochs``
            is 20 by default.

    Raises:
        InputError: These options cannot be compared.
    """
    given, directory = sections(options, data, model, trainer), None if directory is None else as_directory(directory)
    given["trainer"] = {"max_epochs": 20, **given["trainer"]}
    made, varied = taken_problem(problem, given["data"]), as_python(_variation(vary or {}))
    request = _Request(made, given, as_python(batch_sizes), as_python(lrs), varied)
    with quiet_lightning():
        return request.task(as_python(seeds), directory, as_python(target)).run(directory, executor)


@dataclass(frozen=True)
class TrainerMember:
    """A run of :func:`compare`, with everything that is needed to train it.

    Args:
        name: Name of the run.
        options: ``problem``, and the options of ``data``, ``model`` and ``trainer``, of which copies are used.
        seed: Seed of the order, and of random initial weights.
        changed: The options that distinguish its variant, with names for objects.
        directory: Parent of the logger's directory; None: no files.
    """

    name: str
    options: Mapping[str, Any]
    seed: int
    changed: Mapping[str, Any]
    directory: str | Path | None

    def finished(self) -> MemberResult | None:
        """Return None: results are kept only in memory."""

    def claimed(self) -> AbstractContextManager[bool]:
        """Return that the member is claimed: no other process knows of it."""
        return nullcontext(True)

    def data_module(self) -> RegressionDataModule:
        """Return the data module, before its set-up."""
        copies = own_copy({name: self.options[name] for name in ("problem", "data")})
        return RegressionDataModule(copies["problem"], **copies["data"], seed=self.seed)

    def check(self) -> None:
        """Make one update, so that options that cannot be trained fail before anything is written.

        Raises:
            InputError: The options cannot be trained.
        """
        trainer = {**self.options["trainer"], "logger": False}  # a function that makes one would begin it
        with own_generator(self.seed):
            options, added, module, data = self._made({**self.options, "trainer": trainer})
            tried = make_trainer(trial_options(options, [HistoryRecorder(), *added, StopOnDivergence()]))
            with refusals_of_lightning():
                make_one_update(tried, module, data)

    def train(self) -> MemberResult:
        """Train the member.

        Raises:
            KeyboardInterrupt: Training was interrupted.
        """
        recorder, others = HistoryRecorder(), [Forecast(_say_nothing), StopOnDivergence(), GradientVariance()]
        with own_generator(self.seed), quiet_lightning():  # it may be in a process of its own
            options, added, module, data = self._made(self.options)
            module.fewest_fused_updates = 0  # seconds are compared, so that all should have one engine
            if self.directory is not None:
                logger = TensorBoardLogger(self.directory, "", self.name, default_hp_metric=False)
                options = {"logger": logger, **options}
            trainer = make_trainer({"logger": False, **options, "callbacks": [recorder, *added, *others]})
            try:
                trainer.fit(module, data)
            finally:
                end_runs(trainer.loggers)
        if trainer.interrupted or recorder.history.outcome is Outcome.INTERRUPTED:
            raise KeyboardInterrupt
        if recorder.summary is None:
            raise InputError(TRAINS_NOTHING)
        given = {f"{name}.{key}": value for name in ("data", "model") for key, value in self.options[name].items()}
        settings = {**self.changed, **given, **self.changed, "data.seed": self.seed}
        run = FinishedRun(self.name, recorder.history, HISTORY, dataclasses.asdict(recorder.summary), settings)
        return MemberResult(run, functools.partial(_itself, module))

    def _made(
        self, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Callback], RegressionModule, RegressionDataModule]:
        """Return what the options define: options of the Trainer, its callbacks, the module and the data."""
        copies = own_copy(options)
        trainer = {**TRAINER_DEFAULTS, **made_by_functions(copies["trainer"])}
        added = trainer.pop("callbacks", None) or []
        data = RegressionDataModule(copies["problem"], **copies["data"], seed=self.seed)
        callbacks = list(added) if isinstance(added, Sequence) else [added]
        return trainer, callbacks, RegressionModule(**copies["model"]), data


def _itself(module: RegressionModule) -> RegressionModule:
    return module


def best_lr(
    module: RegressionModule, data: RegressionDataModule, batch_size: BatchSize, max_epochs: float = 20
) -> BestRate:
    """Return the learning rate that is the fastest to the target within some epochs, or else ends lowest.

    The target is 1 % above the loss that descent leads to, as for :func:`plan`.

    Args:
        module: A linear regressor.
        data: The training data.
        batch_size: B.
        max_epochs: The epochs of the run.

    Raises:
        InputError: The theory does not apply to the module.
    """
    module.configure_for(data)
    if quadratic_network(module) is None:
        raise InputError(
            "cannot find the best lr, because the loss of these options is not quadratic in the parameters; give lrs, "
            "or see what plan says"
        )
    try:
        predictor = predictor_of(module, data.train.pieces, data.variant, max_epochs, order=data.order)
        return BestRates.of(predictor, Variant.of(batch_size, len(data.train)).batch_size).best
    except NOT_COMPUTABLE as error:
        raise InputError(
            f"cannot find the best lr, because theory yields numbers beyond float64 ({first_line(error)[:100]}); "
            "give lrs, or standardize the data"
        ) from error


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`compare`."""

    problem: Problem
    options: Mapping[str, Mapping[str, Any]]
    batch_sizes: BatchSize | Sequence[BatchSize] | None
    lrs: float | Sequence[float] | str | None
    vary: Mapping[str, Sequence[Any]]

    def task(self, seeds: int, directory: str | Path | None, target: float | None) -> CompareTask[TrainerMember]:
        """Return the comparison, after a trial of each variant."""
        check_seeds(seeds)
        check_target(target)
        copies = own_copy(
            {"problem": self.problem, **self.options, **self.vary}
        )  # what cannot be copied is found first
        members = self._members(replace(self, problem=copies["problem"], options=copies)._settings(), seeds, directory)
        for member in members[::seeds]:  # seeds make no mistakes
            member.check()
        data, precision = members[0].data_module(), self.options["trainer"].get("precision")
        return CompareTask(type(self.problem).__name__, members, TrainerMember.train, data, precision, target)

    def _members(self, settings: Sequence[Setting], seeds: int, directory: str | Path | None) -> list[TrainerMember]:
        """Return every setting with every seed."""
        shown, members = names_of(settings), list[TrainerMember]()
        for setting in settings:
            changed = {name: shown.get((name, id(value)), value) for name, value in setting.items()}
            given = {name: self._section(name, setting) for name in _SECTIONS}
            first = given["data"].pop("seed", 0)
            for seed in range(first, first + seeds):
                name = name_of(changed, seed, [member.name for member in members])
                members.append(TrainerMember(name, {"problem": self.problem, **given}, seed, changed, directory))
        return members

    def _settings(self) -> list[Setting]:
        """Return what each variant sets."""
        given: Any = self.batch_sizes
        sizes: list[Any] = [given] if isinstance(given, (str, float, int)) else list(given or [])
        if not (sizes or self.vary):
            with precision_of_run(self.options["trainer"].get("precision")):
                sizes = list(usual_batch_sizes(self._data("full").variant.train_samples))
        lrs: Any = [self.lrs] if isinstance(self.lrs, (str, float, int)) else self.lrs
        settings = combinations(sizes, lrs, self.vary, self._best)
        if lrs is None and not self.vary and not {"lr", "optimizer"} & set(self.options["model"]):
            with suppress(InputError):  # of other models than linear regressors, it is the usual one
                settings = combinations(sizes, ["best"], self.vary, self._best)
        return settings

    def _best(self, batch_size: BatchSize | None) -> float:
        data = self._data(batch_size)
        with precision_of_run(self.options["trainer"].get("precision")):
            limits = {"max_epochs": 20, "max_steps": -1, **self.options["trainer"]}
            epochs = most_epochs(limits["max_epochs"], limits["max_steps"], data.variant)
            return best_lr(RegressionModule(**self.options["model"]), data, data.variant.batch_size, epochs).lr

    def _data(self, batch_size: BatchSize | None) -> RegressionDataModule:
        setting = {} if batch_size is None else {"data.batch_size": batch_size}
        return RegressionDataModule(self.problem, **self._section("data", setting))

    def _section(self, name: str, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a section, with those that a setting has of it."""
        own = {key.partition(".")[2]: value for key, value in setting.items() if key.startswith(f"{name}.")}
        return {**self.options[name], **own}


def _variation(vary: object) -> dict[str, Any]:
    """Return what is varied, by the full names of the options.

    Raises:
        InputError: There is no such option, or it has no list of values.
    """
    if not isinstance(vary, Mapping):
        raise InputError(f"cannot vary {vary!r}; give options with their values, such as {{'model.lr': [0.1, 0.01]}}")
    for name, values in vary.items():
        section, _, option = str(name).partition(".")
        if section not in _SECTIONS or name in _NOT_VARIED:
            raise InputError(f"cannot vary {name!r}; name an option of data, model or trainer, such as model.lr")
        check_name(section, option)
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
            raise InputError(f"cannot vary {name} over {values!r}; give a list of values")
    return {name: list(values) for name, values in vary.items()}


def _say_nothing(_: str) -> None:
    """Ignore a warning, since the report says which runs diverged."""
