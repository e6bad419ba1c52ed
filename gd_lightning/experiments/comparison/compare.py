"""Training variants side by side, in Python.

Example:
    >>> report = compare(batch_sizes=["full", 10], lrs=[0.1, 0.01], seeds=1, max_epochs=3)
    >>> {label: round(histories[0].last("train_loss"), 1) for label, histories in report.histories.items()}
    {'batch': 122.9, 'mini-batch 10': 118.2}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.data import RegressionDataModule
from gd_lightning.default_learning_rate import default_lr
from gd_lightning.errors import InputError
from gd_lightning.experiments.best_learning_rate import best_lr
from gd_lightning.experiments.comparison.members import (
    Setting,
    check_runs,
    check_target,
    combinations,
    name_of,
    usual_batch_sizes,
    with_default_lrs,
)
from gd_lightning.experiments.comparison.report import Report
from gd_lightning.experiments.comparison.task import CompareTask
from gd_lightning.experiments.comparison.trainer_member import TrainerMember
from gd_lightning.experiments.copies import names_of, own_copy
from gd_lightning.experiments.lightning_messages import quiet_lightning
from gd_lightning.experiments.options import check_name, has_network, sections, taken_problem
from gd_lightning.float64 import precision_of_run
from gd_lightning.module import RegressionModule
from gd_lightning.module.library_errors import GivenClasses
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems import Problem, ProblemLike
from gd_lightning.tracking.run_directory import as_directory
from gd_lightning.variants import BatchSize

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
        problem: A problem, or data, as for :func:`~gd_lightning.as_problem`; None: the steep line.
        batch_sizes: One or several; None: all samples, 16 (or half of few samples) and 1; the one in ``data`` where
            ``vary`` is given.
        lrs: One learning rate for all, one per batch size, or best: by theory the fastest to the target within these
            epochs, or else that with the lowest loss at their end, as the report says, and of other models than linear
            regressors by a trial; None: the one in ``model``, or best by theory.
        seeds: Number of seeds, counted up from the one in ``data``.
        vary: Options of data, model and trainer with their values, such as {"model.momentum": [0.0, 0.9]}.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``.
        target: The train loss that the runs should reach; None: see ``Comparison.of``.
        directory: Directory for the report and the runs for TensorBoard; None: no files.
        executor: Trains the runs in parallel, with the same results: a process pool, Dask's ``Client.get_executor()``,
            or another executor of ``concurrent.futures``. None: this process, one run after the other.
        options: Options of data, model and trainer by their names alone, as for :func:`~gd_lightning.fit`; ``epochs``
            is 20 by default.

    Returns:
        The :class:`~gd_lightning.Report`: ``rows`` of the table, ``findings`` in sentences, the ``histories`` of all
        runs, ``to_dict()``, ``plot()``, ``animate()`` and ``save()``.

    Raises:
        InputError: Runs with the given options cannot be compared.

    Example:
        >>> compare(batch_sizes=["full", 10], lrs=0.04, seeds=1, epochs=5).rows[1].label
        'mini-batch 10'
    """
    given, directory = sections(options, data, model, trainer), None if directory is None else as_directory(directory)
    given["trainer"] = {"max_epochs": 20, **given["trainer"]}
    made, varied = taken_problem(problem, given["data"]), as_python(_variation(vary or {}))
    request = _Request(made, given, as_python(batch_sizes), as_python(lrs), varied)
    with quiet_lightning(), GivenClasses(given["model"], given["trainer"], varied).refusals_in_a_run():
        return request.task(as_python(seeds), directory, as_python(target)).run(directory, executor)


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`compare`."""

    problem: Problem
    options: Mapping[str, Mapping[str, Any]]
    batch_sizes: BatchSize | Sequence[BatchSize] | None
    lrs: float | Sequence[float] | str | None
    vary: Mapping[str, Sequence[Any]]
    said: list[str] = field(default_factory=list)
    """What the learning rates that theory chose are best for, in sentences."""

    def task(self, seeds: int, directory: str | Path | None, target: float | None) -> CompareTask[TrainerMember]:
        """Return the comparison, after a trial of each variant."""
        check_runs(seeds, self._sizes(), *self.vary.values())
        check_target(target)
        copies = own_copy(
            {"problem": self.problem, **self.options, **self.vary}
        )  # options that cannot be copied are refused before all else
        members = self._members(replace(self, problem=copies["problem"], options=copies)._settings(), seeds, directory)
        for member in members[::seeds]:  # a seed cannot be wrong, so one run of each variant is checked
            member.check()
        data, precision = members[0].data_module(), self.options["trainer"].get("precision")
        title, words = type(self.problem).__name__, {"best": self.said}
        return CompareTask(title, members, TrainerMember.train, data, precision, target, words=words)

    def _members(self, settings: Sequence[Setting], seeds: int, directory: str | Path | None) -> list[TrainerMember]:
        """Return every setting with every seed."""
        shown, members, names = names_of(settings), list[TrainerMember](), set[str]()
        for setting in settings:
            changed = {name: shown.get((name, id(value)), value) for name, value in setting.items()}
            given = {name: self._section(name, setting) for name in _SECTIONS}
            first = given["data"].pop("seed", 0)
            for seed in range(first, first + seeds):
                name = name_of(changed, seed, names)
                names.add(name)
                members.append(TrainerMember(name, {"problem": self.problem, **given}, seed, changed, directory))
        return members

    def _sizes(self) -> Sequence[Any]:
        """Return the given batch sizes; empty without any."""
        given = self.batch_sizes
        return [given] if isinstance(given, (str, float, int)) else given or []

    def _settings(self) -> list[Setting]:
        """Return the settings of each variant."""
        sizes = list(self._sizes())
        if not (sizes or self.vary):
            with precision_of_run(self.options["trainer"].get("precision")):
                sizes = list(usual_batch_sizes(self._data("full").variant.train_samples))
        lrs: Any = [self.lrs] if isinstance(self.lrs, (str, float, int)) else self.lrs
        settings = combinations(sizes, lrs, self.vary, self._best)
        if lrs is None and not self.vary and not {"lr", "optimizer"} & set(self.options["model"]):
            try:
                settings = combinations(sizes, ["best"], self.vary, partial(self._best, by_trial=False))
            except InputError:  # models other than linear regressors have no best lr: the default is used
                self.said.clear()
                is_network, standardize = has_network(self.options["model"]), self._data("full").standardize
                settings = with_default_lrs(settings, lambda size: default_lr(size, is_network, standardize), float)
        return settings

    def _best(self, batch_size: BatchSize | None, by_trial: bool = True) -> float:
        data = self._data(batch_size)
        with precision_of_run(self.options["trainer"].get("precision")):
            limits = {"max_epochs": 20, "max_steps": -1, **self.options["trainer"]}
            epochs = most_epochs(limits["max_epochs"], limits["max_steps"], data.variant)
            module = RegressionModule(**self.options["model"])
            found = best_lr(module, data, data.variant.batch_size, epochs, by_trial)
        self.said.append(found.sentence(data.variant.batch_size))
        return found.lr

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
        if isinstance(values, Collection):  # checked before they are listed: a range takes no memory
            check_runs(1, values)
    return {name: list(values) for name, values in vary.items()}
