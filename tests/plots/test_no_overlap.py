"""No two texts of a picture lie on each other, none is cut, and curves are told apart in grey; over generated cases."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gd_lightning.plots.comparison.figure import PANELS, Fits, comparison_figure
from gd_lightning.plots.interactive.animation_content import AnimationContent, Line, LineLoss, SeveralFeatures, Track
from gd_lightning.plots.interactive.animation_drawing import FrameFigure
from gd_lightning.plots.loss_plane import GRID, LossPlane, draw_plane
from gd_lightning.plots.outcome_map import REGION_COLORS
from gd_lightning.plots.predictions import Judged, comparable, draw_predicted, draw_residuals
from gd_lightning.plots.run_curves import Surface, draw_fit, draw_losses, draw_surface
from gd_lightning.plots.style import CONTOUR_COLOR, VARIANT_COLORS, lightness, new_figure, pixels
from gd_lightning.plots.sweep_curves import Curve, sweep_curves
from gd_lightning.plots.sweep_map import Plane, sweep_map
from gd_lightning.records.groups import Group
from gd_lightning.records.history import BY_UPDATE, PREDICTED, History, Outcome

LONG = "the distance of the longest of all the trips that were ever made_in_kilometres"
X = np.linspace(-1, 1, 30)


def drawn_texts(figure: Figure) -> tuple[list[Text], tuple[int, int]]:
    """Return the texts that are drawn, which those of ticks beyond the limits of an axis are not, and the size."""
    drawn: dict[int, Text] = {}
    draw = Text.draw

    def record(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn[id(text)] = text
        draw(text, renderer)

    figure.set_dpi(80)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        height, width, _ = pixels(figure).shape
    return list(drawn.values()), (width, height)


def assert_readable(figure: Figure) -> None:
    texts, (width, height) = drawn_texts(figure)
    boxes = {f"{text.get_text()} #{i}": text.get_window_extent() for i, text in enumerate(texts)}
    for (one, box), (other, second) in itertools.combinations(boxes.items(), 2):
        overlap = Bbox.intersection(box, second)
        if overlap is not None and min(overlap.width, overlap.height) > 1.0:
            raise AssertionError(f"{one!r} lies on {other!r}")
    for text, box in boxes.items():
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{text!r} is cut: {box} in {width} x {height}"


def _slow_but(fast: str, cases: Collection[str]) -> list[Any]:
    """Return cases of which all but one run on request: the machines of the tests draw slowly."""
    return [case if case == fast else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def history(
    rate: float, count: int = 12, start: float = 4.0, outcome: Outcome = Outcome.COMPLETED, every: int = 1
) -> History:
    made = History()
    for i in range(count):
        loss = start * rate**i
        columns = {"train_loss": loss, "batch_loss": loss, "val_loss": 1.1 * loss, PREDICTED: loss, BY_UPDATE: loss}
        columns |= {"w": 2 + rate**i, "b": rate**i, "lr": 0.1}
        made.append(update=every * i, epoch=i, samples=8 * every * i, seconds=0.001 * every * i, **columns)
    made.outcome = outcome
    made.divergence_factor = 1e4
    return made


HISTORIES: dict[str, Callable[[], History]] = {
    "usual": lambda: history(0.7),
    "one point": lambda: history(1.0, count=1),
    "huge numbers": lambda: history(0.9, start=1e120),
    "tiny numbers": lambda: history(0.9, start=1e-120),
    "equal losses": lambda: history(1.0, start=123456.789),
    "a narrow range": lambda: history(0.999, start=123456.789),
    "diverged": lambda: history(1e3, outcome=Outcome.DIVERGED),
    "many updates": lambda: history(0.9999, count=5_000, start=1e6),
}


def run_figure(of: History, name: str) -> Figure:
    figure = new_figure(3)
    parts = figure.subfigures(1, 3, squeeze=False)[0]
    draw_losses(parts[0].subplots(), of, "mini-batch", floor=of.last("train_loss") / 2)
    scale = of.first("train_loss") if of.first("train_loss") < 1e100 else 1e9
    draw_fit(parts[1].subplots(), scale * X, X, lambda x: x / scale, np.linspace(-1, 1, 200), (name, name))
    surface = Surface.of_squared_error([(X, 2 * X)], (2.0, 0.0))
    draw_surface(parts[2].subplots(), surface, of["w"], of["b"], "stochastic", (f"w_{name}", f"b_{name}"))
    return figure


@pytest.mark.parametrize("case", _slow_but("diverged", HISTORIES))
def test_a_run(case: str) -> None:
    assert_readable(run_figure(HISTORIES[case](), LONG if case == "usual" else "x"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1.0, 1e-9, 1e12])
def test_predictions_and_the_plane_of_a_network(size: float) -> None:
    figure, rng = new_figure(3), np.random.default_rng(0)
    parts = figure.subfigures(1, 3, squeeze=False)[0]
    true = size * rng.standard_normal((30, 5))
    for k, targets in enumerate([[LONG], [f"{LONG} {i}" for i in range(5)]]):
        sets = comparable(
            [Judged(name, true[:, : len(targets)], 1.1 * true[:, : len(targets)]) for name in ("train", "validation")]
        )
        draw = draw_predicted if k else draw_residuals
        draw(parts[k].subplots(), sets, targets)
    plane = LossPlane.of(size * np.cumsum(rng.standard_normal((9, 6)), axis=0), [(2, 3)])
    draw_plane(parts[2].subplots(), plane, size * rng.random((GRID, GRID)), "batch")
    assert_readable(figure)


@pytest.mark.parametrize(
    ("runs", "seen"), [(1, 2_000), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, 10**7), (8, 3)))]
)
@pytest.mark.parametrize("kind", ["line", pytest.param("several", marks=pytest.mark.slow)])
def test_an_animation(runs: int, seen: int, kind: str) -> None:
    line = Line(X, 2 * X, "feature", LONG, LineLoss(0.0, 1.0, 2.0, 0.0, 0.1))
    several = SeveralFeatures(np.stack([X, X**2], axis=1), 1e6 * X, LONG, ["w", "b"])
    data = line if kind == "line" else several
    made = history(0.7, every=seen // 3 or 1)
    figure = FrameFigure(
        AnimationContent(LONG, [Track.of(f"run {i}", made, data) for i in range(runs)], data, 0.1)
    ).figure
    assert_readable(figure)


GROUPS: dict[str, list[Group]] = {
    "three": [
        Group(n, (history(r), history(r)), n, limit=0.1) for n, r in zip(VARIANT_COLORS, (0.8, 0.6, 0.7), strict=True)
    ],
    "eight long ones": [Group(f"{LONG} {i}, batch_size {i}", (history(0.7),), "batch") for i in range(8)],
    "diverged": [
        Group("batch", (history(0.7),), "batch"),
        *(Group(f"lr {i}", (history(1e3, outcome=Outcome.DIVERGED),), "stochastic", limit=0.0642) for i in range(3)),
    ],
    "all diverged": [Group("lr 1", (history(1e3, outcome=Outcome.DIVERGED),), "stochastic", limit=0.0642)],
    "one point": [Group("only", (history(1.0, count=1),))],
    "tiny": [Group("tiny", (history(0.9, start=1.2345e-120),))],
    "seven digits": [Group("only", (history(0.999, start=1234567.0),))],
    "many updates": [Group("few", (history(0.7),)), Group("many", (history(0.7, every=123_456_789),))],
    "huge": [Group("huge", (history(0.9, start=1e120),)), Group("tiny", (history(0.9, start=1e-120),))],
}


@pytest.mark.parametrize(
    ("case", "panels"),
    [
        ("diverged", None),
        ("huge", ("epochs", "updates")),
        *(pytest.param(c, p, marks=pytest.mark.slow) for c in GROUPS for p in (None, PANELS)),
    ],
)
def test_a_comparison(case: str, panels: tuple[str, ...] | None) -> None:
    groups = GROUPS[case]
    figure = comparison_figure(
        groups,
        title=LONG * 3,
        least_squares=1e-3,
        surface=Surface.of_squared_error([(X, 2 * X)], (2.0, 0.0)),
        fits=Fits(X, 2 * X, {group.label: lambda x: 2 * x for group in groups}),
        variances={group.label: (10**i, np.array([3 / 10**i])) for i, group in enumerate(groups)},
        panels=panels,
        notes={group.label: "lr 0.123456" for group in groups},
    )
    assert_readable(figure)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "scale"), [(1, 1.0), (3, 1e-12), (6, 1e12)])
def test_a_sweep(count: int, scale: float) -> None:
    sizes, lrs = [1, 2, 4, 8, 16, 32, 64, 128, 256, 100_000], np.geomspace(1e-4, 1, 40).tolist()
    losses = scale * np.random.default_rng(1).random((len(sizes), len(lrs)))
    diverged = np.zeros_like(losses)
    diverged[:, 30:] = 1.0
    planes = [Plane(f"momentum {i}, {LONG}", losses, diverged, np.full(len(sizes), 0.1)) for i in range(count)]
    words = {"start": scale, "quantity": "train loss above the least-squares loss", "title": f"{LONG}\nmean of 3 seeds"}
    assert_readable(sweep_map(planes, sizes, lrs, n_samples=100_000, **words))  # type: ignore[arg-type]
    curves = [Curve(f"{LONG} {i}", losses[i], losses[i], losses[i], diverged[i], 0.1) for i in range(count)]
    assert_readable(sweep_curves(curves, lrs, axis="learning rate", **words))  # type: ignore[arg-type]


def grey(color: str) -> float:
    """Return how light a colour is, from 0 to 100: CIE L* of sRGB, https://www.color.org/chardata/rgb/srgb.xalter."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    light = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return 116 * light ** (1 / 3) - 16 if light > 0.008856 else 903.3 * light


def test_variants_and_regions_are_told_apart_in_grey() -> None:
    assert grey(CONTOUR_COLOR) == pytest.approx(lightness(CONTOUR_COLOR), abs=0.1)
    variants = sorted(map(grey, VARIANT_COLORS.values()))
    assert variants[-1] < grey(CONTOUR_COLOR) - 6
    assert min(np.diff(variants)) > 6
    assert variants[-1] < 75  # on white paper
    regions = [grey(color) for color in REGION_COLORS.values()]
    assert min(abs(a - b) for a, b in itertools.combinations(regions, 2)) > 2  # and the one that diverges is hatched
