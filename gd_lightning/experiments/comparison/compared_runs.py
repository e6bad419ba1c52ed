"""Groups of compared runs, and the target loss that all of them are measured against."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison.grouping import grouped
from gd_lightning.records.groups import Group
from gd_lightning.tracking.run_reader import FinishedRun

_CLOSE = 0.01  # relative distance to the least-squares loss that is the target, as in a plan
_OF_THE_LOSS = ("model.loss", "model.huber_delta", "data.problem", "data.val_size", "data.test_size")
# If the least-squares loss is almost 0, as fractions of the loss of the best constant: the target, and almost 0.
_CLOSE_TO_ZERO, _NEXT_TO_NOTHING = 1e-4, 1e-6


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared.

    Args:
        groups: Groups of runs that differ only in their seed.
        runs: The runs of each group, in the same order.
        target: The train loss that the runs should reach; None without a target.
        target_reason: The reason for the target, or for its absence, in words; "" if losses or data differ.
    """

    groups: tuple[Group, ...]
    runs: tuple[tuple[FinishedRun, ...], ...]
    target: float | None
    target_reason: str

    @classmethod
    def of(cls, runs: Sequence[FinishedRun], target: float | None = None, apart: Collection[str] = ()) -> Comparison:
        """Group runs, and choose the target.

        Args:
            runs: The runs, each with its history.
            target: The train loss to reach; None: 1 % above the least-squares loss where all runs know it, else the
                highest final train loss of all runs that did not diverge, in groups that end below every initial loss;
                no target where the loss or the data differ.
            apart: Seeds that are varied on purpose, and so distinguish groups, by the full names of their options.

        Raises:
            InputError: No runs are given.
        """
        if not runs:
            raise InputError("cannot compare without runs; give the directories of runs")
        parts = grouped(runs, apart)
        groups = tuple(_group(label, settings, members) for label, settings, members in parts)
        found, reason = (target, "as asked for") if target is not None else _target(groups, runs)
        return cls(groups, tuple(tuple(members) for _, _, members in parts), found, reason)

    @property
    def has_one_loss(self) -> bool:
        """Whether all groups have the same loss on the same data, so that one train loss can be below another."""
        return _has_one_loss(self.groups)

    def values(self, name: str) -> list[list[float]]:
        """Return one value of each run's summary, group by group; nan where a run has none."""
        return [[_number(run.summary, name) for run in members] for members in self.runs]


def _group(label: str, settings: Mapping[str, Any], members: Sequence[FinishedRun]) -> Group:
    summary = members[0].summary or {}
    predicted_loss = _number(summary, "least_squares_loss") + _number(summary, "predicted_floor")
    predicted = predicted_loss, _number(summary, "largest_stable_lr")
    known = (None if math.isnan(value) else value for value in predicted)
    return Group(label, tuple(run.history for run in members), summary.get("variant"), settings, *known)


def _has_one_loss(groups: Sequence[Group]) -> bool:
    return not any(name.startswith(_OF_THE_LOSS) for group in groups for name in group.settings)


def _target(groups: Sequence[Group], runs: Sequence[FinishedRun]) -> tuple[float | None, str]:
    if not _has_one_loss(groups):
        return None, ""
    least = [_number(run.summary, "least_squares_loss") for run in runs]
    if np.isnan(least).any():
        return _highest_end(groups)
    constant = [_number(run.summary, "constant_loss") for run in runs]
    if not np.isnan(constant).any():
        scale, part, said = max(constant), _CLOSE_TO_ZERO, "a ten-thousandth of the loss of the best constant"
    else:  # runs of an earlier version have no such entry
        first = max(_number(run.summary, "train_loss_first") for run in runs)
        scale, part, said = first, _NEXT_TO_NOTHING, "a millionth of the initial loss"
    if max(least) > _NEXT_TO_NOTHING * scale:
        return (1 + _CLOSE) * max(least), "1 % above the least-squares loss"
    return max(least) + part * scale, f"{said} above the least-squares loss"


def _highest_end(groups: Sequence[Group]) -> tuple[float | None, str]:
    """Return the highest final loss of runs that did not diverge, without groups that end above an initial loss."""
    of_groups = [Group("", group.sound).final() for group in groups if group.sound]
    ends = [float(found.max()) for found in of_groups if np.isfinite(found).all()]
    if not ends:
        return None, "every run diverged or has no final train loss"
    starts = np.concatenate([group.start() for group in groups])
    below = [end for end in ends if not (starts <= end).any()]  # a run that starts below a target cannot reach it
    if not below:
        return None, "every variant ends above the initial loss of some run"
    reason = "the highest final train loss of all runs that did not diverge"
    return max(below), reason if len(below) == len(ends) else f"{reason}, in variants that end below every initial loss"


def _number(summary: Mapping[str, Any] | None, name: str) -> float:
    value = (summary or {}).get(name)
    return math.nan if value is None else float(value)  # JSON has no infinity: it is the string inf
