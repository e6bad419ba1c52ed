"""A comparison as a task: its members, how they are trained, and the report on their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from gd_lightning.data import RegressionDataModule
from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.comparison.problem_panels import ProblemPanels
from gd_lightning.experiments.comparison.report import Report
from gd_lightning.experiments.executors import carried_out
from gd_lightning.float64 import precision_of_run
from gd_lightning.lightning_internals import entry_points_read_once
from gd_lightning.module import RegressionModule
from gd_lightning.shared_results import results_shared
from gd_lightning.tracking.run_reader import FinishedRun

_WAIT = 0.1  # seconds between two checks of members that other processes train


@dataclass(frozen=True)
class MemberResult:
    """The result of a member of a comparison.

    Args:
        run: Losses, summary and settings of the run.
        load: Returns its trained module.
    """

    run: FinishedRun
    load: Callable[[], RegressionModule]


class Member(Protocol):
    """A variant with a seed, described by plain values that are sufficient to train it."""

    @property
    def name(self) -> str:
        """Name of the member, unique in its comparison."""

    def finished(self) -> MemberResult | None:
        """Return the result of the member if it has already been trained to its end, else None."""

    def claimed(self) -> AbstractContextManager[bool]:
        """Claim the member, so that no other process trains it meanwhile; yield whether that succeeded."""


_Member = TypeVar("_Member", bound=Member)


@dataclass(frozen=True)
class CompareTask(Generic[_Member]):
    """A comparison as a task, used by ``compare`` on the command line and in Python.

    Args:
        title: Title of the comparison.
        members: Every variant with every seed.
        train: Trains a member, or continues it; returns None if it was interrupted before its end.
        data: Loaded data of the first seed; None if the data differ between variants.
        precision: The ``precision`` of the Trainers.
        target: The train loss that the runs should reach; None: see ``Comparison.of``.
        apart: Seeds that are varied on purpose, and so distinguish groups, by the full names of their options.
        words: Further arguments of the :class:`Report`: columns and claims.
    """

    title: str
    members: Sequence[_Member]
    train: Callable[[_Member], MemberResult | None]
    data: RegressionDataModule | None
    precision: object = None
    target: float | None = None
    apart: Collection[str] = ()
    words: Mapping[str, Any] = field(default_factory=dict)

    def run(self, directory: str | Path | None = None, executor: Executor | None = None) -> Report:
        """Train all members, and return the report, which is also written into a directory if one is given.

        Args:
            directory: The directory; None: the report is not written.
            executor: Trains the members in parallel, as many as it has workers; None: this process, one after the
                other.

        Raises:
            InputError: Members cannot be sent to the executor.
        """
        results = self.results() if executor is None else carried_out(executor, self.train, self.members)
        report = self.report([result for result in results if result is not None])
        if directory is not None:
            report.save(Path(directory))
        return report

    def results(self, begins: Callable[[str], object] = lambda _: None) -> Iterator[MemberResult]:
        """Yield the result of each member; those that are not finished are trained.

        Members that another process has claimed are tried again later: by then they are finished, or that process was
        killed.

        Args:
            begins: Called with the name of each member before it is trained, and repeatedly with the name of the first
                remaining one while other processes train all that are left.
        """
        left: Sequence[_Member] = self.members
        known, installed = dict[Hashable, Any](), dict[Hashable, Any]()
        while left:
            others = []
            for member in left:
                with member.claimed() as is_ours:
                    if not is_ours:
                        others.append(member)
                        continue
                    begins(member.name)
                    with results_shared(known), entry_points_read_once(installed):
                        result = member.finished() or self.train(member)
                if result is not None:
                    yield result
            if len(others) == len(left):
                begins(others[0].name)
                time.sleep(_WAIT)
            left = others

    def finished(self) -> list[MemberResult]:
        """Return the results of those members that are finished."""
        return [result for member in self.members if (result := member.finished()) is not None]

    def report(self, results: Sequence[MemberResult]) -> Report:
        """Return the report on results.

        Args:
            results: Results of all members, or of the finished ones; at least one.
        """
        # Results come in the order in which they were finished.
        place = {member.name: i for i, member in enumerate(self.members)}
        results = sorted(results, key=lambda result: place[result.run.name])
        comparison = Comparison.of([result.run for result in results], self.target, self.apart)
        panels = ProblemPanels()
        if self.data is not None:
            load = {id(result.run.history): result.load for result in results}
            first = {
                group.label: group.histories[0] for group in comparison.groups if group.histories[0] in group.sound
            }
            with precision_of_run(self.precision):
                modules = {label: load[id(history)]() for label, history in first.items()}
                panels = ProblemPanels.of(self.data, modules)
        return Report(comparison, self.title, panels, **self.words)
