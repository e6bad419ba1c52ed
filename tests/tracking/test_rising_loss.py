"""A run whose train loss rose says so and what to do, and one that stays at the noise of its batches does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning import Arrays, fit, load
from gd_lightning.affine import Affine
from tests.conftest import CommandLine

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(200, 20)), RANDOM.normal(size=200)


class AtOptimum(Arrays):
    """Arrays with a prescribed start.

    Args:
        x: Features.
        y: Targets.
        start: The start.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], start: Affine) -> None:
        super().__init__(x, y)
        self._start = start

    @property
    def start(self) -> Affine:
        return self._start


KINDS: dict[str, dict[str, Any]] = {
    "batches of one sample": {"batch_size": 1, "lr": 0.04},
    "momentum": {"batch_size": 1, "lr": 0.004, "momentum": 0.9},
    "another loss": {"batch_size": 1, "lr": 1.0, "loss": "mae"},
    "another optimiser": {"batch_size": 10, "lr": 1.0, "optimizer": "torch.optim.Adam"},
    "a network": {"batch_size": 1, "lr": 3.0, "hidden_sizes": [4], "activation": "tanh", "loss": "mae"},
}


@pytest.mark.filterwarnings("ignore:lr 0.0")  # above the limit, said before the run
@pytest.mark.parametrize("kind", [*KINDS][:1] + [pytest.param(kind, marks=pytest.mark.slow) for kind in [*KINDS][1:]])
def test_a_run_whose_loss_rose_says_so_and_a_smaller_lr_does_better(kind: str) -> None:
    run = fit((X, Y), epochs=5, **KINDS[kind])
    losses = run.history["train_loss"]
    assert losses[-1] > 1.2 * losses[0]
    for text in (repr(run), str(run), run._repr_html_()):
        assert "the train loss ended above its start; use a smaller lr" in text
    lower = fit((X, Y), epochs=5, **{**KINDS[kind], "lr": KINDS[kind]["lr"] / 100})
    assert lower.history["train_loss"][-1] < lower.history["train_loss"][0]
    assert "above its start" not in repr(lower) + str(lower) + lower._repr_html_()


def test_the_command_that_is_named_lowers_the_loss(command_line: CommandLine, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "table.csv", np.column_stack([X, Y]), delimiter=",", header=",".join("abcdefghijklmnopqrsty"))
    table = [
        "--data.problem",
        "Table",
        "--data.problem.path",
        str(tmp_path / "table.csv"),
        "--data.problem.targets",
        "y",
    ]
    options = [*table, "--data.batch_size", "1", "--trainer.max_epochs", "5", "--on_divergence", "continue"]
    run = command_line.fit(*options, "--model.lr", "0.04")
    said = json.loads((run / "summary.json").read_text())["advice"]
    assert "--model.lr best" in said
    assert said in command_line.out
    assert load(run).summary.advice == said
    better = command_line.fit(*options, "--model.lr", "best")
    assert "above its start" not in command_line.out
    summary = json.loads((better / "summary.json").read_text())
    assert summary["advice"] == ""
    assert summary["train_loss_last"] < summary["train_loss_first"]


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("batch_size", [1, 10, "full"])
def test_a_run_that_starts_at_the_optimum_is_none(noise: float, batch_size: Any) -> None:
    x, y = X[:, :2], X[:, 0] + noise * Y
    design = np.column_stack([x, np.ones(len(x))])
    *weights, bias = np.linalg.lstsq(design, y, rcond=None)[0].tolist()
    start = Affine(torch.tensor([weights]), torch.tensor([bias]))
    assert "above its start" not in repr(fit(AtOptimum(x, y, start), batch_size=batch_size, lr=0.05, epochs=5))
