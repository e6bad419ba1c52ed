"""Plots of a run: loss curves, fit, and loss surface with path, drawn into given axes.

Letters: N samples, of which each has one feature and one target here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gd_lightning.float64 import unit_of
from gd_lightning.plots.style import (
    CONTOUR_COLOR,
    DATA_COLOR,
    TRUTH_COLOR,
    UNKNOWN_VARIANT_COLOR,
    VALIDATION_COLOR,
    VARIANT_COLORS,
    add_legend,
    darkened,
    few_ticks,
    short,
    write_between_powers,
    write_plainly,
)
from gd_lightning.records.history import BY_UPDATE, PREDICTED, History

Values = NDArray[np.float64]

IN_FRONT = 6  # zorder above that of Matplotlib's legends
DRAWN_SAMPLES = 2000  # maximum number of samples that are drawn; more could not be told apart
_GRID = 80  # points along each axis of a loss surface
_PARTS = 700  # parts of a curve, of each of which the lowest and the highest point are drawn
_MOST_MARKED, _MARKED = 50, 21  # maximum number of points that all have a marker; number of markers if there are more
_FAR = 10.0  # a function is not drawn farther from the data than so many of their ranges
_BELOW = 10.0  # batch losses below the lowest train loss divided by this are not shown
_LARGEST = 1e150  # largest number that matplotlib can scale


def draw_losses(axes: Axes, history: History, variant: str | None, floor: float | None = None) -> None:
    """Draw batch loss, train loss, its prediction and validation loss against updates.

    The scale is logarithmic where the values allow it. What is shown is set by what was measured: a prediction that
    goes beyond leaves the picture.

    Args:
        axes: The axes to draw on.
        history: A run.
        variant: Its variant, for the colour; None if unknown.
        floor: The smallest train loss that can be reached, drawn as a thin line.
    """
    color = VARIANT_COLORS.get(variant or "", UNKNOWN_VARIANT_COLOR)
    batch, train, validation = (_drawable(history, name) for name in ("batch_loss", "train_loss", "val_loss"))
    if len(batch[0]):
        # The batch loss of update u was computed at the weights before it, for which the train loss is drawn at u - 1.
        axes.plot(*envelope(batch[0] - 1, batch[1]), color=color, alpha=0.35, linewidth=0.8, label="batch loss")
    if len(train[0]):
        axes.plot(*envelope(*train), color=color, linewidth=1.4, label="train loss")
        _draw_measured(axes, history, color)
    if len(validation[0]):
        style: dict[str, Any] = {"color": VALIDATION_COLOR, "linestyle": "--", "linewidth": 1.2, "marker": "^"}
        style |= {"markersize": 3.5, "markerfacecolor": "white", "markevery": _some(len(validation[0]))}
        axes.plot(*validation, label="validation loss", **style)
    if PREDICTED in history:
        # On top of the measured curve, so that both are visible where they coincide.
        predicted = _drawable(history, PREDICTED)
        axes.plot(*predicted, color="black", linestyle=":", linewidth=1.5, label="predicted")
    _set_loss_axis(axes, batch[1], np.concatenate([train[1], validation[1]]), floor)
    if floor is not None and floor > 0 and floor >= axes.get_ylim()[0]:
        axes.axhline(floor, color=TRUTH_COLOR, linewidth=1.0, linestyle="-.", label="least squares")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    end = float(history.last("update")) if len(history) else 1.0
    axes.set(xlabel="updates", ylabel="loss", xlim=(-0.03 * end, 1.03 * end) if end else None)
    axes.set_title(f"{variant or ''} gradient descent: loss".strip(), fontsize="medium")
    add_legend(axes)


def _drawable(history: History, name: str) -> tuple[Values, Values]:
    updates, losses = history.curve(name) if name in history else (np.empty(0), np.empty(0))
    return updates, _no_infinity(losses)


def _draw_measured(axes: Axes, history: History, color: str) -> None:
    """Mark where the train loss was measured, and where a run left the drawable range."""
    if "train_loss" in history:
        updates, losses = history.series("train_loss")
        marks: dict[str, Any] = {"color": darkened(color), "linestyle": "none", "marker": "o", "markersize": 3}
        if BY_UPDATE in history:
            some = _some(len(updates))
            axes.plot(updates[some], _no_infinity(losses)[some], label="measured", **marks)
        elif len(updates) <= _MOST_MARKED:
            axes.plot(updates, _no_infinity(losses), **marks)
    if history.has_diverged:
        updates, losses = history.curve("train_loss")
        drawn = np.flatnonzero(np.isfinite(_no_infinity(losses)))[-1:]
        axes.plot(updates[drawn], losses[drawn], "x", color="black", markersize=8, markeredgewidth=2, label="diverged")


def _some(count: int) -> list[int]:
    """Return the indices of the marked points: all of a few, else some evenly spaced ones, including the last."""
    return (
        list(range(count)) if count <= _MOST_MARKED else np.linspace(0, count - 1, _MARKED).round().astype(int).tolist()
    )


def _set_loss_axis(axes: Axes, batch: Values, losses: Values, floor: float | None) -> None:
    """Choose scale and limits from the measured losses; a few small batch losses may be outside of the picture."""
    batch, losses = _finite(batch), _finite(losses)
    losses = losses if len(losses) else batch
    values = np.concatenate([batch, losses])
    if not len(values):
        return
    if losses.min() > 0 and values.max() > 10 * losses.min():
        usual = np.quantile(batch[batch > 0], 0.05) if (batch > 0).any() else math.inf
        low = min(float(losses.min()), max(usual, losses.min() / _BELOW))
        low = floor if floor is not None and low / 1e3 < floor < low else low
        margin = 10 ** (0.05 * max(math.log10(values.max() / low), 1.0))
        axes.set_yscale("log")
        write_plainly(axes.yaxis)
        ends = low / margin, values.max() * margin
        axes.set_ylim(*ends)
        write_between_powers(axes.yaxis, *ends)
        return
    low = float(values.min())
    high = max(float(losses.max()), float(np.quantile(values, 0.9)))
    if (span := high - low) > 0:
        axes.set_ylim(low - 0.05 * span, high + 0.15 * span)


def envelope(x: Values, y: Values) -> tuple[Values, Values]:
    """Return the visible points of a curve: the first, lowest and highest point of each of many parts.

    Args:
        x: Where, ascending, shape (points,).
        y: The values, shape (points,).

    Example:
        >>> x, y = envelope(np.arange(9e4), np.arange(9e4) % 1000)
        >>> len(x) < 2_500, float(y.min()), float(y.max())
        (True, 0.0, 999.0)
    """
    per_part = -(-len(x) // _PARTS)
    if per_part <= 3:
        return x, y
    whole = len(x) // per_part * per_part
    parts = y[:whole].reshape(-1, per_part)
    starts = np.arange(len(parts)) * per_part
    # A part without any number has no lowest value.
    lowest, highest = np.where(np.isnan(parts), math.inf, parts), np.where(np.isnan(parts), -math.inf, parts)
    places = [starts, starts + lowest.argmin(axis=1), starts + highest.argmax(axis=1), np.arange(whole, len(x))]
    chosen = np.unique(np.concatenate(places))
    return x[chosen], y[chosen]


def draw_fit(
    axes: Axes,
    x: Values,
    y: Values,
    predict: Callable[[Values], Values],
    truth: Values | None,
    names: tuple[str, str] = ("x", "y"),
) -> None:
    """Draw data, fitted function and true function.

    Args:
        axes: The axes to draw on.
        x: Features, shape (N,).
        y: Targets, shape (N,).
        predict: The fitted function, from shape (n,) to (n,).
        truth: Values of the true function on 200 equidistant points over the range of x, or None.
        names: Names of feature and target.
    """
    every = -(-len(x) // DRAWN_SAMPLES)
    axes.scatter(x[::every], y[::every], s=8, color=DATA_COLOR, label="data")
    grid = fit_grid(x)
    fitted, spread = predict(grid), float(np.ptp(y)) or 1.0
    if (np.abs(fitted - y.mean()) < _FAR * spread).all():
        axes.plot(grid, fitted, color="black", linewidth=1.4, label="fitted")
    else:
        axes.plot([], [], "x", color="black", label="fitted: too far off")
    if truth is not None:
        axes.plot(grid, truth, color=TRUTH_COLOR, linestyle="--", linewidth=1.2, label="truth")
    # A diverged fit would make the data look like a flat line.
    low, high = axes.get_ylim()
    axes.set(
        ylim=(max(low, y.min() - spread), min(high, y.max() + spread)), xlabel=short(names[0]), ylabel=short(names[1])
    )
    few_ticks(axes)
    axes.set_title("data and fit", fontsize="medium")
    add_legend(axes)


def fit_grid(x: Values) -> Values:
    """Return the 200 points at which :func:`draw_fit` draws functions."""
    return np.linspace(x.min(), x.max(), 200)


@dataclass(frozen=True)
class Surface:
    """The train loss of a line over its two parameters.

    Args:
        loss: Returns the losses, shape (n, n), for weights and biases of shape (n, n).
        minimum: Weight and bias with the smallest loss.
    """

    loss: Callable[[Values, Values], Values]
    minimum: tuple[float, float]

    @classmethod
    def of_squared_error(cls, pieces: Iterable[tuple[Values, Values]], minimum: tuple[float, float]) -> Surface:
        """Return the surface of mean((w x + b - y)^2), from five moments of the data.

        Args:
            pieces: All data in pieces, features and targets of shape (n,) each.
            minimum: Weight and bias with the smallest loss.
        """
        total, n, unit = np.zeros(5), 0, 1.0
        for x, y in pieces:
            if not n:
                unit = float(unit_of(torch.tensor(np.abs(x).max(initial=0.0), dtype=torch.float64)))
            x = x / unit
            total += [(x * x).sum(), (x * y).sum(), (y * y).sum(), x.sum(), y.sum()]
            n += len(x)
        xx, xy, yy, mean_x, mean_y = total / n

        def loss(w: Values, b: Values) -> Values:
            w = w * unit
            value: Values = w * w * xx + b * b + yy + 2 * (w * b * mean_x - w * xy - b * mean_y)
            return value.clip(min=0.0)  # rounding can bring the loss of an exact fit below 0

        return cls(loss, minimum)


def draw_surface(
    axes: Axes, surface: Surface, w: Values, b: Values, variant: str | None, names: tuple[str, str] = ("w", "b")
) -> None:
    """Draw the loss over weight and bias as contours, with the path of the parameters up to where it leaves them.

    Args:
        axes: The axes to draw on.
        surface: The loss.
        w: Weight after each recorded update, shape (rows,).
        b: Bias after each recorded update, shape (rows,).
        variant: The variant, for the colour of the path; None if unknown.
        names: Names of weight and bias.
    """
    draw_contours(axes, surface, w, b)
    color = VARIANT_COLORS.get(variant or "", UNKNOWN_VARIANT_COLOR)
    if not draw_path(axes, w, b, color=color, marker="o"):
        axes.plot([], [], "x", color=darkened(color), markeredgewidth=1.8, label="leaves the picture")
    draw_start_and_minimum(axes, surface, w[0], b[0])
    axes.set(xlabel=short(names[0]), ylabel=short(names[1]))
    axes.set_title("train loss and path", fontsize="medium")
    add_legend(axes)


def draw_path(axes: Axes, w: Values, b: Values, *, color: str, marker: str, label: str = "path") -> bool:
    """Draw a path within the limits of a panel; a path that ends outside is drawn until it first leaves.

    Returns:
        Whether it ends within them.
    """
    path, limits = np.stack([w, b], axis=1), np.array([axes.get_xlim(), axes.get_ylim()])
    inside: NDArray[np.bool_] = np.all((path >= limits[:, 0]) & (path <= limits[:, 1]), axis=1)
    is_whole = bool(inside[-1])
    if not is_whole:
        end = int(np.argmin(inside))
        path, beyond = path[:end], path[end]
        if end > 0 and np.isfinite(beyond).all():
            path = np.vstack([path, _crossing(path[-1], beyond, limits)])
    few = list(range(len(path))) if len(path) <= _MOST_MARKED else [len(path) - 1]
    style: dict[str, Any] = {"color": color}
    if is_whole:
        style |= {"marker": marker, "markersize": 4, "markevery": few}
    axes.plot(*np.where(np.abs(path) < _LARGEST, path, np.nan).T, linewidth=1.2, label=label, **style)
    if not is_whole:
        axes.plot(*path[-1:].T, "x", color=darkened(color), markersize=7, markeredgewidth=1.8, clip_on=False)
    return is_whole


def _crossing(within: Values, beyond: Values, limits: Values) -> Values:
    """Return where the line from a point within limits, shape (2, 2), to one outside crosses them."""
    edges, moves = np.where(beyond > within, limits[:, 1], limits[:, 0]), beyond != within
    parts = (edges - within)[moves] / (beyond - within)[moves]
    point: Values = within + parts.min() * (beyond - within)
    return point


def draw_contours(axes: Axes, surface: Surface, w: Values, b: Values) -> None:
    """Draw the loss as contours over the part of the plane with some weights and biases, and set the limits.

    Args:
        axes: The axes to draw on.
        surface: The loss.
        w: Weights of one path or of several, the start first, shape (points,).
        b: Their biases, shape (points,).
    """
    w_best, b_best = surface.minimum
    # A path that diverges leaves every picture: the range is at most three times the distance of the start.
    w_reach = 3 * max(abs(w[0] - w_best), 0.1 * abs(w_best), 1e-3)
    b_reach = 3 * max(abs(b[0] - b_best), 0.1 * abs(b_best), 1e-3)
    inside = (np.abs(w - w_best) <= w_reach) & (np.abs(b - b_best) <= b_reach)
    w_range, b_range = _around(w[inside], w_best), _around(b[inside], b_best)
    ws, bs = np.meshgrid(np.linspace(*w_range, _GRID), np.linspace(*b_range, _GRID))
    losses = surface.loss(ws, bs)
    low, high = max(float(losses.min()), 1e-12 * float(losses.max())), float(losses.max())
    axes.contour(ws, bs, losses, levels=np.geomspace(low, high, 14), colors=CONTOUR_COLOR, linewidths=0.6)
    axes.set(xlim=w_range, ylim=b_range, xlabel="w", ylabel="b")
    few_ticks(axes)


def draw_start_and_minimum(axes: Axes, surface: Surface, w: float, b: float) -> None:
    """Mark the start of a path and the minimum of the loss, in front of the legend, which may reach up to them."""
    axes.plot(w, b, "s", color="black", markersize=5, label="start", zorder=IN_FRONT)
    axes.plot(*surface.minimum, "*", color=TRUTH_COLOR, markersize=10, label="least squares", zorder=IN_FRONT)


def _around(path: Values, best: float) -> tuple[float, float]:
    low, high = min(path.min(initial=best), best), max(path.max(initial=best), best)
    margin = 0.15 * (high - low) or 1.0
    return low - margin, high + margin


def _finite(values: Values) -> Values:
    return values[np.isfinite(values)]


def _no_infinity(values: Values) -> Values:
    """Return values with gaps in place of those that are not finite or that matplotlib cannot scale."""
    return np.where(np.abs(values) < _LARGEST, values, np.nan)
