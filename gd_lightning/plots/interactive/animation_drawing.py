"""The frames of an animation as pixels; the background, which does not change, is drawn once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gd_lightning.plots.interactive.animation_content import AnimationContent, LineLoss, Track, Values, rows_until
from gd_lightning.plots.style import (
    CONTOUR_COLOR,
    DATA_COLOR,
    RUN_COLORS,
    TRUTH_COLOR,
    legend_label,
    sized_figure,
    write_plainly,
)

Picture = NDArray[np.uint8]
"""Shape (height, width, 3)."""

_DASHES, _MARKERS = ("-", "--", ":", "-."), "os^D"
_WIDTH, _HEIGHT, _DPI = 4.2, 3.5, 80  # width and height of a panel in inches
_COLUMNS = 4  # largest number of surfaces in a row
_DENSE = 300  # points from which a curve counts as dense
_CONTOURS, _RATIO = 14, 2.4  # number of contours, and ratio of the excess losses of neighbours

Move = Callable[[float], None]
"""Moves artists to where they are after some samples."""


class FrameFigure:
    """A figure whose artists move.

    Args:
        content: The runs to show.
    """

    def __init__(self, content: AnimationContent) -> None:
        self.content = content
        self.moving: list[tuple[Artist, Move]] = []
        has_own, k = content.surface is not None or content.several is not None, len(content.tracks)
        others = content.shows_fits + 1
        # A single run has its panels side by side; each of several runs has a panel of its own above the shared ones.
        is_one_row = not has_own or k == 1
        columns = has_own + others if is_one_row else max(min(k, _COLUMNS), 2)
        rows = 1 if is_one_row else 1 + -(-k // _COLUMNS)
        width_of_all = _WIDTH * max(columns, 1.5)
        self.figure: Figure = sized_figure(width_of_all, _HEIGHT * rows + 0.35)
        self.figure.set_dpi(_DPI)
        grid = self.figure.add_gridspec(rows, 2 * columns, left=0.95 / width_of_all, right=1 - 0.32 / width_of_all)
        grid.update(wspace=1.4, hspace=0.38, top=1 - 0.75 / (_HEIGHT * rows), bottom=0.6 / (_HEIGHT * rows))
        places = [
            self.figure.add_subplot(grid[i // _COLUMNS, 2 * (i % _COLUMNS) : 2 * (i % _COLUMNS) + 2])
            for i in range(k if has_own else 0)
        ]
        width, first = (2, 2 * len(places)) if is_one_row else (2 * columns // others, 0)
        below = [self.figure.add_subplot(grid[-1, first + width * i : first + width * (i + 1)]) for i in range(others)]
        for axis in (axis for axes in (*places, *below) for axis in (axes.xaxis, axes.yaxis)):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            write_plainly(axis)
        for i, (axes, track) in enumerate(zip(places, content.tracks, strict=False)):
            draw = self._surface if content.several is None else self._predictions
            draw(axes, track, i)
        if content.shows_fits:
            self._fits(below[0])
        self._losses(below[-1])
        self._heading()

    def _add(self, artist: Artist, move: Move) -> None:
        artist.set_animated(True)
        self.moving.append((artist, move))

    def _surface(self, axes: Axes, track: Track, i: int) -> None:
        loss, ranges = self.content.surface, self.content.ranges
        assert loss is not None
        assert track.w is not None
        assert track.b is not None
        draw_ellipses(axes, loss, ranges["w"], ranges["b"])
        axes.plot(track.w[:1], track.b[:1], "s", color="black", markersize=4, label="start")
        axes.plot([loss.w], [loss.b], "*", color=TRUTH_COLOR, markersize=9, label="least squares")
        axes.set(xlim=ranges["w"], ylim=ranges["b"], xlabel="w", ylabel="b", title=track.label)
        self._trail(axes, track.samples, track.w, track.b, i, "path")
        axes.legend(fontsize="x-small", loc="upper right")

    def _predictions(self, axes: Axes, track: Track, i: int) -> None:
        several, ranges, predicted = self.content.several, self.content.ranges, track.predicted
        assert several is not None
        assert predicted is not None
        axes.plot(ranges["true"], ranges["true"], "--", color=TRUTH_COLOR, linewidth=1.2, label="exact")
        axes.set(xlim=ranges["true"], ylim=ranges["predicted"], title=track.label)
        axes.set(xlabel=f"true: {several.target}", ylabel="predicted")
        axes.legend(fontsize="x-small", loc="upper left")
        style: dict[str, Any] = {"color": RUN_COLORS[i % len(RUN_COLORS)], "markersize": 3, "linestyle": "none"}
        (points,) = axes.plot([], [], marker=_MARKERS[i % 4], **style)
        self._add(points, lambda seen: points.set_data(several.y, _drawable(predicted[track.row_at(seen)])))

    def _trail(self, axes: Axes, samples: Values, xs: Values, ys: Values, i: int, label: str) -> None:
        """Add a curve that grows, with a marker at its end."""
        color, width = RUN_COLORS[i % len(RUN_COLORS)], 0.8 if len(xs) > _DENSE else 1.5
        xs, ys = _drawable(xs), _drawable(ys)
        # The dashes of a dense curve cannot be distinguished, and take long to draw.
        dash = _DASHES[i % 4] if len(xs) <= _DENSE else "-"
        (curve,) = axes.plot([], [], dash, color=color, linewidth=width, label=legend_label(label))
        (end,) = axes.plot([], [], _MARKERS[i % 4], color=color, markersize=6)

        def grow(seen: float) -> None:
            count = rows_until(samples, seen)
            curve.set_data(xs[:count], ys[:count])

        def follow(seen: float) -> None:
            last = max(0, rows_until(samples, seen) - 1)
            end.set_data(xs[last : last + 1], ys[last : last + 1])

        self._add(curve, grow)
        self._add(end, follow)

    def _fits(self, axes: Axes) -> None:
        line, ranges = self.content.line, self.content.ranges
        assert line is not None
        axes.scatter(line.x, line.y, s=7, color=DATA_COLOR, label="data")
        ends = np.array(ranges["x"])
        if line.truth is not None:
            axes.plot(ends, line.truth[0] * ends + line.truth[1], ":", color="black", linewidth=1.2, label="truth")
        for i, track in enumerate(self.content.tracks):
            self._fit(axes, track, i, ends)
        axes.set(xlim=ranges["x"], ylim=ranges["y"], xlabel=line.feature, ylabel=line.target, title="data and fit")
        axes.legend(fontsize="x-small")

    def _fit(self, axes: Axes, track: Track, i: int, ends: Values) -> None:
        if (w := track.w) is None or (b := track.b) is None:
            return
        color, label = RUN_COLORS[i % len(RUN_COLORS)], legend_label(track.label)
        (fitted,) = axes.plot([], [], _DASHES[i % 4], color=color, linewidth=2, label=label)

        def turn(seen: float) -> None:
            row = track.row_at(seen)
            fitted.set_data(ends, _drawable(w[row] * ends + b[row]))

        self._add(fitted, turn)

    def _losses(self, axes: Axes) -> None:
        content, ranges = self.content, self.content.ranges
        axes.set_yscale("log" if ranges["isLog"] else "linear")
        write_plainly(axes.yaxis)
        axes.set(xlim=(0, content.frames[-1] or 1), ylim=ranges["loss"], xlabel="samples seen", title="train loss")
        if content.least_squares is not None:
            axes.axhline(content.least_squares, color=TRUTH_COLOR, linestyle="-.", linewidth=1, label="least squares")
        for i, track in enumerate(content.tracks):
            self._trail(axes, track.loss_samples, track.loss_samples, track.losses, i, track.label)
        axes.legend(fontsize="x-small", loc="upper right")

    def _heading(self) -> None:
        text = self.figure.text(0.5, 0.985, "", ha="center", va="top")
        title = self.content.title
        self._add(text, lambda seen: text.set_text(f"{title}: {seen:,.0f} samples seen"))

    def pictures(self) -> Iterator[Picture]:
        """Draw all frames."""
        canvas = self.figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        canvas.draw()
        still: Any = canvas.copy_from_bbox(self.figure.bbox)
        for seen in self.content.frames:
            canvas.restore_region(still)
            for artist, move in self.moving:
                move(float(seen))
                self.figure.draw_artist(artist)
            yield np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def pictures(content: AnimationContent) -> Iterator[Picture]:
    """Yield the frames of an animation."""
    return FrameFigure(content).pictures()


def draw_ellipses(axes: Axes, loss: LineLoss, w: tuple[float, float], b: tuple[float, float]) -> None:
    """Draw contours of the loss of a line, which are ellipses, out to the corners of a panel."""
    most = max(float(loss(at, to)) - loss.least for at in w for to in b)
    angles = np.linspace(0, 2 * np.pi, 97)
    for k in range(_CONTOURS):
        radius = (most / _RATIO**k) ** 0.5
        ws = loss.w + radius * np.cos(angles) / loss.sd
        bs = loss.b + radius * np.sin(angles) - loss.mean * (ws - loss.w)
        axes.plot(ws, bs, color=CONTOUR_COLOR, linewidth=0.5)


def _drawable(values: Values) -> Values:
    """Return values with gaps in place of those that Agg cannot draw."""
    return np.where(np.abs(values) < 1e9 * (1 + np.abs(values[:1])), values, np.nan)
