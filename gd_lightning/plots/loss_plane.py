"""The train loss of a network over a plane through its parameters, with the path of a run.

The plane goes through the end and the start of the run, and along the direction in which the rest of the path varies
most. Where there is no such path, a direction is random, and normalised filter by filter.
Source: Li, Xu, Taylor, Studer and Goldstein, Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018,
    https://arxiv.org/abs/1712.09913, sections 4 and 7.

Letters: P parameters, S recorded points of a path, G points along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from gd_lightning.plots.run_curves import IN_FRONT, Values, draw_path
from gd_lightning.plots.style import (
    CONTOUR_COLOR,
    TRUTH_COLOR,
    UNKNOWN_VARIANT_COLOR,
    VARIANT_COLORS,
    add_legend,
    few_ticks,
)

GRID = 21
_MARGIN = 0.2  # fraction of the range of the path
_NOTHING = 1e-6  # fraction of the length of a path below which a direction counts as 0


@dataclass(frozen=True)
class LossPlane:
    """A plane through parameters, and a path projected on it.

    Args:
        origin: The end of the path, shape (P,).
        axes: Two directions of length 1 at right angles, shape (2, P).
        names: Names of the directions.
        path: Shape (S, 2), in units of the directions; the last one is 0.
    """

    origin: Values
    axes: Values
    names: tuple[str, str]
    path: Values

    @classmethod
    def of(cls, path: Values, shapes: Sequence[tuple[int, ...]]) -> LossPlane:
        """Return the plane of a path.

        Args:
            path: The parameters at some points of a run, the start first and the end last, shape (S, P).
            shapes: Shapes of the tensors of parameters, in their order, for random directions.
        """
        end, steps = path[-1], path - path[-1]
        to_start = steps[0]
        length = float(np.linalg.norm(steps, axis=1).max())
        generator = np.random.default_rng(0)
        found: list[Values] = []
        names: list[str] = []
        if np.linalg.norm(to_start) > _NOTHING * max(length, 1e-300):
            _add(found, to_start)
            names.append("from the end to the start")
        rest = _apart(steps, found)
        # For S points and P parameters, the S x S matrix has the same nonzero eigenvalues as the P x P one.
        values, vectors = np.linalg.eigh(rest @ rest.T)
        if math.sqrt(max(float(values[-1]), 0.0)) > _NOTHING * max(length, 1e-300):
            _add(found, vectors[:, -1] @ rest)
            names.append("first principal direction of the path")
        while len(found) < 2:
            _add(found, filter_normalized(generator.standard_normal(len(end)), end, shapes))
            names.append("a random direction, by filters")
        axes = np.stack(found[:2])
        return cls(end, axes, (names[0], names[1]), steps @ axes.T)

    def grid(self) -> tuple[Values, Values]:
        """Return the coordinates of the grid along both axes, shape (G,) each."""
        reach = max(float(np.ptp(self.path, axis=0).max()), 1e-3 * float(np.linalg.norm(self.origin)), 1e-9)
        ends = []
        for along in self.path.T:
            low, high = float(along.min()), float(along.max())
            margin = _MARGIN * max(high - low, 0.3 * reach)
            ends.append(np.linspace(low - margin, high + margin, GRID))
        return ends[0], ends[1]

    def losses(self, loss: Callable[[Values], float]) -> Values:
        """Return the loss at each point of the grid, shape (G, G).

        Args:
            loss: The train loss at parameters of shape (P,).
        """
        first, second = self.grid()
        points = (self.origin + a * self.axes[0] + b * self.axes[1] for b in second for a in first)
        return np.array([loss(point) for point in points]).reshape(GRID, GRID)


def filter_normalized(direction: Values, parameters: Values, shapes: Sequence[tuple[int, ...]]) -> Values:
    """Return a direction whose filters have the norms of the parameters' filters; it is 0 along biases.

    A filter is what leads to one output of a layer: a row of its weight.

    Args:
        direction: Shape (P,).
        parameters: Shape (P,).
        shapes: The shapes of the tensors, which are concatenated.

    Example:
        >>> filter_normalized(np.array([3.0, 4.0, 9.0]), np.array([0.0, 10.0, 1.0]), [(1, 2), (1,)]).tolist()
        [6.0, 8.0, 0.0]
    """
    found, at = np.zeros_like(direction), 0
    for shape in shapes:
        size = math.prod(shape)
        if len(shape) > 1:
            rows = direction[at : at + size].reshape(shape[0], -1)
            wanted = np.linalg.norm(parameters[at : at + size].reshape(shape[0], -1), axis=1)
            found[at : at + size] = (rows * (wanted / np.linalg.norm(rows, axis=1))[:, None]).ravel()
        at += size
    # If there are no weights, or all of them are 0, the scaled direction would be 0.
    return found if found.any() else direction


def _add(found: list[Values], direction: Values) -> None:
    """Add the component of a direction that is orthogonal to the earlier ones."""
    (rest,) = _apart(direction[None], found)
    found.append(rest / np.linalg.norm(rest))


def _apart(steps: Values, found: Sequence[Values]) -> Values:
    for axis in found:
        steps = steps - np.outer(steps @ axis, axis)
    return steps


def draw_plane(axes: Axes, plane: LossPlane, losses: Values, variant: str | None, start: str = "start") -> None:
    """Draw the loss over a plane as contours, with the path of the parameters.

    Args:
        axes: The axes to draw on.
        plane: The plane.
        losses: What :meth:`LossPlane.losses` returned, shape (G, G).
        variant: The variant, for the colour of the path; None if unknown.
        start: Name of the first point of the path.
    """
    first, second = plane.grid()
    finite = losses[np.isfinite(losses) & (losses > 0)]
    if len(finite) and finite.max() > finite.min():
        levels = np.geomspace(max(finite.min(), 1e-12 * finite.max()), finite.max(), 14)
        drawn = np.where(np.isfinite(losses), losses, finite.max())
        axes.contour(first, second, drawn, levels=levels, colors=CONTOUR_COLOR, linewidths=0.6)
    axes.set(xlim=(first[0], first[-1]), ylim=(second[0], second[-1]), xlabel=plane.names[0], ylabel=plane.names[1])
    color = VARIANT_COLORS.get(variant or "", UNKNOWN_VARIANT_COLOR)
    draw_path(axes, *plane.path.T, color=color, marker="o")
    axes.plot(*plane.path[0], "s", color="black", markersize=5, label=start, zorder=IN_FRONT)
    axes.plot(0.0, 0.0, "*", color=TRUTH_COLOR, markersize=10, label="end", zorder=IN_FRONT)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize("small")
    few_ticks(axes)
    axes.set_title("train loss and path", fontsize="medium")
    add_legend(axes)
