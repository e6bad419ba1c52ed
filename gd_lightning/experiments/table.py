"""The table of a comparison: a row a group, for the terminal, CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison import Comparison
from gd_lightning.experiments.figures import figures
from gd_lightning.groups import Group
from gd_lightning.history import History
from gd_lightning.tracking.finished_runs import FinishedRun
from gd_lightning.tracking.summary import aligned

_AXES = {"epochs": "epoch", "samples": "samples", "seconds": "seconds"}


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (as ``numpy.std``) over the runs that have the figure; nan where none has."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Take them of some values; those that are nan are left out."""
        known = np.array([value for value in values if not math.isnan(value)])
        if not len(known):
            return cls(math.nan, math.nan)
        if np.ptp(known) <= 1e-12 * np.abs(known).max():  # alike, but for rounding
            return cls(float(known[0]), 0.0)
        return cls(float(known.mean()), float(known.std()))

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return ""
        return f"{self.mean:.5g}" + (f" ± {float(f'{self.deviation:.2g}'):g}" if self.deviation else "")


@dataclasses.dataclass(frozen=True)
class Row:
    """What a group of runs came to. Runs that diverged count in ``outcome``, and in no mean.

    Args:
        label: The group.
        variant: batch, mini-batch or stochastic; None where it is not known.
        batch_size: B; None likewise.
        lr: The learning rate; nan where it is not known.
        runs: How many runs, each from another seed.
        updates: Updates made.
        samples: Training samples consumed.
        train_loss: Train loss at the end.
        excess: How far it is above the least squares; nan for other than linear regressors.
        reached: How many runs reached the target.
        to_target: Epochs, samples and seconds to the target, of the runs that reached it; nothing without a target.
        seconds_per_epoch: Median over all epochs but the first; measuring is left out.
        gradient_variance: How much the gradient varies over batches at the start; nan where it was not measured.
        outcome: How the runs ended.
        others: Other figures, see :func:`~gd_lightning.experiments.figures.figures`.
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

    def figure(self, name: str) -> float:
        """Return a figure by its name, as in CSV without the ending ``_mean``; nan where it is missing.

        Raises:
            InputError: There is none of this name.
        """
        flat = _flat(self)
        if name not in flat and f"{name}_mean" not in flat:
            names = ", ".join(each.removesuffix("_mean") for each in flat if not each.endswith("_deviation"))
            raise InputError(f"there is no figure {name!r}; there are {names}")
        value = flat.get(f"{name}_mean", flat.get(name))
        return float(value) if isinstance(value, (int, float)) else math.nan


def rows(comparison: Comparison) -> list[Row]:
    """Return the rows of a comparison, in the order of its groups."""
    least_squares = comparison.values("least_squares_loss")
    others = [[figures(run.summary or {}) for run in members] for members in comparison.runs]
    # A group that diverged, or has another network, has the same columns as the rest.
    names = dict.fromkeys(name for of_group in others for each in of_group for name in each)
    names.pop("gradient_variance", None)
    found = []
    for group, members, least, of_group in zip(comparison.groups, comparison.runs, least_squares, others, strict=True):
        pairs = zip(of_group, group.histories, strict=True)
        sound = [each for each, history in pairs if history in group.sound]
        spreads = {name: Spread.of(each.get(name, math.nan) for each in sound) for name in names}
        found.append(_row(comparison, group, members, least, spreads))
    return found


def _row(
    comparison: Comparison,
    group: Group,
    members: Sequence[FinishedRun],
    least_squares: Sequence[float],
    others: dict[str, Spread],
) -> Row:
    first, summaries = members[0], [run.summary or {} for run in members]
    lr = group.histories[0].last("lr") if "lr" in group.histories[0] else first.setting("lr")
    sound = [history in group.sound for history in group.histories]
    final = group.final()
    excess = final - np.array(least_squares)
    reached: dict[str, NDArray[np.float64]] = {name: np.full(len(final), math.nan) for name in _AXES}
    if comparison.target is not None:
        reached = {name: group.reached(comparison.target, axis) for name, axis in _AXES.items()}
    return Row(
        group.label,
        group.variant,
        summaries[0].get("batch_size", first.setting("batch_size")),
        float(lr) if isinstance(lr, (int, float)) else math.nan,
        len(group.histories),
        Spread.of(group.final("update")),
        Spread.of(group.final("samples")),
        Spread.of(final[sound]),
        Spread.of(excess[sound]),
        int(np.isfinite(reached["epochs"]).sum()),
        {} if comparison.target is None else {name: Spread.of(values) for name, values in reached.items()},
        _seconds_per_epoch(group.histories),
        Spread.of(group.final("gradient_variance")),
        _outcome(group.histories),
        others,
    )


def _seconds_per_epoch(histories: Sequence[History]) -> float:
    """Return the median time of an epoch; the first, in which much is done for the first time, is left out."""
    found: list[float] = []
    for history in histories:
        epochs, seconds = history.series("train_loss", "epoch")[0], history.series("train_loss", "seconds")[0]
        whole = epochs == np.floor(epochs)
        steps = np.diff(seconds[whole]) / np.diff(epochs[whole])
        found += steps[1:].tolist() if len(steps) > 1 else steps.tolist()
    return float(np.median(found)) if found else math.nan


def _outcome(histories: Sequence[History]) -> str:
    counts = Counter(str(history.outcome or "unknown") for history in histories)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{outcome} {count} of {len(histories)}" for outcome, count in counts.items())


# Writing

_RESULT = ["batch_size", "lr", "updates", "samples", "final train loss", "above least squares", "outcome"]
_EFFORT = [*(f"{name} to target" for name in _AXES), "seconds an epoch", "gradient variance"]


def as_text(found: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return the table for a terminal, in two parts: what the runs came to, and what it took.

    Args:
        found: The rows.
        columns: Names of other figures to show.
    """
    lines = _cells(found, columns)
    effort = {i for i, name in enumerate(lines[0]) if name in _EFFORT}
    parts = [
        [[cell for i, cell in enumerate(line) if i == 0 or (i in effort) == wanted] for line in lines]
        for wanted in (False, True)
    ]
    return "\n\n".join(aligned(part) for part in parts if len(part[0]) > 1)


def as_markdown(found: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return it as Markdown, with the same columns."""
    header, *lines = ([cell or " " for cell in line] for line in _cells(found, columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)) + "\n"


def as_csv(found: Sequence[Row]) -> str:
    """Return it as CSV, mean and deviation in columns of their own, nothing where a figure is missing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    flat = [_flat(row) for row in found]
    header = list(dict.fromkeys(name for row in flat for name in row))
    writer.writerow(header)
    writer.writerows([("" if row.get(name) is None else row[name]) for name in header] for row in flat)
    return out.getvalue()


def as_values(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return it as plain values for JSON; None where a figure is missing."""
    return [_flat(row) for row in found]


def _cells(found: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """Return a line a row; columns in which no row has anything are left out."""
    lines = [["", *_RESULT, *(name.replace("_", " ") for name in columns), *_EFFORT]]
    for row in found:
        targets = [str(row.to_target[name]) or "not reached" if row.to_target else "" for name in _AXES]
        if 0 < row.reached < row.runs:
            targets[0] += f" ({row.reached} of {row.runs})"
        lines.append(
            [
                row.label,
                "" if row.batch_size is None else str(row.batch_size),
                "" if math.isnan(row.lr) else f"{row.lr:g}",
                str(row.updates),
                str(row.samples),
                str(row.train_loss),
                str(row.excess),
                row.outcome,
                *(_figure(row, name) for name in columns),
                *targets,
                "" if math.isnan(row.seconds_per_epoch) else f"{row.seconds_per_epoch:.3g}",
                str(row.gradient_variance),
            ]
        )
    used = [i for i in range(len(lines[0])) if i == 0 or any(line[i] for line in lines[1:])]
    return [[line[i] for i in used] for line in lines]


def _figure(row: Row, name: str) -> str:
    return str(row.others[name]) if name in row.others else _number(row.figure(name))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in vars(row).items():
        ending = "_to_target" if name == "to_target" else ""
        spreads = {f"{each}{ending}": spread for each, spread in value.items()} if isinstance(value, dict) else {}
        if isinstance(value, Spread):
            spreads = {name: value}
        for each, spread in spreads.items():
            flat |= {f"{each}_mean": spread.mean, f"{each}_deviation": spread.deviation}
        if not isinstance(value, (dict, Spread)):
            flat[name] = value
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in flat.items()}
