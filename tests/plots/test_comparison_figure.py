"""Groups of runs in one picture: what is drawn against NumPy, limits, files."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gd_lightning.errors import InputError
from gd_lightning.plots.comparison.figure import PANELS, Fits, checked_panels, comparison_figure
from gd_lightning.plots.comparison.group_styles import GroupStyle, group_styles, shades
from gd_lightning.plots.comparison.loss_curves import X_LABELS, draw_curve, loss_range, way_out
from gd_lightning.plots.comparison.paths_and_fits import draw_fits, draw_paths, draw_variances
from gd_lightning.plots.run_curves import Surface, fit_grid
from gd_lightning.plots.style import (
    FORMATS,
    UNKNOWN_VARIANT_COLOR,
    VARIANT_COLORS,
    checked_formats,
    lightness,
    pixels,
    save_figure,
    sized_figure,
)
from gd_lightning.records.groups import Group, Values
from gd_lightning.records.history import PREDICTED, History, Outcome

X = np.arange(-5, 5, 0.1)
Y = -5 * X + 0.4 * np.random.default_rng(0).standard_normal(100)
SURFACE = Surface.of_squared_error([(X, Y)], (-5.0, 0.0))


def _loss(w: float, b: float) -> float:
    return float(((w * X + b - Y) ** 2).mean())


def _run(batch_size: int, lr: float, seed: int = 0, epochs: int = 6) -> History:
    """Descend on a steep line, as published, recorded as a Trainer records it."""
    rng, history, w, b, update = np.random.default_rng(seed), History(), -10.0, -20.0, 0
    start = _loss(w, b)
    values = {"train_loss": start, PREDICTED: start, "w": w, "b": b}
    history.append(update=0, epoch=0, samples=0, seconds=0.0, **values)
    for samples in range(batch_size, epochs * 100 + 1, batch_size):
        batch = rng.choice(100, batch_size, replace=False)
        residual = w * X[batch] + b - Y[batch]
        w, b, update = w - 2 * lr * (residual * X[batch]).mean(), b - 2 * lr * residual.mean(), update + 1
        history.append(update=update, epoch=samples / 100, samples=samples, seconds=update * (1 + seed) / 1e3, w=w, b=b)
        loss = _loss(w, b)
        if samples % 100 == 0 or loss > 1e6 * start:
            history.add_to_last_row({"train_loss": loss, PREDICTED: 0.9 * loss})
        if loss > 1e6 * start:
            history.outcome = Outcome.DIVERGED
            return history
    history.outcome = Outcome.COMPLETED
    return history


def _variants(lr: float, seeds: int = 3) -> list[Group]:
    sizes = {"batch": (100, 0.12), "mini-batch": (20, 0.114), "stochastic": (1, 0.0642)}
    return [
        Group(
            name,
            tuple(_run(size, lr, seed) for seed in range(seeds)),
            name,
            predicted_loss=0.15 + size / 1e3 if lr < limit else math.inf,
            limit=limit,
        )
        for name, (size, limit) in sizes.items()
    ]


def _record(losses: list[float], outcome: Outcome = Outcome.COMPLETED) -> History:
    history = History()
    for i, loss in enumerate(losses):
        history.append(update=i, epoch=i, samples=10 * i, seconds=0.1 * i, train_loss=loss)
    history.outcome = outcome
    return history


def _panels(groups: list[Group], least_squares: float | None = None) -> list[list[Axes]]:
    figure = sized_figure(8, 4)
    panels: list[list[Axes]] = figure.subplots(2, 4).tolist()
    for row, log in zip(panels, (True, False), strict=True):
        for axes, axis in zip(row, X_LABELS, strict=True):
            draw_curve(axes, axis, log, groups, group_styles(groups), least_squares)
    pixels(figure)
    return panels


def _line(axes: Axes, label: str) -> Line2D:
    return next(line for line in axes.lines if line.get_label() == label)


def _points(line: Line2D) -> tuple[Values, Values]:
    return np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)


def _dotted(axes: Axes, style: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_linestyle() == style]


def _texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def _legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_are_the_mean_over_seeds_against_each_axis() -> None:
    groups = _variants(lr=0.01)
    panels = _panels(groups)
    for column, axis in enumerate(("epoch", "update", "samples", "seconds")):
        for group in groups:
            rows = [np.isfinite(run["train_loss"]) for run in group.histories]
            runs = list(zip(group.histories, rows, strict=True))
            for row in panels:
                x, loss = _points(_line(row[column], group.label))
                np.testing.assert_allclose(x, np.mean([run[axis][there] for run, there in runs], axis=0), rtol=1e-13)
                expected = np.mean([run["train_loss"][there] for run, there in runs], axis=0)
                np.testing.assert_allclose(loss, expected, rtol=1e-13)
    assert [axes.get_xlabel() for axes in panels[1]] == list(X_LABELS.values())
    assert [row[0].get_yscale() for row in panels] == ["log", "linear"]
    starts = {_points(_line(axes, g.label))[1][0] for row in panels for axes in row for g in groups}
    assert starts == {groups[0].histories[0].first("train_loss")}


def test_the_band_is_a_deviation_to_both_sides_and_positive_where_the_scale_is_logarithmic() -> None:
    losses = np.array([[100.0, 10.0, 0.1], [100.0, 12.0, 8.0], [100.0, 14.0, 0.3]])
    panels = _panels([Group("sgd", tuple(_record(row.tolist()) for row in losses), "stochastic")])
    mean, deviation = (
        losses.mean(axis=0),
        np.sqrt(((losses - losses.mean(axis=0)) ** 2).sum(axis=0) / (len(losses) - 1)),
    )
    assert (mean - deviation)[-1] < 0
    for row, clip in zip(panels, (True, False), strict=True):
        (band,) = row[0].collections
        low, high = row[0].get_ylim()
        edges = np.asarray(band.get_paths()[0].vertices)
        for i in range(3):
            ys = edges[edges[:, 0] == i][:, 1]
            expected = mean[i] - deviation[i]
            assert ys.min() == pytest.approx(max(expected, low) if clip else expected)
            assert ys.max() == pytest.approx(mean[i] + deviation[i])
        assert not clip or 0 < low <= 0.1 < 100 < high


def test_one_seed_makes_no_band() -> None:
    groups = _variants(lr=0.01, seeds=1)
    assert not any(axes.collections for row in _panels(groups) for axes in row)
    figure = comparison_figure(groups, title="one")
    assert figure.legends[0].get_title().get_text() == "one seed each"
    assert "± standard deviation" not in _legend_texts(figure)


def test_predictions_floors_and_least_squares_are_drawn() -> None:
    groups = _variants(lr=0.1)
    for row in _panels(groups, least_squares=0.14):
        dotted = _dotted(row[0], ":")
        expected = [group.band(PREDICTED, "epoch").mean for group in groups[:2]]
        for line, mean in zip(dotted, expected, strict=True):
            np.testing.assert_array_equal(_points(line)[1], mean)
        dashed = {(round(_points(line)[1][0], 9), line.get_color()) for line in _dotted(row[0], "--")}
        assert dashed == {(0.25, VARIANT_COLORS["batch"].lower()), (0.17, VARIANT_COLORS["mini-batch"].lower())}
        assert [_points(line)[1][0] for line in _dotted(row[0], "-.")] == [0.14]
        low, high = row[0].get_ylim()
        assert low < 0.14 < high


def test_runs_that_diverge_leave_the_panel_and_do_not_set_its_limits() -> None:
    groups = _variants(lr=0.1)
    assert [len(group.diverged) for group in groups] == [0, 0, 3]
    start = groups[0].histories[0].first("train_loss")
    for row in _panels(groups):
        for axes in row:
            _, high = axes.get_ylim()
            assert start < high < 10 * start
            crosses = [line for line in axes.lines if line.get_marker() == "x"]
            assert len(crosses) == 3
            assert all(_points(line)[1].tolist() == [high] for line in crosses)
            ways = [line for line in axes.lines if line.get_color() == VARIANT_COLORS["stochastic"].lower()]
            assert {_points(line)[1][0] for line in ways} == {start}
            assert _texts(axes) == ["diverged (limit 0.0642)"]
    legend = _legend_texts(comparison_figure(groups, title="lr 0.1"))
    assert legend[:3] == ["batch", "mini-batch", "stochastic, diverged (limit 0.0642)"]


def test_a_diverging_run_leaves_where_its_line_crosses_the_edge() -> None:
    linear = loss_range([Group("", (_record([4.0, 1.0]),))], log=False)
    logarithmic = loss_range([Group("", (_record([4.0, 1.0]),))], log=True)
    for shown, scale in ((linear, float), (logarithmic, math.log)):
        x, losses = way_out(_record([4.0, 1e3, 2.0, 1e6, 1e9], Outcome.DIVERGED), "samples", shown)
        part = (scale(shown.high) - scale(2.0)) / (scale(1e6) - scale(2.0))
        np.testing.assert_allclose(x, [0, 10, 20, 20 + 10 * part])
        np.testing.assert_allclose(losses, [4, 1e3, 2, shown.high])
        assert way_out(_record([4.0, math.inf]), "update", shown)[0].tolist() == [0, 1]
        assert way_out(_record([math.nan, math.nan]), "update", shown)[0].tolist() == []
        assert way_out(_record([4.0, -math.inf, math.nan]), "update", shown)[0].tolist() == [0, 1]
        ended = _record([4.0, 3.0])
        ended.append(update=2, epoch=2, samples=20, seconds=0.2, batch_loss=math.nan)
        assert way_out(ended, "update", shown)[0].tolist() == [0, 1, 2]


def test_several_settings_that_diverge_are_counted_above_and_named_below() -> None:
    bad = (_record([4.0, 1e9], Outcome.DIVERGED),)
    good = Group("lr 0.1", (_record([4.0, 1.0]),), "batch")
    groups = [good, Group("lr 1", bad, "batch", limit=0.12), Group("lr 2", (*bad, *good.histories), "batch")]
    assert all(_texts(axes) == ["2 settings diverged"] for row in _panels(groups) for axes in row)
    legend = _legend_texts(comparison_figure(groups, title="lr"))
    assert legend[:3] == ["lr 0.1", "lr 1, diverged (limit 0.12)", "lr 2, 1 of 2 diverged"]


def test_where_all_diverge_the_start_is_shown() -> None:
    for outcome in ([4.0, 1e9], [4.0, math.inf]):
        for row in _panels([Group("sgd", (_record(outcome, Outcome.DIVERGED),), "stochastic")]):
            low, high = row[0].get_ylim()
            assert low < 4 < high < 100
            assert len(row[0].lines) == 2


def test_a_run_that_jumps_or_grows_does_not_flatten_the_linear_panel() -> None:
    jumping, growing = _record([4.0, 1e5, 1.0]), _record([4.0, 1e2, 1e4])
    groups = [Group("jumping", (jumping,)), Group("growing", (growing,))]
    assert loss_range(groups, log=False).high < 13
    assert loss_range(groups, log=True).high > 1e5


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, -2.0, 1e300])
def test_odd_losses_become_gaps_and_never_reach_a_logarithmic_axis(odd: float) -> None:
    groups = [Group("sgd", (_record([4.0, odd, 1.0]), _record([4.0, 3.0, odd]), _record([odd, odd, odd])), None)]
    groups.append(Group("empty", (History(), _record([]))))
    top, bottom = _panels(groups)
    for axes in top:
        assert axes.get_ylim()[0] > 0
        for line in axes.lines:
            losses = _points(line)[1]
            assert (losses[np.isfinite(losses)] > 0).all()
        for band in axes.collections:
            assert all((np.asarray(path.vertices)[:, 1] > 0).all() for path in band.get_paths())
    assert np.isfinite(bottom[0].get_ylim()).all()


def test_nothing_but_odd_losses_is_an_empty_picture() -> None:
    assert loss_range([Group("", (_record([math.nan]),))], log=True).low > 0
    for losses in ([], [math.nan, math.nan], [-1.0, -2.0], [0.0, 0.0]):
        panels = _panels([Group("sgd", (_record(losses),))])
        assert not panels[0][0].lines
        assert np.isfinite(panels[1][0].get_ylim()).all()


def test_validation_losses_that_are_missing_change_nothing() -> None:
    with_column, without = _record([4.0, 1.0]), _record([4.0, 1.0])
    with_column.append(update=2, epoch=2, samples=20, seconds=0.2, val_loss=3.0)
    with_column.forget_last(["val_loss"])
    for run in (with_column, without):
        _, losses = _points(_line(_panels([Group("sgd", (run,))])[0][0], "sgd"))
        assert losses.tolist() == [4, 1]


def test_far_apart_numbers_of_updates_share_an_axis_that_begins_at_0() -> None:
    top, _ = _panels(_variants(lr=0.01))
    assert [axes.get_xscale() for axes in top] == ["linear", "symlog", "linear", "symlog"]
    assert all(axes.get_xlim()[0] < 0 for axes in top)
    assert top[1].get_xlim()[1] > 600


def test_a_clock_that_stands_still_is_drawn() -> None:
    still = History()
    for update in range(3):
        still.append(update=update, epoch=update, samples=update, seconds=0.0, train_loss=1.0 / (1 + update))
    ran = _record([1.0, 1e9], Outcome.DIVERGED)
    for groups in ([Group("still", (still,))], [Group("still", (still,)), Group("ran", (ran,))]):
        low, high = _panels(groups)[0][3].get_xlim()
        assert low < 0 < high


def test_a_variant_alone_has_its_colour_and_several_of_one_have_shades_of_it() -> None:
    alone = group_styles(_variants(lr=0.01, seeds=1))
    assert [style.color for style in alone] == [color.lower() for color in VARIANT_COLORS.values()]
    runs = (_record([4.0, 1.0]),)
    styles = group_styles([Group(f"lr {i}", runs, "batch") for i in range(8)])
    light = [float(np.dot(to_rgb(style.color), (0.299, 0.587, 0.114))) for style in styles]
    assert (np.diff(light) > 0.03).all()
    assert len({style.marker for style in styles}) == 8
    assert "x" not in {style.marker for style in styles}
    for base in (*VARIANT_COLORS.values(), UNKNOWN_VARIANT_COLOR):
        darkest, *_, lightest = map(lightness, shades(base, 8))
        assert darkest < 35
        assert lightness(base) - 1 < lightest < 76  # on white paper


def test_the_same_colour_is_used_in_every_panel() -> None:
    figure = _figure(_variants(lr=0.01))
    *curves, surface, fits, variances = figure.axes
    assert len(curves) == 3
    for axes in (*curves, surface, fits, variances):
        colors = {to_hex(line.get_color()) for line in axes.lines}
        assert {color.lower() for color in VARIANT_COLORS.values()} <= colors, axes.get_title()


def test_paths_are_drawn_over_the_surface_and_diverging_ones_leave_it() -> None:
    groups = _variants(lr=0.1)
    axes = sized_figure(4, 4).subplots()
    draw_paths(axes, SURFACE, groups, group_styles(groups))
    (w_low, w_high), (b_low, b_high) = axes.get_xlim(), axes.get_ylim()
    assert w_low < -10 < w_high < 20
    for group in groups[:2]:
        run = group.histories[0]
        drawn = [_points(line) for line in axes.lines if len(_points(line)[0]) == len(run)]
        assert any(np.array_equal(w, run["w"]) and np.array_equal(b, run["b"]) for w, b in drawn)
        assert w_low < run["w"].min()
        assert run["b"].max() < b_high
    (cross,) = [_points(line) for line in axes.lines if line.get_marker() == "x"]
    w, b = cross[0][0], cross[1][0]
    assert min(abs(w - w_low), abs(w - w_high), abs(b - b_low), abs(b - b_high)) < 1e-9


def test_paths_that_all_diverge_begin_in_the_picture() -> None:
    lost = _record([4.0, math.inf], Outcome.DIVERGED)
    lost.append(update=2, epoch=2, samples=20, seconds=0.2, w=-10.0, b=-20.0)
    lost.append(update=3, epoch=3, samples=30, seconds=0.3, w=math.inf, b=math.nan)
    groups = [Group("sgd", (lost,)), Group("no path", (_record([4.0]),))]
    figure = sized_figure(4, 4)
    axes = figure.subplots()
    draw_paths(axes, SURFACE, groups, group_styles(groups))
    pixels(figure)
    assert axes.get_xlim()[0] < -10
    assert [_points(line)[0].tolist() for line in axes.lines if line.get_marker() == "x"] == [[-10.0]]


def _styles(count: int) -> list[GroupStyle]:
    return group_styles([Group(f"group {i}", (_record([4.0]),), "batch") for i in range(count)])


def test_fits_are_drawn_and_diverged_ones_are_named() -> None:
    first, *others = _styles(4)
    wrong = [lambda x: x * math.inf, lambda x: 1e9 * x, None]
    axes = sized_figure(4, 4).subplots()
    with np.errstate(invalid="ignore"):
        draw_fits(axes, X, Y, [(first, lambda x: -4 * x), *zip(others, wrong, strict=True)], -5 * fit_grid(X))
    fitted = next(line for line in axes.lines if line.get_color() == first.color)
    np.testing.assert_allclose(_points(fitted)[1], -4 * np.linspace(X.min(), X.max(), 200))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "data",
        *(f"group {i}: diverged, not drawn" for i in (1, 2, 3)),
        "truth",
    ]
    assert np.abs(axes.get_ylim()).max() < 100


def test_variances_are_drawn_beside_one_over_the_batch_size() -> None:
    axes = sized_figure(4, 4).subplots()
    values = [np.array([2.0, 4.0]), np.array([0.1, 0.5, math.nan]), np.array([0.0])]
    styles = _styles(3)
    draw_variances(axes, [1, 10, 100], values, styles)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    sizes, reference = _points(_line(axes, "1 / batch_size"))
    np.testing.assert_allclose(reference * sizes, 3.0)
    means = {_points(line)[0][0]: _points(line)[1][0] for line in axes.lines if line.get_markersize() == 8}
    assert means == {1: pytest.approx(3.0), 10: pytest.approx(0.3)}
    assert _line(axes, "batch_size 100: no variance").get_color() == styles[2].color


def test_a_full_batch_alone_has_no_variance_to_draw() -> None:
    axes = sized_figure(4, 4).subplots()
    draw_variances(axes, [100], [np.zeros(3)], _styles(1))
    assert axes.get_yscale() == "linear"


def _figure(groups: list[Group]) -> Figure:
    return comparison_figure(
        groups,
        title="SteepLine",
        least_squares=0.15,
        surface=SURFACE,
        fits=Fits(X, Y, {group.label: lambda x: -5 * x for group in groups}, -5 * fit_grid(X)),
        variances={group.label: (10**i, np.array([3 / 10**i])) for i, group in enumerate(groups)},
    )


def test_panels_are_there_where_their_data_are() -> None:
    groups = _variants(lr=0.01)
    assert len(comparison_figure(groups, title="curves").axes) == 3
    assert len(comparison_figure(groups, title="paths", surface=SURFACE).axes) == 4
    assert len(comparison_figure(groups, title="others", variances={"other": (1, np.ones(1))}).axes) == 3
    figure = _figure(groups)
    assert [axes.get_title() for axes in figure.axes[3:]] == [
        "train loss and paths",
        "data and fits",
        "variance of the updates",
    ]
    assert figure.get_suptitle() == "SteepLine"
    assert figure.legends[0].get_title().get_text() == "line: mean, band: standard deviation (n - 1) over 3 seeds"
    assert _legend_texts(figure)[3:] == ["± standard deviation", "predicted", "predicted end", "least squares"]


def test_panels_are_chosen_and_none_looks_as_another_does() -> None:
    groups = _variants(lr=0.01)
    figure = comparison_figure(groups, title="", panels=["samples", "epochs_linear", "val_epochs", "paths"])
    drawn = [(axes.get_xlabel(), axes.get_yscale()) for axes in figure.axes]
    assert drawn == [("samples", "log"), ("epochs", "linear")]  # there is neither a validation loss nor a surface
    alike = [Group(f"lr {lr}", (_run(20, lr),), "mini-batch") for lr in (0.01, 0.02)]
    assert [axes.get_xlabel() for axes in comparison_figure(alike, title="").axes] == ["epochs", "seconds of training"]
    unknown = History()  # as of another project, which logs no epochs
    unknown.append(update=0, epoch=math.nan, samples=math.nan, seconds=0.1, train_loss=2.0, val_loss=1.0)
    unknown.append(update=5, epoch=math.nan, samples=math.nan, seconds=0.2, train_loss=1.0, val_loss=3.0)
    figure = comparison_figure([Group("theirs", (unknown,))], title="", panels=PANELS)
    assert {axes.get_xlabel() for axes in figure.axes} == {"updates", "seconds of training"}
    assert [axes.get_ylabel() for axes in figure.axes].count("validation loss") == 2


@pytest.mark.parametrize(
    ("given", "names"), [(None, None), ("epochs, paths", ["epochs", "paths"]), (["fits"], ["fits"])]
)
def test_names_of_panels_and_formats_are_checked(given: Any, names: Any) -> None:
    assert checked_panels(given) == names
    assert checked_formats("png,pdf,png") == ["png", "pdf"]
    wrong: Any
    for wrong in ("epoch", "", []):
        with pytest.raises(InputError, match="the panels are epochs"):
            checked_panels(wrong)
        with pytest.raises(InputError, match="use png, svg, pdf"):
            checked_formats(wrong)


def test_unequal_numbers_of_seeds_are_said() -> None:
    runs = tuple(_record([4.0, 1.0]) for _ in range(5))
    figure = comparison_figure([Group("a", runs), Group("b", runs[:2])], title="")
    assert figure.legends[0].get_title().get_text() == "line: mean, band: standard deviation (n - 1) over 2 to 5 seeds"


def test_eight_long_labels_lie_within_the_picture_and_beside_each_other() -> None:
    runs = (_record([4.0, 1.0]), _record([4.0, 1e9], Outcome.DIVERGED))
    labels = [f"batch_size {16 * i}, lr 0.00{i}, new" for i in range(1, 9)]
    figure = comparison_figure([Group(label, runs, "mini-batch", limit=0.0642) for label in labels], title="eight")
    height, width, _ = pixels(figure).shape
    boxes = [text.get_window_extent() for text in figure.legends[0].get_texts()]
    assert all(0 < box.x0 < box.x1 < width and 0 < box.y0 < box.y1 < height for box in boxes)
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    assert all(not box.overlaps(axes.get_window_extent()) for box in boxes for axes in figure.axes)


@pytest.mark.slow
def test_files_are_valid_and_the_same_every_time(tmp_path: Path) -> None:
    groups = _variants(lr=0.1)
    for name in ("a", "b"):
        figure = _figure(groups)
        for ending in FORMATS:
            save_figure(tmp_path / f"{name}.{ending}", figure)
    png = (tmp_path / "a.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert (height, width) == pixels(figure).shape[:2]
    assert width > 1500
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"
    for suffix in FORMATS:
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
