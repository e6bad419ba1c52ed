"""Plots of a run: loss curves, fit, and loss surface with path, drawn into given axes.

Letters: N samples, of which each has one feature and one target here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gd_lightning.plots.style import DATA_COLOR, TRUTH_COLOR, UNKNOWN_VARIANT_COLOR, VARIANT_COLORS
from gd_lightning.records.history import PREDICTED, History

Values = NDArray[np.float64]

DRAWN_SAMPLES = 2000  # more points only blacken the picture
_GRID = 80  # points along each axis of a loss surface


def draw_losses(axes: Axes, history: History, variant: str | None, floor: float | None = None) -> None:
    """Draw batch loss, train loss and its prediction against updates, on a logarithmic scale where the values allow it.

    Args:
        axes: Where to.
        history: A run.
        variant: Its variant, for the colour; None if unknown.
        floor: The smallest train loss that can be reached, drawn as a thin line.
    """
    color = VARIANT_COLORS.get(variant or "", UNKNOWN_VARIANT_COLOR)
    shown: list[Values] = []
    if "batch_loss" in history:
        updates, losses = history.series("batch_loss")
        # The batch loss of update u was computed at the weights before it, where the train loss stands at u - 1.
        shown.append(_finite(losses))
        axes.plot(updates - 1, _no_infinity(losses), color=color, alpha=0.35, linewidth=0.8, label="batch loss")
    if "train_loss" in history:
        updates, losses = history.series("train_loss")
        shown.append(_finite(losses))
        marker = "o" if len(updates) <= 50 else None
        axes.plot(updates, _no_infinity(losses), color=color, marker=marker, markersize=3, label="train loss")
    if PREDICTED in history:
        updates, losses = history.series(PREDICTED)
        # On top of the measured curve, so that both are seen where one lies on the other.
        axes.plot(updates, _no_infinity(losses), color="black", linestyle=":", linewidth=1.5, label="predicted")
    if floor is not None and floor > 0:
        axes.axhline(floor, color=TRUTH_COLOR, linewidth=0.8, linestyle="--", label="least squares")
    values = np.concatenate(shown) if shown else np.empty(0)
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("updates")
    axes.set_ylabel("loss")
    axes.set_title(f"{variant or ''} gradient descent: loss".strip())
    axes.legend(fontsize="small")


def draw_fit(axes: Axes, x: Values, y: Values, predict: Callable[[Values], Values], truth: Values | None) -> None:
    """Draw data, fitted function and true function.

    Args:
        axes: Where to.
        x: Features, shape (N,).
        y: Targets, shape (N,).
        predict: The fitted function, from shape (n,) to (n,).
        truth: Values of the true function on 200 equidistant points over the range of x, or None.
    """
    every = -(-len(x) // DRAWN_SAMPLES)
    axes.scatter(x[::every], y[::every], s=8, color=DATA_COLOR, label="data")
    grid = fit_grid(x)
    if truth is not None:
        axes.plot(grid, truth, color=TRUTH_COLOR, linestyle="--", linewidth=1.2, label="truth")
    fitted = predict(grid)
    if np.isfinite(fitted).all():
        axes.plot(grid, fitted, color="black", linewidth=1.2, label="fitted")
    # A diverged fit would flatten the data to a line.
    spread = float(np.ptp(y)) or 1.0
    axes.set_ylim(y.min() - spread, y.max() + spread) if np.abs(fitted - y.mean()).max() > 2 * spread else None
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_title("data and fit")
    axes.legend(fontsize="small")


def fit_grid(x: Values) -> Values:
    """Return the 200 points at which :func:`draw_fit` draws functions."""
    return np.linspace(x.min(), x.max(), 200)


@dataclass(frozen=True)
class Surface:
    """The train loss of a line over its two parameters.

    Args:
        loss: From weights and biases of shape (n, n) to losses of shape (n, n).
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
        total, n = np.zeros(5), 0
        for x, y in pieces:
            total += [(x * x).sum(), (x * y).sum(), (y * y).sum(), x.sum(), y.sum()]
            n += len(x)
        xx, xy, yy, mean_x, mean_y = total / n

        def loss(w: Values, b: Values) -> Values:
            value: Values = w * w * xx + b * b + yy + 2 * (w * b * mean_x - w * xy - b * mean_y)
            return value.clip(min=0.0)  # rounding can push an exact fit below 0

        return cls(loss, minimum)


def draw_surface(axes: Axes, surface: Surface, w: Values, b: Values, variant: str | None) -> None:
    """Draw the loss over weight and bias as contours, with the path of the parameters.

    Args:
        axes: Where to.
        surface: The loss.
        w: Weight after each recorded update, shape (rows,).
        b: Bias after each recorded update, shape (rows,).
        variant: The variant, for the colour of the path; None if unknown.
    """
    draw_contours(axes, surface, w, b)
    marker, color = "o" if len(w) <= 50 else None, VARIANT_COLORS.get(variant or "", UNKNOWN_VARIANT_COLOR)
    path_w, path_b = _no_infinity(w), _no_infinity(b)
    axes.plot(path_w, path_b, color=color, marker=marker, markersize=3, linewidth=1, label="path")
    draw_start_and_minimum(axes, surface, w[0], b[0])
    axes.set_title("train loss and path of the parameters")
    axes.legend(fontsize="small")


def draw_contours(axes: Axes, surface: Surface, w: Values, b: Values) -> None:
    """Draw the loss as contours over the part of the plane where some weights and biases are, and set the limits.

    Args:
        axes: Where to.
        surface: The loss.
        w: Weights of one path or of several, the start first, shape (points,).
        b: Their biases, shape (points,).
    """
    w_best, b_best = surface.minimum
    # A diverging path leaves every picture: show what lies within three times the distance of the start.
    w_reach = 3 * max(abs(w[0] - w_best), 0.1 * abs(w_best), 1e-3)
    b_reach = 3 * max(abs(b[0] - b_best), 0.1 * abs(b_best), 1e-3)
    inside = (np.abs(w - w_best) <= w_reach) & (np.abs(b - b_best) <= b_reach)
    w_range, b_range = _around(w[inside], w_best), _around(b[inside], b_best)
    ws, bs = np.meshgrid(np.linspace(*w_range, _GRID), np.linspace(*b_range, _GRID))
    losses = surface.loss(ws, bs)
    low, high = max(float(losses.min()), 1e-12 * float(losses.max())), float(losses.max())
    axes.contour(ws, bs, losses, levels=np.geomspace(low, high, 14), colors=DATA_COLOR, linewidths=0.6)
    axes.set(xlim=w_range, ylim=b_range, xlabel="w", ylabel="b")


def draw_start_and_minimum(axes: Axes, surface: Surface, w: float, b: float) -> None:
    """Mark where a path starts and where the loss is smallest."""
    axes.plot(w, b, "s", color="black", markersize=5, label="start")
    axes.plot(*surface.minimum, "*", color=TRUTH_COLOR, markersize=10, label="least squares")


def _around(path: Values, best: float) -> tuple[float, float]:
    low, high = min(path.min(initial=best), best), max(path.max(initial=best), best)
    margin = 0.15 * (high - low) or 1.0
    return low - margin, high + margin


def _finite(values: Values) -> Values:
    return values[np.isfinite(values)]


def _no_infinity(values: Values) -> Values:
    """Return values with gaps where they are not finite or beyond what matplotlib can scale."""
    return np.where(np.abs(values) < 1e150, values, np.nan)
