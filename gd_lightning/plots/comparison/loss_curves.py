"""Panels of a comparison: train loss against epochs, updates, samples and seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gd_lightning.plots.comparison.group_styles import GroupStyle, divergence_note
from gd_lightning.plots.run_curves import envelope
from gd_lightning.plots.style import TRUTH_COLOR, write_between_powers, write_plainly
from gd_lightning.records.groups import Band, Group, Values
from gd_lightning.records.history import PREDICTED, History

X_LABELS = {"epoch": "epochs", "update": "updates", "samples": "samples", "seconds": "seconds of training"}
PREDICTED_OVER = ("epoch", "samples")
"""Axes over which predictions, of the ends of epochs, are drawn: elsewhere lines between them would be no curve."""
_MOST_OF_A_BAND = 1_000  # largest number of points of a band
_MARKS = 7  # markers of a curve
_DENSE = 300  # points from which a curve is drawn with a thin line
_MOST_POWERS = 7  # maximum number of powers of ten that are labelled on a logarithmic axis from 0
_WIDE = 10  # ratio of the longest to the shortest group from which the axis is logarithmic


@dataclass(frozen=True)
class LossRange:
    """The range of losses that a panel shows.

    Args:
        low: Its lower edge, positive on a logarithmic scale.
        high: Its upper edge, where diverging runs leave it.
        log: Whether the scale is logarithmic.
    """

    low: float
    high: float
    log: bool

    def scale(self, loss: float) -> float:
        """Return the height of a loss, in units of the axis."""
        return math.log(max(loss, self.low)) if self.log else loss

    def drawable(self, losses: Values) -> Values:
        """Return losses with gaps in place of those that the axis cannot show."""
        shown = np.isfinite(losses) & (np.abs(losses) < 1e150)
        return np.where(shown & (losses > 0) if self.log else shown, losses, np.nan)


def loss_range(
    groups: Sequence[Group], log: bool, floors: Iterable[float | None] = (), column: str = "train_loss"
) -> LossRange:
    """Choose the range, from the common start and the runs that did not diverge.

    Args:
        groups: The runs.
        log: Whether the scale is logarithmic.
        floors: Losses drawn as horizontal lines; they are shown unless far below all others.
        column: train_loss or val_loss.
    """
    runs = [run.curve(column)[1] for group in groups for run in group.sound if column in run]
    starts = [run.first(column) for group in groups for run in group.histories if column in run]
    values = np.concatenate([starts, *runs])
    values = values[np.isfinite(values) & (np.abs(values) < 1e150)]
    margin = 0.15 if any(group.diverged for group in groups) else 0.05
    if log:
        return _log_range(values[values > 0], floors, margin)
    if not len(values):
        return LossRange(0.0, 1.0, log)
    # The loss of a run may be far higher for a while, or grow without having diverged yet.
    level = max(values[0], min((run[-1] for run in runs if len(run)), default=-math.inf))
    high, low = float(values[values <= 3 * abs(level)].max()), min(0.0, float(values.min()))
    span = (high - low) or 1.0
    return LossRange(low - 0.03 * span, high + margin * span, log)


def _log_range(values: Values, floors: Iterable[float | None], margin: float) -> LossRange:
    if not len(values):
        return LossRange(0.1, 1.0, log=True)
    low, high = float(values.min()), float(values.max())
    low = min([low, *(floor for floor in floors if floor is not None and low / 1e3 < floor < low)])
    decades = max(math.log10(high / low), 1.0)
    return LossRange(low * 10 ** (-0.05 * decades), high * 10 ** (margin * decades), log=True)


def draw_curve(
    axes: Axes,
    axis: str,
    log: bool,
    groups: Sequence[Group],
    styles: Sequence[GroupStyle],
    least_squares: float | None = None,
    column: str = "train_loss",
) -> None:
    """Draw the train loss, or the validation loss, against epochs, updates, samples or seconds.

    Each group has its mean as a line, the standard deviation over its runs as a band, what theory predicts as a dotted
    line and where theory says that it settles as a dashed one. Runs that diverged are drawn up to where they leave the
    panel, which is marked by an x.

    Args:
        axes: The axes to draw on.
        axis: epoch, update, samples or seconds.
        log: Whether the scale of losses is logarithmic.
        groups: The runs.
        styles: The style of each group.
        least_squares: The smallest train loss that can be reached; None where it is not known.
        column: train_loss or val_loss.
    """
    is_train = column == "train_loss"
    floors = [least_squares, *(group.predicted_loss for group in groups)] if is_train else []
    shown = loss_range(groups, log, floors, column)
    of_theory = PREDICTED if is_train and axis in PREDICTED_OVER else ""
    bands = [(_band(group, column, axis), _band(group, of_theory, axis)) for group in groups]
    ways = [[way_out(run, axis, shown, column) for run in group.diverged] for group in groups]
    leaving = [float(x[-1]) for of_group in ways for x, _ in of_group if len(x)]
    _set_axes(axes, [measured.x for measured, _ in bands], leaving, shown)
    for group, style, (measured, predicted) in zip(groups, styles, bands, strict=True):
        _draw_group(axes, group, style, measured, predicted, shown)
        if is_train and group.predicted_loss is not None and math.isfinite(group.predicted_loss):
            axes.axhline(group.predicted_loss, color=style.color, linewidth=0.9, linestyle="--")
    if is_train and least_squares is not None:
        axes.axhline(least_squares, color=TRUTH_COLOR, linewidth=1.2, linestyle="-.")
    _draw_divergence(axes, groups, styles, ways)
    axes.set(xlabel=X_LABELS[axis], ylabel=f"{'train' if is_train else 'validation'} loss")


def _band(group: Group, column: str, axis: str) -> Band:
    # An infinite loss has no standard deviation; the curve has a gap there.
    with np.errstate(invalid="ignore", over="ignore"):
        return group.band(column, axis)


def _draw_group(axes: Axes, group: Group, style: GroupStyle, measured: Band, predicted: Band, shown: LossRange) -> None:
    mean = shown.drawable(measured.mean)
    if (np.isfinite(mean) & np.isfinite(measured.x)).any():  # runs of other projects do not log every axis
        if len(group.sound) > 1:
            below, above = measured.mean - measured.std, measured.mean + measured.std
            below = below.clip(min=shown.low) if shown.log else below
            below, above = shown.drawable(below), shown.drawable(above)
            few = slice(None, None, -(-len(mean) // _MOST_OF_A_BAND))
            axes.fill_between(measured.x[few], below[few], above[few], color=style.color, alpha=0.22, linewidth=0)
        # Dense curves are drawn below the others, which they would hide.
        order = 2.0 + 0.5 / (1 + math.log10(len(mean)))
        x, losses = envelope(measured.x, mean)
        marked = _marked(axes, x, losses, style.phase)
        axes.plot(
            x, losses, color=style.color, linewidth=1.4 if len(x) < _DENSE else 0.8, label=style.label, zorder=order
        )
        marks: dict[str, Any] = {"marker": style.marker, "markersize": 6, "markeredgecolor": "white", "zorder": 2.6}
        axes.plot(x[marked], losses[marked], color=style.color, linestyle="none", markeredgewidth=0.6, **marks)
    if len(predicted.x):
        x, losses = envelope(predicted.x, shown.drawable(predicted.mean))
        axes.plot(x, losses, color=style.dark, linestyle=":", linewidth=1.4)


def _marked(axes: Axes, x: Values, losses: Values, phase: float) -> list[int]:
    """Return the indices of some evenly spaced points of a drawn curve, including the last one."""
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(losses))
    parts = np.linspace(0.0, 1.0, _MARKS, endpoint=False) + phase
    wanted = axes.transData.inverted().transform(axes.transAxes.transform(np.stack([parts, 0 * parts], axis=1)))[:, 0]
    found = np.searchsorted(x[there], wanted)
    return sorted({int(there[i]) for i in [0, *found, len(there) - 1] if i < len(there)})


def _set_axes(axes: Axes, reach: Sequence[Values], leaving: Sequence[float], shown: LossRange) -> None:
    """Set scales and limits; groups that differ as 20 and 2000 updates do need a logarithmic axis that includes 0."""
    axes.set_yscale("log" if shown.log else "linear")
    write_plainly(axes.yaxis)  # without a common factor above the panel, where the notes are
    axes.set_ylim(shown.low, shown.high)
    if shown.log:
        write_between_powers(axes.yaxis, shown.low, shown.high)
    ends = [float(x[-1]) for x in reach if (x > 0).any()]
    end = max([*ends, *leaving], default=0.0) or 1.0
    if ends and end > _WIDE * min(ends):
        first = min(float(x[x > 0].min()) for x in reach if (x > 0).any())
        unit = 10.0 ** math.floor(math.log10(first))
        axes.set_xscale("symlog", linthresh=unit)
        powers = np.arange(math.log10(unit), math.log10(1.2 * end))
        axes.set_xticks([0.0, *10.0 ** powers[:: -(-len(powers) // _MOST_POWERS)]])
        axes.set_xlim(-0.1 * unit, 1.2 * end)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_xlim(-0.02 * end, 1.04 * end)
    axes.grid(alpha=0.25, linewidth=0.5)


def _draw_divergence(
    axes: Axes, groups: Sequence[Group], styles: Sequence[GroupStyle], ways: Sequence[Sequence[tuple[Values, Values]]]
) -> None:
    for of_group, style in zip(ways, styles, strict=True):
        for x, losses in of_group:
            axes.plot(x, losses, color=style.color, linewidth=1.0)
            axes.plot(x[-1:], losses[-1:], "x", color=style.dark, markersize=7, markeredgewidth=1.8, clip_on=False)
    leaving = [float(x[-1]) for of_group in ways for x, _ in of_group if len(x)]
    notes = [
        (divergence_note(group), style.dark) for group, style in zip(groups, styles, strict=True) if group.diverged
    ]
    if leaving:
        # The legend names these groups and their limits, for which there is no space here.
        _write_above(
            axes, min(leaving), *(notes[0] if len(notes) == 1 else (f"{len(notes)} settings diverged", "black"))
        )


def way_out(history: History, axis: str, shown: LossRange, column: str = "train_loss") -> tuple[Values, Values]:
    """Return the loss of a diverged run until it leaves a panel for good, ending at the upper edge."""
    x, losses = history.curve(column, axis) if column in history else (np.empty(0), np.empty(0))
    inside = np.flatnonzero(np.isfinite(losses) & (losses <= shown.high))
    if not len(inside):
        return x[:0], losses[:0]
    last = int(inside[-1])
    x, end = x[: last + 1], _end(x, losses, last, float(history[axis][-1]), shown)
    return np.append(x, end), np.append(shown.drawable(losses[: last + 1]), shown.high)


def _end(x: Values, losses: Values, last: int, stop: float, shown: LossRange) -> float:
    if last + 1 == len(x):
        return stop
    if not np.isfinite(losses[last + 1]):
        return float(x[last + 1])
    low, high = shown.scale(float(losses[last])), shown.scale(float(losses[last + 1]))
    part = (shown.scale(shown.high) - low) / (high - low)
    return float(x[last] + part * (x[last + 1] - x[last]))


def _write_above(axes: Axes, x: float, text: str, color: str) -> None:
    """Write above the panel, from x towards the side with more space."""
    at = axes.transAxes.inverted().transform(axes.transData.transform((x, axes.get_ylim()[1])))[0]
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if at < 0.5 else 4, 5),
        textcoords="offset points",
        ha="left" if at < 0.5 else "right",
        fontsize="small",
        color=color,
    )
