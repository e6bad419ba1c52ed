"""NIST's Norris problem, a linear regression with certified values: one update of batch gradient descent solves it.

Source: NIST Statistical Reference Datasets, Linear Regression, Norris (36 observations, lower level of difficulty).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gd_lightning import LinearRegressor, RegressionDataModule, RegressionModule, Table
from gd_lightning.theory import LinearLoss, OutcomePredictor, Rounding, Verdict
from gd_lightning.update_rule import UpdateRule
from tests.conftest import MakeTrainer

CERTIFIED = {"b": -0.262323073774029, "w": 1.00211681802045}
X_Y = """
0.2 0.1 337.4 338.8 118.2 118.1 884.6 888.0 10.1 9.2 226.5 228.1 666.3 668.5 996.3 998.5 448.6 449.1 777.0 778.9
558.2 559.2 0.4 0.3 0.6 0.1 775.5 778.1 666.9 668.8 338.0 339.3 447.5 448.9 11.6 10.8 556.0 557.7 228.1 228.3
995.8 998.0 887.6 888.8 120.2 119.6 0.3 0.3 0.3 0.6 556.8 557.6 339.1 339.3 887.2 888.0 999.0 998.5 779.0 778.9
11.1 10.2 118.3 117.6 229.2 228.9 669.1 668.4 448.9 449.2 0.5 0.2
"""


def _data(directory: Path) -> RegressionDataModule:
    pairs = np.array(X_Y.split(), dtype=np.float64).reshape(-1, 2)
    np.save(directory / "norris.npy", pairs)
    return RegressionDataModule(Table(str(directory / "norris.npy")), standardize=True)


def test_one_update_has_eleven_digits(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    data, module = _data(tmp_path), RegressionModule(lr=0.5)
    make_trainer(max_epochs=1, precision="64-true").fit(module, data)
    assert min(_digits(module)) > 11


def _digits(module: RegressionModule) -> list[float]:
    """Return how many digits of w and b are the certified ones."""
    affine = module.affine()
    assert affine is not None
    pairs = zip(affine.flat().tolist(), (CERTIFIED["w"], CERTIFIED["b"]), strict=True)
    return [-math.log10(abs(found - certified) / abs(certified)) for found, certified in pairs]


@pytest.mark.parametrize(("precision", "told"), [("32-true", (7.2, 4.4)), ("64-true", (16.0, 13.0))])
def test_the_digits_of_both_precisions_are_told_before(
    make_trainer: MakeTrainer, tmp_path: Path, precision: str, told: tuple[float, float]
) -> None:
    """w has as many digits as a float32 holds; b is the difference of two numbers near 420, which costs it three."""
    data = _data(tmp_path)
    x, y = data.parts_in(torch.float64)[0].take(slice(None))
    layer = data.standardization()
    assert layer is not None
    dtype = torch.float64 if precision == "64-true" else torch.float32
    digits = Rounding(LinearLoss.of(layer(x), y), x, y, UpdateRule(0.5), layer).digits(dtype).tolist()
    assert digits == pytest.approx(told, abs=0.05)
    measured = []
    for seed in range(5):
        torch.manual_seed(seed)
        module = RegressionModule(lr=0.5)
        make_trainer(max_epochs=3, precision=precision).fit(module, _data(tmp_path))
        measured.append(_digits(module))
    # The certified values have 15 digits themselves.
    of_w, of_b = np.median(measured, axis=0).tolist()
    assert of_b == pytest.approx(min(digits[1], 14.4), abs=0.6)
    assert of_w > min(digits[0], 14.4) - 0.6  # every run ends at the same number of float32, which may be a lucky one


def test_it_is_told_before(tmp_path: Path) -> None:
    """On standardised features the Hessian is twice the identity, so that lr 0.5 removes the whole error at once."""
    data, module = _data(tmp_path), RegressionModule(lr=0.5)
    layer = data.standardization()
    assert layer is not None
    module.configure_for(data)
    network = module.network
    assert isinstance(network, LinearRegressor)
    loss = LinearLoss.of(layer(data.train.x), data.train.y)
    outcome = OutcomePredictor(loss, network.affine(), max_epochs=1).predict("full", 0.5)
    assert loss.eigenvalues.tolist() == pytest.approx([2, 2], rel=1e-5)  # of data in float32
    assert outcome.asymptotic_lr == pytest.approx(0.5, rel=1e-5)
    assert (outcome.epochs, outcome.verdict) == (1, Verdict.CONVERGES)
