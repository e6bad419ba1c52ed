"""Plots for models of several features or targets: predicted against true values, and residuals.

Letters: N samples, K targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gd_lightning.plots.run_curves import Values
from gd_lightning.plots.style import (
    DATA_COLOR,
    MARKERS,
    TRUTH_COLOR,
    VALIDATION_COLOR,
    add_legend,
    few_ticks,
    legend_label,
    short,
)

MOST_TARGETS = 4  # maximum number of targets in one picture
_SHADES = ("#A6A6A6", "#0072B2", "#D55E00", "#000000")  # colours of targets, which differ in lightness


@dataclass(frozen=True)
class Judged:
    """Predictions and true values; those of several targets are in units of their standard deviations.

    Args:
        name: Name of the samples: train or validation.
        true: Shape (N, K).
        predicted: Shape (N, K).
    """

    name: str
    true: Values
    predicted: Values


def comparable(sets: Sequence[Judged]) -> list[Judged]:
    """Return predictions of several targets on one scale: standardised by mean and std of the first set."""
    first = sets[0].true
    if first.shape[1] == 1:
        return list(sets)
    mean, scale = first.mean(axis=0), np.where(np.ptp(first, axis=0) > 0, first.std(axis=0), 1.0)
    return [Judged(each.name, (each.true - mean) / scale, (each.predicted - mean) / scale) for each in sets]


def has_visible_points(sets: Sequence[Judged]) -> bool:
    """Whether any prediction is near the data; those of a diverged run are not."""
    (low, high), _ = _ranges(sets)
    return any(((each.predicted >= low) & (each.predicted <= high)).any() for each in sets)


def draw_predicted(axes: Axes, sets: Sequence[Judged], targets: Sequence[str]) -> None:
    """Draw predicted against true values; predictions far beyond the data are left out and counted.

    Args:
        axes: The axes to draw on.
        sets: Train, and validation where there is one, as :func:`comparable` returns them.
        targets: Names of the targets, of which the first four are drawn.
    """
    shown, true = _ranges(sets)
    for each in sets:
        _draw_points(axes, each, each.true, each.predicted, targets)
    axes.plot(true, true, color=TRUTH_COLOR, linestyle="--", linewidth=1.2, label="exact")
    true_name = f"true: {short(targets[0], 26)}" if len(targets) == 1 else "true, in standard deviations"
    axes.set(xlabel=true_name, ylabel="predicted", ylim=_seen(sets, shown))
    few_ticks(axes)
    axes.set_title("predicted against true", fontsize="medium")
    beyond = sum(int((~((each.predicted >= shown[0]) & (each.predicted <= shown[1]))).sum()) for each in sets)
    if beyond:
        total = sum(each.predicted.size for each in sets)
        axes.plot([], [], "x", color="black", label=f"{beyond:,} of {total:,} beyond")
    add_legend(axes)


def draw_residuals(axes: Axes, sets: Sequence[Judged], targets: Sequence[str]) -> None:
    """Draw residuals, true minus predicted, against predictions; those of a good model are noise without structure.

    Args:
        axes: The axes to draw on.
        sets: See :func:`draw_predicted`.
        targets: Names of the targets.
    """
    (low, high), _ = _ranges(sets)
    largest = 0.0
    for each in sets:
        is_near = (each.predicted >= low) & (each.predicted <= high)
        residual = np.where(is_near, each.true - each.predicted, np.nan)
        largest = max(largest, float(np.nanmax(np.abs(residual), initial=0.0)))
        _draw_points(axes, each, np.where(is_near, each.predicted, np.nan), residual, targets)
    axes.axhline(0.0, color=TRUTH_COLOR, linestyle="--", linewidth=1.2)
    reach = 1.1 * largest or 1.0
    axes.set(xlabel="predicted", ylabel="true - predicted", ylim=(-reach, reach))
    few_ticks(axes)
    axes.set_title("residuals", fontsize="medium")


def _draw_points(axes: Axes, of: Judged, x: Values, y: Values, targets: Sequence[str]) -> None:
    is_train = of.name == "train"
    count = min(len(targets), MOST_TARGETS)
    for k in range(count):
        color = _SHADES[k] if count > 1 else DATA_COLOR if is_train else VALIDATION_COLOR
        marker = MARKERS[k] if count > 1 or is_train else "^"
        style: dict[str, Any] = {"s": 9 if is_train else 14, "marker": marker, "linewidths": 0.7}
        style |= {"color": color} if is_train else {"facecolors": "none", "edgecolors": color}
        name = of.name if count == 1 else short(targets[k], 16) if is_train else f"{of.name}, hollow" if k == 0 else ""
        axes.scatter(x[:, k], y[:, k], label=legend_label(name) if name else None, **style)


def _seen(sets: Sequence[Judged], shown: tuple[float, float]) -> tuple[float, float]:
    """Return the part of a range that has points."""
    values = np.concatenate([part.ravel() for each in sets for part in (each.true, each.predicted)])
    values = values[(values >= shown[0]) & (values <= shown[1])]
    margin = 0.05 * float(np.ptp(values)) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def _ranges(sets: Sequence[Judged]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the range of the predictions that are shown, and the range of the true values."""
    low, high = min(float(each.true.min()) for each in sets), max(float(each.true.max()) for each in sets)
    spread = (high - low) or max(abs(high), 1.0)
    return (low - 0.5 * spread, high + 0.5 * spread), (low, high)
