"""Panels of a run's picture: what is drawn, within which limits, and the loss over a plane through a network's path."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import nn

from gd_lightning import HistoryRecorder, Pictures, RegressionDataModule, RegressionModule
from gd_lightning.plots.loss_plane import GRID, LossPlane, draw_plane, filter_normalized
from gd_lightning.plots.predictions import Judged, comparable, draw_predicted, draw_residuals, has_visible_points
from gd_lightning.plots.run_curves import Surface, draw_losses, draw_surface, envelope
from gd_lightning.plots.style import new_figure
from gd_lightning.problems import Arrays, Parabola
from gd_lightning.records.history import BY_UPDATE, PREDICTED, History
from tests.conftest import MakeTrainer

RNG = np.random.default_rng(0)


def _history(losses: list[float], **columns: float) -> History:
    history = History()
    for i, loss in enumerate(losses):
        more = {name: value * 10.0**i for name, value in columns.items()}
        history.append(update=i, epoch=i, samples=i, seconds=i, train_loss=loss, **more)
    return history


def test_a_prediction_far_beyond_what_was_measured_leaves_the_picture() -> None:
    """Of a diverged run, the axis went to 1e137, and the measured losses were a flat line."""
    history = _history([4.0, 1e3, 1e5], **{PREDICTED: 1e50, "val_loss": 1.0})
    history.divergence_factor = 1e4
    axes = new_figure(1).subplots()
    draw_losses(axes, history, "stochastic", floor=1e-300)
    low, high = axes.get_ylim()
    assert 1e5 < high < 1e7
    assert 1e-2 < low < 1.0
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["train loss", "diverged", "validation loss", "predicted"]  # which is out of sight


def test_where_the_train_loss_is_known_between_measurements_these_are_marked() -> None:
    history = History()
    for i in range(7):
        history.append(update=i, epoch=i / 3, samples=i, seconds=i, **{BY_UPDATE: 10.0 / (i + 1)})
        if i % 3 == 0:
            history.add_to_last_row({"train_loss": 10.0 / (i + 1)})
    axes = new_figure(1).subplots()
    draw_losses(axes, history, "stochastic")
    lines = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in axes.lines}
    assert lines == {"train loss": [0, 1, 2, 3, 4, 5, 6], "measured": [0, 3, 6]}


def test_single_small_batch_losses_do_not_push_the_train_loss_to_the_top() -> None:
    history = History()
    for i in range(40):
        history.append(update=i, train_loss=1 / (1 + i), batch_loss=1e-9 if i % 2 else 1.0)
    axes = new_figure(1).subplots()
    draw_losses(axes, history, "stochastic")
    assert axes.get_ylim()[0] > 1 / 40 / 20


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, 1.0], [0.0, 0.0], [-1.0, -2.0], [1e300, 2.0], [5.0]])
def test_odd_losses_are_drawn(values: list[float]) -> None:
    axes = new_figure(1).subplots()
    draw_losses(axes, _history(values), None, floor=0.0)
    assert np.isfinite(axes.get_ylim()).all()


@pytest.mark.parametrize("count", [3, 2_100, 5_003, 100_000])
def test_an_envelope_has_the_peaks_of_a_curve_in_few_points(count: int) -> None:
    x, y = np.arange(count) / 7, RNG.standard_normal(count)
    y[count // 2] = math.nan
    seen_x, seen_y = envelope(x, y)
    assert len(seen_x) <= min(count, 3_000)
    assert (np.nanmin(seen_y), np.nanmax(seen_y)) == (np.nanmin(y), np.nanmax(y))
    assert (seen_x[0], seen_x[-1]) == (x[0], x[-1])
    assert (np.diff(seen_x) > 0).all()


def test_a_path_that_leaves_for_good_is_drawn_up_to_the_edge() -> None:
    x = np.linspace(-1, 1, 20)
    surface = Surface.of_squared_error([(x, 2 * x)], (2.0, 0.0))
    w, b = 2 + 1.0 * (-3.0) ** np.arange(9.0), np.zeros(9)
    axes = new_figure(1).subplots()
    draw_surface(axes, surface, w, b, "batch")
    path = next(line for line in axes.lines if line.get_label() == "path")
    xs = np.asarray(path.get_xdata())
    assert len(xs) < 9
    assert min(abs(xs[-1] - edge) for edge in axes.get_xlim()) < 1e-9
    assert "leaves the picture" in axes.get_legend_handles_labels()[1]


def test_predicted_against_true_counts_what_is_beyond() -> None:
    true = RNG.standard_normal((20, 1))
    predicted = true.copy()
    predicted[:3] = 1e9
    axes, residuals = new_figure(2).subplots(1, 2)
    sets = comparable([Judged("train", true, predicted), Judged("validation", true[:5], true[:5])])
    draw_predicted(axes, sets, ["score"])
    assert axes.get_legend_handles_labels()[1] == ["train", "validation", "exact", "3 of 25 beyond"]
    assert np.abs(axes.get_ylim()).max() < 10
    draw_residuals(residuals, sets, ["score"])
    assert np.abs(residuals.get_ylim()).max() < 10
    assert not has_visible_points([Judged("train", true, 1e9 + true)])
    assert not has_visible_points([Judged("train", true, np.nan * true)])


def test_targets_of_other_sizes_share_a_scale() -> None:
    true = np.stack([1e6 + np.arange(9.0), 1e-3 * np.arange(9.0), np.ones(9)], axis=1)
    (scaled,) = comparable([Judged("train", true, true)])
    np.testing.assert_allclose(scaled.true[:, 0], scaled.true[:, 1], atol=1e-6)
    assert np.isfinite(scaled.true).all()
    axes = new_figure(1).subplots()
    draw_predicted(axes, [scaled, Judged("validation", scaled.true, scaled.predicted)], ["a", "b", "_c"])
    assert axes.get_legend_handles_labels()[1] == ["a", "b", " _c", "validation, hollow", "exact"]


def test_the_plane_holds_start_end_and_the_principal_direction() -> None:
    """Against NumPy's singular values of what the line from start to end leaves of the path."""
    path = np.cumsum(RNG.standard_normal((12, 30)), axis=0)
    plane = LossPlane.of(path, [(5, 5), (5,)])
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    for i in (0, -1):
        np.testing.assert_allclose(plane.origin + plane.path[i] @ plane.axes, path[i], atol=1e-12)
    first = (path[0] - path[-1]) / np.linalg.norm(path[0] - path[-1])
    rest = (path - path[-1]) - np.outer((path - path[-1]) @ first, first)
    expected = np.linalg.svd(rest)[2][0]
    assert abs(plane.axes[1] @ expected) == pytest.approx(1.0, abs=1e-9)
    assert plane.names == ("from the end to the start", "first principal direction of the path")
    first_axis, second_axis = plane.grid()
    assert first_axis[0] < plane.path[:, 0].min() < plane.path[:, 0].max() < first_axis[-1]
    assert second_axis[0] < plane.path[:, 1].min() < plane.path[:, 1].max() < second_axis[-1]


@pytest.mark.parametrize("points", [1, 2])
def test_without_a_path_directions_are_random_and_normalised_by_filters(points: int) -> None:
    path = np.repeat(RNG.standard_normal((1, 12)), points, axis=0)
    plane = LossPlane.of(path, [(2, 5), (2,)])
    assert plane.names == ("a random direction, by filters",) * 2
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    assert not plane.axes[0][10:].any()
    direction = filter_normalized(RNG.standard_normal(12), path[-1], [(2, 5), (2,)])
    lengths = [np.linalg.norm(part.reshape(2, 5), axis=1) for part in (direction[:10], path[-1][:10])]
    np.testing.assert_allclose(*lengths)
    losses = plane.losses(lambda point: float((point**2).sum()))
    axes = new_figure(1).subplots()
    draw_plane(axes, plane, losses, "batch")
    assert losses.shape == (GRID, GRID)


def _table() -> Arrays:
    x = RNG.standard_normal((30, 2))
    return Arrays(x, x @ [1.0, -2.0] + 0.1 * RNG.standard_normal(30))


@pytest.mark.usefixtures("pictures")
def test_a_network_on_a_table_has_four_panels_and_its_surface_is_its_train_loss(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    recorder, pictures = HistoryRecorder(), Pictures()
    data = RegressionDataModule(_table(), batch_size=8, val_size=10)
    module = RegressionModule(0.05, hidden_sizes=[4])
    torch.manual_seed(1)
    make_trainer(callbacks=[recorder, pictures], max_epochs=5, logs=True).fit(module, data)
    assert imread(tmp_path / "run" / "curves.png").shape[:2] == (2 * 554, 2 * 700)
    assert pictures._path is not None
    before = [parameter.clone() for parameter in module.parameters()]
    plane = pictures._path.plane()
    assert plane is not None
    assert len(plane.path) == 16  # of 15 updates, each
    losses = pictures._path.losses(plane, module, data.train)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    first, second = plane.grid()
    point = plane.origin + first[3] * plane.axes[0] + second[7] * plane.axes[1]
    nn.utils.vector_to_parameters(torch.from_numpy(point).float(), module.parameters())
    expected = (module(data.train.x) - data.train.y).square().mean().item()
    assert losses[7, 3] == pytest.approx(expected, rel=1e-5)


def test_the_path_of_a_run_without_an_end_is_thinned(make_trainer: MakeTrainer) -> None:
    pictures = Pictures()
    data, module = RegressionDataModule(Parabola(), batch_size=10), RegressionModule(0.01, hidden_sizes=[2])
    trainer = make_trainer(callbacks=[HistoryRecorder(), pictures], max_epochs=-1, max_time={"seconds": 0.001})
    trainer.fit(module, data)
    path = pictures._path
    assert path is not None
    for update in range(1, 1000):
        if update % path.every == 0:
            path.add(update)
    assert path.every == 16
    assert len(path._points) <= 81
    assert 0 in path._points


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_a_recorded_path_changes_no_bit_of_a_run(engine: str, make_trainer: MakeTrainer) -> None:
    ends = []
    for callbacks in ([], [HistoryRecorder(), Pictures()]):
        torch.manual_seed(0)
        module = RegressionModule(0.1, hidden_sizes=[3], engine=engine)  # type: ignore[arg-type]
        data = RegressionDataModule(Parabola(), batch_size=7)
        make_trainer(callbacks=callbacks, max_epochs=30).fit(module, data)
        ends.append(torch.cat([each.detach().flatten() for each in module.parameters()]))
    assert torch.equal(*ends)
