"""The report on a sweep: its table, its map and its files.

Letters: S seeds. Arrays of all runs have one axis per entry of ``Grid.AXES``, and one for the seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gd_lightning.experiments.html_report import as_html
from gd_lightning.experiments.sweeps.as_good_as_best import as_good_as_best
from gd_lightning.experiments.sweeps.grid import Grid
from gd_lightning.experiments.tables import Spread, number, rows_as_csv, without_empty_columns, without_nan
from gd_lightning.plots.style import checked_formats, png_bytes, save_figures
from gd_lightning.plots.sweep_curves import Curve, sweep_curves
from gd_lightning.plots.sweep_map import Plane, sweep_map
from gd_lightning.records.groups import Values, sample_std
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.atomic_writes import write_json, write_text
from gd_lightning.tracking.run_directory import as_directory
from gd_lightning.tracking.summary import aligned
from gd_lightning.tracking.tensorboard.groups_of_runs import image_of
from gd_lightning.tracking.tensorboard.hparams import MOST_SETTINGS, write_settings
from gd_lightning.variants import Variant
from gd_lightning.versions import versions

RUNS, TABLE, CONTENT, MAP = "sweep.csv", "table.csv", "sweep.json", "map.png"
_MOST_PANELS, _MOST_CURVES = 6, 8
_HOLDS_FOR = {  # what the limits of theory hold for, by the order of the runs
    "with_replacement": "expected, for samples drawn with replacement",
    "shuffled": "expected, as if samples were drawn with replacement",
    "sequential": "expected, for samples drawn with replacement; the order of these runs is sequential",
}


@dataclass(frozen=True)
class SweepRow:
    """The results of the runs with one batch size.

    Args:
        others: The values of momentum and penalties.
        variant: The batches of an epoch.
        updates: Updates of a run that does not diverge.
        best_lr: The learning rate with the smallest mean final train loss, among those at which no seed diverged and
            the loss fell; nan without one.
        train_loss: Final train loss over the seeds, at the best learning rate.
        excess: Final train loss minus the least-squares loss; nan for other than linear regressors.
        largest_lr: The largest learning rate at which no seed diverged; nan without one.
        limit: The largest stable learning rate by theory; nan if unknown.
        diverged: Number of runs that diverged.
        runs: Number of runs.
        as_good: First and last learning rate around the best one that do not differ from it by more than seeds explain,
            see :mod:`~gd_lightning.experiments.comparison.significance`; nan if unknown.
    """

    others: dict[str, float]
    variant: Variant
    updates: int
    best_lr: float
    train_loss: Spread
    excess: Spread
    largest_lr: float
    limit: float
    diverged: int
    runs: int
    as_good: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True, repr=False)
class SweepReport:
    """The report on a sweep; printing it shows the table, and a notebook also shows the map.

    Args:
        title: Title of the sweep.
        grid: The values of each axis.
        seeds: The seeds.
        max_epochs: Epochs of each run.
        variant: The configured batches, with the number of training samples of all runs.
        order: The order of samples.
        first: Train loss of each run before the first update.
        last: Final train loss of each run.
        updates: Updates of each run.
        diverged: Whether each run diverged.
        least_squares: The least-squares loss of each seed, shape (S,); nan for other than linear regressors.
        limits: The largest stable learning rate by batch size, momentum and weight decay, where theory knows it.
        engine: The engine that trained the runs.
        seconds: Seconds of training, all runs together.
    """

    title: str
    grid: Grid
    seeds: tuple[int, ...]
    max_epochs: int
    variant: Variant
    order: str
    first: Values
    last: Values
    updates: NDArray[np.int64]
    diverged: NDArray[np.bool_]
    least_squares: Values
    limits: Mapping[tuple[int, float, float], float]
    engine: str
    seconds: float

    @property
    def excess(self) -> Values:
        """Final train loss of each run minus the least-squares loss; nan where that is not known."""
        return self.last - self.least_squares

    @cached_property
    def rows(self) -> list[SweepRow]:
        """The rows of the table: one per batch size, for each combination of momentum and penalties."""
        sizes = range(len(self.grid.batch_size))
        return [self._row(size, place, others) for place, others in self._others() for size in sizes]

    def _others(self) -> Iterator[tuple[tuple[int, ...], dict[str, float]]]:
        """Yield each combination of momentum and penalties: its index on the axes after lr, and its values."""
        names = list(Grid.AXES)[2:]
        for place in itertools.product(*(range(len(getattr(self.grid, name))) for name in names)):
            yield place, {name: getattr(self.grid, name)[i] for name, i in zip(names, place, strict=True)}

    def _row(self, size: int, place: tuple[int, ...], others: dict[str, float]) -> SweepRow:
        here: Any = (size, slice(None), *place)
        last, diverged = self.last[here], self.diverged[here]
        is_sound, lrs = ~diverged.any(axis=1), self.grid.lr
        with np.errstate(invalid="ignore", over="ignore"):  # losses of runs that diverged may be infinite
            falls = is_sound & (last.mean(axis=1) < self.first[here].mean(axis=1))
            best = int(np.where(falls, last.mean(axis=1), math.inf).argmin())
        has_best = bool(falls.any())
        batch_size = self.grid.batch_size[size]
        variant = replace(self.variant, batch_size=batch_size)
        return SweepRow(
            others,
            variant,
            variant.updates_per_epoch * self.max_epochs,
            lrs[best] if has_best else math.nan,
            Spread.of(last[best] if has_best else []),
            Spread.of(self.excess[here][best] if has_best else []),
            lrs[np.flatnonzero(is_sound)[-1]] if is_sound.any() else math.nan,
            self._limit(batch_size, others),
            int(diverged.sum()),
            diverged.size,
            as_good_as_best(lrs, last, is_sound, best, float(self.first[here].max()))
            if has_best and len(self.seeds) > 1
            else SweepRow.as_good,
        )

    def _limit(self, batch_size: int, others: Mapping[str, float]) -> float:
        """Return the largest stable learning rate; nan if theory does not know it, as with an L1 penalty."""
        if others["l1"]:
            return math.nan
        return self.limits.get((batch_size, others["momentum"], others["weight_decay"]), math.nan)

    # The report on the terminal

    def __str__(self) -> str:
        seeds, epochs = len(self.seeds), self.max_epochs
        runs = f"{self.last.size:,} runs of {epochs} epoch{'s' * (epochs != 1)}"
        of = f"{self.grid} x {seeds} seed{'s' * (seeds != 1)}"
        lines = [
            f"{self.title}: {runs} ({of}), {self.updates.sum():,} updates in {self.seconds:.3g} s, {self.engine}",
            "",
            aligned(self._cells()),
            "",
            *self.notes,
        ]
        return "\n".join(lines)

    @property
    def notes(self) -> list[str]:
        """The meaning of the columns, and the number of runs that diverged."""
        count, seeds = int(self.diverged.sum()), len(self.seeds)
        epochs = f"{self.max_epochs} epoch{'s' * (self.max_epochs != 1)}"
        spread = f" ± standard deviation (n - 1) over the {seeds} seeds" if seeds > 1 else ""
        notes = [
            f"best lr     the lr with the lowest {'mean ' * (seeds > 1)}train loss after {epochs}, which is the column "
            f"train loss{spread}",
            *(["as good     the lrs around it with losses that these seeds do not distinguish"] if seeds > 1 else []),
            "largest lr  the largest lr of the grid at which no run diverged",
        ]
        if self.limits:
            notes.append(f"limit       the largest stable lr by theory, {_HOLDS_FOR[self.order]}")
        return [*notes, "", f"{count:,} of {self.last.size:,} runs diverged." if count else "No run diverged."]

    def _cells(self) -> list[list[str]]:
        """Return one line per row, without empty columns."""
        swept = [name for name in list(Grid.AXES)[2:] if name in self.grid.swept]
        header = ["", *(Grid.AXES[name] for name in swept), "batch_size", "updates", "best lr", "as good", "train loss"]
        lines = [[*header, "above least squares", "largest lr", "limit", "diverged"]]
        for row in self.rows:
            lines.append(
                [
                    row.variant.name,
                    *(f"{row.others[name]:g}" for name in swept),
                    str(row.variant.batch_size),
                    str(row.updates),
                    number(row.best_lr, 4) or "none",
                    " to ".join(number(lr, 4) for lr in row.as_good) if len(set(row.as_good)) == 2 else "",
                    str(row.train_loss),
                    number(row.excess.mean, 4),
                    number(row.largest_lr, 4) or "none",
                    number(row.limit, 4),
                    f"{row.diverged} of {row.runs}" if row.diverged else "",
                ]
            )
        return without_empty_columns(lines)

    # The report in files

    def save(
        self, directory: str | Path, formats: str | Sequence[str] = ("png",), board: Path | None = None
    ) -> SweepReport:
        """Write tables, map and TensorBoard's HParams into a directory; return the report itself.

        Args:
            directory: The directory; existing files of these names are replaced.
            formats: Formats of the map: png, svg and pdf.
            board: Directory of the files of TensorBoard, a run per setting; None: ``hparams`` in the directory.

        Raises:
            InputError: The path is that of a file, or is invalid, or a format is unknown.
        """
        place, formats = as_directory(directory), checked_formats(formats)
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / RUNS, rows_as_csv(self.runs()))
        write_text(place / TABLE, rows_as_csv(map(_flat, self.rows)))
        write_json(place / CONTENT, {"versions": versions(), **self.to_dict()})
        picture = save_figures((place / MAP).with_suffix(""), self.plot(), formats)
        write_settings(board or place / "hparams", self._settings(), [image_of("map", picture)], self.grid.swept)
        return self

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield the settings and the results of each run."""
        axes = [getattr(self.grid, name) for name in Grid.AXES]
        results = (self.updates, self.first, self.last, self.excess, self.diverged)
        ends = zip(*(values.ravel().tolist() for values in results), strict=True)
        for (*settings, seed), (updates, first, last, excess, diverged) in zip(
            itertools.product(*axes, self.seeds), ends, strict=True
        ):
            named = dict(zip(Grid.AXES, settings, strict=True))
            whole = replace(self.variant, batch_size=int(named["batch_size"])).updates_per_epoch * self.max_epochs
            is_over = Outcome.COMPLETED if updates == whole else Outcome.INTERRUPTED
            yield {
                **named,
                "seed": seed,
                "updates": updates,
                "train_loss_first": first,
                "train_loss": last,
                "excess": None if math.isnan(excess) else excess,
                "outcome": str(Outcome.DIVERGED if diverged else is_over),
            }

    def to_dict(self) -> dict[str, Any]:
        """Return the sweep as the plain values of ``sweep.json``; None where a value is missing."""
        return {
            "title": self.title,
            "grid": {name: list(getattr(self.grid, name)) for name in Grid.AXES},
            "seeds": list(self.seeds),
            "max_epochs": self.max_epochs,
            "train_samples": self.variant.train_samples,
            "order": self.order,
            "engine": self.engine,
            "seconds": self.seconds,
            "updates": int(self.updates.sum()),
            "runs": self.last.size,
            "diverged": int(self.diverged.sum()),
            "rows": [_flat(row) for row in self.rows],
        }

    def _settings(self) -> Iterator[tuple[str, dict[str, Any], dict[str, float], Outcome]]:
        """Yield the name of each combination, its settings, the means over its seeds, and how its runs ended."""
        seeds = len(self.seeds)
        axes = [getattr(self.grid, name) for name in Grid.AXES]
        with np.errstate(invalid="ignore", over="ignore"):  # losses of runs that diverged may be infinite
            arrays = (self.last.mean(-1), sample_std(self.last), self.excess.mean(-1), self.diverged.mean(-1))
        cells = zip(*(values.ravel().tolist() for values in (*arrays, self.updates.mean(-1))), strict=True)
        chosen = set(np.linspace(0, self.grid.cells - 1, min(self.grid.cells, MOST_SETTINGS)).round().tolist())
        for i, (settings, (last, std, excess, diverged, updates)) in enumerate(
            zip(itertools.product(*axes), cells, strict=True)
        ):
            if i not in chosen:
                continue
            named = dict(zip(Grid.AXES, settings, strict=True))
            variant = replace(self.variant, batch_size=named["batch_size"])
            name = "-".join(f"{axis}{named[axis]:g}" for axis in self.grid.swept)
            results = {"train_loss": last, "deviation": std, "excess": excess, "updates": updates}
            results["diverged"] = diverged
            shown = {"problem": self.title, "variant": variant.name, **named, "seeds": seeds}
            outcome = Outcome.DIVERGED if diverged else Outcome.COMPLETED
            yield name, shown, {key: value for key, value in results.items() if not math.isnan(value)}, outcome

    # The report as a picture

    def plot(self) -> Figure:
        """Draw a map over batch sizes and learning rates, with one panel per combination of the others, at most six.

        If one of the two has only one value, curves over another option are drawn instead, at most eight.
        """
        epochs, seeds = self.max_epochs, len(self.seeds)
        is_linear = not np.isnan(self.least_squares).any()
        losses, start = (self.excess, self.first - self.least_squares) if is_linear else (self.last, self.first)
        words: dict[str, Any] = {
            "start": float(start.mean()),
            "quantity": "train loss above the least-squares loss" if is_linear else "train loss",
            "title": f"{self.title}: after {epochs} epoch{'s' * (epochs != 1)}, mean of {seeds} seeds",
        }
        if seeds == 1:
            words["title"] = words["title"].partition(",")[0]
        if self.limits and "lr" in self.grid.swept:
            words["title"] += f"\nlimit of theory: {_HOLDS_FOR[self.order]}"
        if {"batch_size", "lr"} <= set(self.grid.swept):
            return self._map(losses, words)
        return self._curves(losses, words)

    def _map(self, losses: Values, words: Mapping[str, Any]) -> Figure:
        means = _mean_of_sound(losses, self.diverged)
        planes = []
        for place, others in itertools.islice(self._others(), _MOST_PANELS):
            here: Any = (slice(None), slice(None), *place)
            limits = [self._limit(size, others) for size in self.grid.batch_size]
            planes.append(Plane(self._label(others), means[here], self.diverged[here].mean(-1), np.array(limits)))
        return sweep_map(planes, self.grid.batch_size, self.grid.lr, n_samples=self.variant.train_samples, **words)

    def _curves(self, losses: Values, words: Mapping[str, Any]) -> Figure:
        axis = next(name for name in ("lr", "batch_size", *Grid.AXES) if name in self.grid.swept)
        names = [name for name in Grid.AXES if name != axis]
        at = list(Grid.AXES).index(axis)
        sound = np.where(self.diverged, math.nan, losses)
        means, curves = _mean_of_sound(losses, self.diverged), []
        for place in itertools.islice(np.ndindex(*(len(getattr(self.grid, name)) for name in names)), _MOST_CURVES):
            values = {name: getattr(self.grid, name)[i] for name, i in zip(names, place, strict=True)}
            here: Any = (*place[:at], slice(None), *place[at:])
            limit = self._limit(int(values["batch_size"]), values) if axis == "lr" else math.nan
            low, high = np.fmin.reduce(sound[here], axis=-1), np.fmax.reduce(sound[here], axis=-1)
            curves.append(Curve(self._label(values), means[here], low, high, self.diverged[here].mean(-1), limit))
        return sweep_curves(curves, getattr(self.grid, axis), axis=Grid.AXES[axis], **words)

    def _label(self, values: Mapping[str, float]) -> str:
        """Return the values of the axes that have several, as text."""
        return ", ".join(f"{Grid.AXES[name]} {values[name]:g}" for name in self.grid.swept if name in values)

    def __repr__(self) -> str:
        return f"<SweepReport of {self.title}: {self.last.size:,} runs, {int(self.diverged.sum()):,} diverged>"

    def _repr_html_(self) -> str:
        """Return table and map for a notebook."""
        return as_html(str(self).partition("\n")[0], self._cells(), self.notes, self.plot())

    def _repr_png_(self) -> bytes:
        """Return the map for a notebook."""
        return png_bytes(self.plot())


def _mean_of_sound(values: Values, diverged: NDArray[np.bool_]) -> Values:
    """Return the mean over the seeds that did not diverge; nan without one."""
    count = (~diverged).sum(-1)
    mean: Values = np.where(diverged, 0.0, values).sum(-1) / np.where(count, count, math.nan)
    return mean


def _flat(row: SweepRow) -> dict[str, Any]:
    """Return a row as plain values; None where a value is missing."""
    flat = {
        "variant": row.variant.name,
        "batch_size": row.variant.batch_size,
        **row.others,
        "updates": row.updates,
        "best_lr": row.best_lr,
        "as_good_from": row.as_good[0],
        "as_good_to": row.as_good[1],
        "train_loss_mean": row.train_loss.mean,
        "train_loss_deviation": row.train_loss.std,
        "excess_mean": row.excess.mean,
        "excess_deviation": row.excess.std,
        "largest_lr_without_divergence": row.largest_lr,
        "largest_stable_lr": row.limit,
        "diverged": row.diverged,
        "runs": row.runs,
    }
    return without_nan(flat)


def save_runs(report: SweepReport, directory: Path) -> str:
    """Write the runs of an interrupted sweep that have begun into a directory; return the number that have ended."""
    directory.mkdir(parents=True, exist_ok=True)
    begun = [run for run in report.runs() if run["updates"]]
    write_text(directory / RUNS, rows_as_csv(begun))
    ended = sum(run["outcome"] != Outcome.INTERRUPTED for run in begun)
    return f"{ended:,} of {report.last.size:,} runs, and {len(begun) - ended:,} in part"
