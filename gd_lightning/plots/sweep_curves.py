"""Plot of a sweep as curves: final loss against one option, one curve for each value of the others.

Letters: V values on the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from gd_lightning.plots.comparison.group_styles import shades
from gd_lightning.plots.style import MARKERS, VARIANT_COLORS, legend_label, new_figure, short
from gd_lightning.records.groups import Values

_SIZE = (7.2, 4.8)  # inches of the figure
_ABOVE = 10.0  # ratio of the end of the axis to the loss at the start
_WIDE = 20.0  # ratio of the largest to the smallest value from which the axis is logarithmic


@dataclass(frozen=True)
class Curve:
    """Draw the final losses of runs against one option.

    Args:
        label: The values of the others; empty where there are none.
        losses: Mean loss of the runs that did not diverge, nan where all did, shape (V,).
        low: The smallest loss of a run, shape (V,).
        high: The largest, shape (V,).
        diverged: Share of runs that diverged, shape (V,).
        limit: The largest stable learning rate by theory; nan where it says nothing, or another option is the axis.
    """

    label: str
    losses: Values
    low: Values
    high: Values
    diverged: Values
    limit: float


def sweep_curves(
    curves: Sequence[Curve], values: Sequence[float], *, start: float, axis: str, quantity: str, title: str
) -> Figure:
    """Draw the curves.

    Args:
        curves: A curve each.
        values: On the axis, ascending, shape (V,).
        start: Loss before the first update; what is far above it is not shown.
        axis: Name of the values.
        quantity: Name of the losses.
        title: The title, in one line or several.
    """
    figure = new_figure(1)
    figure.set_size_inches(*_SIZE)
    axes = figure.subplots()
    axes.set_yscale("log")
    if values[0] > 0 and values[-1] / values[0] > _WIDE:
        axes.set_xscale("log")
    for i, (curve, color) in enumerate(zip(curves, shades(VARIANT_COLORS["batch"], len(curves)), strict=True)):
        _draw_curve(axes, curve, np.array(values), color, i)
    low, high = axes.get_ylim()
    axes.set(xlabel=axis, ylabel=quantity, ylim=(low, max(min(high, _ABOVE * start), 2 * low)))
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.suptitle(title, fontsize="medium")
    if handles := _legend(axes, curves):
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def _draw_curve(axes: Axes, curve: Curve, values: Values, color: str, number: int) -> None:
    """Draw the mean with its markers, the range of the runs, where some diverged, and the limit."""
    # With many values, the markers of all points would hide the curve.
    every, marker = max(1, len(values) // 12), MARKERS[number % len(MARKERS)]
    style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "markevery": (number % every, every)}
    axes.plot(values, curve.losses, linewidth=1.6, label=legend_label(short(curve.label, 36)), **style)
    axes.fill_between(values, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
    out = np.flatnonzero(curve.diverged > 0)
    if len(out):  # crosses for runs that diverged, at the upper end of the axis
        top = [1.0 - 0.02 * (number % len(MARKERS))] * len(out)
        axes.plot(values[out], top, "x", color=color, transform=axes.get_xaxis_transform(), clip_on=False)
    if np.isfinite(curve.limit):
        axes.axvline(curve.limit, color=color, linestyle="--", linewidth=1.2)


def _legend(axes: Axes, curves: Sequence[Curve]) -> list[Artist]:
    handles: list[Artist] = list(axes.get_legend_handles_labels()[0]) if any(curve.label for curve in curves) else []
    if any((curve.diverged > 0).any() for curve in curves):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="none", label="a run diverged"))
    if any(np.isfinite(curve.limit) for curve in curves):
        handles.append(Line2D([], [], color="black", linestyle="--", label="largest stable lr by theory"))
    return handles
