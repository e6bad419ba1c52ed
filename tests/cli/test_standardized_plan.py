"""``plan`` of a network on features as they are: what standardising them would change comes first, and holds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gd_lightning import RegressionDataModule, RegressionModule, Standardize
from gd_lightning.experiments.lr_trial import Trial
from gd_lightning.models import Standardized
from gd_lightning.module import standardized_module
from gd_lightning.problems import LinearProblem, Problem, SteepLine
from gd_lightning.theory import LinearLoss
from tests.conftest import CommandLine

ADVICE = re.compile(
    r"use --data\.standardize both \(in Python RegressionDataModule\(standardize=\"both\"\)\) and lr (\S+), "
    r"since the limit is then (\d[^\s,]*\d)(?: instead of (\d[^\s,]*\d))?"
)
MLP = ["--model.hidden_sizes", "[4]"]


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "most_updates", 60)
    monkeypatch.setattr(Trial, "fewest_updates", 30)


def _table(path: Path, scale: float, mean: float = 3.0, target: float = 1.0) -> list[str]:
    """Write two features of a scale, and targets of another, and return the options that use them raw."""
    z = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).double()
    y, x = target * (torch.tanh(z[:, :1] + z[:, 1:]) + 0.2 * z[:, 1:]), scale * (mean + z)
    rows = [",".join(f"{value:.8g}" for value in row) for row in torch.cat([x, y], dim=1).tolist()]
    path.write_text("\n".join(["a,b,y", *rows]))
    return ["--data.problem", "Table", "--data.problem.path", str(path), "--data.standardize", "none"]


def _planned(command_line: CommandLine, *options: str) -> dict[str, Any]:
    assert command_line("plan", *options, "--json") == 0
    found: dict[str, Any] = json.loads(command_line.out)
    return found


def _limit(found: Mapping[str, Any]) -> float:
    (row,) = (row for row in found["rows"] if row["configured"])
    limit: float = row["local_limit_lr"]
    return limit


def _learns(command_line: CommandLine, *options: str) -> bool:
    run = command_line.fit(*options, "--trainer.max_epochs", "30")
    summary = json.loads((run / "summary.json").read_text())
    return math.isfinite(summary["train_loss_last"]) and summary["train_loss_last"] < summary["train_loss_first"]


@pytest.mark.parametrize(
    ("scale", "options"),
    [
        (1e3, MLP),
        (1e18, [*MLP, "--data.batch_size", "16"]),
        pytest.param(1e6, [*MLP, "--model.momentum", "0.5"], marks=pytest.mark.slow),
        pytest.param(1e6, [*MLP, "--model.bias", "false"], marks=pytest.mark.slow),
        pytest.param(1e3, [*MLP, "--model.loss", "huber"], marks=pytest.mark.slow),
        (1e12, ["--model.l1", "0.01"]),
        (1e3, ["--model.l1", "0.01", "--model.initialization", "{weight: 0.5, bias: 0}"]),
    ],
)
def test_standardised_features_come_first_with_the_limit_that_then_holds(
    command_line: CommandLine, tmp_path: Path, scale: float, options: list[str]
) -> None:
    options = ["--data.batch_size", "full", *_table(tmp_path / "table.csv", scale), *options]
    raw = _planned(command_line, *options)
    advice = ADVICE.search(raw["advice"])
    assert advice is not None, raw["advice"]
    assert re.search(r"; use (\S+)", raw["advice"])[1] == "--data.standardize"  # type: ignore[index]  # it was found
    lr, limit, instead = advice.groups()
    assert float(instead) == pytest.approx(_limit(raw), rel=1e-3)
    assert float(limit) == pytest.approx(raw["standardized"]["local_limit_lr"], rel=1e-3)
    assert float(limit) >= 10 * float(instead)
    assert float(lr) == raw["standardized"]["lr"] < float(limit)
    followed = [*options, "--data.standardize", "true", "--model.lr", lr]
    found = _planned(command_line, *followed)
    assert float(limit) == pytest.approx(_limit(found), rel=1e-3)
    assert found["standardized"] is None
    assert "is below" in found["advice"]
    assert _learns(command_line, *followed)


def test_where_features_as_they_are_are_hopeless_nothing_else_is_advised(
    command_line: CommandLine, tmp_path: Path
) -> None:
    far, farther = _table(tmp_path / "far.csv", 20), _table(tmp_path / "farther.csv", 1e4)
    for lr, others in (("1e-30", "or train, and watch"), ("1", "or lr")):
        assert others in _planned(command_line, *far, *MLP, "--model.lr", lr)["advice"]
        advice = _planned(command_line, *farther, *MLP, "--model.lr", lr)["advice"]
        assert others not in advice
        assert re.fullmatch(
            r".*; use --data\.standardize both [^,]*, since the limit is then \S+ instead of \S+", advice
        )


@pytest.mark.parametrize(
    ("scale", "mean", "options"),
    [(1.0, 0.0, []), (1.0, 1.0, []), (1e-3, 0.0, []), (1e3, 3.0, ["--data.standardize", "true"])],
)
def test_where_it_changes_little_nothing_is_said(
    command_line: CommandLine, tmp_path: Path, scale: float, mean: float, options: list[str]
) -> None:
    found = _planned(command_line, *_table(tmp_path / "table.csv", scale, mean), *MLP, "--model.lr", "1e5", *options)
    assert found["standardized"] is None
    assert "standardize" not in found["advice"]


def test_a_start_beyond_the_precision_because_of_the_features(command_line: CommandLine, tmp_path: Path) -> None:
    options = [*_table(tmp_path / "features.csv", 1e25), *MLP]
    assert command_line("plan", *options) == 2
    assert len(command_line.err.splitlines()) == 1
    assert "cannot plan from this start, because the loss of a batch is inf in torch.float32; use" in command_line.err
    advice = ADVICE.search(command_line.err)
    assert advice is not None
    followed = [*options, "--data.standardize", "true", "--model.lr", advice[1]]
    assert float(advice[2]) == pytest.approx(_limit(_planned(command_line, *followed)), rel=1e-3)
    assert _learns(command_line, *followed)


def test_a_gradient_beyond_the_precision_because_of_the_features(command_line: CommandLine, tmp_path: Path) -> None:
    options = [*_table(tmp_path / "features.csv", 1e90), *MLP, "--trainer.precision", "64-true"]
    assert command_line("plan", *options) == 2
    advice = ADVICE.search(command_line.err)
    assert advice is not None
    assert _learns(command_line, *options, "--data.standardize", "true", "--model.lr", advice[1])


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e25])
def test_a_start_beyond_the_precision_because_of_the_targets(
    command_line: CommandLine, tmp_path: Path, scale: float
) -> None:
    options = [*_table(tmp_path / "targets.csv", scale, target=1e25), *MLP]
    assert command_line("plan", *options) == 2
    advice = ADVICE.search(command_line.err)
    assert advice is not None
    assert _learns(command_line, *options, "--data.standardize", "both", "--model.lr", advice[1])


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        (LinearProblem(n_features=3), {"hidden_sizes": [4]}),
        (LinearProblem(n_features=3), {"hidden_sizes": [4], "bias": False}),
        (LinearProblem(n_features=3), {"initialization": "zero"}),
        (LinearProblem(n_features=3), {"initialization": {"weight": 2.0, "bias": 1.0}}),
        (LinearProblem(n_features=3), {"initialization": {"weight": 2.0}, "bias": False}),
        (SteepLine(), {}),
    ],
)
def test_the_start_is_that_of_a_run_on_standardised_features(problem: Problem, options: dict[str, Any]) -> None:
    modules = []
    words: list[Standardized] = ["none", "both"]
    for standardize in words:
        torch.manual_seed(0)
        data = RegressionDataModule(problem, standardize=standardize)
        modules.append(RegressionModule(**options))
        modules[-1].configure_for(data)
    layers = data.standardization(options.get("bias", True)), data.standardization_of_targets(options.get("bias", True))
    assert layers[0] is not None
    assert layers[1] is not None
    raw = {name: value.clone() for name, value in modules[0].state_dict().items()}
    found, expected = (
        standardized_module(modules[0], (layers[0], layers[1]), problem).state_dict(),
        modules[1].state_dict(),
    )
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6)
    assert all(torch.equal(value, raw[name]) for name, value in modules[0].state_dict().items())


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("scales", "mean"), [([1, 1, 1], 0), ([1e-3, 2, 50], 0), ([1, 2, 3], 9), ([5, 5, 5], 0.1)])
def test_no_limit_of_a_linear_layer_rises_more(scales: list[float], mean: float, centred: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64) @ torch.randn(3, 3, generator=generator).double()
    x, y = (x + mean) * torch.tensor(scales, dtype=torch.float64), torch.zeros(50, 1, dtype=torch.float64)
    layer = Standardize.fit(lambda: [x], centred)
    plain, standardized = (LinearLoss.of(each, y, bias=False).lambda_max for each in (x, layer.standardized(x)))
    assert plain <= layer.largest_gain * standardized * (1 + 1e-12)
    assert layer.largest_gain <= 30 * plain / standardized  # and it is no empty bound
