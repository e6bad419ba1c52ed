from __future__ import annotations

import numpy as np
import pytest

from gd_lightning.plots.run_curves import Surface, draw_fit, draw_losses, draw_surface
from gd_lightning.plots.style import VARIANT_COLORS, new_figure, pixels, write_between_powers, write_plainly
from gd_lightning.plots.sweep_map import Plane, sweep_map
from gd_lightning.problems import SteepLine
from gd_lightning.records.history import History


def _xy() -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    x, y = SteepLine().sample()
    return x[:, 0].double().numpy(), y[:, 0].double().numpy()


def test_the_surface_is_the_mean_squared_error() -> None:
    x, y = _xy()
    surface = Surface.of_squared_error([(x, y)], (-5.0, 0.0))
    ws, bs = np.meshgrid(np.linspace(-10, 2, 4), np.linspace(-20, 5, 5))
    expected = [[((w * x + b - y) ** 2).mean() for w, b in zip(*row, strict=True)] for row in zip(ws, bs, strict=True)]
    np.testing.assert_allclose(surface.loss(ws, bs), expected, rtol=1e-12)


def test_the_surface_of_an_exact_fit_is_nowhere_below_0() -> None:
    x = np.linspace(100, 101, 50)
    surface = Surface.of_squared_error([(x, 3 * x)], (3.0, 0.0))
    assert surface.loss(np.full((2, 2), 3.0), np.zeros((2, 2))).min() >= 0


@pytest.mark.parametrize("path", ["converging", "diverging", "standing"])
def test_a_path_is_drawn_near_the_minimum(path: str) -> None:
    x, y = _xy()
    factor = {"converging": 0.5, "diverging": -3.0, "standing": 1.0}[path]
    w, b = -5 - 5 * factor ** np.arange(40.0), -20 * factor ** np.arange(40.0)
    axes = new_figure(1).subplots()
    draw_surface(axes, Surface.of_squared_error([(x, y)], (-5.0, 0.0)), w, b, "batch")
    low, high = axes.get_xlim()
    assert low <= -10 <= high
    assert high - low < 100


def test_losses_are_drawn_where_their_weights_stand() -> None:
    """The batch loss of update u belongs to the weights after u - 1 updates, where the train loss is drawn."""
    history = History()
    history.append(update=0, train_loss=3.0)
    history.append(update=1, train_loss=2.0, batch_loss=3.0)
    history.append(update=2, train_loss=np.inf, batch_loss=2.0)
    axes = new_figure(1).subplots()
    draw_losses(axes, history, "mini-batch", floor=2.0)
    batch, train, _, _, floor = axes.lines
    np.testing.assert_array_equal(batch.get_xdata(), [0, 1])
    np.testing.assert_array_equal(train.get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(train.get_ydata(), [3, 2, np.nan])
    assert batch.get_color() == train.get_color() == VARIANT_COLORS["mini-batch"]
    assert floor.get_label() == "least squares"


def test_a_diverged_fit_does_not_flatten_the_data() -> None:
    x, y = _xy()
    for predict in (lambda values: 1e9 * values, lambda values: values * np.inf):
        figure = new_figure(1)
        axes = figure.subplots()
        draw_fit(axes, x, y, predict, truth=-5 * np.linspace(-5, 4.9, 200))
        with np.errstate(invalid="ignore"):
            assert axes.get_ylim()[1] < 200
            assert pixels(figure).shape == (554, 700, 3)


@pytest.mark.parametrize(
    "ends", [(2e8, 3e9), (1.1e8, 1.4e8), (0.13, 0.9), (1.05, 9.5), (0.2, 90.0), (1e-3, 1e3), (3.0, 7.0)]
)
def test_a_logarithmic_axis_has_at_least_two_numbers(ends: tuple[float, float]) -> None:
    figure = new_figure(1)
    axes = figure.subplots()
    axes.set_yscale("log")
    write_plainly(axes.yaxis)
    axes.set_ylim(*ends)
    write_between_powers(axes.yaxis, *ends)
    pixels(figure)
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    shown = {tick.label1.get_text() for tick in ticks if ends[0] <= tick.get_loc() <= ends[1]} - {""}
    assert 2 <= len(shown) <= 8, shown


def test_an_excess_that_rounding_leaves_below_zero_has_the_colour_of_the_lowest() -> None:
    """The best setting of all was a white cell."""
    losses = np.array([[1.0, 1e-12, -1e-12], [3.0, 0.0, np.nan]])
    plane = Plane("", losses, np.where(np.isnan(losses), 1.0, 0.0), np.full(2, np.nan))
    figure = sweep_map([plane], [1, 10], [0.01, 0.1, 1.0], n_samples=10, start=5.0, quantity="excess", title="")
    drawn = np.ma.asarray(figure.axes[0].collections[0].get_array()).reshape(3, 2).T
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), np.isnan(losses))
    assert (drawn[losses <= 0] > 0).all()
