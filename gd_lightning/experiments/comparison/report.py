"""The report on a comparison: table, findings and picture, for terminal, files and notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary

from gd_lightning.experiments.animations import animated
from gd_lightning.experiments.comparison.claims import judged
from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.comparison.findings import findings
from gd_lightning.experiments.comparison.problem_panels import ProblemPanels
from gd_lightning.experiments.comparison.table import Row, as_csv, as_markdown, as_text, as_values, rows, table_cells
from gd_lightning.experiments.html_report import as_html
from gd_lightning.plots.comparison.figure import checked_panels, comparison_figure
from gd_lightning.plots.interactive.animation import Animation
from gd_lightning.plots.style import png_bytes, save_figures
from gd_lightning.records.groups import Values
from gd_lightning.records.history import History
from gd_lightning.tracking.atomic_writes import write_json, write_text
from gd_lightning.tracking.run_directory import HISTORY, as_directory
from gd_lightning.tracking.tensorboard.groups_of_runs import image_of, write_aggregate
from gd_lightning.tracking.tensorboard.hparams import columns_of
from gd_lightning.versions import versions

_MOST_DRAWN = 8  # largest number of groups in one picture
_NO_PANELS = ProblemPanels()


@dataclass(frozen=True, repr=False)
class Report:
    """The report on a comparison; printing it shows the table and the findings, and a notebook also shows the picture.

    Args:
        comparison: The runs.
        title: Title of the comparison.
        panels: Panels to draw beside the curves.
        columns: Names of additional quantities to show in the table.
        claims: Claims to test, each with the order of quantities that it expects, as in ``configs/experiments``.
        shown: Names of the panels of the picture, as for :meth:`plot`; None: the usual ones.
        formats: Formats of the picture in files.
        best: Sentences on the learning rates that theory chose, and what each is best for.
    """

    comparison: Comparison
    title: str
    panels: ProblemPanels = _NO_PANELS
    columns: Sequence[str] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    shown: Sequence[str] | None = None
    formats: Sequence[str] = ("png", "svg")
    best: Sequence[str] = ()

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the table, one per group."""
        return rows(self.comparison)

    @property
    def findings(self) -> list[str]:
        """The findings, each as one sentence."""
        return findings(self.comparison, self.rows)

    @property
    def judgements(self) -> list[str]:
        """The verdicts on the claims."""
        return judged(self.claims, self.rows)

    @property
    def histories(self) -> dict[str, tuple[History, ...]]:
        """The histories of the runs, by the label of their group."""
        return {group.label: group.histories for group in self.comparison.groups}

    @property
    def caption(self) -> str:
        """Explanation of the numbers in the table."""
        runs = sorted({row.runs for row in self.rows})
        count = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
        spread = f"Mean ± standard deviation of the sample (n - 1) over {count} runs. " if runs[-1] > 1 else ""
        seconds = (
            "Seconds count training, without measurements; seconds per epoch are medians over all but each run's first"
        )
        return f"{spread}{seconds} epoch, if it has more."

    @property
    def target(self) -> str:
        """The train loss that the runs should reach, in a sentence; empty where there is none."""
        loss, reason = self.comparison.target, self.comparison.target_reason
        return "" if loss is None else f"Target: a train loss of {loss:.6g}, {reason}."

    @property
    def notes(self) -> Sequence[str]:
        """What learning rates are best for, the origin of losses that are not measured here, and what no run has."""
        runs = [run for members in self.comparison.runs for run in members if run.source != HISTORY]
        missing = [name for name in self.columns if not any(row.has(name) for row in self.rows)]
        return [
            *self.best,
            *(f"The train loss of {run.name} is {run.source}." for run in runs),
            *(f"No run has the quantity {name}." for name in missing),
        ]

    def check_columns(self) -> None:
        """Refuse columns that no run has.

        Raises:
            InputError: A column is missing in all runs.
        """
        for name in self.columns:
            if not any(row.has(name) for row in self.rows):
                self.rows[0].value(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as the plain values of ``table.json``; None where a quantity is missing."""
        target = {"target": self.comparison.target, "target_reason": self.comparison.target_reason}
        said = {"rows": as_values(self.rows), "caption": self.caption, "findings": self.findings}
        said |= {"notes": list(self.notes), "claims": self.judgements}
        return {"title": self.title, **target, **said}

    @property
    def _heading(self) -> str:
        groups, runs = len(self.comparison.groups), sum(len(members) for members in self.comparison.runs)
        return f"{self.title}: {groups} variant{'s' * (groups != 1)}, {runs} run{'s' * (runs != 1)}"

    def __repr__(self) -> str:
        return f"<Report on {self._heading}>"

    def __str__(self) -> str:
        said = [f"- {sentence}" for sentence in [*self.findings, *self.judgements, *self.notes]]
        return "\n".join([self._heading, "", as_text(self.rows, self.columns), "", self.caption, "", *said])

    def plot(self, panels: str | Sequence[str] | None = None) -> Figure:
        """Draw the comparison, with the first eight groups if there are more.

        Args:
            panels: Names of panels, such as ["epochs", "val_epochs"]; None: those of the report.

        Raises:
            InputError: There is no such panel.
        """
        groups = self.comparison.groups[:_MOST_DRAWN]
        variances: dict[str, tuple[int, Values]] = {}
        for group, row in zip(groups, self.rows, strict=False):
            measured = group.final("gradient_variance")
            if row.batch_size is not None and np.isfinite(measured).all():
                variances[group.label] = (row.batch_size, measured)
        lrs = {row.label: row.lr for row in self.rows[:_MOST_DRAWN] if math.isfinite(row.lr)}
        shared = f", lr {next(iter(lrs.values())):.4g}" if len(lrs) == len(groups) and len({*lrs.values()}) == 1 else ""
        notes = {label: f"lr {lr:.4g}" for label, lr in lrs.items() if not shared and "lr" not in label.split()}
        return comparison_figure(
            groups,
            title=f"{self.title}{shared}",
            panels=self.shown if panels is None else checked_panels(panels),
            notes=notes,
            least_squares=self._least_squares,
            surface=self.panels.surface,
            fits=self.panels.fits,
            variances=variances,
        )

    @property
    def _least_squares(self) -> float | None:
        """The smallest train loss that can be reached, where it is known and the same for all."""
        least = [value for values in self.comparison.values("least_squares_loss") for value in values]
        known = not np.isnan(least).any() and np.ptp(least) <= 1e-9 * max(least)
        return least[0] if known else None

    def animate(self) -> Animation:
        """Return the first run of each variant in motion: paths, fits and train losses by samples seen.

        Paths and fits are shown of lines over one feature, of other models the train losses alone; of more than eight
        variants, the first eight are shown. ``save("comparison.gif")`` writes it.

        Raises:
            InputError: A run has no train loss against samples.
        """
        runs = [(group.label, group.histories[0]) for group in self.comparison.groups]
        return animated(self.title, runs, self.panels.data, self._least_squares)

    def save(self, directory: str | Path) -> Path:
        """Write the table, the findings, the picture and TensorBoard's aggregate runs into a directory.

        Args:
            directory: The directory; existing files of these names are replaced.

        Returns:
            The directory.

        Raises:
            InputError: The path is that of a file, or is invalid.
        """
        place = as_directory(directory)
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / "table.csv", as_csv(self.rows))
        write_text(place / "table.md", self._as_markdown())
        write_json(place / "table.json", {"versions": versions(), **self.to_dict()})
        picture = save_figures(place / "comparison", self.plot(), self.formats)
        write_aggregate(place, self.comparison.groups, self._for_tensorboard(picture))
        return place

    def _for_tensorboard(self, picture: bytes) -> list[Summary]:
        """Return the picture for the Images tab, and the columns of what was varied for HParams."""
        varied = dict.fromkeys(name for group in self.comparison.groups for name in group.settings)
        return [image_of("comparison", picture), columns_of(self.comparison.runs[0][0].settings, varied)]

    def _as_markdown(self) -> str:
        said = [self.caption, *([self.target] if self.target else [])]
        found = [f"- {sentence}" for sentence in [*self.findings, *self.judgements, *self.notes]]
        return "\n\n".join([as_markdown(self.rows, self.columns).rstrip(), *said, "\n".join(found)]).rstrip() + "\n"

    def _repr_html_(self) -> str:
        """Return table, findings and picture for a notebook."""
        said = [*self.findings, *self.judgements, *self.notes, self.caption]
        return as_html(self._heading, table_cells(self.rows, self.columns), said, self.plot())

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook."""
        return png_bytes(self.plot())
