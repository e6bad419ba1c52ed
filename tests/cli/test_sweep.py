"""``sweep`` on the command line: its runs are those of ``fit``, and what is written of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gd_lightning import InputError
from gd_lightning.tracking.run_reader import find_runs
from tests.conftest import CONFIGS, CommandLine

SMALL = ["--model.lr", "0.01,0.2", "--data.batch_size", "25,full", "--seeds", "2", "--trainer.max_epochs", "10"]


def _directory(command_line: CommandLine) -> Path:
    return next(path for path in reversed(command_line.runs) if path.name.startswith("sweep"))


def _runs(directory: Path, name: str = "sweep.csv") -> list[dict[str, str]]:
    with (directory / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_runs_are_those_of_fit(command_line: CommandLine) -> None:
    assert command_line("sweep", *SMALL) == 0, command_line.err
    assert command_line.err == ""
    directory = _directory(command_line)
    runs = _runs(directory)
    assert len(runs) == 8
    assert [run["outcome"] for run in runs] == ["completed", "completed", "diverged", "diverged"] * 2
    for run in (runs[1], runs[3]):
        seeds = ["--seed_everything", run["seed"], "--data.seed", run["seed"]]
        options = ["--model.lr", run["lr"], "--data.batch_size", run["batch_size"], "--trainer.max_epochs", "10"]
        alone = command_line.fit(*seeds, *options, code=0 if run["outcome"] == "completed" else 3)
        summary = json.loads((alone / "summary.json").read_text())
        assert float(run["train_loss"]) == pytest.approx(summary["train_loss_last"], rel=1e-5)
        assert float(run["train_loss_first"]) == pytest.approx(summary["train_loss_first"], rel=1e-6)
        assert (int(run["updates"]), run["outcome"]) == (summary["updates"], summary["outcome"])
        assert float(run["excess"]) == pytest.approx(
            summary["train_loss_last"] - summary["least_squares_loss"], rel=1e-5
        )


def test_what_is_printed_and_written(command_line: CommandLine) -> None:
    assert command_line("sweep", *SMALL) == 0
    assert "8 runs of 10 epochs (2 batch sizes x 2 learning rates x 2 seeds)" in command_line.out
    assert "4 of 8 runs diverged." in command_line.out
    directory = _directory(command_line)
    assert directory.name == "sweep-SteepLine"
    table = _runs(directory, "table.csv")
    assert [(row["batch_size"], row["best_lr"], row["diverged"]) for row in table] == [
        ("25", "0.01", "2"),
        ("100", "0.01", "2"),
    ]
    assert float(table[1]["largest_stable_lr"]) == pytest.approx(0.11997, rel=1e-4)
    assert f"{float(table[0]['train_loss_mean']):.5g}" in command_line.out
    assert (directory / "map.png").stat().st_size > 0
    content = json.loads((directory / "sweep.json").read_text())
    assert content["grid"]["lr"] == [0.01, 0.2]
    assert content["rows"][0]["best_lr"] == 0.01
    found = {}
    board = command_line.root / "lightning_sweeps" / "sweep-SteepLine"
    assert f"tensorboard --logdir {board}, then" in command_line.out
    assert not list(directory.rglob("*tfevents*"))  # so many runs would leave TensorBoard's page of all runs empty
    for path in sorted(path for path in board.iterdir() if path.is_dir()):
        events = EventAccumulator(str(path)).Reload()
        found[path.name] = events.Scalars("final/train_loss")[0].value
        assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    assert list(found) == [f"batch_size{size}-lr{lr}" for size in (100, 25) for lr in (0.01, 0.2)]
    assert found["batch_size25-lr0.01"] == pytest.approx(float(table[0]["train_loss_mean"]), rel=1e-6)
    with pytest.raises(InputError, match="it contains no run"):  # for compare, which takes all runs that it finds
        find_runs([directory])
    assert command_line("sweep", *SMALL) == 0
    assert _directory(command_line).name == "sweep-SteepLine-2"


def test_other_optimisers_are_swept_one_by_one(command_line: CommandLine) -> None:
    options = ["--optimizer", "Adam", "--data.batch_size", "50", "--trainer.max_epochs", "2"]
    assert command_line("sweep", *options, "--model.lr", "0.01,0.1", "--seeds", "1") == 0, command_line.err
    run = _runs(_directory(command_line))[-1]
    summary = json.loads((command_line.fit(*options, "--model.lr", "0.1") / "summary.json").read_text())
    assert float(run["train_loss"]) == pytest.approx(summary["train_loss_last"], rel=1e-6)


def test_a_config_says_what_is_swept_and_an_option_what_differs(command_line: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text("lrs: linear(0.01,0.03,3)\nbatch_sizes: [full]\nseeds: 1\nmodel: {momentum: 0.5}\n")
    few: list[str | Path] = ["--config", config, "--trainer.max_epochs", "1"]
    assert command_line("sweep", *few) == 0, command_line.err
    assert [run["lr"] for run in _runs(_directory(command_line))] == ["0.01", "0.02", "0.03"]
    assert {run["momentum"] for run in _runs(_directory(command_line))} == {"0.5"}
    again = _directory(command_line) / "config.yaml"
    assert command_line("sweep", "--config", again, "--directory", tmp_path / "again") == 0, command_line.err
    assert _runs(tmp_path / "again") == _runs(again.parent)
    assert (
        command_line("sweep", *few, "--model.lr=0.1", "--model.momentum", "0,0.9", "--directory", tmp_path / "own") == 0
    )
    assert [(run["lr"], run["momentum"]) for run in _runs(tmp_path / "own")] == [("0.1", "0.0"), ("0.1", "0.9")]


def test_a_batch_size_or_lr_of_a_config_is_no_axis(command_line: CommandLine) -> None:
    options = ["--model.l1", "0,0.1", "--trainer.max_epochs", "1", "--seeds", "1", "--trainer.callbacks+=PrintUpdates"]
    assert command_line("sweep", "--config", CONFIGS / "mini_batch.yaml", *options) == 0, command_line.err
    assert "2 runs of 1 epoch (2 values of l1 penalty x 1 seed)" in command_line.out
    assert "No run diverged." in command_line.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.lr", "0,0.1"], "cannot train with lr 0.0"),
        (["--model.lr", "log(1,2)"], "cannot use 'log(1,2)' as lrs; write log(first,last,count)"),
        (["--model.momentum", "-1,0"], "momentum -1.0 is below 0"),
        (["--optimizer", "Adam", "--model.momentum", "0,0.9"], "options of its own SGD"),
        (["--model.dropout", "0,0.1"], "cannot use 0,0.1 as model.dropout; give a number"),
        (["--trainer.max_epochs", "-1"], "cannot sweep over an unlimited number of epochs"),
        (
            ["--trainer.callbacks+=LossBelow", "--trainer.callbacks.threshold", "1"],
            "cannot sweep with the callback LossBelow",
        ),
        (["--trainer.accelerator", "tpu"], "cannot sweep with trainer.accelerator tpu"),
        (["--model.lr"], "cannot use --model.lr without a value"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line_before_anything_is_made(
    command_line: CommandLine, options: Sequence[str], message: str
) -> None:
    assert command_line("sweep", *options) == 2
    assert message in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert command_line.out == ""
    assert not (command_line.root / "lightning_logs").exists()


def test_a_directory_that_holds_something_is_left_alone(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert command_line("sweep", *SMALL, "--directory", tmp_path / "mine") == 2
    assert "because it contains something else" in command_line.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
