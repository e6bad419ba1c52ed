"""``fit --model.lr best``: the number that theory gives stands in the config, and a run goes on with it."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from gd_lightning import SteepLine, fit
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


def test_without_a_theory_it_is_refused(command_line: CommandLine) -> None:
    assert command_line("fit", "--model.lr=best", "--model.hidden_sizes", "[3]") == 2
    assert "cannot find the best lr, because the loss of these options is not quadratic" in command_line.err
