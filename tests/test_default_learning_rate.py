"""The learning rate of a run for which none is given: that of a network is smaller where batches are small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gd_lightning import compare, fit, plan
from tests.conftest import CommandLine

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3))
Y = 140_000 + 50_000 * np.tanh(X[:, 0] + X[:, 1] * X[:, 2])
NETWORK: dict[str, Any] = {"hidden_sizes": [8]}


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    np.savetxt(tmp_path / "table.csv", np.column_stack([X, Y]), delimiter=",", header="a,b,c,y", comments="")
    return ["--data.problem", "Table", "--data.problem.path", str(tmp_path / "table.csv")]


@pytest.mark.parametrize(
    ("options", "lr"),
    [
        ({"batch_size": 1, **NETWORK}, 0.1 / 32),
        ({"batch_size": 4, **NETWORK}, 0.1 / 8),
        ({"batch_size": 32, **NETWORK}, 0.1),
        ({"batch_size": "full", **NETWORK}, 0.1),
        ({"batch_size": 1}, 0.1),
        ({"batch_size": 1, "lr": 0.1, **NETWORK}, 0.1),
        ({"batch_size": 1, "standardize": "features", **NETWORK}, 0.1),
        ({"batch_size": 1, "optimizer": "Adam", **NETWORK}, 0.1),
    ],
)
def test_it_is_proportional_to_small_batches_of_a_network_on_standardised_data(
    options: dict[str, Any], lr: float
) -> None:
    run = fit((X, Y / 1e5 - 1.4), epochs=1, **{"lr": 0.1, **options} if "optimizer" in options else options)
    assert run.module.hparams["lr"] == lr


def test_with_it_a_network_learns_at_batches_of_one_sample_where_the_usual_one_diverges() -> None:
    x = np.random.default_rng(1).normal(size=(100, 8))
    y = 140_000 + 50_000 * np.tanh(x @ np.ones(8))
    run = fit((x, y), batch_size=1, epochs=5, hidden_sizes=[64, 64])
    assert run.history["train_loss"][-1] < 0.5 * run.history["train_loss"][0]
    usual = fit((x, y), batch_size=1, epochs=5, hidden_sizes=[64, 64], lr=0.1)
    assert not usual.history["train_loss"][-1] < 0.5 * usual.history["train_loss"][0]


def test_the_command_line_says_it_and_a_run_goes_on_with_it(command_line: CommandLine, table: list[str]) -> None:
    options = [*table, "--data.batch_size", "2", "--model.hidden_sizes", "[8]", "--trainer.max_epochs", "1"]
    run = command_line.fit(*options)
    assert "lr is 0.00625, the default for a network at batch_size 2" in command_line.err
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["lr"] == 0.00625
    assert command_line("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2") == 0
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    command_line.fit(*options, "--model.lr", "0.1")
    assert "default" not in command_line.err


@pytest.mark.slow
def test_plan_describes_the_run_that_fit_makes(command_line: CommandLine, table: list[str]) -> None:
    options = [*table, "--data.batch_size", "2", "--model.hidden_sizes", "[8]"]
    assert command_line("plan", "--json", *options) == 0
    assert '"lr": 0.00625' in command_line.out
    assert plan((X, Y), batch_size=2, **NETWORK).configured.lr == 0.00625


def test_compared_batch_sizes_have_their_own() -> None:
    report = compare((X, Y), batch_sizes=["full", 2], seeds=1, epochs=1, **NETWORK)
    assert [row.lr for row in report.rows] == [0.1, 0.00625]


@pytest.mark.slow
def test_compared_batch_sizes_have_their_own_on_the_command_line(command_line: CommandLine, table: list[str]) -> None:
    assert (
        command_line(
            "compare", "--batch_sizes", "full,2", "--trainer.max_epochs", "1", *table, *["--model.hidden_sizes", "[8]"]
        )
        == 0
    )
    assert "0.00625" in command_line.out
