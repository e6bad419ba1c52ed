"""The picture of the map: what is where, in the data and in the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gd_lightning.plots.outcome_map import REGION_COLORS, draw_map
from gd_lightning.plots.style import pixels
from gd_lightning.theory import Boundaries, OutcomeMap, Verdict


def _column(batch_size: int, scale: float, short_batch: int = 0) -> Boundaries:
    fast_from, fast_to, quiet, stable, best = (scale * lr for lr in (0.01, 0.1, 0.12, 1.0, 0.7))
    return Boundaries(batch_size, fast_from, fast_to, quiet, stable, stable, best, short_batch)


def _map(sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50), n: int = 100) -> OutcomeMap:
    return OutcomeMap(n, 20, tuple(_column(size, math.sqrt(size)) for size in sizes), _column(n, math.sqrt(n)))


def _points(line: Line2D) -> NDArray[np.float64]:
    return np.asarray(line.get_xydata(), dtype=np.float64)


def _color_at(figure: Figure, image: NDArray[np.uint8], panel: int, size: float, lr: float) -> Verdict:
    """Return the region at a place: where it is hatched, that of its background."""
    x, y = figure.axes[panel].transData.transform((size, lr))
    row, column = image.shape[0] - round(y), round(x)
    around = image[row - 8 : row + 9, column - 8 : column + 9].reshape(-1, 3) / 255
    counts = {
        verdict: (np.abs(around - to_rgb(color)).max(axis=1) < 0.02).sum() for verdict, color in REGION_COLORS.items()
    }
    return max(counts, key=lambda verdict: int(counts[verdict]))


def test_each_region_has_its_color_and_its_name() -> None:
    found = _map()
    figure = draw_map(found, 16, 0.01, Verdict.SLOW, "Problem\nexpected")
    image = pixels(figure)
    for panel, columns in enumerate([found.drawn[1:-1], (found.batch,)]):
        for column in columns:
            root = math.sqrt(column.batch_size)
            for lr in (0.004 * root, 0.04 * root, 0.3 * root, 1.6 * root):
                size = column.batch_size * (1.1 if panel else 1)
                if not _is_covered(figure, panel, size, lr):
                    assert _color_at(figure, image, panel, size, lr) is column.verdict(lr), (column, lr)
    written = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(written) == sorted(str(verdict) for verdict in Verdict)
    assert figure.get_suptitle() == "Problem\nexpected"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "largest stable lr",
        "shrinks the error fastest in the long run",
        "this run: batch_size 16, lr 0.01: slow",
    ]


def _is_covered(figure: Figure, panel: int, size: float, lr: float) -> bool:
    """Whether a name, a line or the point of the run is at a place."""
    axes = figure.axes[panel]
    x, y = axes.transData.transform((size, lr))
    boxes = [text.get_window_extent().padded(12) for text in axes.texts]
    points = [axes.transData.transform(_points(line)[0]) for line in axes.lines if line.get_marker() == "o"]
    return any(box.contains(x, y) for box in boxes) or any(np.hypot(x - a, y - b) < 25 for a, b in points)


def test_what_has_no_room_for_its_name_stands_in_the_legend() -> None:
    thin = [Boundaries(size, 0.011, 0.012, 0.012, 1.0, 1.0, 0.7) for size in (1, 2, 4)]
    figure = draw_map(OutcomeMap(8, 20, tuple(thin), _column(8, 1)), 1, 0.5, Verdict.REACHES_ITS_FLOOR, "")
    assert "converges" not in [text.get_text() for text in figure.axes[0].texts]
    assert figure.legends[0].get_texts()[-1].get_text() == "converges"
    assert len(figure.legends[0].get_patches()) == 1


@pytest.mark.parametrize(("batch_size", "lr"), [(16, 0.01), (100, 0.01), (1, 50.0), (1, 1e-3)])
def test_the_run_is_at_its_place(batch_size: int, lr: float) -> None:
    figure = draw_map(_map(), batch_size, lr, Verdict.SLOW, "")
    ((axes, point),) = [(a, line) for a in figure.axes for line in a.lines if str(line.get_label())[:8] == "this run"]
    np.testing.assert_allclose(_points(point), [[batch_size, lr]])
    assert point.get_marker() == "o"
    low, high = axes.get_ylim()
    assert low < lr < high
    assert axes is figure.axes[batch_size == 100]


@pytest.mark.parametrize(("lr", "marker"), [(1e9, "^"), (1e-300, "v")])
def test_an_arrow_leads_to_a_run_far_outside(lr: float, marker: str) -> None:
    figure = draw_map(_map(), 4, lr, Verdict.DIVERGES, "")
    (point,) = (line for line in figure.axes[0].lines if line.get_marker() == marker)
    low, high = figure.axes[0].get_ylim()
    assert _points(point).tolist() == [[4, high if lr > 1 else low]]
    assert high / low < 1e6
    assert pixels(figure).any()
    assert f"lr {lr:g}" in figure.legends[0].get_texts()[2].get_text()


@pytest.mark.parametrize("short", [16, 32])
def test_a_short_last_batch_is_a_narrow_notch(short: int) -> None:
    found = _map((1, 2, 4, 8, 16, 32))
    columns = [_column(c.batch_size, 0.5, 3) if c.batch_size == short else c for c in found.drawn]
    figure = draw_map(OutcomeMap(100, 20, tuple(columns), found.batch), short, 0.01, Verdict.SLOW, "")
    limit = next(line for line in figure.axes[0].lines if line.get_label() == "largest stable lr")
    sizes, values = _points(limit).T
    inside = np.abs(np.log(sizes / short)) < math.log(1.03)
    np.testing.assert_array_equal(values[inside], 0.5)
    beside = ~inside & (np.abs(np.log(sizes / short)) < math.log(1.05))
    if short == 16:
        np.testing.assert_allclose(values[beside], np.sqrt(sizes[beside]), rtol=1e-12)
    assert "batch_size " + f"{short} (the last batch 3)" in figure.legends[0].get_texts()[2].get_text()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_samples(n: int) -> None:
    found = OutcomeMap(n, math.inf, tuple(_column(size, 1) for size in range(1, n)), _column(n, 1))
    figure = draw_map(found, n, 0.3, Verdict.REACHES_ITS_FLOOR, "")
    assert len(figure.axes) == min(n, 2)
    image = pixels(figure)
    assert _color_at(figure, image, -1, 1.2 * n, 2.0) is Verdict.DIVERGES


def test_without_a_last_epoch_nothing_is_slow() -> None:
    columns = [Boundaries(size, 0.0, 0.1, 0.1, 1.0, 1.0, 0.7) for size in (1, 2, 4)]
    figure = draw_map(OutcomeMap(4, math.inf, tuple(columns[:2]), columns[2]), 1, 0.5, Verdict.REACHES_ITS_FLOOR, "")
    named = [text.get_text() for text in (*figure.axes[0].texts, *figure.legends[0].get_texts())]
    assert "slow" not in named
    assert "converges" in named


def test_neighbours_differ_in_lightness() -> None:
    """In print without color; red, which may lie beside all others, is hatched as well."""

    def lightness(verdict: Verdict) -> float:
        linear = [((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(REGION_COLORS[verdict])]
        lightness: float = 116 * np.cbrt(np.dot([0.2126, 0.7152, 0.0722], linear)) - 16
        return lightness

    unhatched = [verdict for verdict in Verdict if verdict is not Verdict.DIVERGES]
    assert all(abs(lightness(a) - lightness(b)) > 10 for a in unhatched for b in unhatched if a is not b)
