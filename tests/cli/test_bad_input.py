"""What a person can get wrong: one line, the exit code, and nothing written."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning import Problem
from tests.conftest import CommandLine

TABLE = "--data.problem Table --data.problem.path"

BAD: dict[str, tuple[str, str]] = {
    "batch size 0": ("--data.batch_size 0", "batch_size 0"),
    "batch size below 0": ("--data.batch_size -1", "batch_size -1"),
    "batch size above N": ("--data.batch_size 101", "batch_size 101 is larger than the 100 training samples"),
    "batch size above N after the split": ("--data.batch_size 90 --data.val_size 0.2", "80 training samples"),
    "batch size misspelt": ("--data.batch_size ful", "cannot use ful as data.batch_size; give a whole number or full"),
    "batch size a fraction": ("--data.batch_size 1.5", "cannot use 1.5 as data.batch_size"),
    "unknown option": ("--modle.lr 1", "there is no option --modle.lr; did you mean --model.lr?"),
    "unknown option with value": ("--data.bath_size=3", "did you mean --data.batch_size?"),
    "unknown key in a config": ("--config unknown.yaml", "there is no option model.lrr; did you mean model.lr?"),
    "unknown problem": ("--data.problem Nope", "cannot use Nope as data.problem"),
    "unknown module": ("--data.problem nope.Nope", "cannot use nope.Nope as data.problem"),
    "no problem": ("--data.problem os.system", "os.system as data.problem, because it is no subclass of Problem"),
    "unknown argument of a problem": ("--data.problem.sed 3", "there is no option sed"),
    "missing argument of a problem": ("--data.problem Table", "cannot make data.problem without path"),
    "missing config": ("--config none.yaml", "none.yaml, because there is no such file"),
    "malformed config": ("--config malformed.yaml", "no valid YAML"),
    "config is a list": ("--config list.yaml", "no mapping of options"),
    "missing table": (f"{TABLE} none.csv", "none.csv, because there is no such file"),
    "table with a missing column": (f"{TABLE} good.csv --data.problem.targets [z]", "cannot find column 'z'"),
    "table with text": (f"{TABLE} text.csv", "column 'b' of text.csv, because of line 3: 'four' is no number"),
    "table with nan": (f"{TABLE} nan.csv", "column 'b' of nan.csv, because row 1 of the data is nan"),
    "table of unknown format": (f"{TABLE} good.xlsx", "its ending is none of"),
    "lr 0": ("--model.lr 0", "lr 0.0 trains nothing"),
    "lr text": ("--model.lr fast", "cannot use fast as model.lr; give a number"),
    "lr twice": ("--optimizer Adam --optimizer.lr 1 --model.lr 2", "model.lr 2.0 and optimizer.lr 1.0 differ"),
    "momentum beside an optimiser": ("--optimizer Adam --model.momentum 0.9", "belong to its own SGD"),
    "unknown optimiser": ("--optimizer Adamm", "cannot use Adamm as optimizer"),
    "unknown activation": ("--model.activation step", "cannot use step as model.activation; give relu or"),
    "hidden sizes no list": ("--model.hidden_sizes 10", "cannot use 10 as model.hidden_sizes; give a list or null"),
    "hidden size 0": ("--model.hidden_sizes [0]", "hidden_sizes [0]"),
    "start of an MLP": ("--model.hidden_sizes [3] --model.initialization.weight 1", "only a linear regressor"),
    "start without weight": ("--model.initialization.bias 1", "give weight too"),
    "unknown loss": ("--model.loss log", "cannot use log as model.loss"),
    "unknown order": ("--data.order random", "cannot use random as data.order"),
    "split of all": ("--data.val_size 100", "none is left for training"),
    "negative seed": ("--data.seed -1", "data seed -1"),
    "no epochs": ("--trainer.max_epochs 0", "max_epochs 0 trains nothing"),
    "no updates": ("--trainer.max_steps 0", "max_steps 0 trains nothing"),
    "accumulation": ("--trainer.accumulate_grad_batches 2", "accumulate_grad_batches 2, because Lightning"),
    "no GPU": ("--trainer.accelerator tpu", "cannot follow these options"),
    "unknown precision": ("--trainer.precision 31", "cannot use 31 as trainer.precision"),
    "validation interval above an epoch": (
        "--trainer.val_check_interval 7 --data.val_size 10",
        "cannot follow these options: `val_check_interval` (7)",
    ),
    "recording interval 0": ("--recorder.every_n_updates 0", "cannot record every 0 updates"),
    "checkpoint interval 0": ("--checkpoint.interval 0", "interval 0.0 is no time"),
    "missing checkpoint": ("--ckpt_path nowhere", "cannot find a checkpoint at nowhere"),
    "no last run": ("--ckpt_path last", "cannot find the last run"),
    "damaged checkpoint": ("--ckpt_path damaged.ckpt", "cannot load the checkpoint damaged.ckpt"),
    "evil checkpoint": ("--ckpt_path evil.ckpt", "holds more than plain values"),
    "no checkpoint of ours": ("--ckpt_path other.ckpt", "no checkpoint of gd_lightning"),
    "targets of shape (N,)": ("--data.problem tests.cli.test_bad_input.FlatTargets", "(5, 1) and y of shape (5,)"),
    "spawned processes": ("--trainer.strategy ddp_spawn --trainer.devices 2", "use --trainer.strategy ddp"),
    "part of the data": ("--trainer.limit_train_batches 0.5", "limit_train_batches 0.5, because an epoch"),
    "overfitting": ("--trainer.overfit_batches 1", "overfit_batches 1, because an epoch"),
    "no time": ("--trainer.max_time 00:00:00:00", "these options train nothing"),
    "half precision": ("--trainer.precision bf16-true", "cannot train in bf16-true; use one of 32-true"),
    "problem seed below 0": ("--data.problem NoisyLine --data.problem.seed -1", "problem seed -1 is no seed"),
    "problem seed too large": ("--data.problem.seed 99999999999999999999", "problem seed 99999999999999999999"),
    "unknown option of an optimiser": ("--optimizer Adam --optimizer.foo 3", "cannot use 3 as optimizer.foo"),
    "features that the data have not": ("--model.in_features 3", "in_features 3 on data with 1"),
    "test split of a prescribed split": ("--data.problem NoisyLine --data.test_size 0.2", "prescribes its own split"),
    "split 1.0": ("--data.val_size 1.0", "val_size 1.0 is neither"),
    "NumPy arrays": ("--data.problem tests.cli.test_bad_input.Arrays", "because it is a ndarray; make it a tensor"),
    "too large for float32": ("--data.problem tests.cli.test_bad_input.Large", "y is not finite in row 0"),
    "seed text": ("--seed_everything abc", "cannot use abc as seed_everything"),
}


@dataclass
class FlatTargets(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(5, 1), torch.zeros(5)


@dataclass
class Arrays(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        return np.zeros((5, 1)), np.zeros((5, 1))  # type: ignore[return-value]


@dataclass
class Large(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(5, 1, dtype=torch.float64), torch.full((5, 1), 1e300, dtype=torch.float64)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil was here",)


@pytest.fixture
def materials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "materials"
    directory.mkdir()
    monkeypatch.chdir(directory)
    for name, text in {
        "unknown.yaml": "model: {lrr: 3}\n",
        "malformed.yaml": "model: [1, 2\n",
        "list.yaml": "- 3\n",
        "good.csv": "a,b,y\n1,2,3\n3,4,5\n",
        "text.csv": "a,b,y\n1,2,3\n3,four,5\n",
        "nan.csv": "a,b,y\n1,nan,3\n3,4,5\n",
        "good.xlsx": "",
        "damaged.ckpt": "PK\x03\x04 and nothing more",
    }.items():
        Path(name).write_text(text)
    Path("evil.ckpt").write_bytes(pickle.dumps({"state_dict": Evil(), "hyper_parameters": {}}))
    torch.save({"weights": torch.zeros(3)}, "other.ckpt")
    return directory


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing_behind(
    command_line: CommandLine, materials: Path, case: str
) -> None:
    before = sorted(path.name for path in materials.iterdir())
    options, message = BAD[case]
    assert command_line("fit", *options.split()) == 2
    assert message in command_line.err
    assert command_line.err.startswith("gd_lightning: ")
    assert len(command_line.err.splitlines()) == 1
    assert len(command_line.err) < 330
    assert command_line.out == ""
    assert sorted(path.name for path in materials.iterdir()) == before
    assert not (command_line.root / "lightning_logs").exists()


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_random_weights_are_not_judged(command_line: CommandLine, stage: str) -> None:
    assert command_line(stage) == 2
    assert f"cannot {stage} without a checkpoint" in command_line.err


def test_another_run_than_the_one_that_is_judged_is_refused_by_name(command_line: CommandLine) -> None:
    run = command_line.fit("--data.batch_size", "16", "--model.lr", "0.01")
    for option, value in (("data.batch_size", "8"), ("data.problem.seed", "3"), ("model.hidden_sizes", "[3]")):
        assert command_line("test", "--ckpt_path", run, f"--{option}", value) == 2
        assert option in command_line.err


def test_no_subcommand_or_an_unknown_one(command_line: CommandLine) -> None:
    import gd_lightning

    assert gd_lightning.main([]) == 2
    assert gd_lightning.main(["train"]) == 2


@dataclass
class Broken(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        raise ZeroDivisionError("in a class of one's own")


def test_a_mistake_in_a_class_of_ones_own_is_shown_with_its_place(command_line: CommandLine) -> None:
    assert command_line("fit", "--data.problem", "tests.cli.test_bad_input.Broken") == 1
    assert "ZeroDivisionError" in command_line.err
    assert "test_bad_input.py" in command_line.err


def test_a_directory_that_cannot_be_written_fails_with_its_name(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").write_text("a file where the runs should go")
    assert command_line("fit") == 1
    assert "lightning_logs" in command_line.err
    assert len(command_line.err.splitlines()) == 1
