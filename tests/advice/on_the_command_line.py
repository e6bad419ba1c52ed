"""What brings each message about on the command line, and the commands that follow its advice."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pyarrow import parquet, table
from torch import Tensor, nn

from gd_lightning import Problem

TABLE = "--data.problem Table --data.problem.path"
OWN = "tests.advice.on_the_command_line"
ONE_EPOCH = "--trainer.max_epochs 1"
KEEPS_THE_BEST = (
    "--data.val_size 0.2 --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val_loss "
    "--trainer.callbacks.filename best"
)
CSV_LOGGER = "--trainer.logger CSVLogger --trainer.logger.save_dir logs"


@dataclass(frozen=True)
class Advice:
    """A command that ends with a message, and commands that do what the message says.

    Beside those of the program there are the commands ``copy`` and ``remove``; RUN is the directory of the newest run.

    Args:
        wrong: The command; it ends with bad input.
        followed: Commands that end well; ``<0>`` stands for what the message says in the first of its places.
        before: Commands that are run first.
    """

    wrong: str
    followed: tuple[str, ...]
    before: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def advice(wrong: str, *followed: str, before: str | tuple[str, ...] = (), **environment: str) -> Advice:
    """Return this advice, in the form of the table below."""
    return Advice(wrong, followed, (before,) if isinstance(before, str) else before, environment)


@dataclass
class Seedless(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.arange(6.0)[:, None], torch.arange(6.0)[:, None]


@dataclass
class IntegerTargets(Problem):
    whole: bool = True

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.arange(6.0)[:, None]
        return x, x.long() if self.whole else x


@dataclass
class FlatTargets(Problem):
    flat: bool = True

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.arange(6.0)
        return x[:, None], x if self.flat else x.reshape(-1, 1)


@dataclass
class ArrayTargets(Problem):
    array: bool = True

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.arange(6.0)[:, None]
        return x, x.numpy() if self.array else x  # type: ignore[return-value]


AN_OBJECT = Seedless()


@dataclass
class Prescribed(Problem):
    """Rows 0 to 5, with a split that has a mistake or none."""

    kind: str = "right"

    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.arange(6.0)[:, None], torch.arange(6.0)[:, None]

    def split(self) -> tuple[Tensor, Tensor]:
        splits: dict[str, object] = {
            "right": (torch.arange(4), torch.tensor([4, 5])),
            "single": torch.arange(4),
            "fractions": (torch.arange(4.0), torch.tensor([4])),
            "outside": (torch.arange(4), torch.tensor([4, 6])),
            "below": (torch.arange(4), torch.tensor([-1])),
            "nothing": (torch.arange(0), torch.arange(3)),
            "overlap": (torch.arange(4), torch.tensor([3, 4])),
            "twice": (torch.tensor([0, 1, 1]), torch.tensor([4])),
        }
        return splits[self.kind]  # type: ignore[return-value]


class Pairs(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x), x  # type: ignore[return-value]


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Complex(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0j


class Stale(nn.Linear):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.doubled = self.weight * 2

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.doubled.T


@dataclass
class Named(Problem):
    count: int = 1

    @property
    def feature_names(self) -> list[str]:
        return ["a", "b"][: self.count]

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.arange(6.0)[:, None]
        return torch.cat([x, x.square()], dim=1), x


class Untyped(nn.Linear):
    """A network whose author gives no types, as most networks are written."""

    def __init__(self, in_features, out_features) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        super().__init__(in_features, out_features)


class Frozen(nn.Linear):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.requires_grad_(False)


class Normalized(nn.Sequential):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(nn.BatchNorm1d(in_features), nn.Linear(in_features, out_features))


def materials() -> None:
    """Make the files that the commands name, in the present directory."""
    rows = "".join(f"{i},{i * i % 7},{2 * i - i * i % 7}\n" for i in range(12))
    texts = {
        "good.csv": f"a,b,y\n{rows}",
        "semicolons.csv": "a;b;y\n1,5;2;3\n3;4;5\n",
        "decimal_comma.csv": "a,y\n1,5,2\n3,5,4\n",
        "decimal_point.csv": "a,y\n1.5,2\n3.5,4\n",
        "maybe_names.csv": "1.5,red,2\n2.5,blue,3\n3.5,red,5\n",
        "colours.csv": f"a,colour,y\n{''.join(f'{i},{c},{i}' + chr(10) for i, c in enumerate(['red', 'blue', 'red']))}",
        "violet.csv": "a,colour\n1,violet\n",
        "red.csv": "a,colour\n1,red\n",
        "no_value.csv": "a,b\n1,\n",
        "holes.csv": "a,b,y\n1,,2\n,3,4\n",
        "twice.csv": "a,a,b,y\n1,2,3,4\n",
        "told_apart.csv": "a,c,b,y\n1,2,3,4\n",
        "open_quotes.csv": 'a,y,n\n1,2,"x\n3,4,z\n',
        "closed_quotes.csv": 'a,y,n\n1,2,"x"\n3,4,z\n',
        "word.csv": f"a,b,y\n{rows}5,six,7\n",
        "words.csv": f"a,b,y\n{rows}5,six,7\n8,nine,1\n",
        "infinite.csv": "a,b\n1,2\n5,inf\n",
        "longer.csv": f"a,b,y\n{rows}5,6,7\n",
        "nameless.csv": "a,,b,y\n" + "".join(f"{i % 5},{i % 3},{i},{i}\n" for i in range(12)),
        "named.csv": "a,c,b,y\n" + "".join(f"{i % 5},{i % 3},{i},{i}\n" for i in range(12)),
        "single.csv": "y\n1\n2\n3\n",
        "titled.csv": "Report\na,b,y\n" + "".join(f"{i},{i % 3},{2 * i}\n" for i in range(12)),
        "commented.csv": "# Report\na,b,y\n" + "".join(f"{i},{i % 3},{2 * i}\n" for i in range(12)),
        "numbered.csv": "index,y\n" + "".join(f"{i},{2 * i}\n" for i in range(12)),
        "beyond_squares.csv": "a,y\n" + "".join(f"{i}e200,{i * i}\n" for i in range(1, 8)),
        "beyond.csv": "a,b\n1,1e300\n",
        "huge_features.csv": "a,y\n" + "".join(f"{i}e25,{i}\n" for i in range(1, 13)),
        "vast.csv": "a,y\n" + "".join(f"{i}e90,{i}\n" for i in range(1, 13)),
        "vast_targets.csv": "a,y\n" + "".join(f"{i},{i}e155\n" for i in range(1, 13)),
        "huge_targets.csv": "a,y\n" + "".join(f"{i},{i}e19\n" for i in range(1, 13)),
        "list.yaml": "- 3\n",
        "mapping.yaml": "model:\n  lr: 0.1\n",
        "odd_key.yaml": "model:\n  1: 2\n",
        "beside.yaml": "optimizer: {class_path: torch.optim.Adam}\n",
        "number_as_config.yaml": "config: 3\n",
        "path_as_config.yaml": "config: mapping.yaml\n",
        "no_train.yaml": "subcommand: train\n",
        "fit.yaml": "subcommand: fit\n",
        "nothing_varied.yaml": "vary: {model.lr: []}\n",
        "varied.yaml": "vary: {model.lr: [0.01]}\n",
        "null_lr.yaml": "model: {l1: null}\n",
        "broken.yaml": "model: [1, 2\n",
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    for folder in ("empty_folder", "folder"):
        Path(folder).mkdir()
    parquet.write_table(table({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0]}), "folder/part.parquet")
    for name, members in (("two.csv.zip", ("good.csv", "longer.csv")), ("one.csv.zip", ("good.csv",))):
        with zipfile.ZipFile(name, "w") as packed:
            for member in members:
                packed.write(member)
    Path("wide_letters.csv").write_bytes(texts["good.csv"].encode("utf-16-le"))
    Path("latin.yaml").write_bytes("# é\nmodel: {lr: 0.1}\n".encode("latin-1"))
    Path("utf.yaml").write_text("# é\nmodel: {lr: 0.1}\n", encoding="utf-8")
    np.savez("text.npz", x=np.array(["a", "b", "c"]), y=np.arange(3.0), z=np.arange(3.0))
    np.savez("numbers.npz", x=np.arange(12.0).reshape(6, 2), y=np.arange(6.0))
    shutil.copyfile("numbers.npz", "more.npz")
    with zipfile.ZipFile("more.npz", "a") as archive:
        archive.writestr("read.me", "text")
    x, ids = np.arange(6.0), 2**60 + 1 + 2 * np.arange(6)
    np.savez("identifiers.npz", ids=ids, x=x, y=x)
    np.savez("subtracted.npz", ids=ids - 2**60, x=x, y=x)
    np.savez("cube.npz", x=np.zeros((2, 2, 2)), y=np.zeros(2))
    torch.save({"weights": torch.zeros(3)}, "other.ckpt")
    Path("damaged.ckpt").write_bytes(b"PK\x03\x04 and nothing more")
    os.mkfifo("pipe.yaml")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    (Path("silent") / "version_0").mkdir(parents=True)
    (Path("silent") / "version_0" / "history.csv").write_text(
        "update,epoch,samples,seconds,lr,val_loss\n0,0,0,0,0.1,1\n"
    )
    (Path("silent") / "version_0" / "summary.json").write_text(json.dumps({}))


# By a part of the message as it stands in the source.
ONE_CYCLE = (
    "--lr_scheduler OneCycleLR --lr_scheduler.max_lr 0.1 --lr_scheduler.total_steps 5 "
    "--lr_scheduler.cycle_momentum false"
)
STEPS = "--lr_scheduler StepLR --lr_scheduler.step_size 5"
MANY_UPDATES = (
    "--data.problem LinearProblem --data.problem.n_samples 300 --data.order sequential --data.batch_size 1 "
    "--trainer.max_epochs 1000 --map false"
)

ADVICE: dict[str, Advice] = {
    # What is given, whatever for
    "{} is not text in UTF-8": advice(
        f"fit --recorder.title a\udcff {ONE_EPOCH}", f"fit --recorder.title aÿ {ONE_EPOCH}"
    ),
    "digits, the limit of float64; give a smaller number": advice(
        f"plan --model.lr 1{400 * '0'}", f"plan --map false --model.lr 1{40 * '0'}"
    ),
    "as the arguments of {}, because they have names; give a mapping": advice(
        f"fit --optimizer '{{class_path: Adam, init_args: 0.1}}' {ONE_EPOCH}",
        f"fit --optimizer '{{class_path: Adam, init_args: {{lr: 0.1}}}}' {ONE_EPOCH}",
        f"fit --optimizer '{{class_path: Adam}}' {ONE_EPOCH}",
    ),
    "{} seconds, because an interval must be above 0; give a longer one": advice(
        f"fit --trainer.val_check_interval 00:00:00:00 {ONE_EPOCH}",
        f"fit --trainer.val_check_interval 00:00:00:01 {ONE_EPOCH}",
    ),
    "are needed for it{}, and {} of memory are free; use {}": advice(
        f"fit --model.hidden_sizes [{10**13}] {ONE_EPOCH}", f"fit --model.hidden_sizes [10] {ONE_EPOCH}"
    ),
    "{} contains a NUL character; leave it out": advice(
        "fit --recorder.title 'a\0b'", f"fit --recorder.title ab {ONE_EPOCH}"
    ),
    "{} is a pipe, which can be read once at most; give a file": advice(
        "fit --config pipe.yaml", f"fit --config mapping.yaml {ONE_EPOCH}"
    ),
    "columns there; give each a name of its own, or None": advice(
        "fit --data.problem tests.advice.on_the_command_line.Named",
        f"fit --data.problem tests.advice.on_the_command_line.Named --data.problem.count 2 {ONE_EPOCH}",
    ),
    "cannot train on {} nodes, because the address of the first one is not known": advice(
        "fit --trainer.num_nodes 2", f"fit {ONE_EPOCH}"
    ),
    "cannot profile with xla, because torch_xla is not installed; use simple": advice(
        "fit --trainer.profiler xla", f"fit --trainer.profiler simple {ONE_EPOCH}"
    ),
    "cannot use {} of model.network, because the data determine it; leave it out": advice(
        "fit --model.network tests.advice.on_the_command_line.Untyped --model.network.in_features 1",
        f"fit --model.network tests.advice.on_the_command_line.Untyped {ONE_EPOCH}",
    ),
    "one number per feature; set standardize of the data, or give such tensors": advice(
        "fit --model.network gd_lightning.models.Standardize", f"fit --data.standardize true {ONE_EPOCH}"
    ),
    "cannot train {}, because it has no parameters; give a network": advice(
        "fit --model.network torch.nn.Identity", f"fit --model.network torch.nn.Linear {ONE_EPOCH}"
    ),
    "because it has parameters without sizes; give a network": advice(
        "fit --model.network torch.nn.LazyLinear", f"fit --model.network torch.nn.Linear {ONE_EPOCH}"
    ),
    # Options of data
    "as batch_size; use 'full' or a whole number from 1": advice(
        "fit --data.batch_size 0", f"fit --data.batch_size full {ONE_EPOCH}", f"fit --data.batch_size 1 {ONE_EPOCH}"
    ),
    "because there are only {} training samples; use 'full' or a number from 1 to {}": advice(
        "fit --data.batch_size 101",
        f"fit --data.batch_size full {ONE_EPOCH}",
        f"fit --data.batch_size <2> {ONE_EPOCH}",
    ),
    "cannot use {} as micro_batch_size": advice(
        "fit --data.micro_batch_size 0",
        f"fit --data.micro_batch_size 1 {ONE_EPOCH}",
        f"fit --data.micro_batch_size null {ONE_EPOCH}",
    ),
    "cannot train in parts of micro_batch_size": advice(
        "fit --data.problem NoisyLine --data.micro_batch_size 8 "
        "--model.network tests.advice.on_the_command_line.Normalized",
        f"fit --data.problem NoisyLine --model.network tests.advice.on_the_command_line.Normalized {ONE_EPOCH}",
    ),
    "cannot use the data seed {}; use": advice("fit --data.seed -1", f"fit --data.seed 0 {ONE_EPOCH}"),
    "cannot use the problem seed {}; use": advice(
        "fit --data.problem.seed -1", f"fit --data.problem.seed 0 {ONE_EPOCH}"
    ),
    "cannot use {} as seed_everything; use": advice(
        "fit --seed_everything -1", f"fit --seed_everything 0 {ONE_EPOCH}", f"fit --seed_everything <1> {ONE_EPOCH}"
    ),
    "is neither a fraction below 1 nor a number of samples": advice(
        "fit --data.val_size 1.0", f"fit --data.val_size 0.2 {ONE_EPOCH}", f"fit --data.val_size 20 {ONE_EPOCH}"
    ),
    "because none is left for training; use a smaller val_size or test_size": advice(
        "fit --data.val_size 60 --data.test_size 40",
        f"fit --data.val_size 50 --data.test_size 40 {ONE_EPOCH}",
        f"fit --data.val_size 60 --data.test_size 30 {ONE_EPOCH}",
    ),
    "because it prescribes its own split; give val_size too, to make a new split": advice(
        "fit --data.problem NoisyLine --data.test_size 0.2",
        f"fit --data.problem NoisyLine --data.test_size 0.2 --data.val_size 0.2 {ONE_EPOCH}",
    ),
    "because an epoch would no longer contain all training samples; hold samples out with data.test_size": advice(
        "fit --trainer.limit_train_batches 0.5", f"fit --data.test_size 0.5 {ONE_EPOCH}"
    ),
    "because it is a {}; make it a tensor": advice(
        "fit --data.problem tests.advice.on_the_command_line.ArrayTargets",
        f"fit --data.problem tests.advice.on_the_command_line.ArrayTargets --data.problem.array false {ONE_EPOCH} "
        "--model.lr 0.01",
    ),
    "reshape a column with {}.reshape(-1, 1)": advice(
        "fit --data.problem tests.advice.on_the_command_line.FlatTargets",
        f"fit --data.problem tests.advice.on_the_command_line.FlatTargets --data.problem.flat false {ONE_EPOCH} "
        "--model.lr 0.01",
    ),
    "make it float32 or float64": advice(
        "fit --data.problem tests.advice.on_the_command_line.IntegerTargets",
        f"fit --data.problem tests.advice.on_the_command_line.IntegerTargets --data.problem.whole false {ONE_EPOCH} "
        "--model.lr 0.01",
    ),
    # Problems
    "as a standard deviation": advice("fit --data.problem.noise -1", f"fit --data.problem.noise 0 {ONE_EPOCH}"),
    "as a number of rows or columns; use a whole number from 1": advice(
        "fit --data.problem Sine --data.problem.n_samples 0",
        f"fit --data.problem Sine --data.problem.n_samples 1 {ONE_EPOCH}",
    ),
    "and a chosen condition number; use n_samples above n_features": advice(
        "plan --data.problem LinearProblem --data.problem.n_samples 5 --data.problem.n_features 5",
        "plan --data.problem LinearProblem --data.problem.n_samples 6 --data.problem.n_features 5 --map false",
    ),
    "as condition_number; use a finite number of 1 or more": advice(
        "plan --data.problem LinearProblem --data.problem.condition_number 0",
        "plan --data.problem LinearProblem --data.problem.condition_number 1 --map false",
    ),
    "a single feature without bias has condition number 1": advice(
        "plan --data.problem LinearProblem --data.problem.n_features 1 --data.problem.bias false",
        "plan --data.problem LinearProblem --data.problem.n_features 1 --data.problem.bias false "
        "--data.problem.condition_number 1 --map false",
        "plan --data.problem LinearProblem --data.problem.n_features 2 --data.problem.bias false --map false",
    ),
    "as a fraction of the samples": advice(
        "plan --data.problem LinearProblem --data.problem.outliers 2",
        "plan --data.problem LinearProblem --data.problem.outliers 0 --map false",
        "plan --data.problem LinearProblem --data.problem.outliers 1 --map false",
    ),
    "as the size of a shift": advice(
        "plan --data.problem LinearProblem --data.problem.outlier_size -1",
        "plan --data.problem LinearProblem --data.problem.outlier_size 0 --map false",
    ),
    # Classes of one's own
    **{
        part: advice(
            f"fit --data.problem tests.advice.on_the_command_line.Prescribed --data.problem.kind {kind}",
            "fit --data.problem tests.advice.on_the_command_line.Prescribed --data.problem.kind right "
            f"--model.lr 0.01 {ONE_EPOCH}",
        )
        for part, kind in {
            "because it is not a pair of lists of rows; give rows for training": "single",
            "because its rows are not whole numbers of shape (n,); make them": "fractions",
            "because there is no row {}; use numbers from 0": "outside",
            "because it has no rows for training; give it some": "nothing",
            "because it contains a row twice; use each row once": "overlap",
        }.items()
    },
    "cannot train this network on a batch of a single sample": advice(
        f"fit --model.network {OWN}.Normalized --data.batch_size 33 {ONE_EPOCH}",
        f"fit --model.network {OWN}.Normalized --data.batch_size 34 {ONE_EPOCH}",
        f"fit --model.network {OWN}.Normalized --data.batch_size 33 --data.drop_last true {ONE_EPOCH}",
    ),
    "its predictions have no gradient with respect to its parameters; compute": advice(
        f"fit --model.network {OWN}.Detached", f"fit --model.network torch.nn.Linear {ONE_EPOCH}"
    ),
    "compute the predictions anew in each call": advice(
        f"fit --model.network {OWN}.Stale", f"fit --model.network torch.nn.Linear {ONE_EPOCH}"
    ),
    "none of its parameters is to be trained; give it parameters": advice(
        f"fit --model.network {OWN}.Frozen", f"fit --model.network torch.nn.Linear {ONE_EPOCH}"
    ),
    "cannot use complex predictions": advice(
        f"fit --model.network {OWN}.Complex", f"fit --model.network torch.nn.Linear {ONE_EPOCH}"
    ),
    "return the tensor of predictions, of shape (B, K), alone": advice(
        "fit --model.network tests.advice.on_the_command_line.Pairs",
        f"fit --model.network torch.nn.Linear --model.lr 0.01 {ONE_EPOCH}",
    ),
    "choose a smaller momentum, or standardize the data": advice(
        "plan --model.momentum 0.9999999999999999", "plan --model.momentum 0.99 --map false"
    ),
    "as a train loss; use a number of 0 or more": advice(
        "compare --target .nan --batch_sizes full",
        f"compare --target 1 --batch_sizes full --seeds 1 {ONE_EPOCH}",
        f"compare --target null --batch_sizes full --seeds 1 {ONE_EPOCH}",
    ),
    "or more, or start a new run without --": advice(
        "fit --ckpt_path RUN --trainer.max_epochs 1",
        "fit --ckpt_path RUN --trainer.max_epochs <3>",
        f"fit {ONE_EPOCH}",
        before="fit --trainer.max_epochs 3",
    ),
    "because no launcher sets the number of processes; remove the": advice("fit", f"fit {ONE_EPOCH}", RANK="1"),
    "is not a number of processes; remove": advice("fit", f"fit {ONE_EPOCH}", TORCHELASTIC_RUN_ID="left"),
    "because with this lr_scheduler the search takes about {} s; use fewer epochs": advice(
        f"fit {MANY_UPDATES.replace(' --map false', '')} {STEPS} --model.lr best",
        f"fit {MANY_UPDATES.replace(' --map false', '')} {STEPS} --model.lr best --trainer.max_epochs 2",
    ),
    "give a number, or standardize the data": advice(
        f"compare {TABLE} beyond_squares.csv --trainer.precision 64-true --lrs best --batch_sizes full "
        "--data.standardize none",
        f"plan {TABLE} beyond_squares.csv --trainer.precision 64-true --data.standardize true --map false",
    ),
    # Tables
    "because there is no such file; check the path": advice(
        f"fit {TABLE} godo.csv", f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}"
    ),
    "correct that line, or all: use a point in decimals and commas between cells": advice(
        f"fit {TABLE} decimal_comma.csv", f"fit {TABLE} decimal_point.csv --model.lr 0.001 {ONE_EPOCH}"
    ),
    "as other lines do; use --data.problem.header true or false": advice(
        f"fit {TABLE} maybe_names.csv --data.problem.features [0]",
        f"fit {TABLE} maybe_names.csv --data.problem.header false --data.problem.features [0] {ONE_EPOCH}",
        f"fit {TABLE} maybe_names.csv --data.problem.header true --data.problem.features ['1.5'] {ONE_EPOCH}",
    ),
    "correct the cells, or use numbers": advice(
        f"fit {TABLE} words.csv --data.problem.features [b] --data.problem.targets [y]",
        f"fit {TABLE} good.csv --data.problem.features [b] --data.problem.targets [y] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "{}: {} is {}; correct the cell, or leave the row out": advice(
        "predict --ckpt_path RUN --data.predict_inputs word.csv",
        "predict --ckpt_path RUN --data.predict_inputs good.csv",
        before=f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}",
    ),
    "in exclude, or in features or targets": advice(
        f"fit {TABLE} good.csv --data.problem.features [a] --data.problem.exclude [a]",
        f"fit {TABLE} good.csv --data.problem.features [a] --model.lr 0.001 {ONE_EPOCH}",
        f"fit {TABLE} good.csv --data.problem.exclude [a] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "as UTF-16 without a byte order mark has; save it as UTF-8": advice(
        f"fit {TABLE} wide_letters.csv", f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}"
    ),
    "the folder contains no .parquet files; give a file": advice(
        f"fit {TABLE} empty_folder", f"fit {TABLE} folder {ONE_EPOCH}", f"fit {TABLE} folder/part.parquet {ONE_EPOCH}"
    ),
    "because it contains {} files; use one with a single file": advice(
        f"fit {TABLE} two.csv.zip", f"fit {TABLE} one.csv.zip --model.lr 0.001 {ONE_EPOCH}"
    ),
    "leave the row out, or train on a table with it": advice(
        "predict --ckpt_path RUN --data.predict_inputs violet.csv",
        "predict --ckpt_path RUN --data.predict_inputs red.csv",
        before=f"fit {TABLE} colours.csv --data.problem.categories [colour] {ONE_EPOCH}",
    ),
    "because it has no value in {}; fill it, or leave the row out": advice(
        "predict --ckpt_path RUN --data.predict_inputs no_value.csv",
        "predict --ckpt_path RUN --data.predict_inputs good.csv",
        before=f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}",
    ),
    "has a missing value in each row; fill them, or leave out columns": advice(
        f"fit {TABLE} holes.csv --data.problem.missing drop",
        f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}",
        f"fit {TABLE} holes.csv --data.problem.missing drop --data.problem.exclude [b] {ONE_EPOCH}",
    ),
    "remove or fill the rows that are not finite numbers": advice(
        "predict --ckpt_path RUN --data.predict_inputs infinite.csv",
        "predict --ckpt_path RUN --data.predict_inputs good.csv",
        before=f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}",
    ),
    "is not an array; leave it out": advice(
        f"fit {TABLE} more.npz", f"fit {TABLE} numbers.npz --model.lr 0.001 {ONE_EPOCH}"
    ),
    "several columns have that name; give each its own, or choose other columns": advice(
        f"fit {TABLE} twice.csv",
        f"fit {TABLE} told_apart.csv --model.lr 0.001 {ONE_EPOCH}",
        f"fit {TABLE} twice.csv --data.problem.features [b] --data.problem.targets [y] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "are never closed; close them, or remove them": advice(
        f"fit {TABLE} open_quotes.csv --data.problem.features [a] --data.problem.targets [y]",
        f"fit {TABLE} closed_quotes.csv --data.problem.features [a] --data.problem.targets [y] {ONE_EPOCH}",
    ),
    "twice; name it once, in features or targets": advice(
        f"fit {TABLE} good.csv --data.problem.features [a,y] --data.problem.targets [y]",
        f"fit {TABLE} good.csv --data.problem.features [a] --data.problem.targets [y] --model.lr 0.001 {ONE_EPOCH}",
        f"fit {TABLE} good.csv --data.problem.features [a,y] --data.problem.targets [b] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "without features and targets; name at least one column of each": advice(
        f"fit {TABLE} good.csv --data.problem.features []",
        f"fit {TABLE} good.csv --data.problem.features [a] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "because it is of shape {}; use one of shape (N,) or (N, columns)": advice(
        f"fit {TABLE} cube.npz", f"fit {TABLE} numbers.npz --model.lr 0.001 {ONE_EPOCH}"
    ),
    "leave out a column of identifiers with exclude, or subtract a constant from it": advice(
        f"fit {TABLE} identifiers.npz",
        f"fit {TABLE} identifiers.npz --data.problem.exclude [ids] --model.lr 0.001 {ONE_EPOCH}",
        f"fit {TABLE} subtracted.npz --model.lr 0.001 {ONE_EPOCH}",
    ),
    "and does not number the rows; name it, or choose columns": advice(
        f"fit {TABLE} nameless.csv",
        f"fit {TABLE} named.csv --model.lr 0.001 {ONE_EPOCH}",
        f"fit {TABLE} nameless.csv --data.problem.features [b] --data.problem.targets [y] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "because it has the columns {}; correct the name, or the table": advice(
        f"fit {TABLE} good.csv --data.problem.targets [z]",
        f"fit {TABLE} good.csv --data.problem.targets [y] --model.lr 0.001 {ONE_EPOCH}",
    ),
    "is not finite in {}; correct it, or leave it out": advice(
        "predict --ckpt_path RUN --data.predict_inputs beyond.csv",
        "predict --ckpt_path RUN --data.predict_inputs good.csv",
        before=f"fit {TABLE} good.csv --data.standardize none --model.lr 0.001 {ONE_EPOCH}",
    ),
    "remove what stands above the names, or put # before it": advice(
        f"fit {TABLE} titled.csv",
        f"fit {TABLE} commented.csv --model.lr 0.001 {ONE_EPOCH}",
    ),
    "because it has a single column; use a table with features": advice(
        f"fit {TABLE} single.csv",
        f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}",
    ),
    "because no column is left for features or targets{}; name them": advice(
        f"fit {TABLE} numbered.csv",
        f"fit {TABLE} numbered.csv --data.problem.features [index] --data.problem.targets [y] --model.lr 0.001 "
        f"{ONE_EPOCH}",
    ),
    "begin a new run without the checkpoint, or predict new rows with predict_inputs": advice(
        "fit --ckpt_path RUN --trainer.max_epochs 2",
        "predict --ckpt_path RUN --data.predict_inputs table.csv",
        f"fit {TABLE} table.csv --model.lr 0.001 {ONE_EPOCH}",
        before=(
            "copy good.csv table.csv",
            f"fit {TABLE} table.csv --model.lr 0.001 {ONE_EPOCH}",
            "copy longer.csv table.csv",
        ),
    ),
    "is not a table; give a Table problem": advice(
        "predict --ckpt_path last --data.predict_inputs good.csv",
        f"fit {TABLE} good.csv --model.lr 0.001 {ONE_EPOCH}",
        "predict --ckpt_path last --data.predict_inputs good.csv",
        before=f"fit {ONE_EPOCH}",
    ),
    # Options of the model
    "cannot train with lr {}; use a learning rate above 0": advice(
        "fit --model.lr 0", f"fit --model.lr 0.01 {ONE_EPOCH}"
    ),
    "is below 0 or not finite; use 0 or more": advice("fit --model.l1 -1", f"fit --model.l1 0 {ONE_EPOCH}"),
    "cannot use nesterov without momentum": advice(
        "fit --model.nesterov true", f"fit --model.nesterov true --model.momentum 0.9 {ONE_EPOCH}"
    ),
    "is not a finite number above 0; use for example 1.0": advice(
        "fit --model.loss huber --model.huber_delta 0", f"fit --model.loss huber --model.huber_delta 1.0 {ONE_EPOCH}"
    ),
    "because it has no hidden units; give hidden_sizes": advice(
        "fit --model.dropout 0.5", f"fit --model.dropout 0.5 --model.hidden_sizes [4] --model.lr 0.001 {ONE_EPOCH}"
    ),
    "because they are options of its own SGD; give them to the optimizer instead": advice(
        "fit --optimizer SGD --model.momentum 0.9", f"fit --optimizer SGD --optimizer.momentum 0.9 {ONE_EPOCH}"
    ),
    "as layer widths; use whole numbers from 1": advice(
        "fit --model.hidden_sizes [0]", f"fit --model.hidden_sizes [1] --model.lr 0.001 {ONE_EPOCH}"
    ),
    "as a probability; use a number from 0": advice(
        "fit --model.hidden_sizes [4] --model.dropout 1.0",
        f"fit --model.hidden_sizes [4] --model.dropout 0 --model.lr 0.001 {ONE_EPOCH}",
        f"fit --model.hidden_sizes [4] --model.dropout 0.9 --model.lr 0.001 {ONE_EPOCH}",
    ),
    "only a linear regressor has a weight and a bias to set": advice(
        "fit --model.hidden_sizes [3] --model.initialization.weight 1",
        f"fit --model.initialization.weight 1 {ONE_EPOCH}",
        f"fit --model.hidden_sizes [3] --model.initialization he --model.lr 0.001 {ONE_EPOCH}",
    ),
    "cannot start at a given bias alone; give weight too": advice(
        "fit --model.initialization.bias 1",
        f"fit --model.initialization.bias 1 --model.initialization.weight 1 {ONE_EPOCH}",
    ),
    "because the regressor has none; leave bias on, or out of the values": advice(
        "fit --model.initialization.bias 1 --model.initialization.weight 1 --model.bias false",
        f"fit --model.initialization.bias 1 --model.initialization.weight 1 {ONE_EPOCH}",
        f"fit --model.initialization.weight 1 --model.bias false {ONE_EPOCH}",
    ),
    "because the values are not finite; use numbers below 1e38": advice(
        "fit --model.initialization.weight 1e300", f"fit --model.initialization.weight 9e2 {ONE_EPOCH}"
    ),
    "give one number, or a list of that shape": advice(
        "fit --model.initialization.weight [1,2,3]",
        f"fit --model.initialization.weight 1 {ONE_EPOCH}",
        f"fit --model.initialization.weight [[1]] {ONE_EPOCH}",
    ),
    "cannot train a network of {} {} on data with {}; leave {} out": advice(
        "fit --model.in_features 3", f"fit {ONE_EPOCH}"
    ),
    "cannot plan for a network without parameters that are trained": advice(
        "plan --model.network tests.advice.on_the_command_line.Frozen",
        "plan --model.network torch.nn.Linear --map false",
    ),
    "because Lightning weights a short batch like a full one; give data.batch_size": advice(
        "fit --trainer.accumulate_grad_batches 2",
        f"fit --data.batch_size 50 --data.micro_batch_size 25 {ONE_EPOCH}",
    ),
    # Options of the Trainer and of callbacks
    "as the seconds between checkpoints": advice(
        "fit --checkpoint.interval 0", f"fit --checkpoint.interval 0.5 {ONE_EPOCH}"
    ),
    "updates; use auto or a whole number from 1": advice(
        "fit --recorder.every_n_updates 0",
        f"fit --recorder.every_n_updates auto {ONE_EPOCH}",
        f"fit --recorder.every_n_updates 1 {ONE_EPOCH}",
    ),
    "cannot write {}; use {}": advice("plan --formats gif", "plan --formats png,svg,pdf"),
    "because the panels are {}; use some of these": advice(
        "compare --panels epoch", f"compare --panels epochs,paths --batch_sizes full --seeds 1 {ONE_EPOCH}"
    ),
    "cannot record at most {} updates; use a whole number from 1": advice(
        "fit --recorder.max_rows 0", f"fit --recorder.max_rows 1 {ONE_EPOCH}"
    ),
    "as divergence_factor; use a number above 1": advice(
        "fit --divergence_factor 1", f"fit --divergence_factor 2 {ONE_EPOCH}"
    ),
    "because fit has one; give --on_divergence and --divergence_factor": advice(
        "fit --trainer.callbacks+=gd_lightning.StopOnDivergence",
        f"fit --on_divergence stop --divergence_factor 1e3 {ONE_EPOCH}",
    ),
    "cannot train with trainer.{} 0; use 1 or more": advice("fit --trainer.max_epochs 0", f"fit {ONE_EPOCH}"),
    "because the run would have no end; give a number of epochs, or -1 for no limit": advice(
        "fit --trainer.max_epochs null",
        f"fit {ONE_EPOCH}",
        "fit --trainer.max_epochs -1 --trainer.max_steps 3",
    ),
    "a limit of them allows no update; leave that limit out": advice(
        "fit --trainer.max_time 00:00:00:00", f"fit {ONE_EPOCH}"
    ),
    "cannot use {} as trainer.{}; give {}": advice(
        "fit --trainer.gradient_clip_val -1", f"fit --trainer.gradient_clip_val 0 {ONE_EPOCH}"
    ),
    "cannot train at least {} and at most {} {}; give a smaller trainer.min_": advice(
        "fit --trainer.max_epochs 1 --trainer.min_epochs 2", "fit --trainer.max_epochs 1 --trainer.min_epochs 1"
    ),
    "cannot validate every {} epochs with trainer.check_val_every_n_epoch null; give a whole number": advice(
        "fit --trainer.val_check_interval 0.5 --trainer.check_val_every_n_epoch null --data.val_size 9",
        f"fit --trainer.val_check_interval 1 --trainer.check_val_every_n_epoch null --data.val_size 9 {ONE_EPOCH}",
    ),
    "trainer.val_check_interval {}; give a fraction of an epoch up to 1.0, or a whole number": advice(
        "fit --trainer.val_check_interval 0 --data.val_size 9",
        f"fit --trainer.val_check_interval 0.5 --data.val_size 9 --data.batch_size 10 {ONE_EPOCH}",
        f"fit --trainer.val_check_interval 1 --data.val_size 9 {ONE_EPOCH}",
    ),
    "it is the address of a place outside this machine; give a plain path": advice(
        "fit --trainer.default_root_dir s3://bucket", f"fit --trainer.default_root_dir here {ONE_EPOCH}"
    ),
    "cannot train in {}; use one of {}": advice(
        "fit --trainer.precision bf16-true",
        f"fit --trainer.precision 32-true {ONE_EPOCH}",
        f"fit --trainer.precision 64-true {ONE_EPOCH}",
        f"fit --trainer.precision bf16-mixed {ONE_EPOCH}",
    ),
    "cannot use null as optimizer.lr": advice(
        "fit --optimizer Adam --optimizer.lr null",
        f"fit --optimizer Adam --optimizer.lr 0.1 {ONE_EPOCH}",
        f"fit --optimizer Adam {ONE_EPOCH}",
    ),
    "cannot use model.lr {} and optimizer.lr {}, because they differ; give one of them": advice(
        "fit --optimizer Adam --optimizer.lr 1 --model.lr 2",
        f"fit --optimizer Adam --optimizer.lr <1> {ONE_EPOCH}",
        f"fit --optimizer Adam --model.lr <0> {ONE_EPOCH}",
    ),
    "cannot train with these options of {}: {}; change them": advice(
        "fit --lr_scheduler StepLR --lr_scheduler.step_size 0",
        f"fit --lr_scheduler StepLR --lr_scheduler.step_size 1 {ONE_EPOCH}",
    ),
    "because the learning rate is not finite after epoch {}; change its options": advice(
        "fit --lr_scheduler ExponentialLR --lr_scheduler.gamma .nan",
        f"fit --lr_scheduler ExponentialLR --lr_scheduler.gamma 0.9 {ONE_EPOCH}",
    ),
    "batch_size would no longer be the samples per update; give data.batch_size": advice(
        "fit --trainer.callbacks+=GradientAccumulationScheduler --trainer.callbacks.scheduling '{0: 2}'",
        f"fit --data.batch_size 20 {ONE_EPOCH}",
    ),
    "batch_size is the algorithm, not a matter of memory; give data.batch_size": advice(
        "fit --trainer.callbacks+=BatchSizeFinder", f"fit --data.batch_size 20 {ONE_EPOCH}"
    ),
    "its options cannot be saved in a config; give trainer.max_time": advice(
        "fit --trainer.callbacks+=Timer", "fit --trainer.max_time 00:00:01:00 --trainer.max_epochs 1"
    ),
    "the learning rate that it finds is far from a good one here; give model.lr": advice(
        "fit --trainer.callbacks+=LearningRateFinder", f"fit --model.lr 0.1 {ONE_EPOCH}"
    ),
    "fewer trainer.devices": advice(
        "fit --data.problem FourPoints --trainer.devices 5 --trainer.strategy ddp",
        f"fit --data.problem FourPoints --trainer.devices 1 --trainer.strategy ddp {ONE_EPOCH}",
    ),
    "leave trainer.devices out, or give torchrun --nproc-per-node {}": advice(
        "fit --trainer.devices 2",
        f"fit {ONE_EPOCH} --trainer.strategy auto --print_config",
        TORCHELASTIC_RUN_ID="1",
        WORLD_SIZE="3",
        LOCAL_WORLD_SIZE="3",
    ),
    # Configs
    "write option: value, a line for each": advice("fit --config list.yaml", f"fit --config mapping.yaml {ONE_EPOCH}"),
    "cannot use {} as an option in {}; see --help": advice("fit --config odd_key.yaml", "fit --help"),
    "in the config; give it as {}, beside model": advice(
        "fit --config '{model: {optimizer: {class_path: torch.optim.Adam}}}'", f"fit --config beside.yaml {ONE_EPOCH}"
    ),
    "give the path of another config": advice(
        "fit --config number_as_config.yaml", f"fit --config path_as_config.yaml {ONE_EPOCH}"
    ),
    "there is no subcommand {}; use one of {}": advice("--config no_train.yaml", "--config fit.yaml"),
    "because it is not UTF-8 text; save it in UTF-8": advice(
        "fit --config latin.yaml", f"fit --config utf.yaml {ONE_EPOCH}"
    ),
    "cannot read the config, because {}; correct it": advice(
        "fit --config={model", f"fit --config='{{model: {{lr: 0.1}}}}' {ONE_EPOCH}"
    ),
    "cannot use null as {}{}; give {}": advice("fit --config null_lr.yaml", f"fit --model.l1 0 {ONE_EPOCH}"),
    "there is no such file; check the path": advice("fit --config none.yaml", f"fit --config mapping.yaml {ONE_EPOCH}"),
    "it is not a file; give the path of one": advice("fit --config full", f"fit --config mapping.yaml {ONE_EPOCH}"),
    "cannot print the config with {}; use {}": advice(
        "fit --print_config=all", "fit --print_config=skip_default", "fit --print_config=skip_unset"
    ),
    "no subcommand is given; use one of": advice("", f"fit {ONE_EPOCH}"),
    # Parsing
    "cannot use {0} without a value; give one, as in {0} VALUE": advice(
        "fit --data.batch_size", f"fit --data.batch_size 4 {ONE_EPOCH}"
    ),
    "cannot use the value of model.{0}; give it as {0}, beside model": advice(
        "fit --model.optimizer Adam", f"fit --optimizer Adam {ONE_EPOCH}"
    ),
    "there is no subcommand {0}; use one of {1}": advice("train", f"fit {ONE_EPOCH}"),
    "cannot use {0} before the subcommand; give it, or its config, after it": advice(
        "--config mapping.yaml fit", f"fit --config mapping.yaml {ONE_EPOCH}"
    ),
    "cannot make {} without {}; give {}": advice(
        "fit --data.problem Table", f"fit --data.problem Table <2> good.csv --model.lr 0.001 {ONE_EPOCH}"
    ),
    "cannot use {} as {}, because {}; give its options": advice(
        "fit --model text", f"fit --model '{{lr: 0.1}}' {ONE_EPOCH}"
    ),
    "cannot use {} as {}; give {}": advice("fit --data.batch_size ful", f"fit --data.batch_size full {ONE_EPOCH}"),
    "it is not a subclass of {}; give the class path of one": advice(
        "fit --data.problem torch.nn.Linear", f"fit --data.problem gd_lightning.Sine {ONE_EPOCH}"
    ),
    "it is an abstract class": advice(
        "fit --data.problem Problem", f"fit --data.problem gd_lightning.Sine {ONE_EPOCH}"
    ),
    "there is no such class; give its name or class path": advice(
        "fit --data.problem Sinus", f"fit --data.problem Sine {ONE_EPOCH}", "fit --help"
    ),
    "it cannot be imported; check its name and where it is installed": advice(
        "fit --data.problem gd_lightning.Sinus", f"fit --data.problem gd_lightning.Sine {ONE_EPOCH}"
    ),
    "because a config can name classes only; give the class path": advice(
        "fit --data.problem tests.advice.on_the_command_line.AN_OBJECT",
        f"fit --data.problem tests.advice.on_the_command_line.Seedless --model.lr 0.01 {ONE_EPOCH}",
    ),
    "cannot {} in processes that are spawned or forked; use --trainer.strategy ddp": advice(
        "fit --trainer.strategy ddp_spawn --trainer.devices 2", f"fit --trainer.strategy ddp {ONE_EPOCH}"
    ),
    "cannot use {} in trainer.strategy, because this option does not exist; leave it out": advice(
        """fit --trainer.strategy '{"class_path":"DDPStrategy","dict_kwargs":{"nothing":1}}'""", f"fit {ONE_EPOCH}"
    ),
    "because an epoch has {}; use a smaller trainer.val_check_interval, or leave it out": advice(
        "fit --trainer.val_check_interval 7 --data.val_size 9",
        f"fit --trainer.val_check_interval 1 --data.val_size 9 {ONE_EPOCH}",
        f"fit --data.val_size 9 {ONE_EPOCH}",
    ),
    "cannot plan from this start, because {}; use {}": advice(
        f"plan {TABLE} huge_features.csv --model.hidden_sizes [3]",
        f"plan {TABLE} huge_features.csv --model.hidden_sizes [3] --data.standardize true --map false",
    ),
    "scale the features and the targets, or choose another initialization": advice(
        f"plan {TABLE} vast.csv --model.hidden_sizes [3] --trainer.precision 64-true --data.standardize none",
        f"plan {TABLE} good.csv --model.hidden_sizes [3] --trainer.precision 64-true --map false",
    ),
    "float64 does not hold the squares of its values, which are up to {}; give it in other units": advice(
        f"fit {TABLE} vast_targets.csv --trainer.precision 64-true",
        f"fit {TABLE} good.csv --trainer.precision 64-true --model.lr 0.001 {ONE_EPOCH}",
    ),
    "because no class is expected there; give a value": advice(
        "fit --model.initialization '{weight: {class_path: gd_lightning.Sine}}'",
        f"fit --model.initialization '{{weight: 1}}' {ONE_EPOCH}",
    ),
    "cannot measure every {} {}; use a whole number from 1": advice(
        f"fit --trainer.callbacks SharpnessMonitor --trainer.callbacks.every_n_epochs 0 {ONE_EPOCH}",
        f"fit --trainer.callbacks SharpnessMonitor --trainer.callbacks.every_n_updates 1 {ONE_EPOCH}",
    ),
    "because one of them decides; use every_n_epochs or every_n_updates": advice(
        "fit --trainer.callbacks SharpnessMonitor --trainer.callbacks.every_n_epochs 1 "
        "--trainer.callbacks.every_n_updates 2",
        f"fit --trainer.callbacks SharpnessMonitor --trainer.callbacks.every_n_updates 2 {ONE_EPOCH}",
    ),
    # Plan
    "because theory holds only for SGD; leave it out": advice("plan --optimizer Adam", "plan --map false"),
    "because the statements on a loss that is not quadratic hold for SGD at a constant learning rate; leave it": advice(
        "plan --model.hidden_sizes [3] --lr_scheduler StepLR --lr_scheduler.step_size 5",
        "plan --model.hidden_sizes [3] --map false",
    ),
    "and a scheduler that leaves them as they are (cycle_momentum false)": advice(
        "plan --lr_scheduler CyclicLR --lr_scheduler.base_lr 0.01 --lr_scheduler.max_lr 0.1",
        "plan --lr_scheduler CyclicLR --lr_scheduler.base_lr 0.01 --lr_scheduler.max_lr 0.1 "
        "--lr_scheduler.cycle_momentum false",
    ),
    "cannot predict the learning rates of {}, because": advice(
        "plan --lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor train_loss",
        "plan --lr_scheduler StepLR --lr_scheduler.step_size 5",
    ),
    "has no learning rate after epoch {}; use as many epochs as it is made for": advice(
        f"plan {ONE_CYCLE}", f"plan {ONE_CYCLE} --trainer.max_epochs 5"
    ),
    "that are followed; use fewer epochs, or a constant lr": advice(
        f"plan {MANY_UPDATES} {STEPS}", f"plan {MANY_UPDATES} {STEPS} --trainer.max_epochs 10", f"plan {MANY_UPDATES}"
    ),
    "because with 1 or more, the error shrinks at no learning rate; use a momentum below 1": advice(
        "plan --model.momentum 1", "plan --model.momentum 0.9 --map false"
    ),
    "cannot plan for this network, because {}; leave it out": advice(
        "plan --model.network tests.advice.on_the_command_line.Normalized", "plan --map false"
    ),
    # Runs and checkpoints
    "because the weights would be random; give --ckpt_path with the directory of a run": advice(
        "test", f"fit {ONE_EPOCH}", "test --ckpt_path RUN"
    ),
    "contains none; train first, or give its path": advice(
        "test --ckpt_path last", f"fit {ONE_EPOCH}", "test --ckpt_path last", "test --ckpt_path RUN"
    ),
    "cannot find a checkpoint at {}; give the directory of a run": advice(
        "test --ckpt_path nowhere",
        "test --ckpt_path RUN",
        "test --ckpt_path RUN/checkpoints/last.ckpt",
        "test --ckpt_path last",
        before=f"fit {ONE_EPOCH}",
    ),
    "because it kept none; train with --data.val_size 0.2": advice(
        "test --ckpt_path best",
        "fit --data.val_size 0.2 --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val_loss "
        + ONE_EPOCH,
        "test --ckpt_path best",
        before=f"fit {ONE_EPOCH}",
    ),
    "because {} does not exist any more; give another one": advice(
        "test --ckpt_path RUN/best",
        "test --ckpt_path RUN",
        before=(
            f"fit {KEEPS_THE_BEST} {ONE_EPOCH}",
            "remove RUN/checkpoints/best.ckpt",
        ),
    ),
    "because it has not ended; continue it with fit --ckpt_path": advice(
        "test --ckpt_path RUN/best",
        "fit --ckpt_path RUN",
        "test --ckpt_path RUN/best",
        before=(f"fit {KEEPS_THE_BEST} {ONE_EPOCH} --trainer.logger false", "remove RUN/summary.json"),
    ),
    "because it is not a checkpoint of gd_lightning; give another one": advice(
        "test --ckpt_path other.ckpt", "test --ckpt_path RUN", before=f"fit {ONE_EPOCH}"
    ),
    "give another one, or train again": advice(
        "test --ckpt_path damaged.ckpt", f"fit {ONE_EPOCH}", "test --ckpt_path last", before=f"fit {ONE_EPOCH}"
    ),
    "leave the option out, or start a new run without --ckpt_path": advice(
        "fit --ckpt_path RUN --data.batch_size 8",
        "fit --ckpt_path RUN --trainer.max_epochs 2",
        f"fit --data.batch_size 8 --model.lr 0.01 {ONE_EPOCH}",
        before=f"fit {ONE_EPOCH}",
    ),
    "start a new run with a smaller model.lr, or continue it all the same with --on_divergence continue": advice(
        "fit --ckpt_path RUN --trainer.max_epochs 60",
        "fit --model.lr 0.1 --trainer.max_epochs 60",
        before="fit --model.lr 0.5 --trainer.max_epochs 50",
    ),
    "repair it, or delete it to use those of the checkpoint": advice(
        "test --ckpt_path RUN",
        "remove RUN/config.yaml",
        "test --ckpt_path RUN",
        before=(f"fit {ONE_EPOCH}", "copy broken.yaml RUN/config.yaml"),
    ),
    # Compare
    "cannot compare with {} {}, because it is empty; leave it out": advice(
        "compare --lrs []", f"compare --batch_sizes full --seeds 1 {ONE_EPOCH}"
    ),
    "cannot vary {} over {}; give the name of an option and a list": advice(
        "compare --config nothing_varied.yaml", f"compare --config varied.yaml --seeds 1 {ONE_EPOCH}"
    ),
    "cannot vary {}; write an option and its values": advice(
        "compare --vary model.lr", f"compare --vary model.lr=0.01,0.1 --seeds 1 {ONE_EPOCH}"
    ),
    "lrs to {} batch sizes; give one, one for each, or best, or vary model.lr": advice(
        "compare --lrs 0.1,0.2",
        f"compare --lrs 0.01 --seeds 1 {ONE_EPOCH}",
        f"compare --lrs 0.01,0.02,0.03 --seeds 1 {ONE_EPOCH}",
        f"compare --lrs best --seeds 1 {ONE_EPOCH}",
        f"compare --batch_sizes full,16 --vary model.lr=0.01,0.02 --seeds 1 {ONE_EPOCH}",
    ),
    "workers; use 1 or more": advice(
        "compare --workers 0", f"compare --workers 1 --seeds 1 --batch_sizes full --lrs 0.01 {ONE_EPOCH}"
    ),
    "seeds; use 1 or more": advice(
        "compare --seeds 0", f"compare --seeds 1 --batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}"
    ),
    "because it contains something else; give another directory, or the same options as before": advice(
        f"compare --directory full --seeds 1 --batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}",
        f"compare --directory new --seeds 1 --batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}",
        f"compare --directory new --seeds 1 --batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}",
    ),
    "cannot compare with trainer.{} {}; leave it out": advice(
        "compare --trainer.logger false", f"compare --seeds 1 --batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}"
    ),
    "has no seed; leave vary_data out": advice(
        "compare --vary_data true --data.problem tests.advice.on_the_command_line.Seedless",
        "compare --data.problem tests.advice.on_the_command_line.Seedless --seeds 1 --batch_sizes full,2 --lrs 0.01 "
        f"{ONE_EPOCH}",
    ),
    "twice; give its values once": advice(
        "compare --vary model.lr=0.1,0.2 --batch_sizes full,16 --lrs 0.1",
        f"compare --vary model.lr=0.01,0.02 --batch_sizes full,16 --seeds 1 {ONE_EPOCH}",
    ),
    "because they are the same; give each value once": advice(
        f"compare --batch_sizes full,100 --seeds 1 {ONE_EPOCH}", f"compare --batch_sizes full --seeds 1 {ONE_EPOCH}"
    ),
    "because the result is that of all samples; leave it out": advice(
        "test --ckpt_path RUN --trainer.limit_test_batches 1", "test --ckpt_path RUN", before=f"fit {ONE_EPOCH}"
    ),
    "is that of all held-out samples; leave it out, or give 0 for no validation": advice(
        "fit --data.val_size 10 --trainer.limit_val_batches 1",
        f"fit --data.val_size 10 {ONE_EPOCH}",
        f"fit --data.val_size 10 --trainer.limit_val_batches 0 {ONE_EPOCH}",
    ),
    "write a quantity, a colon, and labels with signs between them": advice(
        "compare --claims '{larger batches end lower: full before 16}'",
        "compare --batch_sizes full,16 --seeds 1 --lrs 0.01 --claims '{larger batches end lower: \"train_loss: batch < "
        f"mini-batch\"}}' {ONE_EPOCH}",
    ),
    "; give the directory of a run, with {} or TensorBoard event files in it, or of several": advice(
        "compare nowhere", "compare RUN", "compare lightning_logs", before=f"fit {ONE_EPOCH}"
    ),
    "has no train loss; give another run": advice("compare silent", "compare RUN", before=f"fit {ONE_EPOCH}"),
    "because of {}; repair or delete it": advice(
        "compare RUN",
        "remove RUN/history.csv",
        "compare RUN",
        before=(f"fit {ONE_EPOCH}", "copy latin.yaml RUN/history.csv"),
    ),
    "how a run ended from {}, because it is damaged: {}; repair it, or delete it to continue without it": advice(
        "compare RUN",
        "remove RUN/summary.json",
        "compare RUN",
        before=(f"fit {ONE_EPOCH}", "copy broken.yaml RUN/summary.json"),
    ),
    "the settings of a run from {}, because it is damaged; repair it, or delete it to continue without it": advice(
        "compare RUN",
        "remove RUN/config.yaml",
        "compare RUN",
        before=(f"fit {ONE_EPOCH}", "copy broken.yaml RUN/config.yaml"),
    ),
    # Loggers
    "because no directory in save_dir can have it: it leads out": advice(
        f"fit {CSV_LOGGER} --trainer.logger.name ../up", f"fit {ONE_EPOCH} {CSV_LOGGER} --trainer.logger.name up"
    ),
    "because CSVLogger would delete {}; use another version, or none": advice(
        f"fit {CSV_LOGGER} --trainer.logger.version a",
        f"fit {ONE_EPOCH} {CSV_LOGGER} --trainer.logger.version b",
        f"fit {ONE_EPOCH} {CSV_LOGGER}",
        before=f"fit {ONE_EPOCH} {CSV_LOGGER} --trainer.logger.version a",
    ),
    # Sweep
    "because the runs of a sweep have no Trainer; leave it out, or use compare": advice(
        "sweep --trainer.gradient_clip_val 1",
        f"sweep --model.lr 0.01,0.02 --data.batch_size full --seeds 1 {ONE_EPOCH}",
        f"compare --trainer.gradient_clip_val 1 --seeds 1 --batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}",
    ),
    "cannot sweep with the callback": advice(
        "sweep --trainer.callbacks+=gd_lightning.LossBelow --trainer.callbacks.threshold 1",
        f"sweep --model.lr 0.01,0.02 --data.batch_size full --seeds 1 {ONE_EPOCH}",
        "compare --trainer.callbacks+=gd_lightning.LossBelow --trainer.callbacks.threshold 1 --seeds 1 "
        f"--batch_sizes full,16 --lrs 0.01 {ONE_EPOCH}",
    ),
    "cannot sweep over an unlimited number of epochs; give trainer.max_epochs": advice(
        "sweep --trainer.max_epochs -1 --trainer.max_steps -1",
        f"sweep --model.lr 0.01,0.02 --data.batch_size full --seeds 1 {ONE_EPOCH}",
    ),
    "cannot sweep on a {}, because this machine has none; use trainer.accelerator cpu": advice(
        "sweep --trainer.accelerator gpu",
        f"sweep --model.lr 0.01,0.02 --data.batch_size full --seeds 1 --trainer.accelerator cpu {ONE_EPOCH}",
    ),
    "cannot sweep into {}, because it contains something else; give another directory": advice(
        "sweep --directory full",
        f"sweep --directory new --model.lr 0.01,0.02 --data.batch_size full --seeds 1 {ONE_EPOCH}",
    ),
    "cannot sweep {} runs, {} at most; give fewer values": advice(
        "sweep --model.lr log(1e-4,1,9000) --data.batch_size 1,2,3,4,5,6,7,8,9,10 --model.momentum linear(0,0.9,90)",
        f"sweep --model.lr 0.01,0.02 --data.batch_size full --seeds 1 {ONE_EPOCH}",
    ),
    "cannot animate into {}, because it already exists; give another name": advice(
        "fit --trainer.max_epochs 2 --animate run.html",
        "fit --trainer.max_epochs 2 --animate other.html",
        before="fit --trainer.max_epochs 2 --animate run.html",
    ),
    "cannot write the page to {}, because it already exists; give another name": advice(
        "explore --file page.html", "explore --file other.html", before="explore --file page.html"
    ),
    "cannot sweep a single combination; give several": advice(
        "sweep --model.lr 0.1 --data.batch_size full",
        f"sweep --model.lr log(1e-4,1,40) --data.batch_size full --seeds 1 {ONE_EPOCH}",
        f"sweep --model.lr 0.01 --data.batch_size 1,2,4,...,full --seeds 1 {ONE_EPOCH}",
    ),
}
