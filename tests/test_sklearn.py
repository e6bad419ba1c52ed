"""The estimator for scikit-learn, against the Trainer's runs, closed forms, and scikit-learn's own checks."""

from __future__ import annotations

import importlib
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import gd_lightning
from gd_lightning.engine import why_no_numba
from gd_lightning.sklearn import GradientDescentRegressor
from tests.conftest import ROOT

Array = NDArray[np.float64]


def _data(n: int = 60, d: int = 3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * [1.0, 10.0, 0.1][:d] + 2
    return x, x @ np.array([1.0, -0.2, 5.0])[:d] + 3 + 0.1 * rng.normal(size=n)


def _parameters(module: torch.nn.Module) -> Array:
    values: Array = torch.cat([each.detach().flatten() for each in module.parameters()]).double().numpy()
    return values


SAME: dict[str, dict[str, Any]] = {
    "full": {"batch_size": "full"},
    "mini-batch": {"batch_size": 16},
    "stochastic with momentum": {"batch_size": 1, "lr": 0.005, "momentum": 0.5, "nesterov": True},
    "penalties": {"batch_size": 7, "weight_decay": 0.1, "l1": 0.05, "drop_last": True},
    "with replacement": {"batch_size": 8, "order": "with_replacement", "loss": "huber"},
    "in order": {"batch_size": 8, "order": "sequential", "loss": "mae", "initialization": "zero"},
    "as they are": {"batch_size": 8, "lr": 0.001, "standardize": False},
    "given start": {"batch_size": 8, "initialization": {"weight": [1.0, 2.0, 3.0], "bias": 1.0}},
    "perceptron": {"batch_size": 8, "lr": 0.02, "hidden_sizes": [5, 4], "activation": "tanh"},
    "dropout": {"batch_size": 8, "lr": 0.02, "hidden_sizes": [8], "dropout": 0.2},
    "adam": {"batch_size": 8, "lr": 0.02, "optimizer": "Adam", "initialization": "xavier"},
    "no bias": {"batch_size": 8, "bias": False, "val_size": 0.25},
    "schedule": {"batch_size": 8, "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ExponentialLR",
                                                   "init_args": {"gamma": 0.5}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "64-true") for name in SAME), *((name, "32-true") for name in ("mini-batch", "perceptron", "dropout"))],
)
def test_a_fit_ends_where_a_run_of_the_trainer_ends(name: str, precision: str) -> None:
    """The same weights, bit for bit where the same engine makes the updates."""
    x, y = _data()
    options: dict[str, Any] = {"standardize": True, "epochs": 3, "engine": "autograd", **SAME[name]}
    run = gd_lightning.fit((x, y), seed=5, precision=precision, **options)
    fitted = GradientDescentRegressor(random_state=5, precision=precision, **options).fit(x, y)
    assert np.array_equal(_parameters(fitted.network_), _parameters(run.module))
    losses = run.history["train_loss"][~np.isnan(run.history["train_loss"])]
    assert np.allclose(fitted.history_["train_loss"], losses, rtol=1e-6)
    assert np.allclose(fitted.predict(x), run.predict(x), rtol=1e-12 if precision == "64-true" else 1e-5)


@pytest.mark.filterwarnings("ignore")  # they are scikit-learn's, of checks that need pandas or an option of its own
def test_the_checks_of_scikit_learn_pass() -> None:
    """``check_estimator`` raises at the first of its checks that fails."""
    estimator_checks.check_estimator(GradientDescentRegressor())
    estimator_checks.check_estimator(GradientDescentRegressor(epochs=50, momentum=0.5, bias=True, engine="autograd"))


def test_a_linear_function_is_that_of_least_squares() -> None:
    """Many epochs end at the least squares; weights are those of repeated samples."""
    x, y = _data()
    counts = np.random.default_rng(1).integers(0, 4, len(x))
    repeated = np.repeat(x, counts, axis=0), np.repeat(y, counts)
    for weights, exact in ((None, LinearRegression().fit(x, y)), (counts, LinearRegression().fit(*repeated))):
        fitted = GradientDescentRegressor(epochs=2000).fit(x, y, sample_weight=weights)
        assert np.allclose(fitted.coef_, exact.coef_, rtol=1e-8)
        assert fitted.intercept_ == pytest.approx(exact.intercept_, rel=1e-8)
        assert np.allclose(fitted.predict(x), exact.predict(x), rtol=1e-8)


@pytest.mark.parametrize("batch_size", ["full", 7, 1])
def test_weights_scale_the_loss_of_each_sample(batch_size: Any) -> None:
    """Against updates written out in NumPy: the gradient of a batch is the mean of w / mean(w) times the samples'."""
    x, y = _data()
    weights = np.random.default_rng(1).integers(0, 4, len(x)) / 3
    options: dict[str, Any] = {"lr": 0.002, "epochs": 3, "order": "sequential", "initialization": "zero"}
    fitted = GradientDescentRegressor(batch_size, standardize=False, **options).fit(x, y, sample_weight=weights)
    x, y, weights = x[weights > 0], y[weights > 0], weights[weights > 0]
    design, theta, w = np.column_stack([x, np.ones(len(x))]), np.zeros(4), weights / weights.mean()
    size = len(x) if batch_size == "full" else batch_size
    losses = []
    for _ in range(3):
        for at in range(0, len(x), size):
            part = slice(at, at + size)
            errors = w[part] * (design[part] @ theta - y[part])
            theta = theta - 0.002 * 2 * design[part].T @ errors / len(errors)
        losses.append(np.average((design @ theta - y) ** 2, weights=weights))
    assert np.allclose([*fitted.coef_, fitted.intercept_], theta, rtol=1e-12)
    assert np.allclose(fitted.loss_curve_, losses, rtol=1e-12)


def test_it_works_in_a_grid_search_of_a_pipeline() -> None:
    x, y = _data()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GradientDescentRegressor(batch_size=8, epochs=5)),
        {"gradientdescentregressor__lr": [1e-4, 0.05, 1e9], "gradientdescentregressor__momentum": [0.0, 0.5]},
        error_score=-1.0,
    )
    with pytest.warns(FitFailedWarning, match="use a smaller lr"):
        search.fit(x, y)
    assert search.best_params_["gradientdescentregressor__lr"] == 0.05
    assert search.best_score_ > 0.99
    assert cross_val_score(GradientDescentRegressor(hidden_sizes=(8,), lr=0.02), x, y).min() > 0.8


def test_the_example_of_the_documentation_works() -> None:
    (example,) = re.findall(r"```python\n(from sklearn.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    scope: dict[str, Any] = dict(zip("xy", _data(), strict=True))
    exec(example, scope)
    assert scope["search"].best_score_ > 0.99


def test_the_compiled_updates_are_those_of_a_run() -> None:
    if reason := why_no_numba():
        pytest.skip(reason)
    x, y = _data()
    for options in ({"batch_size": 7}, {"hidden_sizes": [5], "lr": 0.02, "batch_size": 16}):
        given: dict[str, Any] = {"standardize": True, "epochs": 4, "engine": "fused", **options}
        run = gd_lightning.fit((x, y), precision="64-true", **given)
        fitted = GradientDescentRegressor(**given).fit(x, y)
        assert np.array_equal(_parameters(fitted.network_), _parameters(run.module))
        by_default = GradientDescentRegressor(**{**given, "engine": "auto"}).fit(x, y)
        assert np.array_equal(_parameters(fitted.network_), _parameters(by_default.network_))


CONTINUED: dict[str, dict[str, Any]] = {
    "plain": {"batch_size": 7},
    "momentum": {"batch_size": 16, "momentum": 0.9, "lr": 0.02},
    "adam": {"batch_size": 16, "optimizer": "Adam"},
    "dropout": {"batch_size": 16, "lr": 0.02, "hidden_sizes": (6,), "dropout": 0.3},
    "schedule": {"batch_size": 16, "lr_scheduler": SAME["schedule"]["lr_scheduler"]},
    "average": {"batch_size": 16, "average": True},
}


@pytest.mark.parametrize("name", CONTINUED)
def test_what_goes_on_ends_where_it_had_ended_in_one(name: str) -> None:
    """Three ways to six epochs: one fit, two warm ones with a copy by pickle between, and one after the other."""
    x, y = _data()
    at_once = GradientDescentRegressor(epochs=6, **CONTINUED[name]).fit(x, y)
    warm = GradientDescentRegressor(epochs=3, warm_start=True, **CONTINUED[name]).fit(x, y)
    again = pickle.loads(pickle.dumps(warm)).fit(x, y)
    partly = GradientDescentRegressor(**CONTINUED[name])
    for _ in range(6):
        partly.partial_fit(x, y)
    for other in (again, partly):
        assert np.allclose(other.predict(x), at_once.predict(x), rtol=1e-12)
    assert not np.allclose(warm.predict(x), at_once.predict(x), rtol=1e-6)
    assert again.loss_curve_ == pytest.approx(at_once.loss_curve_[3:], rel=1e-10)
    assert again.history_["epoch"].tolist() == [3, 4, 5, 6]


def test_a_warm_start_takes_another_learning_rate() -> None:
    x, y = _data()
    warm = GradientDescentRegressor(epochs=1, warm_start=True, standardize=False, lr=0.001).fit(x, y)
    theta = np.array([*warm.coef_, warm.intercept_])
    warm.set_params(lr=0.002).fit(x, y)
    design = np.column_stack([x, np.ones(len(x))])
    step = 0.002 * 2 * design.T @ (design @ theta - y) / len(x)
    assert np.allclose([*warm.coef_, warm.intercept_], theta - step, rtol=1e-12)


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_the_average_is_that_of_the_parameters_after_all_updates(engine: Any) -> None:
    """Against stochastic updates written out in NumPy."""
    x, y = _data(20)
    options: dict[str, Any] = {"lr": 0.002, "epochs": 3, "order": "sequential", "initialization": "zero"}
    fitted = GradientDescentRegressor(1, standardize=False, average=True, engine=engine, **options).fit(x, y)
    design, theta, iterates = np.column_stack([x, np.ones(len(x))]), np.zeros(4), []
    for row, target in [*zip(design, y, strict=True)] * 3:
        theta = theta - 0.002 * 2 * (row @ theta - target) * row
        iterates.append(theta)
    mean = np.mean(iterates, axis=0)
    assert np.allclose([*fitted.coef_, fitted.intercept_], mean, rtol=1e-10)
    assert np.allclose(fitted.predict(x), design @ mean, rtol=1e-10)


def test_early_stopping_ends_with_the_weights_of_the_lowest_loss() -> None:
    """It ends where Lightning's EarlyStopping does, at the weights of a fit of as many epochs as were best."""
    x, y = _data(40, 3)
    y = y + np.random.default_rng(3).normal(size=40)
    options: dict[str, Any] = {"batch_size": 4, "lr": 0.05, "val_size": 0.3, "epochs": 60, "engine": "autograd"}
    fitted = GradientDescentRegressor(early_stopping=True, patience=4, **options).fit(x, y)
    stopping = EarlyStopping("val_loss", patience=4)
    run = gd_lightning.fit((x, y), standardize=True, precision="64-true", callbacks=[stopping], **options)
    assert fitted.n_iter_ == run.history.last("epoch") < 60
    assert fitted.best_epoch_ == int(np.argmin(fitted.validation_curve_)) + 1 < fitted.n_iter_
    shorter = GradientDescentRegressor(**{**options, "epochs": fitted.best_epoch_}).fit(x, y)
    assert np.array_equal(fitted.predict(x), shorter.predict(x))
    # Without samples of validation, the train loss is watched.
    fitted = GradientDescentRegressor(early_stopping=True, min_delta=0.1).fit(x, y)
    assert fitted.n_iter_ < 100
    assert min(fitted.loss_curve_) == fitted.loss_curve_[fitted.best_epoch_ - 1]


def test_several_targets_and_a_network_of_ones_own() -> None:
    x, y = _data()
    both = np.column_stack([y, -2 * y])
    exact = LinearRegression().fit(x, both)
    fitted = GradientDescentRegressor(epochs=1000).fit(x, both)
    assert np.allclose(fitted.coef_, exact.coef_, rtol=1e-8)
    assert np.allclose(fitted.intercept_, exact.intercept_, rtol=1e-8)
    given = torch.nn.Linear(3, 2).double()
    before = _parameters(given)
    for network in (torch.nn.Linear, given):
        own = clone(GradientDescentRegressor(epochs=1000, network=network)).fit(x, both)
        assert np.allclose(own.predict(x), exact.predict(x), rtol=1e-6)
        assert not hasattr(own, "coef_")
    assert np.array_equal(_parameters(given), before)


def test_it_is_there_without_an_import_of_its_own() -> None:
    assert gd_lightning.sklearn.GradientDescentRegressor is GradientDescentRegressor
    assert "sklearn" not in importlib.import_module("gd_lightning").__all__
