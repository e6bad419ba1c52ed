"""Features and targets of 1e-300 to 1e300 in float64: what can be is trained alike, the rest refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import InputError, LocalPlan, Plan, compare, fit, plan, sweep
from gd_lightning.float64 import Moments
from gd_lightning.linear_least_squares import least_squares
from gd_lightning.theory import PredictedOutcome

SCALES = [1e-300, 1e-160, 1e-100, 1.0, 1e100, 1e160, 1e300]


def _data(of_x: float, of_y: float) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(12, 1)) + 0.5
    return x * of_x, (2 * x + 0.1 * random.normal(size=(12, 1)) + 1) * of_y


def _planned(found: Plan | LocalPlan) -> PredictedOutcome:
    assert isinstance(found, Plan)
    return found.configured


@pytest.mark.parametrize("scale", SCALES)
def test_moments(scale: float) -> None:
    x = _data(1.0, 1.0)[0]
    values = torch.from_numpy(x * scale)
    for found in (Moments.of(values), Moments.of(values[:1]).merged(Moments.of(values[1:]))):
        assert found.mean.item() / scale == pytest.approx(x.mean(), rel=1e-12)
        assert found.std.item() / scale == pytest.approx(x.std(), rel=1e-12)
        assert not found.is_constant.any()


@pytest.mark.parametrize("scale", SCALES)
def test_least_squares(scale: float) -> None:
    x, y = _data(1.0, 1.0)
    slope, intercept = np.polyfit(x[:, 0], y[:, 0], 1)
    found, loss = least_squares(torch.from_numpy(x * scale), torch.from_numpy(y))
    assert found.bias is not None
    assert found.weight.item() * scale == pytest.approx(slope, rel=1e-9)
    assert found.bias.item() == pytest.approx(intercept, rel=1e-9)
    assert loss == pytest.approx(np.square(slope * x + intercept - y).mean(), rel=1e-9)


@pytest.mark.parametrize("of_x", SCALES)
def test_standardised_features_of_any_scale_are_trained_alike(of_x: float) -> None:
    options: dict[str, Any] = {"lr": 0.1, "max_epochs": 3, "precision": "64-true", "standardize": "both"}
    expected = fit(_data(1.0, 1.0), **options).history["train_loss"]
    np.testing.assert_allclose(fit(_data(of_x, 1.0), **options).history["train_loss"], expected, rtol=1e-9)
    told, same = (_planned(plan(_data(scale, 1.0), **{**options, "max_epochs": 30})) for scale in (of_x, 1.0))
    assert told.verdict is same.verdict
    assert told.largest_stable_lr == pytest.approx(same.largest_stable_lr, rel=1e-9)


@pytest.mark.parametrize("of_y", SCALES)
def test_targets_are_trained_alike_where_their_squares_are_numbers(of_y: float) -> None:
    options: dict[str, Any] = {"lr": 0.1, "max_epochs": 3, "precision": "64-true", "standardize": "both"}
    if 1e-140 < of_y < 1e140:
        expected = fit(_data(1.0, 1.0), **options).history["train_loss"]
        found = fit(_data(1e160, of_y), **options).history["train_loss"]
        np.testing.assert_allclose(found / of_y / of_y, expected, rtol=1e-9)
        return
    for run in (fit, plan):
        with pytest.raises(InputError, match="does not hold the squares of its values"):
            run(_data(1.0, of_y), **options)


@pytest.mark.slow
@pytest.mark.parametrize("standardize", ["both", "none"])
@pytest.mark.parametrize("of_x", [1e-300, 1e-160, 1e160, 1e300])
def test_comparisons_and_sweeps_end(of_x: float, standardize: str, pictures: None) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "precision": "64-true", "standardize": standardize}
    data = _data(of_x, 1.0)
    compare(data, batch_sizes=["full", 4], lr=0.1, seeds=1, **options).plot()
    sweep(data, batch_sizes=["full", 4], lrs=[0.01, 0.1], seeds=1, **options).plot()
