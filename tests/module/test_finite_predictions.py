"""Predictions beyond the precision of a run are refused in one line, and the precision that it names can hold them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning import InputError, RegressionModule, fit, load
from gd_lightning.module import predicted_in_float64
from gd_lightning.sklearn import GradientDescentRegressor
from tests.conftest import CommandLine

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ np.array([3.0, 2.0]) + 1
ROWS = np.array([[1.0, 2.0], [1e300, 1e299], [1e301, 1.0]])
NAMED = r"cannot predict row 1 \(from 0\), because its prediction is beyond float32; use {}precision 64-true$"
BEYOND = r"cannot predict row 0 \(from 0\), because its prediction is not a finite number, in float64 either; leave"
OPTIONS: dict[str, dict[str, Any]] = {
    "a line": {"standardize": "none"},
    "standardised": {"standardize": "both"},
    "features standardised": {"standardize": "features"},
    "without a bias": {"standardize": "targets", "bias": False},
    "a network": {"standardize": "both", "hidden_sizes": [3]},
    "two targets": {"standardize": "both", "targets": 2},
    "a network of one's own": {
        "standardize": "none",
        "network": lambda d, k: nn.Sequential(nn.BatchNorm1d(d), nn.Dropout(0.5), nn.Linear(d, k)),
    },
}


def _targets(options: dict[str, Any]) -> Any:
    return np.stack([Y, -Y], axis=1) if options.pop("targets", 1) == 2 else Y


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_run_refuses_in_float32_what_it_predicts_in_float64(kind: str, tmp_path: Path) -> None:
    options = dict(OPTIONS[kind])
    targets = _targets(options)
    run, wide = (
        fit((X, targets), epochs=2, lr=0.1, **options, trainer={"precision": p}) for p in ("32-true", "64-true")
    )
    before = {name: value.clone() for name, value in run.module.state_dict().items()}
    again = load(run.save(tmp_path / "run"), network=options.get("network"))
    for each in (run, again):
        with pytest.raises(InputError, match=NAMED.format(r"trainer\.")):
            each.predict(ROWS)
        assert np.isfinite(each.predict(ROWS[:1])).all()
    for name, value in run.module.state_dict().items():  # not changed by the search for a cause
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    found = wide.predict(ROWS)
    assert np.isfinite(found).all()
    if (affine := wide.module.affine()) is not None:
        bias = 0.0 if affine.bias is None else affine.bias.detach().numpy()
        expected = ROWS @ affine.weight.detach().numpy().T + bias
        np.testing.assert_allclose(found.reshape(3, -1), expected, rtol=1e-9)


@pytest.mark.parametrize("standardize", ["none", "both", "targets"])
def test_the_estimator_says_it_by_its_own_option(standardize: Any) -> None:
    for average in (False, True):
        narrow, wide = (
            GradientDescentRegressor(lr=0.1, epochs=3, precision=p, standardize=standardize, average=average).fit(X, Y)
            for p in ("32-true", "64-true")
        )
        with pytest.raises(InputError, match=NAMED.format("")):
            narrow.predict(ROWS)
        np.testing.assert_allclose(wide.predict(ROWS), ROWS @ wide.coef_ + wide.intercept_, rtol=1e-9)
        for each in (narrow, wide):
            with pytest.raises(InputError, match=BEYOND):
                each.predict([[1.7e308, 1.7e308]])


def test_the_command_names_the_row_and_writes_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    table, new = tmp_path / "table.csv", tmp_path / "new.csv"
    np.savetxt(table, np.column_stack([X[:, 0], 30 * X[:, 0]]), delimiter=",", header="a,y", comments="")
    new.write_text("a\n1\n1e38\n3e38\n")
    options = ["--data.problem", "Table", "--data.problem.path", str(table), "--model.lr", "0.2"]
    run = command_line.fit(*options, "--data.standardize", "none", "--trainer.max_epochs", "20")
    predict: list[str | Path] = ["--ckpt_path", run, "--data.predict_inputs", new]
    before = sorted(run.rglob("*"))
    assert command_line("predict", *predict) == 2
    assert re.search(NAMED.format(r"trainer\."), command_line.err.strip())
    assert command_line.err.count("\n") == 1
    assert sorted(run.rglob("*")) == before
    assert command_line("predict", *predict, "--trainer.precision", "64-true") == 0, command_line.err
    slope = RegressionModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=True).affine()
    assert slope is not None
    written = np.loadtxt(run / "predictions.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(written[1:, 1], slope.weight.item() * written[1:, 0], rtol=1e-6)

    # A loss that is not finite is said, since the run itself did not diverge.
    new.write_text("a,y\n1,30\n1e38,3\n")
    for stage, precision in (("test", "32-true"), ("validate", "32-true"), ("test", "64-true")):
        other = ["--data.problem.path", str(new), "--trainer.precision", precision]
        assert command_line(stage, "--ckpt_path", run, *other) == 0, command_line.err
        assert ("the loss is inf, because a prediction" in command_line.err) == (precision == "32-true")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_whose_parameters_are_not_finite_predicts_what_it_is(value: float) -> None:
    run = fit((X, Y), epochs=1, lr=0.1, standardize="none")
    with torch.no_grad():
        next(run.module.parameters()).fill_(value)
    assert not np.isfinite(run.predict(X)).all()


def test_float64_is_that_of_a_converted_network() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    x = torch.from_numpy(X)
    found = predicted_in_float64(network, x.float())
    assert network.training
    assert network[1].weight.dtype is torch.float32
    expected = network.double().eval()(x.float().double())
    torch.testing.assert_close(found, expected.detach(), rtol=1e-15, atol=1e-15)
