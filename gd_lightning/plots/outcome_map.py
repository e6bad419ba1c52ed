"""The plot of the outcome map: learning rate against batch size, coloured by the predicted outcome.

The full batch has a strip of its own: without noise it has other boundaries than a batch of one sample less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from gd_lightning.plots.style import new_figure, write_plainly
from gd_lightning.theory import Boundaries, OutcomeMap, Verdict

# Green converges, blue is slow, yellow is noisy, red diverges: neighbours differ in lightness, or in their hatching.
REGION_COLORS = {
    Verdict.CONVERGES: "#009E73",
    Verdict.SLOW: "#56B4E9",
    Verdict.REACHES_ITS_FLOOR: "#F0E442",
    Verdict.DIVERGES: "#D55E00",
}
_HATCHES = {Verdict.DIVERGES: "////"}
_SIZE = (7.2, 4.8)  # inches of the figure
_STRIP = 0.16  # width of the strip for the full batch, as a fraction of that for the mini-batches
_ABOVE = 3.0  # ratio of the end of the axis to the largest limit
_BELOW = 3.0  # ratio of the smallest boundary to the beginning of the axis
_DECADES = 100.0  # smallest ratio of the end of the axis to its beginning
_FAR = 30.0  # a learning rate outside extends the axis up to this factor; one farther out is shown by an arrow
_NOTCH = 1.04  # half the width, as a factor, of the notch for a short last batch
_LABEL_HEIGHT = 0.09  # fraction of the height of the axes that a region needs for a label inside


def draw_map(found: OutcomeMap, batch_size: int, lr: float, verdict: Verdict, title: str) -> Figure:
    """Draw the map with one run on it.

    Args:
        found: The map, which has the batch size.
        batch_size: Batch size of the run.
        lr: Learning rate of the run.
        verdict: The predicted outcome of the run, for the legend.
        title: The title, in one line or several.
    """
    figure = new_figure(1)
    figure.set_size_inches(*_SIZE)
    widths = [1.0, _STRIP] if found.drawn else [1.0]
    panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    low, high = _range(found, lr)
    legend: list[Artist] = []
    labelled: list[Verdict] = []
    for axes, columns in zip(panels, [found.drawn, (found.batch,)] if found.drawn else [(found.batch,)], strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        lines = _draw_columns(axes, columns)
        legend = legend or lines
        if axes is panels[0]:
            labelled = _label_regions(axes, columns, batch_size, lr)
        if batch_size in [each.batch_size for each in columns]:
            run = _draw_run(axes, batch_size, lr)
    short = found.at(batch_size).short_batch
    last = f" (the last batch {short})" if short else ""
    run.set_label(f"this run: batch_size {batch_size}{last}, lr {lr:g}: {verdict}")
    _name_axes(panels, found)
    figure.suptitle(title, fontsize="medium")
    others = [Patch(**style_of(name), label=str(name)) for name in _shown(found, low, high) if name not in labelled]
    figure.legend(handles=[*legend, run, *others], loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def style_of(name: Verdict) -> dict[str, Any]:
    """Return the style of a region, as arguments of matplotlib."""
    return {"facecolor": REGION_COLORS[name], "hatch": _HATCHES.get(name), "edgecolor": "white", "linewidth": 0.0}


def _range(found: OutcomeMap, lr: float) -> tuple[float, float]:
    """Return the ends of the axis of learning rates."""
    columns = (*found.drawn, found.batch)
    high = _ABOVE * max(each.limit for each in columns)
    low = min(each.fast_from or each.quiet for each in columns) / _BELOW
    low = min(low, high / _DECADES)
    if high < lr <= _FAR * high:
        high = 2 * lr
    if low / _FAR <= lr < low:
        low = lr / 2
    return low, high


def _regions(columns: Sequence[Boundaries], low: float, high: float) -> list[tuple[Verdict, list[float], list[float]]]:
    """Return the regions from bottom to top, with their lower and upper ends at each batch size."""
    ends = np.array(
        [[low, *np.clip([c.fast_from, c.fast_to, c.quiet, c.stable], low, high), high] for c in columns], dtype=float
    ).T
    names = (Verdict.SLOW, Verdict.CONVERGES, Verdict.SLOW, Verdict.REACHES_ITS_FLOOR, Verdict.DIVERGES)
    return [(name, list(ends[i]), list(ends[i + 1])) for i, name in enumerate(names)]


def _draw_columns(axes: Axes, columns: Sequence[Boundaries]) -> list[Artist]:
    """Draw regions and lines over some batch sizes; returns the lines for the legend."""
    drawn = list(_flanked(columns))
    pad = 1.12 if len(columns) > 1 else 1.5
    drawn = [(drawn[0][0] / pad, drawn[0][1]), *drawn, (drawn[-1][0] * pad, drawn[-1][1])]
    places, shown = [place for place, _ in drawn], [column for _, column in drawn]
    slow, fast, slow_again, *others = _regions(shown, *axes.get_ylim())
    # Two adjacent regions of one colour are drawn as one: otherwise their border would be visible.
    for name, lower, upper in [(slow[0], slow[1], slow_again[2]), fast, *others]:
        axes.fill_between(places, lower, upper, **style_of(name))
    for boundary in ("fast_from", "fast_to", "quiet", "stable"):
        axes.plot(places, [_line(each, boundary) for each in shown], color="white", linewidth=0.8)
    axes.set_xlim(places[0], places[-1])
    limit = axes.plot(places, [each.limit for each in shown], color="black", linewidth=1.8)
    best = axes.plot(places, [each.best for each in shown], color="black", linewidth=1.4, linestyle="--")
    limit[0].set_label("largest stable lr")
    best[0].set_label("shrinks the error fastest in the long run")
    return [*limit, *best]


def _flanked(columns: Sequence[Boundaries]) -> Iterator[tuple[float, Boundaries]]:
    """Yield the positions of boundaries; a batch size with a short last batch is a narrow notch in the others."""
    for i, column in enumerate(columns):
        before, behind = columns[max(i - 1, 0)], columns[min(i + 1, len(columns) - 1)]
        sizes = [each.batch_size for each in (before, column, behind)]
        has_notch = column.short_batch and sizes[0] < sizes[1]
        if has_notch:
            place = max(sizes[1] / _NOTCH, math.sqrt(sizes[0] * sizes[1]))
            yield place, _between(before, behind, place) if sizes[1] < sizes[2] else before
        yield sizes[1], column
        if has_notch and sizes[1] < sizes[2]:
            place = min(sizes[1] * _NOTCH, math.sqrt(sizes[1] * sizes[2]))
            yield place, _between(before, behind, place)


def _between(one: Boundaries, other: Boundaries, place: float) -> Boundaries:
    """Return the boundaries at a position between two batch sizes, interpolated on logarithmic axes."""
    share = math.log(place / one.batch_size) / math.log(other.batch_size / one.batch_size)
    values = {
        name: getattr(one, name) ** (1 - share) * getattr(other, name) ** share
        for name in ("fast_from", "fast_to", "quiet", "stable", "limit", "best")
    }
    return replace(one, **values)


def _line(column: Boundaries, boundary: str) -> float:
    """Return the positions of a boundary; nan if there is no region on one of its sides."""
    value: float = getattr(column, boundary)
    is_there = value > 0 and (not boundary.startswith("fast") or column.fast_from < column.fast_to)
    return value if is_there else math.nan


def _label_regions(axes: Axes, columns: Sequence[Boundaries], batch_size: int, lr: float) -> list[Verdict]:
    """Write names into the regions with enough space, away from the point of the run; return these regions."""
    labelled: list[Verdict] = []
    low, high = axes.get_ylim()
    height = math.log(high / low)

    def is_clear(size: int, at: float) -> bool:
        return abs(math.log(at / lr)) > _LABEL_HEIGHT * height or abs(math.log(size / batch_size)) > math.log(3)

    inside = columns[1:-1] if len(columns) > 4 else columns  # a label at the edge would be cut
    for name, lower, upper in _regions(inside, low, high):
        heights = [math.log(top / bottom) / height for bottom, top in zip(lower, upper, strict=True)]
        high_enough = [i for i, part in enumerate(heights) if part >= max(_LABEL_HEIGHT, 0.8 * max(heights))]
        levels = [
            [(inside[i].batch_size, lower[i] ** (1 - share) * upper[i] ** share) for i in high_enough]
            for share in (0.5, 0.35, 0.65, 0.2, 0.8)  # from the middle of a region to its edges
        ]
        clear = [[place for place in level if is_clear(*place)] for level in levels]
        chosen = next((level for level in clear if level), None)
        if name in labelled or chosen is None:
            continue
        size, at = chosen[len(chosen) // 2]
        text = axes.text(size, at, str(name), ha="center", va="center", fontweight="bold")
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        labelled.append(name)
    return labelled


def _shown(found: OutcomeMap, low: float, high: float) -> list[Verdict]:
    """Return the verdicts that are visible somewhere on the map."""
    regions = [*_regions(found.drawn, low, high)] if found.drawn else []
    regions += _regions([found.batch], low, high)
    seen = {name for name, lower, upper in regions if any(b > a for a, b in zip(lower, upper, strict=True))}
    return [name for name in REGION_COLORS if name in seen]


def _draw_run(axes: Axes, batch_size: int, lr: float) -> Artist:
    """Draw the point of a run, or an arrow at the end of the axis if the point is beyond it."""
    low, high = axes.get_ylim()
    inside = min(max(lr, low), high)
    marker = "o" if inside == lr else ("^" if lr > high else "v")
    (point,) = axes.plot([batch_size], [inside], marker, linestyle="none", clip_on=False, zorder=5, color="black")
    point.set(markersize=11, markeredgecolor="white", markeredgewidth=1.8)
    return point


def _name_axes(panels: Sequence[Axes], found: OutcomeMap) -> None:
    panels[0].set_ylabel("learning rate (lr)")
    write_plainly(panels[0].yaxis)
    strip = panels[-1]
    strip.xaxis.set_major_locator(FixedLocator([found.n_samples]))
    strip.xaxis.set_minor_locator(NullLocator())
    strip.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    strip.set_xlabel("full batch")
    if found.drawn:
        panels[0].set_xlabel("batch_size")
        panels[0].xaxis.set_major_locator(LogLocator(subs=(1.0,) if found.n_samples > 200 else (1.0, 2.0, 5.0)))
        panels[0].xaxis.set_minor_formatter(NullFormatter())
        panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        strip.tick_params(axis="y", which="both", left=False)
