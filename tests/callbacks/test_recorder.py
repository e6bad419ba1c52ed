from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gd_lightning import (
    ExamScores,
    HistoryRecorder,
    LastCheckpoint,
    LinearProblem,
    NoisyLine,
    Outcome,
    Parabola,
    Pictures,
    Problem,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    StopOnDivergence,
    Variant,
)
from gd_lightning.errors import InputError
from gd_lightning.losses import mean_loss
from gd_lightning.records.history import History
from tests.conftest import MakeTrainer


def _recorded(
    make_trainer: MakeTrainer,
    problem: Problem,
    *callbacks: Callback,
    of_data: dict[str, Any] | None = None,
    of_trainer: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[HistoryRecorder, RegressionModule, RegressionDataModule]:
    recorder, module = HistoryRecorder(), RegressionModule(**options)
    data = RegressionDataModule(problem, **(of_data or {}))
    trainer = make_trainer(callbacks=[recorder, *callbacks], **{"max_epochs": 4, **(of_trainer or {})})
    trainer.fit(module, data)
    return recorder, module, data


class LossesByHand(Callback):
    """Measures the train loss before the first and after every update, as the shortest code that is right."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def measure(self, trainer: Trainer, module: LightningModule) -> None:
        x, y = trainer.datamodule.train.take(slice(None))  # type: ignore[attr-defined]
        with torch.no_grad():
            self.losses.append(mean_loss(module(x), y).item())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.measure(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.measure(trainer, pl_module)


@pytest.mark.parametrize("batch_size", ["full", 16, 1])
def test_the_train_loss_is_that_of_the_whole_set_at_fixed_weights(make_trainer: MakeTrainer, batch_size: Any) -> None:
    by_hand = LossesByHand()
    of_data = {"batch_size": batch_size}
    recorder, _, data = _recorded(make_trainer, SteepLine(), by_hand, of_data=of_data, lr=0.01)
    updates, losses = recorder.history.series("train_loss")
    assert updates.tolist() == [epoch * data.variant.updates_per_epoch for epoch in range(5)]
    np.testing.assert_allclose(losses, np.array(by_hand.losses)[updates.astype(int)], rtol=1e-6)


def test_the_axes_of_all_variants_agree(make_trainer: MakeTrainer) -> None:
    histories = {}
    for batch_size in ("full", 16, 1):
        recorder, *_ = _recorded(make_trainer, SteepLine(), of_data={"batch_size": batch_size}, lr=0.01)
        history, variant = recorder.history, Variant.of(batch_size, 100)
        histories[batch_size] = history
        assert history["update"].tolist() == list(range(4 * variant.updates_per_epoch + 1))
        assert history.last("samples") == 400
        assert history.last("epoch") == 4
        assert np.all(np.diff(history["samples"]) == [variant.size_of(i) for i in range(variant.updates_per_epoch)] * 4)
        assert np.all(np.diff(history["seconds"]) > 0)
        assert history["epoch"][variant.updates_per_epoch] == 1
    assert len({history.first("train_loss") for history in histories.values()}) == 1


def test_the_batch_loss_of_batch_descent_is_the_train_loss_before_it(make_trainer: MakeTrainer) -> None:
    recorder, *_ = _recorded(make_trainer, SteepLine(), lr=0.1, of_trainer={"precision": "64-true"})
    history = recorder.history
    np.testing.assert_allclose(history["batch_loss"][1:], history["train_loss"][:-1], rtol=1e-12)


def test_parameters_follow_from_the_recorded_gradients_and_rates(make_trainer: MakeTrainer) -> None:
    problem = LinearProblem(n_samples=30, n_features=2)
    recorder, *_ = _recorded(
        make_trainer,
        problem,
        of_data={"batch_size": 7},
        of_trainer={"precision": "64-true"},
        lr=0.1,
        lr_scheduler={"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}},
    )
    history = recorder.history
    assert history["lr"].tolist() == [0.1] + [0.1 * 0.5**epoch for epoch in range(4) for _ in range(5)]
    for name in ("w_0", "w_1", "b"):
        steps = np.diff(history[name])
        np.testing.assert_allclose(steps, -history["lr"][1:] * history[f"grad_{name}"][1:], rtol=1e-9, atol=1e-15)


def test_distances_are_those_to_the_least_squares(make_trainer: MakeTrainer) -> None:
    for standardize in (False, True):
        recorder, _, data = _recorded(make_trainer, ExamScores(), of_data={"standardize": standardize}, lr=1e-4)
        history = recorder.history
        x, y = data.train.x, data.train.y
        design = np.hstack([x.double().numpy(), np.ones((4, 1))])
        w, b = np.linalg.lstsq(design, y.double().numpy(), rcond=None)[0][:, 0]
        expected = np.hypot(history["w"] - w, history["b"] - b)
        np.testing.assert_allclose(history["distance_to_least_squares"], expected, rtol=1e-4)
        assert recorder.summary is not None
        assert recorder.summary.least_squares == pytest.approx({"w": 7.9, "b": 400})
        assert recorder.summary.least_squares_loss == pytest.approx(2017.5)


def _state(make_trainer: MakeTrainer, *callbacks: Callback, logs: bool = False, **of_data: Any) -> list[Tensor]:
    torch.manual_seed(3)
    module = RegressionModule(lr=0.1, hidden_sizes=[6], dropout=0.3, momentum=0.5)
    data = RegressionDataModule(Parabola(), batch_size=16, **of_data)
    options = {"max_epochs": 5, "logs": logs, "enable_checkpointing": logs}
    make_trainer(callbacks=list(callbacks), **options).fit(module, data)
    return [p.detach().clone() for p in module.parameters()] + [torch.get_rng_state()]


@pytest.mark.parametrize("of_data", [{}, {"val_size": 0.2}])
def test_instruments_change_no_bit_of_the_result(make_trainer: MakeTrainer, of_data: dict[str, Any]) -> None:
    """With dropout, which draws from the global generator, and with validation."""
    plain = _state(make_trainer, **of_data)
    instruments = [HistoryRecorder(), StopOnDivergence(), Pictures(), LastCheckpoint(interval=1e-9)]
    watched = _state(make_trainer, *instruments, logs=True, **of_data)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_validation_measures_belong_to_the_weights_of_their_row(make_trainer: MakeTrainer) -> None:
    recorder, module, data = _recorded(make_trainer, NoisyLine(), lr=0.1)
    x, y = data.parts[1].take(slice(None))
    assert recorder.history.last("val_loss") == pytest.approx(mean_loss(module(x), y).item(), rel=1e-6)
    start = NoisyLine().start(x)
    assert recorder.history.first("val_loss") == pytest.approx(mean_loss(start, y).item(), rel=1e-6)
    assert len(recorder.history.series("val_loss")[0]) == 5


def test_long_runs_record_every_kth_update_and_all_ends_of_epochs(make_trainer: MakeTrainer) -> None:
    recorder = HistoryRecorder(every_n_updates=30)
    data = RegressionDataModule(SteepLine(), batch_size=1)
    make_trainer(callbacks=[recorder], max_epochs=2).fit(RegressionModule(lr=0.01), data)
    assert recorder.history["update"].tolist() == [0, 30, 60, 90, 100, 120, 150, 180, 200]
    with pytest.raises(InputError, match="every 0 updates"):
        HistoryRecorder(every_n_updates=0)


def test_a_stop_within_an_epoch_is_measured_where_it_happened(make_trainer: MakeTrainer) -> None:
    recorder = HistoryRecorder(every_n_updates=1000)
    data, module = RegressionDataModule(SteepLine(), batch_size=16), RegressionModule(lr=0.01)
    make_trainer(callbacks=[recorder], max_epochs=-1, max_steps=10).fit(module, data)
    history = recorder.history
    assert (history.last("update"), history.last("samples")) == (10, 148)
    assert history.last("epoch") == pytest.approx(1 + 3 / 7)
    assert history.last("train_loss") == pytest.approx(mean_loss(module(data.train.x), data.train.y).item(), rel=1e-6)
    assert history.outcome is Outcome.COMPLETED
    assert "max_steps" in history.reason


@pytest.mark.parametrize(
    ("criterion", "outcome", "epochs"),
    [
        ({"min_delta": 1e9, "patience": 2}, Outcome.STOPPED, 3),
        ({"stopping_threshold": 300.0, "patience": 100}, Outcome.CONVERGED, 2),  # after 599, 345: 204
        ({"divergence_threshold": 300.0, "patience": 100}, Outcome.DIVERGED, 1),
    ],
)
def test_the_train_loss_can_be_monitored(
    make_trainer: MakeTrainer, criterion: dict[str, Any], outcome: Outcome, epochs: int
) -> None:
    stopping = EarlyStopping("train_loss", check_on_train_epoch_end=True, **criterion)
    recorder, *_ = _recorded(make_trainer, SteepLine(), stopping, lr=0.1, of_trainer={"max_epochs": 50})
    assert recorder.history.outcome is outcome
    assert recorder.history.reason.startswith("early stopping: ")
    assert recorder.history.last("epoch") == epochs


def test_time_is_a_limit_like_any_other(make_trainer: MakeTrainer) -> None:
    limits = {"max_epochs": -1, "max_time": {"seconds": 1}}
    recorder, *_ = _recorded(make_trainer, SteepLine(), lr=0.1, of_trainer=limits)
    assert recorder.history.outcome is Outcome.COMPLETED
    assert "max_time" in recorder.history.reason


class Stumble(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 3:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("the cat took the plug\nmore"), KeyboardInterrupt()])
def test_nothing_recorded_is_lost_in_an_interruption(
    make_trainer: MakeTrainer, tmp_path: Path, error: Exception
) -> None:
    recorder = HistoryRecorder()
    trainer = make_trainer(callbacks=[recorder, Pictures(), Stumble(error)], max_epochs=9, logs=True)
    with pytest.raises((RuntimeError, SystemExit)):
        trainer.fit(RegressionModule(lr=0.1), RegressionDataModule(SteepLine()))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["outcome"] == "interrupted"
    assert summary["updates"] == 3
    assert History.from_csv(tmp_path / "run" / "history.csv")["update"].tolist() == [0, 1, 2, 3]


def _events(directory: Path) -> EventAccumulator:
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("batch_size", ["full", 16, 1])
def test_tensorboard_holds_the_history_on_every_axis(
    make_trainer: MakeTrainer, tmp_path: Path, batch_size: Any
) -> None:
    recorder, _, _ = _recorded(
        make_trainer,
        SteepLine(),
        Pictures(),
        of_data={"batch_size": batch_size, "val_size": 0.2},
        of_trainer={"logs": True},
        lr=0.01,
    )
    events, history = _events(tmp_path / "run"), recorder.history
    tags = events.Tags()
    axes = {"updates": "update", "samples": "samples", "epochs": "epoch", "microseconds": "seconds"}
    families = {f"{axis}/train_loss" for axis in axes} | {f"{axis}/val_loss" for axis in axes}
    families |= {
        f"{axis}/{name}" for axis in axes for name in ("batch_loss", "lr", "w", "b", "distance_to_least_squares")
    }
    assert families <= set(tags["scalars"])
    assert not any(tag.startswith(("val_", "hp_metric", "epoch/")) or tag == "epoch" for tag in tags["scalars"])
    for tag in tags["scalars"]:
        assert len(events.Scalars(tag)) > 0
    for axis, column in axes.items():
        points = events.Scalars(f"{axis}/train_loss")
        at, losses = history.curve("train_loss", column)
        whole = (at == np.floor(at)) | (axis != "epochs")
        at, losses = at[whole], losses[whole]
        factor = 1e6 if axis == "microseconds" else 1
        assert [point.step for point in points] == [round(factor * value) for value in at]
        np.testing.assert_allclose([point.value for point in points], losses, rtol=1e-6)
    relative = [point.wall_time for point in events.Scalars("updates/train_loss")]
    np.testing.assert_allclose(np.diff(relative), np.diff(history.curve("train_loss", "seconds")[0]), atol=1e-4)
    assert set(tags["images"]) == {"views/losses", "views/data and fit", "views/loss surface"}
    assert events.Scalars("final/train_loss")[0].value == pytest.approx(history.last("train_loss"), rel=1e-6)
    assert any("run card" in tag for tag in tags["tensors"])
    assert any("_hparams_" in tag for tag in events.summary_metadata)


def test_the_hparams_tab_shows_what_runs_differ_in_as_numbers(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    _recorded(make_trainer, SteepLine(), of_trainer={"logs": True}, lr=0.01)
    metadata = _events(tmp_path / "run").summary_metadata
    content = {
        tag.rpartition("/")[2]: HParamsPluginData.FromString(value.plugin_data.content)
        for tag, value in metadata.items()
        if tag.startswith("_hparams_")
    }
    infos = content["experiment"].experiment.hparam_infos
    shown = {info.name for info in infos if info.differs}
    assert shown == {"problem", "batch_size", "lr", "seed", "outcome"}
    metrics = {info.name.tag for info in content["experiment"].experiment.metric_infos}
    assert {"final/train_loss", "final/val_loss"} <= metrics
    assert not any("hp_metric" in tag for tag in metrics)
    assert content["session_start_info"].session_start_info.hparams["batch_size"].number_value == 100
    assert content["session_start_info"].session_start_info.hparams["outcome"].string_value == "completed"


def test_series_of_long_runs_are_thinned_for_tensorboard_but_not_in_the_history(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    of_data, of_trainer = {"batch_size": 1}, {"logs": True, "max_epochs": 30}
    recorder, *_ = _recorded(make_trainer, SteepLine(), of_data=of_data, of_trainer=of_trainer, lr=0.01)
    assert len(recorder.history) == 3001
    points = _events(tmp_path / "run").Scalars("updates/batch_loss")
    assert 400 <= len(points) <= 530
    assert points[-1].step == 3000


class Theirs(LightningModule):
    """A module of another project, with a layer that trains differently than it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        assert isinstance(y, Tensor)
        return y

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.mark.usefixtures("pictures")
def test_the_recorder_serves_on_a_module_of_another_project(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def train(*callbacks: Callback, logs: bool) -> Theirs:
        torch.manual_seed(1)
        module = Theirs()
        x, y = LinearProblem(n_samples=50, n_features=3).sample()
        loader = DataLoader(TensorDataset(x.float(), y.float()), batch_size=8, shuffle=True)
        make_trainer(callbacks=list(callbacks), max_epochs=3, logs=logs).fit(module, loader)
        return module

    recorder = HistoryRecorder()
    watched, plain = train(recorder, Pictures(), logs=True), train(logs=False)
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    x, y = LinearProblem(n_samples=50, n_features=3).sample()
    with torch.no_grad():
        expected = mean_loss(watched.eval()(x.float()), y.float()).item()
    assert recorder.history.last("train_loss") == pytest.approx(expected, rel=1e-6)
    assert len(recorder.history) == 1 + 3 * 7
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["variant"] == "mini-batch"


class Unusual(Theirs):
    """Optimises by hand, returns nothing, and predicts and compares vectors (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()
        return None  # type: ignore[return-value]


def test_modules_that_step_by_hand_or_accumulate_are_recorded_too(make_trainer: MakeTrainer) -> None:
    x, y = LinearProblem(n_samples=40, n_features=3).sample()
    vectors = DataLoader(TensorDataset(x.float(), y[:, 0].float()), batch_size=8)
    recorder = HistoryRecorder()
    make_trainer(callbacks=[recorder], max_epochs=3).fit(Unusual(), vectors)
    assert recorder.history.outcome is Outcome.COMPLETED
    assert recorder.history.last("train_loss") < recorder.history.first("train_loss")
    assert "batch_loss" not in recorder.history

    columns = DataLoader(TensorDataset(x.float(), y.float()), batch_size=8)
    make_trainer(callbacks=[recorder], max_epochs=3, accumulate_grad_batches=2).fit(Theirs(), columns)
    assert recorder.history["update"].tolist() == list(range(10))  # 2 + 2 + 1 batches an epoch

    triples = DataLoader(TensorDataset(x.float(), y.float(), y.float()), batch_size=8)
    make_trainer(callbacks=[recorder], max_epochs=1).fit(Theirs(), triples)
    assert "train_loss" not in recorder.history
    assert "batch_loss" in recorder.history


def test_a_part_of_an_epoch_counts_as_what_it_is(make_trainer: MakeTrainer) -> None:
    of_data, of_trainer = {"batch_size": 10}, {"limit_train_batches": 3}
    recorder, *_ = _recorded(make_trainer, SteepLine(), of_data=of_data, of_trainer=of_trainer, lr=0.01)
    assert recorder.history["samples"].tolist() == [10 * update for update in range(13)]
    assert recorder.history.last("epoch") == 4


def test_validation_within_an_epoch_is_recorded_where_it_happened(make_trainer: MakeTrainer) -> None:
    of_data, of_trainer = {"batch_size": 10, "val_size": 20}, {"val_check_interval": 0.5, "max_epochs": 2}
    recorder, *_ = _recorded(make_trainer, SteepLine(), of_data=of_data, of_trainer=of_trainer, lr=0.01)
    assert recorder.history.series("val_mse")[0].tolist() == [4, 8, 12, 16]
    assert recorder.history["update"].tolist() == list(range(17))


def test_a_module_logs_its_metrics_itself_where_no_recorder_does(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    module, data = RegressionModule(lr=0.01), RegressionDataModule(SteepLine(), val_size=20)
    make_trainer(callbacks=[HistoryRecorder()], max_epochs=1, logs=True).fit(module, data)
    make_trainer(max_epochs=1, logger=CSVLogger(tmp_path, name="", version="csv")).fit(module, data)
    assert "val_mse" in (tmp_path / "csv" / "metrics.csv").read_text()


def test_two_fits_with_one_recorder_are_two_histories(make_trainer: MakeTrainer) -> None:
    recorder = HistoryRecorder()
    for epochs in (2, 3):
        make_trainer(callbacks=[recorder], max_epochs=epochs).fit(
            RegressionModule(lr=0.01), RegressionDataModule(SteepLine())
        )
        assert len(recorder.history) == epochs + 1


@pytest.mark.parametrize("every", [2**62, 2**63, 10**30])
def test_an_interval_beyond_any_run_records_as_a_long_one_does(make_trainer: MakeTrainer, every: int) -> None:
    pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    recorders = [HistoryRecorder(every_n_updates=number) for number in (every, 1000)]
    for recorder in recorders:
        trainer = make_trainer(max_epochs=2, callbacks=[recorder])
        trainer.fit(RegressionModule(lr=0.01, engine="fused"), RegressionDataModule(SteepLine(), batch_size=10))
    assert len({len(recorder.history) for recorder in recorders}) == 1
