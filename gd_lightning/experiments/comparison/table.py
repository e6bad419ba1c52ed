"""The table of a comparison, with one row per group, for terminal, CSV, Markdown and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison.comparable_settings import SEEDS
from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.comparison.significance import Difference, difference, rounding_of, seeds_to_tell
from gd_lightning.experiments.parameter_statistics import parameter_statistics
from gd_lightning.experiments.tables import Spread, number, rows_as_csv, without_empty_columns, without_nan
from gd_lightning.records.groups import Group, Values
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_reader import FinishedRun
from gd_lightning.tracking.summary import aligned

_AXES = {"epochs": "epoch", "samples": "samples", "seconds": "seconds"}
_TO_TARGET = "_to_target"
_LOSSES = ("train_loss", "excess")
_NO_FIGURES = ("per_run", "seeds", "steps")  # fields of a row that are no columns of numbers
# Quantities that only some runs of this package have: those of linear regressors, and those with validation samples.
_OTHERS = (
    *("weight_norm", "zero_weights", "distance_to_truth", "distance_to_least_squares"),
    *("val_loss", "val_mse", "val_mae", "val_r2"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """The results of a group of runs; runs that diverged count only in ``outcome``, ``updates`` and ``samples``.

    Args:
        label: The group.
        variant: batch, mini-batch or stochastic; None where it is not known.
        batch_size: B; None where it is not known.
        lr: The learning rate; nan where it is not known.
        runs: Number of runs, each with another seed.
        updates: Updates, including those of runs that diverged.
        samples: Training samples processed, including those of runs that diverged.
        train_loss: Final train loss.
        excess: Final train loss minus the least-squares loss; nan for other than linear regressors.
        reached: Number of runs that reached the target from above and did not diverge.
        to_target: Epochs, samples and seconds that these runs took to the target; empty without a target.
        seconds_per_epoch: Median over the epochs of all runs, without measurements, and without the first epoch of runs
            that have more.
        gradient_variance: Variance of the gradient over batches at the start; nan where it was not measured.
        outcome: How the runs ended.
        others: Other quantities, see :func:`~gd_lightning.experiments.parameter_statistics.parameter_statistics`.
        diverged: Number of runs that diverged.
        at_target: Number of runs that were at or below the target before their first update.
        engine: The engine of the runs, autograd or fused; empty where it is not known.
        per_run: The quantities of each run, in the order of the runs, by their names in CSV without ``_mean``; nan
            where a run has none.
        seeds: The seeds of each run, as text; empty where they are not known.
        steps: Distance between measurements of the train loss, by the names of the quantities whose resolution it is.
    """

    label: str
    variant: str | None
    batch_size: int | None
    lr: float
    runs: int
    updates: Spread
    samples: Spread
    train_loss: Spread
    excess: Spread
    reached: int
    to_target: dict[str, Spread]
    seconds_per_epoch: float
    gradient_variance: Spread
    outcome: str
    others: dict[str, Spread] = dataclasses.field(default_factory=dict)
    diverged: int = 0
    at_target: int = 0
    engine: str = ""
    per_run: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    seeds: tuple[str, ...] = ()
    steps: dict[str, float] = dataclasses.field(default_factory=dict)

    def has_all(self, name: str) -> bool:
        """Whether every run has a quantity, so that its mean is not one over survivors only."""
        values = self.per_run.get(name, ())
        return bool(values) and all(map(math.isfinite, values))

    def difference(self, other: Row, name: str) -> Difference:
        """Judge whether the runs of two rows differ in a quantity that all of them have; see :mod:`.significance`."""
        own, theirs, paired = self._runs_with(other, name)
        known, rows = [*own, *theirs], (self, other)
        if name not in _LOSSES:
            step = self._step(other, name)
            return difference(own, theirs, paired=paired, rounding=rounding_of(known), step=step)
        known = [value for row in rows for value in row.per_run.get("train_loss", known)]
        start = max((value for row in rows for value in row.per_run.get("train_loss_first", ())), default=0.0)
        return difference(own, theirs, paired=paired, rounding=rounding_of(known, start))

    def seeds_to_tell(self, other: Row, name: str) -> float:
        """Return how many seeds would tell two rows apart; see :func:`.significance.seeds_to_tell`."""
        own, theirs, paired = self._runs_with(other, name)
        return seeds_to_tell(own, theirs, paired=paired, step=self._step(other, name))

    def _runs_with(self, other: Row, name: str) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
        """Return a quantity in the runs of both rows, and whether they are paired by their seeds."""
        own, theirs = self.per_run[name], other.per_run[name]
        if paired := self._is_paired_with(other):
            theirs = tuple(theirs[other.seeds.index(seed)] for seed in self.seeds)
        return own, theirs, paired

    def _step(self, other: Row, name: str) -> float:
        """Return the resolution of a quantity in both rows; 0 for losses, and where all seeds end alike."""
        if name in _LOSSES or (self._is_certain and other._is_certain):
            return 0.0
        return max(row.steps.get(name, 0.0) for row in (self, other))

    @property
    def _is_certain(self) -> bool:
        """Whether all seeds end at the same loss, as in batch descent from one start."""
        ends = self.per_run.get("train_loss", (math.nan,))
        return len(ends) > 1 and np.ptp(ends) <= rounding_of(ends)

    def _is_paired_with(self, other: Row) -> bool:
        alike = (
            all(self.seeds) and len(set(self.seeds)) == len(self.seeds) and sorted(self.seeds) == sorted(other.seeds)
        )
        return bool(self.seeds) and alike

    def has(self, name: str) -> bool:
        """Whether there is a quantity of this name, even if its value is missing."""
        flat = _flat(self)
        return name in flat or f"{name}_mean" in flat

    def value(self, name: str) -> float:
        """Return a quantity by its name in CSV without the ending ``_mean``; nan where it is missing.

        Raises:
            InputError: No quantity has this name.
        """
        flat = _flat(self)
        if not self.has(name):
            names = ", ".join(each.removesuffix("_mean") for each in flat if not each.endswith("_deviation"))
            raise InputError(f"there is no quantity {name!r}; there are {names}")
        value = flat.get(f"{name}_mean", flat.get(name))
        return float(value) if isinstance(value, (int, float)) else math.nan


def check_columns(names: Iterable[str]) -> None:
    """Refuse names that are not quantities of any run of this package, before training.

    Raises:
        InputError: A name is unknown.
    """
    simple = [
        field.name for field in dataclasses.fields(Row) if field.name not in (*_NO_FIGURES, "to_target", "others")
    ]
    known = [*simple, *(f"{name}{_TO_TARGET}" for name in _AXES), *_OTHERS]
    for name in names:
        if name not in known:
            raise InputError(f"there is no quantity {name!r}; there are {', '.join(known)}")


def rows(comparison: Comparison) -> list[Row]:
    """Return the rows of a comparison, in the order of its groups."""
    least_squares = comparison.values("least_squares_loss")
    others = [[parameter_statistics(run.summary or {}) for run in members] for members in comparison.runs]
    # A group that diverged, or has another network, gets the same columns as the other groups.
    names = dict.fromkeys(name for of_group in others for each in of_group for name in each)
    names.pop("gradient_variance", None)
    found = []
    for group, members, least, of_group in zip(comparison.groups, comparison.runs, least_squares, others, strict=True):
        own = {name: np.array([each.get(name, math.nan) for each in of_group]) for name in names}
        found.append(_row(comparison, group, members, least, own))
    return found


def _row(
    comparison: Comparison,
    group: Group,
    members: Sequence[FinishedRun],
    least_squares: Sequence[float],
    others: Mapping[str, Values],
) -> Row:
    first, summaries = members[0], [run.summary or {} for run in members]
    lr = group.histories[0].last("lr") if "lr" in group.histories[0] else first.setting("lr")
    sound = np.array([history.outcome is not Outcome.DIVERGED for history in group.histories])
    final, starts = np.where(sound, group.final(), math.nan), group.start()
    reached = _to_target(comparison, group, sound & ~(starts <= (comparison.target or -math.inf)))
    measured = {name: np.where(sound, values, math.nan) for name, values in others.items()}
    values = {"updates": group.final("update"), "samples": group.final("samples"), "train_loss_first": starts}
    values |= {"train_loss": final, "excess": final - np.array(least_squares), **measured, **reached}
    values["gradient_variance"] = group.final("gradient_variance")
    values["seconds_per_epoch"] = np.array([_seconds_per_epoch([history]) for history in group.histories])
    spreads = {name: Spread.of(of_runs) for name, of_runs in values.items()}
    return Row(
        group.label,
        group.variant,
        summaries[0].get("batch_size", first.setting("batch_size")),
        float(lr) if isinstance(lr, (int, float)) else math.nan,
        len(group.histories),
        spreads["updates"],
        spreads["samples"],
        spreads["train_loss"],
        spreads["excess"],
        int(np.isfinite(reached["epochs_to_target"]).sum()) if reached else 0,
        {name.removesuffix(_TO_TARGET): spreads[name] for name in reached},
        _seconds_per_epoch(group.histories),
        spreads["gradient_variance"],
        _counted([str(history.outcome or "unknown") for history in group.histories]),
        {name: spreads[name] for name in others},
        diverged=int((~sound).sum()),
        at_target=0 if comparison.target is None else int((starts <= comparison.target).sum()),
        engine=_counted([str(summary.get("engine") or "") for summary in summaries]),
        per_run={name: tuple(of_runs.tolist()) for name, of_runs in values.items()},
        seeds=tuple(map(_seeds_of, members)),
        steps={f"{name}{_TO_TARGET}": _step(group.histories, axis) for name, axis in _AXES.items()},
    )


def _to_target(comparison: Comparison, group: Group, counts: NDArray[np.bool_]) -> dict[str, Values]:
    """Return where on each axis the runs that count first reached the target; nan where they did not."""
    if comparison.target is None:
        return {}
    found = {f"{name}{_TO_TARGET}": group.reached(comparison.target, axis) for name, axis in _AXES.items()}
    return {name: np.where(counts, where, math.nan) for name, where in found.items()}


def _step(histories: Sequence[History], axis: str) -> float:
    """Return the distance between measurements of the train loss on an axis; 0 if there is only one."""
    gaps = [gap for history in histories for gap in np.diff(history.series("train_loss", axis)[0]).tolist()]
    return float(np.median(gaps)) if gaps and np.isfinite(gaps).all() else 0.0


def _seeds_of(run: FinishedRun) -> str:
    """Return the seeds of a run as text; empty where none is known."""
    seeds = [run.settings.get(name) for name in SEEDS]
    return json.dumps(seeds, default=str) if any(seed is not None for seed in seeds) else ""


def _seconds_per_epoch(histories: Sequence[History]) -> float:
    """Return the median seconds per epoch, without the first epoch of each run, which includes one-time work."""
    found: list[float] = []
    for history in histories:
        epochs, seconds = history.series("train_loss", "epoch")[0], history.series("train_loss", "seconds")[0]
        whole = epochs == np.floor(epochs)
        steps = np.diff(seconds[whole]) / np.diff(epochs[whole])
        found += steps[1:].tolist() if len(steps) > 1 else steps.tolist()
    return float(np.median(found)) if found else math.nan


def _counted(words: Sequence[str]) -> str:
    """Return the word that all runs have, or each of several words with the number of runs that have it."""
    counts = Counter(words)
    if len(counts) == 1:
        return words[0]
    return ", ".join(f"{word or 'unknown'} {count} of {len(words)}" for word, count in counts.items())


# Writing the table

_RESULT = ["batch_size", "lr", "updates", "samples", "final train loss", "above least squares", "outcome"]
_EFFORT = [*(f"{name} to target" for name in _AXES), "seconds per epoch", "engine", "gradient variance"]


def as_text(found: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return the table for a terminal, in two parts: the results, and the effort that they took.

    Args:
        found: The rows.
        columns: Names of other quantities to show.
    """
    lines = table_cells(found, columns)
    effort = {i for i, name in enumerate(lines[0]) if name in _EFFORT}
    parts = [
        [[cell for i, cell in enumerate(line) if i == 0 or (i in effort) == wanted] for line in lines]
        for wanted in (False, True)
    ]
    return "\n\n".join(aligned(part) for part in parts if len(part[0]) > 1)


def as_markdown(found: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return the table as Markdown, with the same columns."""
    header, *lines = ([cell or " " for cell in line] for line in table_cells(found, columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)) + "\n"


def as_csv(found: Sequence[Row]) -> str:
    """Return the table as CSV, with means and standard deviations in separate columns; missing values are empty."""
    return rows_as_csv(map(_flat, found))


def as_values(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the table as plain values for JSON; None where a value is missing."""
    return [_flat(row) for row in found]


def table_cells(found: Sequence[Row], columns: Sequence[str] = ()) -> list[list[str]]:
    """Return the table with one line per row, without empty columns."""
    lines = [["", *_RESULT, *(name.replace("_", " ") for name in columns), *_EFFORT]]
    for row in found:
        nowhere = "at the start" if row.at_target else "not reached"
        targets = [str(row.to_target[name]) or nowhere if row.to_target else "" for name in _AXES]
        lines.append(
            [
                row.label,
                "" if row.batch_size is None else str(row.batch_size),
                number(row.lr, 6),
                str(row.updates),
                str(row.samples),
                str(row.train_loss),
                str(row.excess),
                row.outcome,
                *(_shown_value(row, name) for name in columns),
                *targets,
                number(row.seconds_per_epoch, 3),
                row.engine,
                str(row.gradient_variance),
            ]
        )
    return without_empty_columns(lines)


def _shown_value(row: Row, name: str) -> str:
    if name in row.others:
        return str(row.others[name])
    return number(row.value(name), 5) if row.has(name) else ""


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name in _NO_FIGURES:
            continue
        ending = _TO_TARGET if name == "to_target" else ""
        spreads = {f"{each}{ending}": spread for each, spread in value.items()} if isinstance(value, dict) else {}
        if isinstance(value, Spread):
            spreads = {name: value}
        for each, spread in spreads.items():
            flat |= {f"{each}_mean": spread.mean, f"{each}_deviation": spread.std}
        if not isinstance(value, (dict, Spread)):
            flat[name] = value
    return without_nan(flat)
