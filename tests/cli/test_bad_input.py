"""What a person can get wrong: one line, the exit code, and nothing written."""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from torch import Tensor, nn

import gd_lightning
from gd_lightning import Problem, models, module
from tests.conftest import CommandLine

TABLE = "--data.problem Table --data.problem.path"

# Behind this, another library says why, in words of its own that change with its versions.
NOT_FOLLOWED = "cannot use these options"
BY_THE_TRAINER = "cannot train with these options of the Trainer, because it reports: "

BAD: dict[str, tuple[str, str]] = {
    "batch size 0": ("--data.batch_size 0", "cannot use 0 as batch_size"),
    "batch size below 0": ("--data.batch_size -1", "cannot use -1 as batch_size"),
    "batch size above N": ("--data.batch_size 101", "batch_size 101, because there are only 100 training samples"),
    "batch size above N after the split": ("--data.batch_size 90 --data.val_size 0.2", "80 training samples"),
    "batch size misspelt": ("--data.batch_size ful", "cannot use ful as data.batch_size; give a whole number or full"),
    "batch size a fraction": ("--data.batch_size 1.5", "cannot use 1.5 as data.batch_size"),
    "unknown option": ("--modle.lr 1", "there is no option --modle.lr; did you mean --model.lr?"),
    "unknown option with value": ("--data.bath_size=3", "did you mean --data.batch_size?"),
    "option without its section": ("--lr 1", "there is no option --lr; did you mean --model.lr?"),
    "unknown key in a config": ("--config unknown.yaml", "there is no option model.lrr; did you mean model.lr?"),
    "unknown problem": ("--data.problem Nope", "cannot use Nope as data.problem"),
    "unknown module": ("--data.problem nope.Nope", "cannot use nope.Nope as data.problem"),
    "no problem": (
        "--data.problem torch.nn.Linear",
        "torch.nn.Linear as data.problem, because it is not a subclass of",
    ),
    "unknown argument of a problem": (
        "--data.problem.sed 3",
        "there is no option data.problem.sed; did you mean data.problem.seed?",
    ),
    "missing argument of a problem": ("--data.problem Table", "cannot make data.problem without path"),
    "missing config": ("--config none.yaml", "none.yaml, because there is no such file"),
    "malformed config": ("--config malformed.yaml", "the config malformed.yaml, because it is not valid YAML: line 2"),
    "config is a list": ("--config list.yaml", "not a mapping of options"),
    "missing table": (f"{TABLE} none.csv", "none.csv, because there is no such file"),
    "table with a missing column": (f"{TABLE} good.csv --data.problem.targets [z]", "cannot find column 'z'"),
    "table with text": (f"{TABLE} text.csv", "column 'b' of text.csv, because it has 'four' in line 3"),
    "table with nan": (f"{TABLE} nan.csv", "column 'b' of nan.csv, because it has a missing value in line 2"),
    "table of unknown format": (f"{TABLE} good.xls", "its ending is neither one of"),
    "lr 0": ("--model.lr 0", "cannot train with lr 0.0"),
    "lr text": ("--model.lr fast", "cannot use fast as model.lr; give a number"),
    "lr twice": (
        "--optimizer Adam --optimizer.lr 1 --model.lr 2",
        "cannot use model.lr 2.0 and optimizer.lr 1.0, because they differ",
    ),
    "momentum beside an optimiser": ("--optimizer Adam --model.momentum 0.9", "options of its own SGD"),
    "unknown optimiser": ("--optimizer Adamm", "cannot use Adamm as optimizer"),
    "unknown activation": ("--model.activation step", "cannot use step as model.activation; give relu or"),
    "hidden sizes no list": (
        "--model.hidden_sizes 10",
        "cannot use 10 as model.hidden_sizes; give a list of whole numbers or null",
    ),
    "hidden size 0": ("--model.hidden_sizes [0]", "hidden_sizes [0]"),
    "start of an MLP": ("--model.hidden_sizes [3] --model.initialization.weight 1", "only a linear regressor"),
    "start without weight": ("--model.initialization.bias 1", "give weight too"),
    "unknown loss": ("--model.loss log", "cannot use log as model.loss"),
    "unknown order": ("--data.order random", "cannot use random as data.order"),
    "split of all": ("--data.val_size 100", "none is left for training"),
    "negative seed": ("--data.seed -1", "data seed -1"),
    "no epochs": ("--trainer.max_epochs 0", "cannot train with trainer.max_epochs 0"),
    "no updates": ("--trainer.max_steps 0", "cannot train with trainer.max_steps 0"),
    "accumulation": ("--trainer.accumulate_grad_batches 2", "accumulate_grad_batches 2, because Lightning"),
    "no GPU": ("--trainer.accelerator tpu", BY_THE_TRAINER),
    "unknown precision": ("--trainer.precision 31", "cannot use 31 as trainer.precision"),
    "validation interval above an epoch": (
        "--trainer.val_check_interval 7 --data.val_size 10",
        "cannot validate every 7 updates, because an epoch has 1",
    ),
    "recording interval 0": ("--recorder.every_n_updates 0", "cannot record every 0 updates"),
    "checkpoint interval 0": ("--checkpoint.interval 0", "interval 0.0 as the seconds"),
    "missing checkpoint": ("--ckpt_path nowhere", "cannot find a checkpoint at nowhere"),
    "no last run": ("--ckpt_path last", "cannot find the last run"),
    "damaged checkpoint": ("--ckpt_path damaged.ckpt", "cannot load the checkpoint damaged.ckpt"),
    "evil checkpoint": ("--ckpt_path evil.ckpt", "contains more than plain values"),
    "not a checkpoint of ours": ("--ckpt_path other.ckpt", "not a checkpoint of gd_lightning"),
    "targets of shape (N,)": ("--data.problem tests.cli.test_bad_input.FlatTargets", "(5, 1) and y of shape (5,)"),
    "spawned processes": ("--trainer.strategy ddp_spawn --trainer.devices 2", "use --trainer.strategy ddp"),
    "part of the data": ("--trainer.limit_train_batches 0.5", "limit_train_batches 0.5, because an epoch"),
    "a column of two arrays": (f"{TABLE} replaced.npz", "two of its arrays have the column 'x0'; rename one of them"),
    "one batch an epoch": ("--trainer.limit_train_batches 1", "limit_train_batches 1, because an epoch"),
    "part of the validation": ("--data.val_size 9 --trainer.limit_val_batches .5", "limit_val_batches 0.5, because"),
    "one batch of validation": ("--data.val_size 9 --trainer.limit_val_batches 1", "limit_val_batches 1, because"),
    "overfitting": ("--trainer.overfit_batches 1", "overfit_batches 1, because an epoch"),
    "no time": ("--trainer.max_time 00:00:00:00", "a limit of them allows no update"),
    "half precision": ("--trainer.precision bf16-true", "cannot train in bf16-true; use one of 32-true"),
    "problem seed below 0": ("--data.problem NoisyLine --data.problem.seed -1", "cannot use the problem seed -1"),
    "problem seed too large": ("--data.problem.seed 99999999999999999999", "problem seed 99999999999999999999"),
    "unknown option of an optimiser": ("--optimizer Adam --optimizer.foo 3", "there is no option optimizer.foo"),
    "features that the data have not": ("--model.in_features 3", "in_features 3 on data with 1"),
    "test split of a prescribed split": ("--data.problem NoisyLine --data.test_size 0.2", "prescribes its own split"),
    "split 1.0": ("--data.val_size 1.0", "val_size 1.0 is neither"),
    "NumPy arrays": ("--data.problem tests.cli.test_bad_input.Arrays", "because it is a ndarray; make it a tensor"),
    "too large for float32": ("--data.problem tests.cli.test_bad_input.Large", "y is not finite in row 0"),
    "seed text": ("--seed_everything abc", "cannot use abc as seed_everything"),
    "batch size 1e2": ("--data.batch_size 1e2", "cannot use 1e2 as data.batch_size; give a whole number or full"),
    "batch size true": ("--data.batch_size true", "cannot use true as data.batch_size"),
    "batch size null in a config": (
        "--config no_batch_size.yaml",
        "cannot use null as data.batch_size; give",
    ),
    "split nan": ("--data.val_size .nan", "val_size nan is neither a fraction below 1"),
    "split infinite": ("--data.test_size .inf", "test_size inf is neither a fraction below 1"),
    "abbreviated option": ("--data.batch 4", "there is no option --data.batch; did you mean --data.batch_size?"),
    "option without value": ("--data.batch_size", "cannot use --data.batch_size without a value"),
    "stray argument": ("noise", "there is no option noise"),
    "lr nan": ("--model.lr .nan", "cannot train with lr nan"),
    "lr nan of an optimiser": ("--optimizer Adam --optimizer.lr .nan", "cannot train with lr nan"),
    "lr null of an optimiser": ("--optimizer Adam --optimizer.lr null", "cannot use null as optimizer.lr"),
    "lr text of an optimiser": ("--optimizer Adam --optimizer.lr x", "cannot use x as optimizer.lr; give a number"),
    "betas of an optimiser": ("--optimizer Adam --optimizer.betas [1]", "[1] as optimizer.betas; give a list of 2"),
    "optimiser for sparse gradients": ("--optimizer SparseAdam", "options of SparseAdam: "),
    "optimiser that is none": (
        "--optimizer torch.nn.Linear",
        "torch.nn.Linear as optimizer, because it is not a subclass",
    ),
    "scheduler without period": ("--lr_scheduler StepLR --lr_scheduler.step_size 0", "cannot train with these options"),
    "scheduler that ends early": (
        "--lr_scheduler OneCycleLR --lr_scheduler.max_lr 1 --lr_scheduler.total_steps 5",
        "cannot train with these options of OneCycleLR: ",
    ),
    "scheduler to nan": (
        "--lr_scheduler ExponentialLR --lr_scheduler.gamma .nan",
        "the learning rate is not finite after epoch 1",
    ),
    "scheduler without its argument": (
        "--lr_scheduler StepLR",
        "cannot make lr_scheduler without step_size; give --lr_scheduler.step_size",
    ),
    "scheduler that watches nothing": (
        "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor loss",
        BY_THE_TRAINER,
    ),
    "huber delta infinite": ("--model.loss huber --model.huber_delta .inf", "huber_delta inf is not a finite number"),
    "start nan": ("--model.initialization.weight .nan", "because the values are not finite"),
    "start beyond float32": ("--model.initialization.weight 1e300", "because the values are not finite"),
    "network that is none": (
        "--model.network torch.optim.SGD",
        "as model.network, because it is not a subclass of Module",
    ),
    "network without parameters": ("--model.network torch.nn.ReLU", "cannot train ReLU, because it has no parameters"),
    "noise below 0": ("--data.problem.noise -1", "noise -1.0 as a standard deviation"),
    "noise nan": ("--data.problem Sine --data.problem.noise .nan", "noise nan as a standard deviation"),
    "samples beyond any tensor": (
        "--data.problem Sine --data.problem.n_samples 99999999999999999999",
        "n_samples 99999999999999999999 as a number of rows",
    ),
    "condition number infinite": (
        "--data.problem LinearProblem --data.problem.condition_number .inf",
        "cannot use inf as condition_number",
    ),
    "problem null": ("--data.problem null", "cannot use None as data.problem; give the class path of a Problem"),
    "problem that is incomplete": ("--data.problem Problem", "because it is an abstract class"),
    "problem that is a number": ("--data.problem 3", "cannot use 3 as data.problem, because there is no such class"),
    "seed true": ("--seed_everything true", "cannot use true as seed_everything"),
    "seed below 0": ("--seed_everything -1", "cannot use -1 as seed_everything"),
    "epochs below -1": ("--trainer.max_epochs -2", "cannot use -2 as trainer.max_epochs"),
    "l1 null in a config": ("--config null.yaml", "cannot use null as model.l1; give a number"),
    "noise null in a config": ("--config null_noise.yaml", "cannot use null as data.problem.noise; give a number"),
    "devices null in a config": (
        "--config null_devices.yaml",
        "cannot use null as trainer.devices; give a list of whole numbers or text or a whole number",
    ),
    "epochs null": (
        "--trainer.max_epochs null",
        "cannot use null as trainer.max_epochs, because the run would have no end",
    ),
    "fewer epochs than the least": (
        "--trainer.max_epochs 1 --trainer.min_epochs 5",
        "cannot train at least 5 and at most 1 epochs",
    ),
    "duration that is none": ("--trainer.max_time soon", NOT_FOLLOWED),
    "gradient clip nan": ("--trainer.gradient_clip_val .nan", "cannot use nan as trainer.gradient_clip_val"),
    "gradient clip below 0": ("--trainer.gradient_clip_val -1", "cannot use -1 as trainer.gradient_clip_val"),
    "validation interval 0": ("--trainer.val_check_interval 0 --data.val_size 9", "trainer.val_check_interval 0"),
    "validation every 0 epochs": ("--trainer.check_val_every_n_epoch 0", "cannot use 0 as trainer.check_val_every_n"),
    "more processes than samples": (
        "--trainer.devices 101 --trainer.strategy ddp",
        "cannot share 100 training samples among 101 processes",
    ),
    "unknown strategy": ("--trainer.strategy magic", BY_THE_TRAINER),
    "unknown profiler": ("--trainer.profiler magic", BY_THE_TRAINER),
    "logger without its package": ("--trainer.logger CometLogger", "cannot log, because comet reports: "),
    "callback without its argument": (
        "--trainer.callbacks+=EarlyStopping",
        "cannot make trainer.callbacks without monitor; give --trainer.callbacks.monitor",
    ),
    "callback that watches nothing": (
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor loss",
        NOT_FOLLOWED,
    ),
    "callback with a wrong mode": (
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor train_loss --trainer.callbacks.mode up",
        NOT_FOLLOWED,
    ),
    "callback that finds a learning rate": (
        "--trainer.callbacks+=LearningRateFinder",
        "cannot train with the callback",
    ),
    "callback for another model": ("--trainer.callbacks+=BackboneFinetuning", NOT_FOLLOWED),
    "callbacks that are numbers": (
        "--trainer.callbacks [3]",
        "cannot use [3] as trainer.callbacks; give a list or the",
    ),
    "section that is a number": ("--config number.yaml", "cannot read model in the config number.yaml, because '3'"),
    "section that is text": ("--model text", "cannot use text as model, because it is neither a mapping nor a config"),
    "section of another subcommand": ("--config test.yaml", "there is no option test.model.lr"),
    "option in a config with a wrong type": ("--config text_lr.yaml", "model.lr; give a number (in the config text_lr"),
    "number with a nested option": ("--config nested.yaml", "cannot use {'x': 1} as model.lr; give a number"),
    "key twice in a config": (
        "--config twice.yaml",
        "cannot read the config twice.yaml, because the key 'lr' is in line 2 and again in line 4",
    ),
    "key twice in a config of a section": (
        "--model twice_lr.yaml",
        "the key 'lr' is in line 1 and again in line 2",
    ),
    "key that is a number": ("--config key.yaml", "cannot use 1 as an option in the config key.yaml"),
    "empty config": ("--config empty.yaml", "cannot read the config empty.yaml, because it is empty"),
    "binary config": ("--config binary.yaml", "cannot read the config binary.yaml, because it is not UTF-8 text"),
    "config with tabs": ("--config tabs.yaml", "the config tabs.yaml, because it is not valid YAML: line 2"),
    "config with an alias in itself": ("--config alias.yaml", "the alias *a in line 1 stands for a value that it is"),
    "config of a billion values": ("--config billion.yaml", "it contains more than 100,000 values"),
    "config that is deep": (
        "--config deep.yaml",
        "the config deep.yaml, because line 1 nests values more than 50 deep",
    ),
    # The limit of the YAML library itself, where it has one, is met first.
    "config that is very deep": ("--config very_deep.yaml", "cannot read the config very_deep.yaml, because "),
    "config with a bad tag": ("--config tag.yaml", "cannot read the config tag.yaml, because it is not valid YAML: "),
    "config that includes itself": ("--config loop.yaml", "it includes itself"),
    "config that is a directory": ("--config directory", "directory, because it is not a file"),
    "config on the net": ("--config http://127.0.0.1:9/c.yaml", "because there is no such file"),
    "copy of the optimiser": (
        "--config copy.yaml",
        "cannot use model.optimizer in the config copy.yaml; give it as opt",
    ),
    "printing with an unknown flag": ("--print_config=all", "cannot print the config with all"),
    "table that is empty": (f"{TABLE} empty.csv", "cannot read the table empty.csv, because it has no rows"),
    "table with a header alone": (f"{TABLE} header.csv", "cannot read the table header.csv, because it has no rows"),
    "table with long rows": (f"{TABLE} ragged.csv", "line 3 has 4 cells and the first line 3"),
    "table with short rows": (f"{TABLE} short.csv", "because it has a missing value in line 3"),
    "table that is a directory": (f"{TABLE} directory.csv", "directory.csv"),
    "truncated .npy": (f"{TABLE} truncated.npy", "cannot read the table truncated.npy as .npy"),
    "truncated .npz": (f"{TABLE} truncated.npz", "cannot read the table truncated.npz as .npz"),
    "truncated Parquet": (f"{TABLE} truncated.parquet", "cannot read the table truncated.parquet as .parquet"),
    "array of objects": (f"{TABLE} objects.npy", "cannot read the table objects.npy as .npy"),
    "array of three dimensions": (f"{TABLE} cube.npy", "shape (2, 2, 2)"),
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
        "good.xls": "",
        "damaged.ckpt": "PK\x03\x04 and nothing more",
        "no_batch_size.yaml": "data: {batch_size: null}\n",
        "null.yaml": "model: {l1: null}\n",
        "null_noise.yaml": "data: {problem: {class_path: SteepLine, init_args: {noise: null}}}\n",
        "null_devices.yaml": "trainer: {devices: null}\n",
        "number.yaml": "model: 3\n",
        "test.yaml": "test: {model: {lr: 0.1}}\n",
        "text_lr.yaml": "model: {lr: fast}\n",
        "nested.yaml": "model: {lr: {x: 1}}\n",
        "twice.yaml": "model:\n  lr: 0.1\n  momentum: 0.5\n  lr: 0.2\n",
        "twice_lr.yaml": "lr: 0.1\nlr: 0.2\n",
        "key.yaml": "1: 2\n",
        "empty.yaml": "# model: {lr: 0.1}\n",
        "tabs.yaml": "model:\n\tlr: 0.1\n",
        "alias.yaml": "model: &a {lr: *a}\n",
        "billion.yaml": "a0: &a0 [0]\n"
        + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)),
        "deep.yaml": "model: " + 51 * "[" + 51 * "]",
        "very_deep.yaml": "model: " + 5000 * "[" + 5000 * "]",
        "tag.yaml": "model: {lr: !!float fast}\n",
        "loop.yaml": "config: loop.yaml\n",
        "copy.yaml": "model: {optimizer: {class_path: torch.optim.Adam}}\n",
        "empty.csv": "",
        "header.csv": "a,b,y\n",
        "ragged.csv": "a,b,y\n1,2,3\n1,2,3,4\n",
        "short.csv": "a,b,y\n1,2,3\n1,2\n",
    }.items():
        Path(name).write_text(text)
    Path("evil.ckpt").write_bytes(pickle.dumps({"state_dict": Evil(), "hyper_parameters": {}}))
    torch.save({"weights": torch.zeros(3)}, "other.ckpt")
    for name in ("directory", "directory.csv"):
        Path(name).mkdir()
    Path("binary.yaml").write_bytes(b"\x00\xff\xfe")
    _save_damaged_arrays()
    return directory


def _save_damaged_arrays() -> None:
    np.save("cube.npy", np.zeros((2, 2, 2)))
    np.save("objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.save("truncated.npy", np.zeros((100, 3)))
    np.savez("replaced.npz", x=np.zeros((9, 3)), x0=np.zeros(9), y=np.zeros(9))
    np.savez("truncated.npz", x=np.zeros((100, 3)), y=np.zeros(100))
    for name in ("truncated.npy", "truncated.npz"):
        Path(name).write_bytes(Path(name).read_bytes()[:-200])


def _save_truncated_parquet() -> None:
    parquet.write_table(pyarrow.table({"x": np.zeros(100), "y": np.zeros(100)}), "truncated.parquet")
    Path("truncated.parquet").write_bytes(Path("truncated.parquet").read_bytes()[:-200])


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing_behind(
    command_line: CommandLine, materials: Path, case: str
) -> None:
    if case == "truncated Parquet":
        _save_truncated_parquet()
    before = sorted(path.name for path in materials.iterdir())
    options, message = BAD[case]
    assert command_line("fit", *options.split()) == 2
    assert message in command_line.err
    assert command_line.err.startswith("gd_lightning: ")
    assert len(command_line.err.splitlines()) == 1
    assert len(command_line.err) < (400 if message == BY_THE_TRAINER else 330)
    assert command_line.out == ""
    assert sorted(path.name for path in materials.iterdir()) == before
    assert not (command_line.root / "lightning_logs").exists()


@pytest.mark.parametrize("stage", ["fit", "sweep"])
def test_whatever_module_of_ours_is_taken_for_a_network_is_trained_or_refused(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.chdir(command_line.root)
    places = [(package.__path__, f"{package.__name__}.") for package in (models, module)]
    parts = [importlib.import_module(found.name) for place in places for found in pkgutil.iter_modules(*place)]
    ours = {
        f"{kind.__module__}.{kind.__qualname__}"
        for part in parts
        for kind in vars(part).values()
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == part.__name__
    }
    assert len(ours) > 5
    for name in sorted(ours):
        code = command_line(stage, "--model.network", name, "--trainer.max_epochs", "1")
        refusals = command_line.err.splitlines()
        assert (code, len(refusals)) in ((0, 0), (2, 1)), f"{name}: {command_line.err}"


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork"])
def test_processes_that_give_nothing_back_are_refused_by_what_they_would_do(
    command_line: CommandLine, stage: str, strategy: str
) -> None:
    run = command_line.fit("--trainer.max_epochs", "1", "--data.val_size", "10", "--data.test_size", "10")
    options = ["--trainer.strategy", strategy, "--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    assert command_line(stage, "--ckpt_path", run, *options) == 2
    assert command_line.err.startswith(f"gd_lightning: cannot {stage} in processes that are spawned or forked; use")
    assert len(command_line.err.splitlines()) == 1


def test_samples_are_judged_all_or_none(command_line: CommandLine) -> None:
    run = command_line.fit("--trainer.max_epochs", "1")
    for stage, name in (("validate", "limit_val"), ("test", "limit_test"), ("predict", "limit_predict")):
        wrong = [f"{name}_batches={value}" for value in ("0", "1", ".5", "0.0")]
        for option in [*wrong, "overfit_batches=1", "fast_dev_run=true"]:
            assert command_line(stage, "--ckpt_path", run, f"--trainer.{option}") == 2, option
            assert "because the result is that of all samples; leave it out" in command_line.err
        assert command_line(stage, "--ckpt_path", run, f"--trainer.{name}_batches=1.0") == 0, command_line.err
    assert len(list(run.glob("predictions*"))) == 1


def test_what_is_given_twice_is_said(command_line: CommandLine) -> None:
    command_line.fit("--model.lr", "0.1", "--trainer.max_epochs=1", "--trainer.max_epochs", "2", "--model.lr=0.1")
    assert command_line.err == "gd_lightning: warning: --trainer.max_epochs is given twice, and the last value counts\n"
    assert command_line("sweep", "--lrs", "0.1,0.2,0.10", "--batch_sizes", "full,100", "--trainer.max_epochs", "1") == 0
    assert "0.10 is given twice as lr, but trained once" in command_line.err
    assert "100 is given twice as batch_size, but trained once" in command_line.err
    values = ",".join(f"0.{1 + i % 9}" for i in range(100))
    assert command_line("sweep", "--lrs", values, "--batch_sizes", "full", "--trainer.max_epochs", "1") == 0
    named = ", ".join(f"0.{1 + i}" for i in range(8))
    assert command_line.err == f"gd_lightning: warning: {named}, ... is given twice as lr, but trained once\n"


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
    assert gd_lightning.main([]) == 2
    assert gd_lightning.main(["train"]) == 2


def test_a_subcommand_that_knows_its_own_options_alone_finds_two_learning_rates(command_line: CommandLine) -> None:
    for stage in ("plan", "compare"):
        assert command_line(stage, "--optimizer", "Adam", "--optimizer.lr", "1", "--model.lr", "2") == 2
        assert "cannot use model.lr 2.0 and optimizer.lr 1.0, because they differ" in command_line.err


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PL_FIT__MODEL__LR", "fast", "cannot use fast as model.lr; give a number"),
        ("PL_FIT__MODEL", "3", "cannot use 3 as model"),
        ("PL_FIT__CONFIG", "none.yaml", "none.yaml, because there is no such file"),
        ("PL_FIT__CONFIG", "{model: {lr: 1, lr: 2}}", "the key 'lr' is in line 1 and again in line 1"),
        (
            "PL_FIT__MODEL__LEARNING_RATE",
            "1",
            "there is no option for the environment variable PL_FIT__MODEL__LEARNING_",
        ),
    ],
)
def test_a_bad_environment_is_refused(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert command_line("fit") == 2
    assert message in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert command_line.runs == []


def test_a_config_that_comes_before_the_subcommand_is_refused(
    materials: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gd_lightning.main(["--config", "text_lr.yaml", "fit"]) == 2
    assert "cannot use model.lr before the subcommand" in capfd.readouterr().err


def test_logs_in_the_cloud_are_refused(materials: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert gd_lightning.main(["fit", "--trainer.default_root_dir", "s3://bucket"]) == 2
    assert "cannot use s3://bucket as trainer.default_root_dir, because it is the address" in capfd.readouterr().err
    assert not Path("s3:").exists()


def test_a_network_of_more_memory_than_there_is_is_refused_in_one_line(command_line: CommandLine) -> None:
    assert command_line("fit", "--model.hidden_sizes", f"[{10**13}]") == 2
    assert command_line.err.startswith("gd_lightning: cannot make the network, because tensors of 37,252.9 GiB")
    assert len(command_line.err.splitlines()) == 1
    assert command_line.runs == []


@dataclass
class Broken(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        raise ZeroDivisionError("in a class of one's own")


def test_a_mistake_in_a_class_of_ones_own_is_shown_with_its_place(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where the traceback is written
    assert command_line("fit", "--data.problem", "tests.cli.test_bad_input.Broken") == 1
    assert "ZeroDivisionError" in command_line.err
    assert "test_bad_input.py" in command_line.err


def test_a_directory_that_cannot_be_written_fails_with_its_name(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").write_text("a file where the runs should go")
    assert command_line("fit") == 1
    assert "lightning_logs" in command_line.err
    assert len(command_line.err.splitlines()) == 1
