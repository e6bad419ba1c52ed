"""Runs on data whose mean is large against their spread: judged, continued and predicted with all their digits."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning import History
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT
from tests.conftest import CommandLine, run_program

UNIX_TIME = 1_700_000_000


def _table(path: Path, x: list[float], y: list[float]) -> list[str]:
    path.write_text("t,y\n" + "".join(f"{a!r},{b!r}\n" for a, b in zip(x, y, strict=True)))
    return ["--data.problem", "Table", "--data.problem.path", str(path)]


def _unix_times(path: Path) -> list[str]:
    numbers = random.Random(0)
    times = [float(UNIX_TIME + k) for k in range(60)]
    return _table(path, times, [3 + 0.5 * k + 0.1 * numbers.gauss(0, 1) for k in range(60)])


def _judged(command_line: CommandLine, run: Path, *options: str) -> dict[str, float]:
    assert command_line("test", "--ckpt_path", run, *options) == 0, command_line.err
    return _metrics(command_line.out)


def _metrics(printed: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(test_\w+) +(\S+)", printed)}


def _predicted(command_line: CommandLine, run: Path, *options: str | Path) -> NDArray[np.float64]:
    assert command_line("predict", "--ckpt_path", run, *options) == 0, command_line.err
    with max(run.glob("predictions*.csv"), key=lambda path: path.stat().st_mtime_ns).open() as lines:
        return np.array(list(csv.reader(lines))[1:], dtype=np.float64)


def _state(run: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run / LAST_CHECKPOINT, weights_only=True)
    return checkpoint


@pytest.mark.slow  # in Python: tests/data/test_lost_digits.py
@pytest.mark.parametrize("precision", ["64-true", "32-true"])
def test_unix_times_are_standardised_with_all_their_digits(
    command_line: CommandLine, tmp_path: Path, precision: str
) -> None:
    """Fit, test, predict, and go on: at the loss that it ended with, and at the bits of a run in one go."""
    table = _unix_times(tmp_path / "table.csv")
    options = [*table, "--data.standardize", "true", "--trainer.precision", precision, "--trainer.max_epochs"]
    whole, run = command_line.fit(*options, "41"), command_line.fit(*options, "40")
    loss = History.from_csv(run / "history.csv").last("train_loss")
    judged = _judged(command_line, run)
    assert judged["test_loss"] == pytest.approx(loss, rel=1e-6 if precision == "32-true" else 1e-7)

    t, y, predictions = _predicted(command_line, run).T
    assert (t == UNIX_TIME + np.arange(60)).all()
    assert ((predictions - y) ** 2).mean() == pytest.approx(loss, rel=1e-6)
    line = np.polynomial.Polynomial.fit(t - UNIX_TIME, y, 1)(t - UNIX_TIME)
    assert json.loads((run / "summary.json").read_text())["least_squares_loss"] == pytest.approx(
        ((line - y) ** 2).mean(), rel=1e-5
    )
    (tmp_path / "new.csv").write_text(f"t\n{UNIX_TIME + 10}\n{UNIX_TIME + 11}\n")
    new = _predicted(command_line, run, "--data.predict_inputs", tmp_path / "new.csv")
    assert new[:, 1] == pytest.approx(predictions[10:12], rel=1e-6)

    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "41") == 0, command_line.err
    for name, value in _state(whole)["state_dict"].items():
        assert torch.equal(_state(run)["state_dict"][name], value), name
    assert _state(run)["state_dict"]["standardize.mean"].dtype is torch.float64
    assert _judged(command_line, run)["test_loss"] == pytest.approx(
        History.from_csv(whole / "history.csv").last("train_loss"), rel=1e-6
    )


@pytest.mark.parametrize(
    ("mean", "spread", "precision"),
    [
        (1000, 1, "32-true"),
        *(
            pytest.param(mean, spread, precision, marks=pytest.mark.slow)
            for mean, spread, precision in [
                (1e6, 10, "32-true"),
                (0, 1e-9, "32-true"),
                (1e9, 1e5, "32-true"),
                (1e9, 1e5, "64-true"),
                (1e9, 1, "64-true"),
                (0, 1e-25, "32-true"),
                (1000, 1, "bf16-mixed"),
            ]
        ),
    ],
)
def test_metrics_are_those_of_the_predictions(
    command_line: CommandLine, tmp_path: Path, mean: float, spread: float, precision: str
) -> None:
    numbers = random.Random(0)
    x = [numbers.gauss(0, 1) for _ in range(200)]
    table = _table(tmp_path / "table.csv", x, [mean + spread * (a + 0.3 * numbers.gauss(0, 1)) for a in x])
    options = ["--model.lr", "0.3", "--trainer.max_epochs", "60", "--trainer.precision", precision]
    run = command_line.fit(*table, *options, "--data.standardize", "none")
    judged = _judged(command_line, run)
    assert ("'y' loses digits in float32" in command_line.err) == (mean == 1e6)
    _, y, p = _predicted(command_line, run).T
    if precision != "64-true":
        y = y.astype(np.float32)  # the rows are as they were given, and what is trained is rounded
    exact, predicted = y.astype(np.longdouble), p.astype(np.longdouble)
    squares = (exact - predicted) ** 2
    assert judged["test_loss"] == judged["test_mse"] == pytest.approx(float(squares.mean()), rel=1e-5)
    assert judged["test_mae"] == pytest.approx(float(abs(exact - predicted).mean()), rel=1e-5)
    assert judged["test_r2"] == pytest.approx(1 - float(squares.sum() / ((exact - exact.mean()) ** 2).sum()), rel=1e-5)
    if precision != "bf16-mixed":
        loss = History.from_csv(run / "history.csv").last("train_loss")
        assert loss == pytest.approx(float(squares.mean()), rel=1e-4)


@pytest.mark.slow
def test_two_processes_merge_their_metrics(command_line: CommandLine, tmp_path: Path) -> None:
    numbers = random.Random(0)
    x = [numbers.gauss(0, 1) for _ in range(101)]
    table = _table(tmp_path / "table.csv", x, [1e6 + a + 0.3 * numbers.gauss(0, 1) for a in x])
    options = [*table, "--trainer.precision", "64-true", "--data.test_size", "33", "--data.val_size", "0.3"]
    run = command_line.fit(*options, "--model.lr", "0.3", "--trainer.max_epochs", "60")
    alone = _judged(command_line, run)
    shared = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.default_root_dir", str(tmp_path)]
    process = run_program("test", "--ckpt_path", str(run), *shared, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert alone["test_r2"] > 0.5
    assert _metrics(process.stdout) == pytest.approx(alone, rel=1e-7)
