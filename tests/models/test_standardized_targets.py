"""Targets that are standardised: trained in standard deviations, reported in original units.

Each number is checked against NumPy on data that are standardised by hand, or against a run on such data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import gd_lightning
from gd_lightning import (
    Arrays,
    HistoryRecorder,
    InputError,
    RegressionDataModule,
    RegressionModule,
    Run,
    ShapeError,
)
from gd_lightning.engine import why_no_numba
from gd_lightning.models import Standardize
from gd_lightning.sklearn import GradientDescentRegressor
from tests.conftest import CommandLine, MakeTrainer

Array = NDArray[np.float64]
EXACT: dict[str, Any] = {"precision": "64-true"}
COMPILED = [pytest.mark.skipif(bool(why_no_numba()), reason=why_no_numba())]
ENGINES = ["autograd", pytest.param("fused", marks=COMPILED)]


def _data(targets: int = 1, n: int = 60, d: int = 3) -> tuple[Array, Array]:
    """Return prices and the like: targets with means far from 0 and spreads of their own."""
    rng = np.random.default_rng(targets)
    x = rng.normal(size=(n, d)) * np.array([0.1, 1.0, 100.0])[:d] + np.array([5.0, -3.0, 200.0])[:d]
    z = (x - x.mean(0)) / x.std(0)
    y = np.stack([z @ rng.normal(size=d) + z[:, 0] ** 2 + 0.3 * rng.normal(size=n) for _ in range(targets)], axis=1)
    return x, y * np.array([50_000.0, 0.02, 7.0])[:targets] + np.array([140_000.0, 3.0, -1e3])[:targets]


def _standardized(values: Array) -> Array:
    scaled: Array = StandardScaler().fit_transform(values)
    return scaled


def _loss(error: Array, scale: Array, loss: str, delta: float = 1.0) -> float:
    """Return the mean loss in original units of errors in these, with the delta of Huber's in standard deviations."""
    size, bound = np.abs(error), delta * scale
    huber = np.where(size <= bound, size**2 / 2, bound * (size - bound / 2))
    return float({"mse": size**2, "mae": size, "huber": huber}[loss].mean())


def _parameters(run: Run) -> Array:
    values: Array = torch.cat([each.detach().flatten() for each in run.module.parameters()]).double().numpy()
    return values


@pytest.mark.parametrize(
    ("targets", "hidden_sizes", "loss", "engine"),
    [
        (1, [4], "huber", "autograd"),
        (3, [], "huber", "autograd"),
        (3, [4], "mae", "autograd"),
        pytest.param(1, [], "mse", "fused", marks=COMPILED),
        *(
            pytest.param(1, sizes, loss, "fused", marks=[*COMPILED, pytest.mark.slow])
            for sizes in ([], [4])
            for loss in ("mse", "mae", "huber")
        ),
        *(
            pytest.param(targets, sizes, loss, "autograd", marks=pytest.mark.slow)
            for targets in (1, 3)
            for sizes in ([], [4])
            for loss in ("mse", "mae", "huber")
        ),
    ],
)
def test_a_run_is_that_on_data_standardised_by_hand(
    targets: int, hidden_sizes: list[int], loss: str, engine: str
) -> None:
    x, y = _data(targets)
    options: dict[str, Any] = {
        "lr": 0.1, "batch_size": 16, "epochs": 4, "hidden_sizes": hidden_sizes, "loss": loss, "engine": engine,
        "momentum": 0.5, "weight_decay": 0.01, "l1": 0.01, "huber_delta": 0.7, "val_size": 10, **EXACT,
    }  # fmt: skip
    run = gd_lightning.fit((x, y), **options)
    train, val, _ = gd_lightning.RegressionDataModule((x, y), val_size=10).parts
    rows, held = train.y.numpy(), val.y.numpy()
    scaler, of_x = StandardScaler().fit(rows), StandardScaler().fit(train.x.numpy())
    by_hand = of_x.transform(x), scaler.transform(y)
    twin = gd_lightning.fit(by_hand, **options, standardize="none")
    np.testing.assert_allclose(_parameters(run), _parameters(twin), rtol=1e-9, atol=1e-12)
    predicted = np.asarray(run.predict(x)).reshape(len(x), -1)
    back = scaler.inverse_transform(np.asarray(twin.predict(by_hand[0])).reshape(len(x), -1))
    np.testing.assert_allclose(predicted, back, rtol=1e-9)
    scale = scaler.scale_
    for name, samples in {"train_loss": train, "val_loss": val}.items():
        here = np.asarray(run.predict(samples.x.numpy())).reshape(len(samples), -1)
        assert run.history.last(name) == pytest.approx(_loss(here - samples.y.numpy(), scale, loss, 0.7), rel=1e-9)
    if targets == 1:
        factor = float(scale[0]) ** (1 if loss == "mae" else 2)
        for name in ("train_loss", "batch_loss", "val_loss"):
            np.testing.assert_allclose(run.history[name], twin.history[name] * factor, rtol=1e-9)
    errors = np.asarray(run.predict(val.x.numpy())).reshape(len(val), -1) - held
    assert run.history.last("val_mae") == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert run.history.last("val_r2") == pytest.approx(r2_score(held, errors + held), rel=1e-6)


@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("targets", [1, 2])
def test_gradient_descent_by_numpy(targets: int, loss: str) -> None:
    x, y = _data(targets)
    run = gd_lightning.fit((x, y), epochs=6, lr=0.3, loss=loss, initialization="zero", **EXACT)
    z, t, scale = _standardized(x), _standardized(y), y.std(0)
    rows = np.c_[z, np.ones(len(z))]
    theta, losses = np.zeros((rows.shape[1], targets)), []
    for _ in range(7):
        errors = rows @ theta - t
        losses.append(_loss(errors * scale, scale, loss))
        slopes = 2 * errors if loss == "mse" else np.clip(errors, -1, 1)
        theta -= 0.3 * rows.T @ slopes / errors.size
    np.testing.assert_allclose(run.history["train_loss"], losses, rtol=1e-9)
    np.testing.assert_allclose(run.history["batch_loss"][1:], losses[:-1], rtol=1e-9)
    if loss == "mse":  # the theory holds for it, of several targets too, in original units
        np.testing.assert_allclose(run.history["train_loss_predicted"], losses, rtol=1e-9)


@pytest.mark.parametrize("targets", [1, 2])
def test_what_converges_is_least_squares_on_the_raw_data(targets: int) -> None:
    x, y = _data(targets)
    run = gd_lightning.fit((x, y), epochs=600, lr=0.4, **EXACT)
    best = LinearRegression().fit(x, y)
    affine = run.module.affine()
    assert affine is not None
    assert affine.bias is not None
    np.testing.assert_allclose(affine.weight.numpy(), np.atleast_2d(best.coef_), rtol=1e-6)
    np.testing.assert_allclose(affine.bias.numpy(), best.intercept_, rtol=1e-6)
    assert run.summary.parameters is not None
    found = list(run.summary.parameters.values())
    np.testing.assert_allclose(found, [*np.ravel(best.coef_), *np.ravel(best.intercept_)], rtol=1e-6)
    mse = ((best.predict(x) - y) ** 2).mean()
    assert run.summary.least_squares_loss == pytest.approx(mse, rel=1e-9)
    assert run.history.last("train_loss") == pytest.approx(mse, rel=1e-6)
    assert run.history.last("distance_to_least_squares") < 1e-4 * np.linalg.norm(found)
    told = gd_lightning.plan((x, y), lr=0.4, epochs=600, **EXACT)
    assert told.to_dict()["least_squares_loss"] == pytest.approx(mse, rel=1e-9)


@pytest.mark.parametrize("option", ["features", "targets", "both", "none", True, False, None])
def test_what_is_standardised(option: Any) -> None:
    x, y = _data()
    data, module = RegressionDataModule((x, y), standardize=option), RegressionModule()
    module.configure_for(data)
    word = {True: "both", False: "none", None: "both"}.get(option, option)
    assert data.hparams["standardize"] == data.standardize == word
    assert (module.standardize is not None) == (word in ("features", "both"))
    assert (module.standardize_targets is not None) == (word in ("targets", "both"))
    assert RegressionDataModule(gd_lightning.SteepLine()).standardize == "none"
    with pytest.raises(InputError, match="use features, targets, both or none"):
        RegressionDataModule((x, y), standardize="all")  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("engine", ENGINES)
def test_a_continued_run_ends_at_the_bits_of_one_without_a_break(tmp_path: Path, engine: str) -> None:
    x, y = _data()
    options: dict[str, Any] = {"batch_size": 16, "hidden_sizes": [3], "engine": engine}
    whole = gd_lightning.fit((x, y), epochs=4, **options)
    gd_lightning.fit((x, y), epochs=2, directory=tmp_path / "run", **options)
    rest = gd_lightning.fit((x, y), epochs=4, ckpt_path=tmp_path / "run", directory=tmp_path / "run")
    assert np.array_equal(_parameters(whole), _parameters(rest))
    np.testing.assert_array_equal(whole.history["train_loss"], rest.history["train_loss"])
    loaded = gd_lightning.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.predict(x)[:, None], whole.predict(x), rtol=1e-12)
    # Another project reads plain values: mean and scale of the targets stand beside the weights.
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    np.testing.assert_allclose(state["standardize_targets.scale"], y.std(0), rtol=1e-12)
    np.testing.assert_allclose(state["standardize_targets.mean"], y.mean(0), rtol=1e-12)


@pytest.mark.parametrize("before", [True, False])
def test_a_run_of_an_earlier_version_goes_on_as_it_was(command_line: CommandLine, before: bool) -> None:
    """There, true spoke of features alone, in checkpoints and in configs of the first schema."""
    x, y = _data()
    table = command_line.root / "table.csv"
    np.savetxt(table, np.c_[x, y], delimiter=",", header="a,b,c,y", comments="")
    word = "features" if before else "none"
    options: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", table, "--model.lr", "1e-12"]
    options += ["--data.standardize", word]
    whole = command_line.fit(*options, "--trainer.max_epochs", "4")
    run = command_line.fit(*options, "--trainer.max_epochs", "2")
    config, checkpoint = run / "config.yaml", run / "checkpoints" / "last.ckpt"
    text = config.read_text()
    assert f"standardize: {word}" in text
    old = text.replace("schema 2", "schema 1").replace(f"standardize: {word}", f"standardize: {str(before).lower()}")
    config.write_text(old)
    saved = torch.load(checkpoint, weights_only=True)
    saved["datamodule_hyper_parameters"]["standardize"] = before
    saved["gd_lightning_schema"]["version"] = 1
    del saved["gd_lightning_schema"]["options"]  # which checkpoints of that version do not have
    torch.save(saved, checkpoint)
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "4") == 0, command_line.err
    ends = [torch.load(each / "checkpoints" / "last.ckpt", weights_only=True) for each in (whole, run)]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
    assert f"standardize: {word}" in config.read_text()
    # The old config begins the same run again, and in Python an old checkpoint makes the same data.
    config.write_text(old)
    again = command_line.fit("--config", config, "--trainer.max_epochs", "4")
    assert torch.equal(
        torch.load(again / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]["network.weight"],
        ends[0]["state_dict"]["network.weight"],
    )
    torch.save(saved, checkpoint)
    assert RegressionDataModule.load_from_checkpoint(checkpoint).standardize == word
    # To name another is no continuation.
    assert command_line("fit", "--ckpt_path", run, "--data.standardize", "targets") == 2
    assert "data.standardize targets" in command_line.err


def test_a_table_is_standardised_and_says_so(command_line: CommandLine) -> None:
    x, y = _data()
    table = command_line.root / "table.csv"
    np.savetxt(table, np.c_[x, y], delimiter=",", header="a,b,c,price", comments="")
    problem: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", table]
    run = command_line.fit(*problem, "--data.test_size", "20", "--model.hidden_sizes", "[4]")
    assert "price from a, b, c; features and targets are standardised\n" in command_line.out
    assert "standardize: both" in (run / "config.yaml").read_text()
    assert command_line("test", "--ckpt_path", run) == 0, command_line.err
    assert command_line("predict", "--ckpt_path", run) == 0, command_line.err
    lines = (run / "predictions.csv").read_text().splitlines()
    predicted = np.array([float(line.split(",")[-1]) for line in lines[1:]])
    assert r2_score(y[:, 0], predicted) > 0
    assert "standardize: none" in (command_line.fit("--trainer.max_epochs", "1") / "config.yaml").read_text()


def test_raw_data_are_named_where_they_need_a_tiny_lr(command_line: CommandLine) -> None:
    x, y = _data()
    table = command_line.root / "table.csv"
    np.savetxt(table, np.c_[x, y], delimiter=",", header="a,b,c,price", comments="")
    raw: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", table, "--data.standardize"]
    mlp = ["--model.hidden_sizes", "[4]", "--trainer.max_epochs", "3"]
    for options, name in ((["none"], "target 'price'"), (["targets"], "feature 'c'"), (["features"], "target 'price'")):
        assert command_line("fit", *raw, *options, *mlp) in (0, 3), command_line.err
        assert f"lr 0.1 is likely to be far too large for the {name}, with mean" in command_line.err
        assert "use --data.standardize both" in command_line.err
    assert command_line("fit", *raw, "none", "--trainer.max_epochs", "3") == 3
    assert "use --data.standardize both" in command_line.err
    command_line.fit(*raw, "both", *mlp)
    assert "far too large" not in command_line.err


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_a_sweep_ends_where_runs_end(targets: int, loss: str) -> None:
    x, y = _data(targets)
    options: dict[str, Any] = {"batch_size": 20, "epochs": 3, "loss": loss}
    runs = [gd_lightning.fit((x, y), lr=lr, **options) for lr in (0.01, 0.1)]
    ends = [run.history.last("train_loss") for run in runs]
    report = gd_lightning.sweep((x, y), lrs=[0.01, 0.1], seeds=1, **options)
    np.testing.assert_allclose(report.last.ravel(), ends, rtol=1e-5)
    assert ("scale" in report.engine) == (targets == 2)
    if loss == "mse":
        assert report.least_squares.item() == pytest.approx(runs[0].summary.least_squares_loss, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_estimator_is_scikit_learns_own_composition(weighted: bool) -> None:
    x, y = _data(2)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(x)) if weighted else None
    model = GradientDescentRegressor(epochs=600, lr=0.4).fit(x, y, sample_weight=weights)
    best = LinearRegression().fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(model.coef_, best.coef_, rtol=1e-6)
    np.testing.assert_allclose(model.predict(x), best.predict(x), rtol=1e-6)
    mse = np.average((best.predict(x) - y) ** 2, axis=0, weights=weights).mean()
    assert model.loss_curve_[-1] == pytest.approx(mse, rel=1e-6)
    options: dict[str, Any] = {"epochs": 5, "hidden_sizes": [4], "batch_size": 16}
    of_targets = GradientDescentRegressor(**options, standardize="both").fit(x, y[:, 0])
    wrapped = TransformedTargetRegressor(
        GradientDescentRegressor(**options, standardize="features"), transformer=StandardScaler()
    ).fit(x, y[:, 0])
    np.testing.assert_allclose(of_targets.predict(x), wrapped.predict(x), rtol=1e-9)


class _InThousands(RegressionModule):
    """Predicts in units of its own, and has a loss of its own, in whatever units it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.0

    def summed_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().pow(1.5).sum()


@pytest.mark.parametrize("targets", [1, 2])
def test_a_loss_of_ones_own_is_trained_in_standard_deviations(make_trainer: MakeTrainer, targets: int) -> None:
    x, y = _data(targets)
    module, recorder = _InThousands(lr=0.1), HistoryRecorder()
    make_trainer(max_epochs=30, precision="64-true", callbacks=[recorder]).fit(module, RegressionDataModule((x, y)))
    losses = recorder.history["train_loss"]
    with torch.no_grad():
        errors = module(torch.from_numpy(x)).numpy() - y
    assert losses[-1] == pytest.approx((np.abs(errors) ** 1.5).mean(), rel=1e-9)
    assert losses[-1] < 0.9 * losses[0]
    np.testing.assert_allclose(recorder.history["batch_loss"][1:], losses[:-1], rtol=1e-9)


@pytest.mark.parametrize("targets", [1, 2])
def test_parts_of_a_batch_change_nothing(targets: int) -> None:
    x, y = _data(targets)
    whole, parts = (gd_lightning.fit((x, y), epochs=3, micro_batch_size=size, **EXACT) for size in (None, 7))
    np.testing.assert_allclose(_parameters(whole), _parameters(parts), rtol=1e-12)
    for name in ("train_loss", "batch_loss"):
        np.testing.assert_allclose(whole.history[name], parts.history[name], rtol=1e-12)


def test_constant_targets_and_those_far_from_zero() -> None:
    x, _ = _data()
    constant = gd_lightning.fit((x, np.full(len(x), 7e5)), epochs=40, initialization="zero")
    assert constant.history.last("train_loss") == 0
    np.testing.assert_array_equal(constant.predict(x), np.full(len(x), 7e5))
    # The seconds of a day in 2023: in float32 they would be multiples of 128.
    seconds = 1.7e9 + 100 * _standardized(x)[:, 0]
    run = gd_lightning.fit((x, seconds), epochs=100, lr=0.3)
    assert np.abs(np.asarray(run.predict(x)) - seconds).max() < 0.01


def test_without_biases_nothing_is_subtracted() -> None:
    x, y = _data()
    run = gd_lightning.fit((x, y), bias=False, epochs=2)
    layer = run.module.standardize_targets
    assert layer is not None
    np.testing.assert_allclose(layer.scale, np.sqrt((y**2).mean(0)), rtol=1e-12)
    assert run.predict(np.zeros((1, 3))).item() == 0


def test_predictions_of_another_number_of_targets_are_refused(make_trainer: MakeTrainer) -> None:
    x, y = _data(2)
    module = RegressionModule(network=lambda d, k: torch.nn.Linear(d, 1))
    with pytest.raises(ShapeError, match="predictions of shape"):
        make_trainer(max_epochs=1).fit(module, RegressionDataModule((x, y)))


@pytest.mark.skipif(bool(why_no_numba()), reason=why_no_numba())
def test_compiled_updates_of_several_scales_are_refused() -> None:
    x, y = _data(2)
    with pytest.raises(InputError, match="each of several targets is standardised by its own scale"):
        gd_lightning.fit((x, y), engine="fused", epochs=2)
    assert Standardize.fit(lambda: [torch.ones(3, 2)]).has_one_scale


def _hard_table(n: int) -> tuple[Array, Array]:
    """Return a target of mean 140,000 and spread 50,000 from eight features of scales 1e-3 to 1e6."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 8))
    f = z[:, 0] + np.sin(2 * z[:, 1]) + 0.5 * z[:, 2] * z[:, 3] + 0.3 * rng.normal(size=n)
    return (z + 3) * 10.0 ** np.linspace(-3, 6, 8), 140_000 + 50_000 * (f - f.mean()) / f.std()


def test_a_table_of_any_scales_trains_at_once() -> None:
    x, y = _hard_table(400)
    run = gd_lightning.fit((x[:300], y[:300]), hidden_sizes=[16], batch_size=32, epochs=15)
    assert r2_score(y[300:], run.predict(x[300:])) > 0.6


@pytest.mark.slow
def test_a_table_of_any_scales_is_learned_as_scikit_learn_learns_it() -> None:
    x, y = _hard_table(2500)
    run = gd_lightning.fit((x[:2000], y[:2000]), hidden_sizes=[64, 64], batch_size=32, epochs=40)
    other = TransformedTargetRegressor(
        make_pipeline(
            StandardScaler(),
            MLPRegressor(hidden_layer_sizes=(64, 64), random_state=0, max_iter=400),
        ),
        transformer=StandardScaler(),
    ).fit(x[:2000], y[:2000])
    assert r2_score(y[2000:], run.predict(x[2000:])) > other.score(x[2000:], y[2000:]) - 0.02


def test_what_a_problem_holds_is_its_own_default() -> None:
    x, y = _data()
    problem = Arrays(x, y)
    assert RegressionDataModule(problem).standardize == "both"
    assert RegressionDataModule(problem).standardized().standardize == "both"
