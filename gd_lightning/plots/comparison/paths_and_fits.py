"""Panels of a comparison: paths over the loss surface, fits over the data, variance of the updates.

Letters: N samples, of which each has one feature and one target here; B samples per update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from gd_lightning.plots.comparison.group_styles import GroupStyle
from gd_lightning.plots.run_curves import (
    DRAWN_SAMPLES,
    Surface,
    draw_contours,
    draw_path,
    draw_start_and_minimum,
    fit_grid,
)
from gd_lightning.plots.style import (
    DATA_COLOR,
    TRUTH_COLOR,
    add_legend,
    few_ticks,
    legend_label,
    short,
    write_between_powers,
    write_plainly,
)
from gd_lightning.records.groups import Group, Values
from gd_lightning.records.history import Outcome

Predict = Callable[[Values], Values]


def draw_paths(axes: Axes, surface: Surface, groups: Sequence[Group], styles: Sequence[GroupStyle]) -> None:
    """Draw the loss over weight and bias as contours, with the path of the first run of each group.

    What is shown is set by the start and the runs that did not diverge; where the others leave it, there is an x.

    Args:
        axes: The axes to draw on.
        surface: The loss.
        groups: The runs, with columns w and b.
        styles: The style of each group.
    """
    drawn = [(g.histories[0], style) for g, style in zip(groups, styles, strict=True) if "w" in g.histories[0]]
    paths = [(run, style, run.series("w")[1], run.series("b")[1]) for run, style in drawn]
    # The range is that of the start, and of the paths that did not diverge.
    counted = [(w[:1], b[:1]) for _, _, w, b in paths[:1]]
    counted += [(w, b) for run, _, w, b in paths if run.outcome is not Outcome.DIVERGED]
    w_shown, b_shown = (np.concatenate(values) for values in zip(*counted, strict=True))
    draw_contours(axes, surface, w_shown, b_shown)
    # The longest path is the most tangled one, so it is drawn below the others.
    for _, style, w, b in sorted(paths, key=lambda path: -len(path[2])):
        draw_path(axes, w, b, color=style.color, marker=style.marker, label="_path")
    draw_start_and_minimum(axes, surface, w_shown[0], b_shown[0])
    axes.set_title("train loss and paths", fontsize="medium")
    add_legend(axes)


def draw_fits(
    axes: Axes, x: Values, y: Values, fits: Sequence[tuple[GroupStyle, Predict | None]], truth: Values | None
) -> None:
    """Draw data, true function and the function that each group fitted.

    Args:
        axes: The axes to draw on.
        x: Features, shape (N,).
        y: Targets, shape (N,).
        fits: Style and fitted function, from shape (n,) to (n,), of each group; None where its run diverged. Functions
            far beyond the data are left out as well, and the legend says so.
        truth: Values of the true function at ``fit_grid(x)``, or None.
    """
    every = -(-len(x) // DRAWN_SAMPLES)
    axes.scatter(x[::every], y[::every], s=8, color=DATA_COLOR, alpha=0.6, label="data")
    grid, spread = fit_grid(x), float(np.ptp(y)) or 1.0
    for style, predict in fits:
        fitted = None if predict is None else predict(grid)
        if fitted is None or not (np.abs(fitted - y.mean()) < 10 * spread).all():
            axes.plot([], [], "x", color=style.dark, label=legend_label(f"{short(style.label)}: diverged, not drawn"))
            continue
        axes.plot(
            grid,
            fitted,
            color=style.color,
            linewidth=1.6,
            marker=style.marker,
            markersize=5,
            markevery=(style.phase, 0.2),
        )
    if truth is not None:
        axes.plot(grid, truth, color=TRUTH_COLOR, linestyle="--", linewidth=1.4, label="truth")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, y.min() - spread), min(high, y.max() + spread))
    axes.set(xlabel="x", ylabel="y")
    few_ticks(axes)
    axes.set_title("data and fits", fontsize="medium")
    add_legend(axes)


def draw_variances(
    axes: Axes, batch_sizes: Sequence[int], variances: Sequence[Values], styles: Sequence[GroupStyle]
) -> None:
    """Draw the measured variance of the updates against batch size beside 1 / B, on logarithmic scales.

    Args:
        axes: The axes to draw on.
        batch_sizes: The batch size of each group.
        variances: What was measured in each group, shape (measurements,); those that are not positive, as of the full
            batch, have no place on the scale and are named in the legend.
        styles: The style of each group.
    """
    means = {}
    for size, values, style in zip(batch_sizes, variances, styles, strict=True):
        values = values[np.isfinite(values) & (values > 0)]
        if not len(values):
            axes.plot([], [], style.marker, color=style.color, label=f"batch_size {size}: no variance")
            continue
        means[size] = float(values.mean())
        axes.plot(np.full(len(values), size), values, ".", color=style.color, alpha=0.4, markersize=4)
        axes.plot([size], [means[size]], style.marker, color=style.color, markersize=8, markeredgecolor="white")
    if means:
        sizes = np.array(sorted({*batch_sizes}), dtype=np.float64)
        constant = np.exp(np.mean([np.log(size * mean) for size, mean in means.items()]))
        axes.plot(sizes, constant / sizes, color="black", linestyle="--", linewidth=1, label="1 / batch_size", zorder=1)
        axes.set(xscale="log", yscale="log")
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            write_plainly(axis)
            write_between_powers(axis, *ends)
    axes.set(xlabel="batch_size", ylabel="variance")
    axes.set_title("variance of the updates", fontsize="medium")
    add_legend(axes)
