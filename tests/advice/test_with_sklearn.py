"""Advice of the estimator for scikit-learn is followed, and then it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gd_lightning.sklearn import GradientDescentRegressor

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ np.array([1.0, 2.0])
PLATEAU = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}

# Of each message, a part, what brings it about, and what does as it says: parameters, and what fit is given.
ADVICE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cannot predict, because {} is not fitted yet; call fit first": ({"method": "predict"}, {}),
    "precision {} is unknown; use one of {}": ({"precision": "16"}, {"precision": "32-true"}),
    "cannot fit with {} {}; use a whole number from 1": ({"epochs": 0}, {"epochs": 1}),
    "the next may have other samples; set early_stopping to False, or use fit": (
        {"method": "partial_fit", "early_stopping": True},
        {"early_stopping": True},
    ),
    "the mean has no loss of its own to stop by; set one of them to False": (
        {"early_stopping": True, "average": True},
        {"early_stopping": True, "average": False},
    ),
    "it monitors what only a Trainer measures; use another lr_scheduler": (
        {"lr_scheduler": PLATEAU},
        {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ConstantLR"}},
    ),
    "cannot continue with {} {}, because it was {}; use that, or make a new estimator": (
        {"warm_start": True, "again": {"hidden_sizes": [3]}},
        {"warm_start": True, "again": {"hidden_sizes": []}},
    ),
    "cannot fuse updates, because {}; use the engine auto": (
        {"engine": "fused", "sample_weight": np.ones(20)},
        {"engine": "auto", "sample_weight": np.ones(20)},
    ),
    "cannot fit, because the train loss grew from {} to {}; use a smaller lr": ({"lr": 1e9}, {"lr": 0.1}),
    "samples by weights of shape {}; give one for each": (
        {"sample_weight": np.ones(3)},
        {"sample_weight": np.ones(20)},
    ),
    "a weight is below 0 or not finite; use numbers from 0": (
        {"sample_weight": -np.ones(20)},
        {"sample_weight": np.arange(20)},
    ),
    "all weights are zero; give a sample a weight above 0": (
        {"sample_weight": np.zeros(20)},
        {"sample_weight": np.eye(20)[0] + np.eye(20)[1]},
    ),
}


def _use(options: Mapping[str, Any]) -> None:
    options = dict(options)
    method, weights = options.pop("method", "fit"), options.pop("sample_weight", None)
    again = options.pop("again", None)
    model = GradientDescentRegressor(**options)
    if method == "predict":
        model.predict(X)
    else:
        getattr(model, method)(X, Y, sample_weight=weights)
    if again is not None:
        model.set_params(**again).fit(X, Y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("part", ADVICE)
def test_advice_is_followed(part: str) -> None:
    wrong, advised = ADVICE[part]
    said = max(part.replace("{}", "|").split("|"), key=len).strip()
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # its words are compared
        _use(wrong)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    _use(advised)
