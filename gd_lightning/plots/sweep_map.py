"""Plot of a sweep as a map: learning rates against batch sizes, coloured by final loss.

Letters: N samples, B batch sizes, L learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from gd_lightning.plots.outcome_map import style_of
from gd_lightning.plots.style import new_figure, short, write_plainly
from gd_lightning.records.groups import Values
from gd_lightning.theory import Verdict

_COLORS = colormaps["viridis_r"].with_extremes(over="black")
_DIVERGED = style_of(Verdict.DIVERGES)
_PANEL = (3.6, 4.0)  # inches of a panel
_ALONE = (7.2, 5.2)  # inches of a single panel
_CHARACTER = 0.065  # inches of a letter below an axis
_OF_A_PANEL = 0.8  # fraction of the width of a panel that its axis takes
_BEST: dict[str, Any] = {
    "marker": "o", "color": "black", "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 1.2
}  # fmt: skip
_A_ROW = 3  # largest number of panels in a row
_FEW = 8  # maximum number of learning rates that are all labelled
_DRAWABLE = (1e-250, 1e250)  # matplotlib computes some decades beyond the range that it draws
_DECADES = 7.0  # decades of losses with different colours; lower losses have the colour of the lowest of these


@dataclass(frozen=True)
class Plane:
    """The content of a panel.

    Args:
        title: The settings that distinguish the panel from others.
        losses: Mean loss of the runs that did not diverge, nan where all did, shape (B, L).
        diverged: Share of runs that diverged, shape (B, L).
        limits: The largest stable learning rate by theory, nan where it says nothing, shape (B,).
    """

    title: str
    losses: Values
    diverged: Values
    limits: Values

    @property
    def best(self) -> list[tuple[int, int]]:
        """Indices of batch size and learning rate of the lowest loss at each batch size."""
        sound = np.where(self.diverged > 0, np.nan, self.losses)
        return [(i, int(np.nanargmin(losses))) for i, losses in enumerate(sound) if np.isfinite(losses).any()]


def sweep_map(
    planes: Sequence[Plane],
    batch_sizes: Sequence[int],
    lrs: Sequence[float],
    *,
    n_samples: int,
    start: float,
    quantity: str,
    title: str,
) -> Figure:
    """Draw the map.

    Args:
        planes: A panel each.
        batch_sizes: The columns, ascending, shape (B,).
        lrs: The rows, ascending, shape (L,).
        n_samples: N, the full batch.
        start: Loss before the first update.
        quantity: Name of the losses.
        title: The title, in one line or several.
    """
    columns = min(_A_ROW, len(planes))
    rows = -(-len(planes) // columns)
    figure = new_figure(1)
    figure.set_size_inches(*(_ALONE if len(planes) == 1 else (_PANEL[0] * columns + 1.2, _PANEL[1] * rows + 1.0)))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    norm = _norm([plane.losses for plane in planes], start)
    for axes, plane in zip(panels, planes, strict=False):
        mesh = _draw_panel(axes, plane, len(batch_sizes), lrs, norm)
        _name_axes(axes, batch_sizes, n_samples, (_ALONE if len(planes) == 1 else _PANEL)[0])
    for axes in panels[len(planes) :]:
        axes.set_visible(False)
    for axes in panels[: len(planes) : columns]:
        axes.set_ylabel("learning rate (lr)")
    bar = figure.colorbar(mesh, ax=list(panels), extend="max", pad=0.02)
    bar.set_label(quantity)
    write_plainly(bar.ax.yaxis)
    figure.suptitle(title, fontsize="medium")
    figure.legend(handles=_legend(planes), loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def _draw_panel(axes: Axes, plane: Plane, columns: int, lrs: Sequence[float], norm: LogNorm) -> QuadMesh:
    """Draw the losses at each batch size, the diverged runs, the limits, and the best learning rates."""
    edges = _edges(lrs)
    axes.set_yscale("log")
    losses = plane.losses.T.clip(norm.vmin)  # rounding can leave an excess of 0 or below, which has no logarithm
    mesh = axes.pcolormesh(np.arange(columns + 1) - 0.5, edges, losses, norm=norm, cmap=_COLORS)
    axes.set_ylim(edges[0], edges[-1])
    if len(lrs) <= _FEW:
        axes.set_yticks(lrs, [f"{lr:.4g}" for lr in lrs])
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        write_plainly(axes.yaxis)
    _draw_diverged(axes, plane, edges)
    _draw_limits(axes, plane.limits)
    axes.plot([i for i, _ in plane.best], [lrs[j] for _, j in plane.best], linestyle="none", **_BEST)
    axes.set_title(short(plane.title, 36), fontsize="medium")
    return mesh


def _norm(losses: Iterable[Values], start: float) -> LogNorm:
    """Return the colour scale of losses up to the initial loss; larger losses have a colour of their own."""
    found = np.concatenate([each[np.isfinite(each) & (each > 0)] for each in losses]).clip(*_DRAWABLE)
    start = min(max(start, _DRAWABLE[0]), _DRAWABLE[1]) if np.isfinite(start) else _DRAWABLE[1]
    high = max(start, found.min()) if len(found) else start
    low = max(found.min(), high / 10**_DECADES) if len(found) else high / 10
    return LogNorm(low, high if high > low else 1.1 * low)


def _edges(values: Sequence[float]) -> Values:
    """Return the edges of rows, halfway between their values on a logarithmic axis, shape (L + 1,)."""
    logs = np.log(np.array(values))
    middle = (logs[1:] + logs[:-1]) / 2
    edges = np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]])
    # The outermost edges may be beyond float64, and matplotlib computes some decades beyond them.
    found: Values = np.exp(np.clip(edges, *np.log(_DRAWABLE)))
    return found


def _draw_diverged(axes: Axes, plane: Plane, edges: Values) -> None:
    """Cover cells in which all runs diverged, and dot those in which some did."""
    for i, share in enumerate(plane.diverged):
        for first, last in _ranges(share == 1):
            axes.fill_between([i - 0.5, i + 0.5], edges[first], edges[last + 1], **_DIVERGED)
        some = np.flatnonzero((share > 0) & (share < 1))
        places = np.sqrt(edges[some] * edges[some + 1])
        axes.plot(np.full(len(some), i), places, ".", color=_DIVERGED["facecolor"], markersize=5)


def _ranges(holds: Any) -> list[tuple[int, int]]:
    """Return the first and the last index of each range of true values."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], holds.astype(int), [0]])))
    return [(int(first), int(stop) - 1) for first, stop in steps.reshape(-1, 2)]


def _draw_limits(axes: Axes, limits: Values) -> None:
    """Draw the limit of each column, connected by steps."""
    known = np.flatnonzero(np.isfinite(limits))
    if len(known):
        xs = np.repeat(known, 2) + np.tile([-0.5, 0.5], len(known))
        (line,) = axes.plot(xs, np.repeat(limits[known], 2), color="black", linewidth=1.8)
        line.set_path_effects([withStroke(linewidth=3.6, foreground="white")])


def _legend(planes: Sequence[Plane]) -> list[Artist]:
    found: list[Artist] = []
    if any(np.isfinite(plane.limits).any() for plane in planes):
        found.append(Line2D([], [], color="black", linewidth=1.8, label="largest stable lr by theory"))
    found.append(Line2D([], [], linestyle="none", label="lowest train loss of the batch size", **_BEST))
    if any((plane.diverged == 1).any() for plane in planes):
        found.append(Patch(**_DIVERGED, label="all runs diverged"))
    if any(((plane.diverged > 0) & (plane.diverged < 1)).any() for plane in planes):
        dot = {"marker": ".", "color": _DIVERGED["facecolor"], "linestyle": "none"}
        found.append(Line2D([], [], label="some runs diverged", **dot))
    return found


def _name_axes(axes: Axes, batch_sizes: Sequence[int], n_samples: int, width: float) -> None:
    """Label as many batch sizes as fit into a panel of a given width in inches, including the largest one."""
    names = [f"{size:,}" if size != n_samples else f"{size:,}\nfull\nbatch" for size in batch_sizes]
    longest = max(len(line) for name in names for line in name.split("\n"))
    every = max(1, math.ceil(len(names) * (longest + 0.5) * _CHARACTER / (_OF_A_PANEL * width)))
    chosen = [i for i in range(len(names)) if (len(names) - 1 - i) % every == 0]
    axes.set_xticks(chosen, [names[i] for i in chosen], fontsize="small")
    axes.set_xlabel("batch_size")
