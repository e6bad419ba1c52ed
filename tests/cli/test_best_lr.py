"""``fit --model.lr best``: the number that theory gives stands in the config, and a run goes on with it."""

from __future__ import annotations

import json
import re
from typing import Literal

import numpy as np
import pytest
import yaml
from sklearn.metrics import r2_score

from gd_lightning import SteepLine, fit, plan
from gd_lightning.experiments import LocalPlan
from gd_lightning.experiments.lr_trial import Trial
from tests.conftest import CommandLine


def test_the_best_lr_is_said_and_stands_in_the_config_as_a_number(command_line: CommandLine) -> None:
    options = ("--data.batch_size", "full", "--trainer.max_epochs", "30", "--trainer.precision", "64-true")
    run = command_line.fit("--model.lr", "best", *options)
    said = re.search(r"lr is (\S+): the fastest to a train loss of (\S+), after (\d+) epochs", command_line.err)
    assert said is not None, command_line.err
    lr, target, epochs = float(said[1]), float(said[2]), int(said[3])
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["lr"] == lr
    losses = fit(SteepLine(), batch_size="full", lr=lr, max_epochs=30, precision="64-true").history["train_loss"]
    assert (losses[epochs:] <= target * 1.001).all()
    assert losses[epochs - 1] > target
    summary = json.loads((run / "summary.json").read_text())
    assert summary["train_loss_last"] == pytest.approx(losses[-1], rel=1e-9)
    assert command_line("fit", "--ckpt_path", str(run), "--trainer.max_epochs", "32") == 0, command_line.err
    assert json.loads((run / "summary.json").read_text())["epochs"] == 32


def test_in_python_it_ends_lowest_where_no_rate_reaches_the_target() -> None:
    best = fit(SteepLine(), batch_size="full", lr="best", max_epochs=3)
    ends = [
        fit(SteepLine(), batch_size="full", lr=float(best.module.hparams["lr"]) * factor, max_epochs=3)
        for factor in (0.97, 1.03)
    ]
    assert best.history["train_loss"][-1] <= min(run.history["train_loss"][-1] for run in ends)


def test_of_a_network_it_is_the_one_that_plan_advises_by_a_trial(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "most_updates", 40)
    monkeypatch.setattr(Trial, "fewest_updates", 20)
    options = ("--model.hidden_sizes", "[3]", "--trainer.max_epochs", "1", "--data.standardize", "both")
    command_line.fit("--model.lr=best", *options)
    said = re.search(r"lr is (\S+): the lowest train loss in a trial of \d+ updates", command_line.err)
    assert said is not None, command_line.err
    made = plan(SteepLine(), hidden_sizes=[3], epochs=1, standardize="both")
    assert isinstance(made, LocalPlan)
    assert 0.9 * made.safe_lr <= float(said[1]) <= made.safe_lr


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", ["full", 64, 16, 1])
def test_a_network_learns_a_table_with_it_at_any_batch_size(batch_size: int | Literal["full"]) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(800, 8))
    f = z[:, 0] + np.sin(2 * z[:, 1]) + 0.5 * z[:, 2] * z[:, 3] + 0.3 * rng.normal(size=800)
    x, y = (z + 3) * 10.0 ** np.linspace(-3, 6, 8), 140_000 + 50_000 * f
    epochs = {"full": 400, 64: 60, 16: 30, 1: 10}[batch_size]
    run = fit((x[:600], y[:600]), hidden_sizes=[64, 64], batch_size=batch_size, lr="best", epochs=epochs)
    assert run.summary.outcome == "completed"
    assert r2_score(y[600:], run.predict(x[600:])) > 0.75


@pytest.mark.parametrize("others", [["--optimizer", "Adam"], ["--model.momentum", "1", "--model.hidden_sizes", "[3]"]])
def test_without_a_theory_it_is_refused(command_line: CommandLine, others: list[str]) -> None:
    assert command_line("fit", "--model.lr=best", *others) == 2
    assert "cannot plan" in command_line.err
