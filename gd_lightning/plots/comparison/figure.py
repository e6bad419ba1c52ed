"""The figure of a comparison, composed of the panels that are available."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gd_lightning.plots.comparison.group_styles import GroupStyle, group_styles
from gd_lightning.plots.comparison.loss_curves import draw_curves
from gd_lightning.plots.comparison.paths_and_fits import Predict, draw_fits, draw_paths, draw_variances
from gd_lightning.plots.run_curves import Surface
from gd_lightning.plots.style import TRUTH_COLOR, sized_figure
from gd_lightning.records.groups import Group, Values
from gd_lightning.records.history import PREDICTED, Outcome

# Inches. Matplotlib's constrained layout rounds differently from call to call, so that files would differ, too.
_WIDTH, _LEFT, _RIGHT, _GAP = 14.0, 0.9, 0.2, 0.75
_CURVES_HEIGHT, _LOWER_HEIGHT, _LEGEND_LINE = 6.5, 3.7, 0.24
_TITLE, _PANEL_TITLE, _LABELS = 0.65, 0.4, 0.5  # above the curves, above a lower panel, below any
_CHARACTER, _HANDLE = 0.088, 0.7  # of a legend's entry: a letter, and the line before the text


@dataclass(frozen=True)
class Fits:
    """Data of one feature and the functions that were fitted to them.

    Args:
        x: Features, shape (N,).
        y: Targets, shape (N,).
        functions: What the first run of a group fitted, from shape (n,) to (n,), by the label of the group.
        truth: Values of the true function at ``fit_grid(x)``, or None.
    """

    x: Values
    y: Values
    functions: Mapping[str, Predict]
    truth: Values | None = None


def comparison_figure(
    groups: Sequence[Group],
    *,
    title: str,
    least_squares: float | None = None,
    surface: Surface | None = None,
    fits: Fits | None = None,
    variances: Mapping[str, tuple[int, Values]] | None = None,
) -> Figure:
    """Draw groups of runs beside each other, for ``save_png(path, pixels(figure))`` and ``save_svg(path, figure)``.

    Args:
        groups: The runs, up to eight groups.
        title: What is compared, and on what.
        least_squares: The smallest train loss that can be reached; None where it is not known.
        surface: The train loss over two parameters w and b, where these are all.
        fits: Data and fitted functions, where there is one feature.
        variances: batch_size and the measured variance of updates, shape (measurements,), by the label of the group.
    """
    styles = group_styles(groups)
    lower = _lower_panels(groups, styles, surface, fits, variances)
    handles = _legend(groups, styles, least_squares)
    columns = _columns(handles)
    legend = _LEGEND_LINE * (2 + math.ceil(len(handles) / columns))
    curves = legend + (_LOWER_HEIGHT if lower else 0.0)
    figure = sized_figure(_WIDTH, curves + _CURVES_HEIGHT)
    draw_curves(_curve_axes(figure, curves), groups, styles, least_squares)
    for draw, axes in zip(lower, _lower_axes(figure, legend, len(lower)), strict=True):
        draw(axes)
    figure.suptitle(title, fontsize="x-large", y=1 - 0.1 / figure.get_figheight())
    figure.legend(handles=handles, title=_caption(groups), ncols=columns, loc="lower center")
    return figure


def _curve_axes(figure: Figure, bottom: float) -> list[list[Axes]]:
    """Return two rows of four axes above a height in inches, up to the title."""
    height = figure.get_figheight()
    grid = figure.add_gridspec(
        2,
        4,
        left=_LEFT / _WIDTH,
        right=1 - _RIGHT / _WIDTH,
        bottom=(bottom + _LABELS) / height,
        top=1 - _TITLE / height,
        wspace=0.1,
        hspace=0.12,
    )
    return [list(row) for row in grid.subplots(sharex="col", sharey="row", squeeze=False)]


def _lower_axes(figure: Figure, bottom: float, count: int) -> list[Axes]:
    """Return up to three axes beside each other, in the middle, above a height in inches."""
    height, step = figure.get_figheight(), (_WIDTH - _LEFT - _RIGHT + _GAP) / 3
    width, left = step - _GAP, _LEFT + step * (3 - count) / 2
    tall = _LOWER_HEIGHT - _LABELS - _PANEL_TITLE
    return [
        figure.add_axes(((left + i * step) / _WIDTH, (bottom + _LABELS) / height, width / _WIDTH, tall / height))
        for i in range(count)
    ]


def _lower_panels(
    groups: Sequence[Group],
    styles: Sequence[GroupStyle],
    surface: Surface | None,
    fits: Fits | None,
    variances: Mapping[str, tuple[int, Values]] | None,
) -> list[Callable[[Axes], None]]:
    panels: list[Callable[[Axes], None]] = []
    if surface is not None and any("w" in group.histories[0] for group in groups):
        panels.append(lambda axes: draw_paths(axes, surface, groups, styles))
    if fits is not None:
        shown = [
            (style, None if group.histories[0].outcome is Outcome.DIVERGED else fits.functions[group.label])
            for group, style in zip(groups, styles, strict=True)
            if group.label in fits.functions
        ]
        panels.append(lambda axes: draw_fits(axes, fits.x, fits.y, shown, fits.truth))
    measured = [(*variances[style.label], style) for style in styles if variances and style.label in variances]
    if measured:
        panels.append(lambda axes: draw_variances(axes, *zip(*measured, strict=True)))
    return panels


def _legend(groups: Sequence[Group], styles: Sequence[GroupStyle], least_squares: float | None) -> list[Artist]:
    """Return a line for each group, then what the other lines mean, as far as there are any."""
    handles: list[Artist] = [style.handle(group) for group, style in zip(groups, styles, strict=True)]
    if any(len(group.sound) > 1 for group in groups):
        handles.append(Patch(color="black", alpha=0.22, linewidth=0, label="± standard deviation"))
    if any(PREDICTED in history for group in groups for history in group.sound):
        handles.append(_line("predicted", ":"))
    if any(group.predicted_loss is not None and math.isfinite(group.predicted_loss) for group in groups):
        handles.append(_line("predicted end", "--"))
    if least_squares is not None:
        handles.append(_line("least squares", "-.", TRUTH_COLOR))
    if any(group.diverged for group in groups):
        handles.append(Line2D([], [], linestyle="", marker="x", color="black", markeredgewidth=1.8, label="diverged"))
    return handles


def _columns(handles: Sequence[Artist]) -> int:
    """Return how many columns of a legend fit beside each other."""
    widths = [_HANDLE + _CHARACTER * len(str(handle.get_label())) for handle in handles]
    # Matplotlib fills them one after the other, each as wide as the longest entry in it.
    needed = {n: sum(part.max() for part in np.array_split(widths, n)) for n in range(1, min(4, len(widths)) + 1)}
    return max((n for n, width in needed.items() if width <= _WIDTH), default=1)


def _line(label: str, linestyle: Literal[":", "--", "-."], color: str = "black") -> Line2D:
    return Line2D([], [], linestyle=linestyle, linewidth=1.2, color=color, label=label)


def _caption(groups: Sequence[Group]) -> str:
    """Say how many seeds there are."""
    counts = sorted({len(group.histories) for group in groups})
    if counts == [1]:
        return "one seed each"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"line: mean, band: standard deviation (n - 1) over {seeds} seeds"
