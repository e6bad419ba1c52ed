"""What a run is said to come to, against what it comes to."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gd_lightning import (
    Forecast,
    History,
    HistoryRecorder,
    LinearProblem,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    StopOnDivergence,
    Table,
)
from tests.conftest import CONFIGS, CommandLine, MakeTrainer

FLOAT64: list[str] = ["--trainer.precision", "64-true"]


class _OwnStep(RegressionModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx)


def _fit(
    make_trainer: MakeTrainer, module: RegressionModule, data: RegressionDataModule, **options: Any
) -> tuple[HistoryRecorder, Forecast]:
    recorder, forecast = HistoryRecorder(), Forecast()
    defaults: dict[str, Any] = {"max_epochs": 12, "precision": "64-true", "callbacks": [recorder, forecast]}
    make_trainer(**{**defaults, **options}).fit(module, data)
    return recorder, forecast


def _assert_it_came_true(history: History) -> None:
    measured, predicted = history.series("train_loss"), history.series("train_loss_predicted")
    np.testing.assert_array_equal(predicted[0], measured[0])
    np.testing.assert_allclose(predicted[1], measured[1], rtol=1e-9)


@pytest.mark.parametrize(
    ("of_data", "of_module"),
    [
        ({}, {}),
        ({}, {"momentum": 0.6}),
        ({"standardize": True}, {"lr": 0.2, "bias": False}),
        ({"batch_size": 7, "order": "sequential"}, {}),
        ({"batch_size": 7, "order": "sequential", "drop_last": True}, {}),
        ({"batch_size": 1, "order": "sequential", "standardize": True}, {}),
    ],
)
def test_where_the_order_is_known_the_measured_curve_lies_on_the_predicted_one(
    make_trainer: MakeTrainer, of_data: dict[str, Any], of_module: dict[str, Any]
) -> None:
    problem = LinearProblem(n_samples=40, n_features=3, n_targets=2)
    data, module = RegressionDataModule(problem, **of_data), RegressionModule(**{"lr": 0.03, **of_module})
    recorder, forecast = _fit(make_trainer, module, data)
    _assert_it_came_true(recorder.history)
    assert forecast.outcome is not None
    assert forecast.outcome.variant == data.variant
    assert recorder.summary is not None
    assert recorder.summary.train_loss_predicted == pytest.approx(recorder.summary.train_loss_last, rel=1e-9)
    assert {name: getattr(recorder.summary, name) for name in forecast.said} == forecast.said
    assert recorder.summary.largest_stable_lr == forecast.outcome.largest_stable_lr


def test_drawn_samples_follow_the_expected_curve_in_the_mean(make_trainer: MakeTrainer) -> None:
    losses, predictions = [], []
    for seed in range(25):
        data = RegressionDataModule(SteepLine(), batch_size=20, order="with_replacement", seed=seed)
        recorder, _ = _fit(make_trainer, RegressionModule(lr=0.02), data, max_epochs=6)
        losses.append(recorder.history.series("train_loss")[1])
        predictions.append(recorder.history.series("train_loss_predicted")[1])
    assert np.ptp(predictions, axis=0).max() == 0
    error = np.std(losses, axis=0, ddof=1) / math.sqrt(len(losses))
    assert np.all(np.abs(np.mean(losses, axis=0) - predictions[0])[1:] < 4 * error[1:])


def test_it_warns_before_a_run_beyond_the_limit_and_of_no_other(make_trainer: MakeTrainer) -> None:
    with pytest.warns(UserWarning, match=r"lr 0.13 is above 0.12, the limit for batch_size 100 on these data; use lr"):
        _fit(make_trainer, RegressionModule(lr=0.13), RegressionDataModule(SteepLine()))
    _fit(make_trainer, RegressionModule(lr=0.11), RegressionDataModule(SteepLine()))  # warnings are errors here


def test_a_run_that_diverges_is_told_so_with_cause_and_cure(command_line: CommandLine) -> None:
    run = command_line.fit("--data.batch_size", "1", "--model.lr", "0.1", code=3)
    sentence = (
        "lr 0.1 is above 0.06418, the limit for batch_size 1 on these data; use lr 0.00182 (the lowest "
        "loss after 20 epochs, 0.0026 above the least-squares loss) or batch_size 5 (ends 0.83 above the least-squares "
        "loss)."
    )
    assert command_line.err == f"gd_lightning: warning: {sentence}\n"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["reason"].startswith("the train loss grew from 599.1 to")
    assert summary["reason"].endswith(sentence)
    assert summary["prediction"] == "diverges, for samples drawn with replacement"
    for cure in (["--model.lr", "0.049"], ["--data.batch_size", "5"]):
        command_line.fit("--data.batch_size", "1", "--model.lr", "0.1", "--data.order", "with_replacement", *cure)


def test_what_takes_too_long_is_left_out_and_explained_where_it_diverges(make_trainer: MakeTrainer) -> None:
    module, data = RegressionModule(lr=0.3), RegressionDataModule(SteepLine())
    recorder = HistoryRecorder()
    forecast = Forecast(max_seconds=0)
    make_trainer(callbacks=[recorder, forecast, StopOnDivergence()], max_epochs=20).fit(module, data)
    assert recorder.summary is not None
    assert "lr 0.3 is above 0.12, the limit for batch_size 100" in recorder.summary.reason
    assert recorder.summary.prediction.startswith("none, because it would take about")
    assert recorder.summary.prediction.endswith("consult plan")
    assert "train_loss_predicted" not in recorder.history


def _table(path: Path, feature: float = 1.0, target: float = 1.0) -> list[str]:
    """Write two features, of which one has this scale, and targets of another; return the options that use them raw."""
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).double()
    y = target * torch.tanh(x[:, 0] + x[:, 1])
    x[:, 1] = feature * (3 + x[:, 1])
    rows = [f"{a:.6g},{b:.6g},{c:.6g}" for (a, b), c in zip(x.tolist(), y.tolist(), strict=True)]
    path.write_text("\n".join(["small,large,y", *rows]))
    raw = ["--data.standardize", "none"]
    return ["--data.problem", "Table", "--data.problem.path", str(path), "--trainer.max_epochs", "20", *raw]


@pytest.mark.parametrize("scale", [1e3, 1e18])
@pytest.mark.parametrize(
    "options", [["--model.hidden_sizes", "[4]"], ["--model.l1", "0.01"], ["--model.hidden_sizes", "[4,4]"]]
)
def test_where_no_theory_explains_a_divergence_the_feature_far_from_standardised_is_named(
    command_line: CommandLine, tmp_path: Path, options: list[str], scale: float
) -> None:
    options = [*options, *_table(tmp_path / "table.csv", scale), "--data.batch_size", "full", "--model.lr", "0.05"]
    run = command_line.fit(*options, code=3)
    reason = json.loads((run / "summary.json").read_text())["reason"]
    assert re.search(r"the likely cause is the feature 'large', with mean [23]\S+ and standard deviation \S+", reason)
    assert '; use --data.standardize both (in Python RegressionDataModule(standardize="both")), and a smaller' in reason
    summary = json.loads((command_line.fit(*options, "--data.standardize", "true") / "summary.json").read_text())
    assert summary["train_loss_last"] < summary["train_loss_first"]


@pytest.mark.parametrize(
    ("feature", "target", "options"),
    [
        (1.0, 1.0, ["--model.lr", "1e9"]),
        (1e3, 1.0, ["--model.lr", "1e9", "--data.standardize", "true"]),
        (1.0, 1e6, ["--model.lr", "1e9", "--data.standardize", "targets"]),
        (1e3, 1.0, ["--model.network", "tests.module.test_regression.Quadratic"]),
    ],
)
def test_where_the_cause_may_be_another_no_column_is_named(
    command_line: CommandLine, tmp_path: Path, feature: float, target: float, options: list[str]
) -> None:
    network = [] if "--model.network" in options else ["--model.hidden_sizes", "[4]"]
    run = command_line.fit(*_table(tmp_path / "table.csv", feature, target), *network, *options, code=3)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "diverged"
    assert "likely cause" not in summary["reason"]


@pytest.mark.parametrize("feature", [1.0, 1e3])
def test_targets_far_from_standardised_are_named(command_line: CommandLine, tmp_path: Path, feature: float) -> None:
    options = [*_table(tmp_path / "table.csv", feature, 1e6), "--model.hidden_sizes", "[4]", "--model.lr", "10"]
    reason = json.loads((command_line.fit(*options, code=3) / "summary.json").read_text())["reason"]
    assert "the likely cause is the target 'y', with mean" in reason
    assert "use --data.standardize both" in reason


def test_the_curve_is_in_tensorboard_beside_the_measured_one(command_line: CommandLine) -> None:
    run = command_line.fit("--data.batch_size", "full")
    events = EventAccumulator(str(run)).Reload()
    history = History.from_csv(run / "history.csv")
    for axis in ("epochs", "updates", "samples"):
        shown = [event.value for event in events.Scalars(f"{axis}/train_loss_predicted")]
        np.testing.assert_allclose(shown, history.series("train_loss_predicted")[1], rtol=1e-6)
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    card = events.Tensors("run card/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| predicted | 0.22152572; slow, 0.0017 above the least-squares loss after 28 epochs |" in card
    assert "predicted   " in command_line.out


def test_a_continued_run_is_predicted_from_its_first_start(command_line: CommandLine) -> None:
    options = ["--data.batch_size", "30", "--data.order", "sequential", "--model.lr", "0.02", *FLOAT64]
    run = command_line.fit(*options, "--trainer.max_steps", "10")  # in the middle of the third epoch
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "8", "--trainer.max_steps", "-1") == 0
    whole = command_line.fit(*options, "--trainer.max_epochs", "8")
    ours, theirs = (History.from_csv(directory / "history.csv") for directory in (run, whole))
    np.testing.assert_array_equal(ours["train_loss_predicted"], theirs["train_loss_predicted"])
    _assert_it_came_true(theirs)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (RegressionModule(hidden_sizes=[3]), {}),
        (RegressionModule(loss="huber"), {}),
        (RegressionModule(momentum=1.0, lr=0.001), {}),
        (RegressionModule(optimizer={"class_path": "torch.optim.Adam"}), {}),
        (_OwnStep(), {}),
        (RegressionModule(), {"gradient_clip_val": 1.0}),
        (RegressionModule(), {"limit_train_batches": 2}),
    ],
)
def test_nothing_is_said_where_the_theory_does_not_hold(
    make_trainer: MakeTrainer, module: RegressionModule, options: dict[str, Any]
) -> None:
    data = RegressionDataModule(SteepLine(), batch_size=30)
    recorder, forecast = _fit(make_trainer, module, data, max_epochs=2, **options)
    assert forecast.outcome is None
    assert forecast.said == {}
    assert recorder.summary is not None
    assert recorder.summary.train_loss_predicted is None
    assert "train_loss_predicted" not in recorder.history


def test_it_changes_no_bit_of_the_result(make_trainer: MakeTrainer) -> None:
    parameters = []
    for callbacks in ([], [HistoryRecorder(), Forecast()]):
        module = RegressionModule(lr=0.01, initialization="normal")
        data = RegressionDataModule(LinearProblem(n_samples=50), batch_size=8, order="shuffled")
        torch.manual_seed(3)
        make_trainer(max_epochs=3, callbacks=callbacks).fit(module, data)
        parameters.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*parameters)


def test_every_shipped_config_of_a_linear_regressor_is_predicted(command_line: CommandLine) -> None:
    """The figure of the first epochs: for orders that are known, what is measured is what was predicted."""
    for name in ("batch", "four_points", "exam_scores", "noisy_line"):
        run: Path = command_line.fit("--config", CONFIGS / f"{name}.yaml", *FLOAT64, "--trainer.max_epochs", "5")
        _assert_it_came_true(History.from_csv(run / "history.csv"))


def test_the_advice_on_a_raw_table_works_when_it_is_followed(
    command_line: CommandLine, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """Before a run, behind a divergence, and in plan; followed on the command line, and in Python."""
    random = np.random.default_rng(0)
    area, rooms = random.normal(1500, 400, size=80), random.normal(3, 1, size=80)
    rows = np.stack([area, rooms, 0.3 * area + 20 * rooms + random.normal(0, 30, size=80)], axis=1)
    np.savetxt(path := tmp_path / "houses.csv", rows, delimiter=",", header="area,rooms,price", comments="")
    table: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", path, "--data.standardize", "none"]
    run = command_line.fit(*table, code=3)
    named = 'use --data.standardize both (in Python RegressionDataModule(standardize="both")) and lr '
    assert command_line.err.count(named) == 1
    assert named in json.loads((run / "summary.json").read_text())["reason"]
    assert command_line("plan", *table, "--map", "false", "--json") == 0
    said = json.loads(command_line.out)
    lr, _, rest = said["advice"].partition(named)[2].partition(" (")
    epochs, instead = rest.removeprefix("the fastest: ").split()[0], rest.partition(" instead of ")[2].split()[0]
    assert int(epochs) < 20 < 100_000 < int(instead.replace(",", ""))
    end = said["least_squares_loss"] + said["target_excess"]
    options = ["--data.standardize", "true", "--model.lr", lr, "--trainer.max_epochs", epochs]
    run = command_line.fit(*table, *options)
    assert json.loads((run / "summary.json").read_text())["train_loss_last"] <= end * (1 + 1e-5)
    data, module = RegressionDataModule(Table(str(path)), standardize=True), RegressionModule(lr=float(lr))
    recorder, _ = _fit(make_trainer, module, data, max_epochs=int(epochs))
    assert recorder.history.last("train_loss") <= end * (1 + 1e-5)


@pytest.mark.parametrize(("momentum", "is_settled"), [(0.0, True), (0.5, True), (0.999, False)])
def test_a_prediction_is_kept_for_so_many_epochs_and_goes_on_where_it_has_settled(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, momentum: float, is_settled: bool
) -> None:
    """A run without an end would have a prediction without an end, made again and again from its beginning."""
    most = 600
    monkeypatch.setattr(Forecast, "max_predicted_epochs", most)
    module, data = RegressionModule(lr=0.1, momentum=momentum), RegressionDataModule(SteepLine(), batch_size="full")
    recorder, forecast = _fit(make_trainer, module, data, max_epochs=most + 50)
    assert len(forecast._losses) == most + 1
    measured, predicted = recorder.history["train_loss"], recorder.history["train_loss_predicted"]
    until = len(measured) if is_settled else most
    np.testing.assert_allclose(predicted[:until], measured[:until], rtol=1e-9)
    assert np.isnan(predicted[until:]).all()
