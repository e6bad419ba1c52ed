"""Sweeps in Python: every run ends where it would end alone, in a Trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import ttest_rel
from torch import nn

from gd_lightning import (
    HistoryRecorder,
    InputError,
    LinearProblem,
    Parabola,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    sweep,
)
from gd_lightning.experiments import Grid, SweepReport, SweepTask
from gd_lightning.plots.style import pixels
from gd_lightning.theory import LinearLoss
from tests.conftest import MakeTrainer
from tests.experiments.pickling import Pickling

SGD_WITH_STEPS = {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}}}


@contextmanager
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("precision", "digits"), [("64-true", 1e-12), ("32-true", 1e-5), (64, 1e-12)])
def test_a_sweep_has_the_precision_that_is_given(precision: Any, digits: float) -> None:
    report = sweep(SteepLine(), lrs=[0.01, 0.02], batch_sizes="full", epochs=3, seeds=1, precision=precision)
    x, y = (values.double().numpy() for values in SteepLine().sample())
    design, theta = np.hstack([x, np.ones_like(x)]), np.array([[-10.0], [-20.0]])
    for _ in range(3):
        theta = theta - 0.02 * 2 / len(x) * design.T @ (design @ theta - y)
    assert report.last.flat[1] == pytest.approx(np.square(design @ theta - y).mean(), rel=digits)
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize(
    ("data", "model", "engine"),
    [
        ({}, {}, "batched"),
        ({}, {"hidden_sizes": [3], "activation": "tanh", "nesterov": True}, "batched"),
        ({"standardize": True, "val_size": 0.2}, {"loss": "huber", "l1": 0.01}, "batched"),
        ({"order": "sequential", "drop_last": True}, {"weight_decay": 0.1, "bias": False}, "batched"),
        ({}, {"hidden_sizes": [3], "dropout": 0.4}, "one by one"),
        ({"batch_size": "full"}, {"hidden_sizes": [3], "dropout": 0.4}, "one by one"),
        ({"batch_size": "full", "order": "with_replacement"}, {"hidden_sizes": [3], "dropout": 0.4}, "one by one"),
        ({"batch_size": 60, "drop_last": True}, {"hidden_sizes": [8, 3], "dropout": 0.1}, "one by one"),
        ({"batch_size": 5, "standardize": True}, {"hidden_sizes": [3], "dropout": 0.2}, "one by one"),
        ({"batch_size": "full", "test_size": 0.2}, {"hidden_sizes": [3], "dropout": 0.2, "engine": "autograd"}, "one"),
        ({"batch_size": "full"}, {}, "batched"),
        ({"batch_size": 60, "drop_last": True}, {"hidden_sizes": [3]}, "batched"),
        ({"standardize": True}, SGD_WITH_STEPS, "one by one"),
        ({}, {"network": lambda d, k: nn.Sequential(nn.BatchNorm1d(d), nn.Linear(d, k))}, "one by one"),
    ],
)
def test_whatever_is_swept_ends_as_in_a_trainer(
    make_trainer: MakeTrainer, data: dict[str, Any], model: dict[str, Any], engine: str
) -> None:
    data, model = {"batch_size": 30, **data}, {**model, "momentum": 0.5}
    with _in_double():
        report = sweep(lrs=[0.002, 0.005], seeds=2, max_epochs=2, data=data, model=model)
    assert report.engine.startswith(engine)
    torch.manual_seed(1)
    recorder = HistoryRecorder()
    trainer = make_trainer(max_epochs=2, precision="64-true", callbacks=[recorder])
    trainer.fit(RegressionModule(lr=0.005, **model), RegressionDataModule(SteepLine(), seed=1, **data))
    assert report.last[0, 1, 0, 0, 0, 1] == pytest.approx(recorder.history.last("train_loss"), rel=1e-12)
    assert report.first[0, 1, 0, 0, 0, 1] == pytest.approx(recorder.history.first("train_loss"), rel=1e-12)


def test_every_combination_has_its_place() -> None:
    report = sweep(lrs="0.001,0.002", batch_sizes="50,full", momentums="0,0.5", l1s=[0, 0.1, 1], seeds=2, max_epochs=1)
    assert report.last.shape == (2, 2, 2, 1, 3, 2)
    alone = sweep(lrs="0.002,1", batch_sizes=50, momentums=0.5, l1s=0.1, seeds=2, max_epochs=1)
    np.testing.assert_allclose(report.last[0, 1, 1, 0, 1], alone.last[0, 0, 0, 0, 0], rtol=1e-6)
    assert len(report.rows) == 12
    assert [row.others["l1"] for row in report.rows[:6]] == [0.0, 0.0, 0.1, 0.1, 1.0, 1.0]


def test_what_is_not_given_is_the_usual() -> None:
    report = sweep(seeds=1, max_epochs=1)
    assert report.grid.batch_size == (1, 2, 4, 8, 16, 32, 64, 100)
    assert (report.grid.lr[0], report.grid.lr[-1], len(report.grid.lr)) == (1e-4, 1.0, 40)
    assert sweep(Parabola(), model={"lr": 0.1}, seeds=1, max_epochs=1).grid.lr == (0.1,)
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.3}}
    assert sweep(model={"optimizer": optimizer}, batch_sizes="50,full", seeds=1, max_epochs=1).grid.lr == (0.3,)


def test_the_limit_of_theory_parts_what_diverges() -> None:
    report = sweep(lrs="0.06,0.07,0.11,0.13", batch_sizes="1,full", seeds=1, max_epochs=120)
    stochastic, batch = report.rows
    assert stochastic.limit == pytest.approx(0.06418, rel=1e-3)
    assert batch.limit == pytest.approx(0.11997, rel=1e-3)
    assert (batch.largest_lr, batch.diverged) == (0.11, 1)
    assert report.diverged[1, 3].all()
    assert report.diverged[0, 2].all()
    rows = sweep(lrs=0.1, batch_sizes="full", weight_decays="0,0.1", seeds=1, max_epochs=1).rows
    curvature = LinearLoss.of(*SteepLine().sample()).lambda_max  # which weight decay adds to
    assert [row.limit for row in rows] == pytest.approx([2 / curvature, 2 / (curvature + 0.1)])
    rows = sweep(lrs=0.1, batch_sizes="full", l1s="0,0.1", seeds=1, max_epochs=1).rows
    assert [np.isnan(row.limit) for row in rows] == [False, True]  # theory knows no L1 penalty


def test_rates_that_seeds_do_not_tell_from_the_best_are_as_good() -> None:
    report = sweep(LinearProblem(n_samples=40), lrs="log(0.002,0.5,12)", batch_sizes="1,8", seeds=4, max_epochs=6)
    lrs = report.grid.lr
    wide = []
    for size, row in enumerate(report.rows):
        ends = report.last[size].reshape(len(lrs), -1)
        best = lrs.index(row.best_lr)
        assert ends[best].mean() == min(each.mean() for each in ends if np.isfinite(each).all())
        assert row.train_loss.std == pytest.approx(np.std(ends[best], ddof=1))
        near = [i == best or ttest_rel(ends[i], ends[best]).pvalue >= 0.05 for i in range(len(lrs))]
        low, high = (lrs.index(lr) for lr in row.as_good)
        assert all(near[low : high + 1])
        assert not any(near[i] for i in (low - 1, high + 1) if 0 <= i < len(lrs))
        wide.append(high > low)
    assert any(wide)
    assert f" {report.rows[0].as_good[0]:.4g} to {report.rows[0].as_good[1]:.4g} " in str(report)


def test_a_rate_at_which_the_loss_rises_is_not_the_best() -> None:
    report = sweep(lrs="0.2,0.3", batch_sizes="50,full", seeds=2, max_epochs=1)
    assert not report.diverged.any()
    assert (report.last > report.first).all()
    assert np.isnan([row.best_lr for row in report.rows]).all()
    assert [row.largest_lr for row in report.rows] == [0.3, 0.3]
    assert str(report).count(" none ") == 2


@pytest.mark.parametrize(
    "options",
    [
        {"batch_sizes": "50,full", "lrs": "0.05,0.1,0.5"},
        {"batch_sizes": "50,full", "lrs": "log(0.001,1,9)", "momentums": "0,0.9"},
        {"batch_sizes": "full", "lrs": "log(0.001,1,9)", "weight_decays": "0,0.1,1"},
        {"batch_sizes": "full", "lrs": 0.01, "l1s": "0,0.1"},
        {"batch_sizes": "50,full", "lrs": "1,2"},
    ],
)
def test_every_sweep_has_a_picture(options: dict[str, Any]) -> None:
    report = sweep(seeds=2, max_epochs=12, **options)
    assert pixels(report.plot()).std() > 20
    assert report._repr_png_().startswith(b"\x89PNG")
    assert str(report).splitlines()[0].startswith("SteepLine: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lrs": "0,0.1"}, r"cannot train with lr 0\.0"),
        ({"lrs": 0.1, "batch_sizes": "full"}, "cannot sweep a single combination"),
        ({"batch_sizes": "1,1000"}, "batch_size 1000, because there are only 100 training samples"),
        ({"batch_sizes": "0,1"}, "cannot use 0 as batch_size"),
        ({"momentums": "0,0.9", "model": {"nesterov": True, "momentum": 0.5}}, "cannot use nesterov without momentum"),
        ({"seeds": 0}, "cannot sweep with 0 seeds"),
        ({"seeds": 100_000}, "cannot sweep 32,000,000 runs, 1,000,000 at most"),
        ({"max_epochs": 0}, "cannot sweep 0 epochs"),
        ({"model": {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}}}, "monitors"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        sweep(**options)
    assert "\n" not in str(error.value)


def test_a_training_step_of_its_own_is_no_matter_of_a_sweep() -> None:
    class Own(RegressionModule):
        def training_step(self, *args: Any) -> Any:
            return super().training_step(*args)

    data = RegressionDataModule(SteepLine())
    with pytest.raises(InputError, match="cannot sweep Own, because it has a training step of its own"):
        SweepTask(Grid((50, 100), (0.1,)), ((0, 0),), 1).train(Own(), data)


def test_a_report_is_written_where_it_is_wanted(tmp_path: Any) -> None:
    report = sweep(batch_sizes="50,full", lrs="0.01,0.1", seeds=1, max_epochs=1, directory=tmp_path / "there")
    assert isinstance(report, SweepReport)
    assert isinstance(report.plot(), Figure)
    assert {path.name for path in (tmp_path / "there").iterdir()} == {
        "sweep.csv", "table.csv", "sweep.json", "map.png", "hparams",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({"batch_sizes": [3, 50], "momentums": [0.0, 0.5]}, "batched"),
        ({"batch_sizes": [1, 100], "model": {"hidden_sizes": [4]}}, "batched"),
        ({"batch_sizes": [20], "data": {"val_size": 0.2}}, "batched"),  # data that differ from seed to seed
        ({"batch_sizes": [1], "data": {"order": "sequential"}}, "fused"),
        ({"batch_sizes": [50], "model": {"hidden_sizes": [3], "dropout": 0.1}}, "one by one"),
        ({"batch_sizes": [50], "model": {"optimizer": {"class_path": "torch.optim.Adam"}}}, "one by one"),
    ],
)
def test_parts_of_an_executor_end_at_the_same_bits(
    options: dict[str, Any], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "fused":
        pytest.importorskip("numba", reason="the fused engine is compiled by numba")
        monkeypatch.setattr("gd_lightning.engine.many.choice._LOADING", 0.0)
    given: dict[str, Any] = {"lrs": [0.01, 0.1, 10.0], "seeds": 2, "max_epochs": 2, **options}
    here, there = sweep(Parabola(), **given), sweep(Parabola(), **given, executor=Pickling())
    assert here.engine == there.engine
    assert here.engine.startswith(engine)
    for name in ("first", "last", "updates", "diverged"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
