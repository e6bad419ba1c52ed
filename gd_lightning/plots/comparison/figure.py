"""The figure of a comparison, composed of the panels that are available."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gd_lightning.errors import InputError
from gd_lightning.plots.comparison.group_styles import GroupStyle, group_styles
from gd_lightning.plots.comparison.loss_curves import PREDICTED_OVER, draw_curve
from gd_lightning.plots.comparison.paths_and_fits import Predict, draw_fits, draw_paths, draw_variances
from gd_lightning.plots.run_curves import Surface
from gd_lightning.plots.style import TRUTH_COLOR, beyond_frame, listed, short, sized_figure
from gd_lightning.records.groups import Group, Values
from gd_lightning.records.history import PREDICTED, History, Outcome

_AXES = {"epochs": "epoch", "updates": "update", "samples": "samples", "seconds": "seconds"}
_LINEAR, _VALIDATION = (f"{name}_linear" for name in _AXES), (f"val_{name}" for name in _AXES)
_OTHERS = ("paths", "fits", "variances")
PANELS = (*_AXES, *_LINEAR, *_VALIDATION, *_OTHERS)
"""The panels by name: the train loss on a logarithmic and a linear scale, the validation loss, and the others."""
_USUAL = ("epochs", "updates", "seconds", *_OTHERS)

# Inches. Matplotlib's constrained layout rounds differently from call to call, so that files would differ, too.
_PANEL, _HEIGHT, _IN_A_ROW = 2.75, 2.3, 3  # small, so that letters are large on half a page
_TITLE, _LEGEND_LINE = 0.35, 0.21
_CHARACTER, _HANDLE = 0.08, 0.7  # width of a letter in a legend, and of the line before the text
_LONGEST = 60  # maximum number of characters of a name in the legend


@dataclass(frozen=True)
class Fits:
    """Data of one feature and the functions that were fitted to them.

    Args:
        x: Features, shape (N,).
        y: Targets, shape (N,).
        functions: The function fitted by the first run of a group, from shape (n,) to (n,), by the group's label.
        truth: Values of the true function at ``fit_grid(x)``, or None.
    """

    x: Values
    y: Values
    functions: Mapping[str, Predict]
    truth: Values | None = None


def checked_panels(given: str | Sequence[str] | None) -> list[str] | None:
    """Return the names of panels without repetitions; None for the default panels.

    Args:
        given: Names, as a list or with commas between.

    Raises:
        InputError: There is no such panel, or none is named.
    """
    if given is None:
        return None
    names, unknown = listed(given, PANELS)
    if unknown or not names:
        wrong = f"the panel {unknown[0]!r}" if unknown else "no panel"
        raise InputError(f"cannot draw {wrong}, because the panels are {', '.join(PANELS)}; use some of these")
    return names


def comparison_figure(
    groups: Sequence[Group],
    *,
    title: str,
    least_squares: float | None = None,
    surface: Surface | None = None,
    fits: Fits | None = None,
    variances: Mapping[str, tuple[int, Values]] | None = None,
    panels: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw groups of runs beside each other, for ``save_figure(path, figure)``.

    Args:
        groups: The runs, up to eight groups.
        title: The title: what is compared, and on which data.
        least_squares: The smallest train loss that can be reached; None where it is not known.
        surface: The train loss over two parameters w and b, where these are all.
        fits: Data and fitted functions, where there is one feature.
        variances: batch_size and the measured variance of updates, shape (measurements,), by the label of the group.
        panels: The names of :data:`PANELS` to draw, if there are data for them; None: the usual ones, without axes on
            which the curves look the same as on another.
        notes: Text that the legend adds to the label of a group, such as its learning rate, by the label.
    """
    styles = group_styles(groups)
    drawn = _drawable_panels(groups, styles, least_squares, surface, fits, variances)
    names = [name for name in panels or _usual(groups) if name in drawn] or ["updates"]
    shows_predictions = any(_AXES.get(name.removesuffix("_linear")) in PREDICTED_OVER for name in names)
    handles = _legend(groups, styles, least_squares, notes or {}, shows_predictions)
    columns = min(len(names), _IN_A_ROW if len(names) != 4 else 2)
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    return _composed([[drawn[name] for name in row] for row in rows], handles, title, _caption(groups))


def _composed(
    rows: Sequence[Sequence[Callable[[Axes], None]]], handles: list[Artist], title: str, caption: str
) -> Figure:
    """Return the figure of some panels, with as much space around them as their labels, numbers and notes take.

    Args:
        rows: Functions that draw the panels, row by row.
        handles: The entries of the legend.
        title: The title of the figure.
        caption: The title of the legend.
    """
    figure = sized_figure(_PANEL, _HEIGHT)
    panels = [[figure.add_axes((0.0, 0.0, 1.0, 1.0)) for _ in row] for row in rows]
    for axes, draw in zip(chain(*panels), chain(*rows), strict=True):
        draw(axes)
    beyond = [[beyond_frame(axes) for axes in row] for row in panels]
    left, right = (max(texts[side] for texts in chain(*beyond)) for side in (0, 2))
    columns, step = max(map(len, rows)), left + _PANEL + right
    below, above = ([max(texts[side] for texts in row) for row in beyond] for side in (1, 3))
    width, heights = columns * step, [b + _HEIGHT + a for b, a in zip(below, above, strict=True)]
    in_legend = _columns(handles, width)
    legend = _LEGEND_LINE * (2.2 + math.ceil(len(handles) / in_legend))
    height = _TITLE + sum(heights) + legend
    figure.set_size_inches(width, height)
    for i, row in enumerate(panels):
        first, bottom = left + (columns - len(row)) / 2 * step, legend + sum(heights[i + 1 :]) + below[i]
        for j, axes in enumerate(row):
            axes.set_position(((first + j * step) / width, bottom / height, _PANEL / width, _HEIGHT / height))
    figure.suptitle(short(title, int(width / _CHARACTER / 1.3)), fontsize="large", y=1 - 0.1 / height)
    figure.legend(handles=handles, title=caption, ncols=in_legend, loc="lower center", fontsize=9, title_fontsize=9)
    return figure


def _usual(groups: Sequence[Group]) -> list[str]:
    """Return the default panels; with one batch size, curves against updates and epochs look the same."""
    per_epoch = {
        round(run.last("update") / run.last("epoch"), 6)
        for group in groups
        for run in group.histories
        if len(run) and run.last("epoch") > 0
    }
    return [name for name in _USUAL if name != "updates" or len(per_epoch) != 1]


def _drawable_panels(
    groups: Sequence[Group],
    styles: Sequence[GroupStyle],
    least_squares: float | None,
    surface: Surface | None,
    fits: Fits | None,
    variances: Mapping[str, tuple[int, Values]] | None,
) -> dict[str, Callable[[Axes], None]]:
    """Return functions that draw the panels for which there are data."""
    found: dict[str, Callable[[Axes], None]] = {}
    for name, axis in _AXES.items():
        for panel, column, log in (
            (name, "train_loss", True), (f"{name}_linear", "train_loss", False), (f"val_{name}", "val_loss", True)
        ):  # fmt: skip
            if any(_is_known(run, column, axis) for group in groups for run in group.histories):
                found[panel] = partial(
                    draw_curve,
                    axis=axis,
                    log=log,
                    groups=groups,
                    styles=styles,
                    least_squares=least_squares,
                    column=column,
                )
    if surface is not None and any("w" in group.histories[0] for group in groups):
        found["paths"] = lambda axes: draw_paths(axes, surface, groups, styles)
    if fits is not None:
        shown = [
            (style, None if group.histories[0].outcome is Outcome.DIVERGED else fits.functions[group.label])
            for group, style in zip(groups, styles, strict=True)
            if group.label in fits.functions
        ]
        found["fits"] = lambda axes: draw_fits(axes, fits.x, fits.y, shown, fits.truth)
    measured = [(*variances[style.label], style) for style in styles if variances and style.label in variances]
    if len({size for size, values, _ in measured if (values > 0).any()}) > 1:  # a single batch size shows no dependence
        found["variances"] = lambda axes: draw_variances(axes, *zip(*measured, strict=True))
    return found


def _is_known(run: History, column: str, axis: str) -> bool:
    return column in run and bool(np.isfinite(run.series(column, axis)[0]).any())


def _legend(
    groups: Sequence[Group],
    styles: Sequence[GroupStyle],
    least_squares: float | None,
    notes: Mapping[str, str],
    shows_predictions: bool,
) -> list[Artist]:
    """Return an entry for each group, followed by entries for the other lines in the panels."""
    pairs = zip(groups, styles, strict=True)
    handles: list[Artist] = [style.handle(group, notes.get(group.label, ""), _LONGEST) for group, style in pairs]
    if any(len(group.sound) > 1 for group in groups):
        handles.append(Patch(color="black", alpha=0.22, linewidth=0, label="± standard deviation"))
    if shows_predictions and any(PREDICTED in history for group in groups for history in group.sound):
        handles.append(_line("predicted", ":"))
    if any(group.predicted_loss is not None and math.isfinite(group.predicted_loss) for group in groups):
        handles.append(_line("predicted end", "--"))
    if least_squares is not None:
        handles.append(_line("least squares", "-.", TRUTH_COLOR))
    if any(group.diverged for group in groups):
        handles.append(Line2D([], [], linestyle="", marker="x", color="black", markeredgewidth=1.8, label="diverged"))
    return handles


def _columns(handles: Sequence[Artist], width: float) -> int:
    """Return the number of legend columns that fit side by side."""
    widths = [_HANDLE + _CHARACTER * len(str(handle.get_label())) for handle in handles]
    # Matplotlib fills the columns of a legend one after the other, each as wide as its longest entry.
    needed = {n: sum(part.max() for part in np.array_split(widths, n)) for n in range(1, min(4, len(widths)) + 1)}
    return max((n for n, needs in needed.items() if needs <= width), default=1)


def _line(label: str, linestyle: Literal[":", "--", "-."], color: str = "black") -> Line2D:
    return Line2D([], [], linestyle=linestyle, linewidth=1.2, color=color, label=label)


def _caption(groups: Sequence[Group]) -> str:
    """Say how many seeds there are."""
    counts = sorted({len(group.histories) for group in groups})
    if counts == [1]:
        return "one seed each"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"line: mean, band: standard deviation (n - 1) over {seeds} seeds"
