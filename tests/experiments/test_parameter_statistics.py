"""Figures that a summary implies, by a second route."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gd_lightning.experiments.parameter_statistics import parameter_statistics

FITTED = {"w1": 3.0, "w2": -0.0009, "w3": 0.001, "b": -2.0}


def test_norms_and_distances_are_those_of_numpy() -> None:
    truth = {"b": -1.0, "w3": 0.5, "w1": 2.5, "w2": 0.0}
    found = parameter_statistics({"parameters": FITTED, "truth": truth})
    assert found["weight_norm"] == pytest.approx(np.linalg.norm([3.0, -0.0009, 0.001]))
    distance = np.linalg.norm([FITTED[name] - truth[name] for name in FITTED])
    assert found["distance_to_truth"] == pytest.approx(distance)
    assert found["zero_weights"] == 1


def test_measures_are_figures() -> None:
    found = parameter_statistics({"measures": {"val_loss": "inf", "val_r2": 0.5}, "parameters": None})
    assert found == {"val_loss": np.inf, "val_r2": 0.5}


@pytest.mark.parametrize("truth", [None, {}, {"w": 1.0, "b": 0.0}])
def test_without_the_truth_there_is_no_distance_to_it(truth: dict[str, Any] | None) -> None:
    assert "distance_to_truth" not in parameter_statistics({"parameters": FITTED, "truth": truth})


def test_of_other_networks_no_weights_are_known() -> None:
    assert parameter_statistics({}) == {}
