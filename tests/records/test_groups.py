"""Groups of runs: bands against NumPy, and where a target is reached."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gd_lightning.records.groups import Group
from gd_lightning.records.history import History, Outcome


def _run(losses: list[float], pace: float = 0.5, outcome: Outcome = Outcome.COMPLETED) -> History:
    history = History()
    for i, loss in enumerate(losses):
        history.append(update=2 * i, epoch=i, samples=20 * i, seconds=pace * i, train_loss=loss)
        history.append(update=2 * i + 1, epoch=i + 0.5, samples=20 * i + 10, seconds=pace * (i + 0.5), batch_loss=loss)
    history.outcome = outcome
    return history


def test_a_band_is_mean_and_deviation_of_the_runs_where_they_have_values() -> None:
    losses = np.random.default_rng(0).random((4, 6))
    runs = [_run(row.tolist(), pace=1 + i) for i, row in enumerate(losses)]
    group = Group("sgd", (*runs, _run(losses[0, :3].tolist(), pace=5)))
    band = group.band("train_loss", "seconds")
    np.testing.assert_array_equal(band.runs, [5, 5, 5, 4, 4, 4])
    for i in range(6):
        values = [*losses[:, i], *([losses[0, i]] if i < 3 else [])]
        assert band.mean[i] == pytest.approx(sum(values) / len(values), rel=1e-14)
        assert band.std[i] == pytest.approx(np.std(values, ddof=1), rel=1e-14)
    assert band.x[1] == pytest.approx(3.0)
    assert group.band("train_loss", "samples").x.tolist() == [0, 20, 40, 60, 80, 100]
    assert len(group.band("val_loss").x) == 0
    assert np.isnan(Group("sgd", tuple(runs[:1])).band("train_loss").std).all()


def test_runs_that_diverged_are_kept_apart() -> None:
    group = Group("sgd", (_run([4, 2, 1]), _run([4, 1e9, math.inf], outcome=Outcome.DIVERGED)))
    assert group.band("train_loss").mean.tolist() == [4, 2, 1]
    assert (len(group.sound), len(group.diverged)) == (1, 1)
    assert group.final().tolist() == [1, math.inf]


def test_a_target_is_reached_where_the_loss_first_is_there() -> None:
    group = Group("sgd", (_run([4, 2, 3, 1]), _run([4, 3.5, 3.2, 3])))
    np.testing.assert_array_equal(group.reached(2.0, "samples"), [20, math.nan])
    np.testing.assert_array_equal(group.reached(2.5, "seconds"), [0.5, math.nan])
    np.testing.assert_array_equal(group.reached(0.1), [math.nan, math.nan])
    np.testing.assert_array_equal(group.reached(9.0, "epoch"), [0, 0])
    assert np.isnan(group.final("val_loss")).all()
