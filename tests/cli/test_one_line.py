"""Numbers beyond a precision, and whatever else a run can meet: it ends as it should, without a traceback."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gd_lightning
from gd_lightning import Problem, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.cli import error_messages
from gd_lightning.cli.subcommands import fit
from tests.conftest import CommandLine, MakeTrainer

T = "--data.problem Table --data.problem.path"
OWN = "tests.advice.on_the_command_line"
COMPLETED, FAILED, BAD, DIVERGED = 0, 1, 2, 3

ENDS: dict[str, tuple[str, int]] = {
    "lr beyond float32": ("fit --model.lr 1e39", DIVERGED),
    "lr beyond float32, in_chunks": ("fit --model.lr 1e39 --model.engine autograd", DIVERGED),
    "lr beyond float32, fused": ("fit --model.lr 1e300 --model.engine fused --data.batch_size 10", DIVERGED),
    "lr beyond float32, one by one": ("fit --model.lr 1e39 --trainer.gradient_clip_val 1e30", DIVERGED),
    "lr beyond float32, Adam": ("fit --optimizer Adam --optimizer.lr 1e39 --data.batch_size 10", DIVERGED),
    "lr beyond float32, scheduler": (
        "fit --model.lr 1e39 --lr_scheduler ExponentialLR --lr_scheduler.gamma 0.9",
        DIVERGED,
    ),
    "lr at the end of float64": ("fit --model.lr 1e300 --trainer.precision 64-true", DIVERGED),
    "lr at the end of float64, fused": (
        "fit --model.lr 1e300 --trainer.precision 64-true --model.engine fused --data.batch_size 10",
        DIVERGED,
    ),
    "weight decay beyond float32": ("fit --model.weight_decay 1e300", DIVERGED),
    "L1 beyond float32": ("fit --model.l1 1e300", DIVERGED),
    "momentum near 1": ("plan --model.momentum 0.9999", COMPLETED),
    "momentum at 1 but for rounding": ("plan --model.momentum 0.9999999999999999", BAD),
    "momentum at 1 but for rounding, trained": (
        "fit --model.momentum 0.9999999999999999 --data.batch_size 10",
        DIVERGED,
    ),
    "lr at the end of float64, mini-batches": ("plan --model.lr 1e300 --data.batch_size 10", COMPLETED),
    "lrs at the end of float64": ("sweep --model.lr log(1e30,1e300,5) --trainer.precision 64-true", COMPLETED),
    "lrs beyond float32": ("sweep --model.lr log(1e30,1e300,5)", COMPLETED),
    "lrs beyond float32, one by one": (
        "sweep --model.lr log(1e30,1e300,5) --optimizer Adam --trainer.max_epochs 2",
        COMPLETED,
    ),
    "features of 1e200": (f"fit {T} x200.csv --trainer.precision 64-true --data.standardize none", DIVERGED),
    "features of 1e200, planned": (f"plan {T} x200.csv --trainer.precision 64-true --data.standardize none", BAD),
    "features of 1e150, planned": (f"plan {T} x150.csv --trainer.precision 64-true --data.standardize none", BAD),
    "features of 1e200, swept": (
        f"sweep {T} x200.csv --trainer.precision 64-true --data.standardize none --model.lr 0.1,1e-300",
        COMPLETED,
    ),
    "features of 1e200, standardised": (
        f"fit {T} x200.csv --trainer.precision 64-true --data.standardize features",
        COMPLETED,
    ),
    "features of 1e38": (f"fit {T} x38.csv --data.standardize none", DIVERGED),
    "features of 1e38, planned": (f"plan {T} x38.csv", COMPLETED),
    "features and targets of 1e38": (f"fit {T} x38.csv", COMPLETED),
    "features of 1e38, swept": (f"sweep {T} x38.csv --model.lr 0.1,1e-30", COMPLETED),
    "targets of 1e200": (f"fit {T} y200.csv --trainer.precision 64-true --data.standardize none", BAD),
    "targets of 1e200, swept": (f"sweep {T} y200.csv --trainer.precision 64-true --model.lr 0.1,0.2", BAD),
    "Huber's delta near 0": ("sweep --model.loss huber --model.huber_delta 1e-300 --model.lr 0.1,0.2", COMPLETED),
    "Huber's delta beyond float32": ("plan --model.loss huber --model.huber_delta 1e300", COMPLETED),
    **{
        f"split that is {kind}": (f"{stage} --data.problem {OWN}.Prescribed --data.problem.kind {kind}", BAD)
        for kind in ("single", "fractions", "outside", "below", "nothing", "overlap", "twice")
        for stage in ("fit", "plan")[: 1 + (kind == "outside")]
    },
    "a network that returns a pair": (f"fit --model.network {OWN}.Pairs", BAD),
    "a network that returns a pair, planned": (f"plan --model.network {OWN}.Pairs", BAD),
    "an optimiser that needs a closure": ("fit --optimizer LBFGS --trainer.max_epochs 2", COMPLETED),
}


@pytest.mark.parametrize(
    "options",
    [
        "--batch_sizes ²",
        "--batch_sizes ٣x",
        "--batch_sizes 5,500",
        "--lrs -1",
        "--lrs .nan",
        "--lrs 0.1,-1,0.2",
        "--target .nan",
        "--target .inf",
        "--target -1",
        "--vary data.batch_size=5,500",
        "--vary data.batch_size=5,0",
        "--vary model.lr=0.1,-1",
        "--vary model.loss=mse,huber --model.huber_delta .inf",
        "--vary data.val_size=10,100",
        "--vary data.problem.seed=1,-1",
        "--vary data.problem.noise=1,-1",
    ],
)
def test_a_comparison_that_cannot_be_made_leaves_nothing(
    command_line: CommandLine, tmp_path: Path, options: str
) -> None:
    assert command_line("compare", *options.split()) == BAD
    assert len(command_line.err.splitlines()) == 1, command_line.err
    assert command_line.out == ""
    assert list(tmp_path.iterdir()) == []


def test_fewer_epochs_than_a_run_has_leave_it_as_it_is(command_line: CommandLine, tmp_path: Path) -> None:
    run = command_line.fit("--trainer.max_epochs", "3")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "2") == BAD
    assert len(command_line.err.splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
@pytest.mark.parametrize("stage", ["fit", "plan", "sweep", "compare"])
def test_one_of_several_processes_without_a_launcher_is_refused(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert command_line(stage) == BAD
    assert f"process of {name} 1" in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def _write_tables() -> None:
    x = np.random.default_rng(0).normal(size=50)
    for name, columns in {
        "x38.csv": (x * 3e37, x),
        "x150.csv": (x * 1e150, x),
        "x200.csv": (x * 1e200, x),
        "y200.csv": (x, x * 1e200),
    }.items():
        np.savetxt(name, np.stack(columns, axis=1), "%.17g", ",", header="x,y", comments="")


@pytest.mark.parametrize("case", ENDS)
def test_a_run_ends_without_a_traceback(
    command_line: CommandLine, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_tables()
    line, code = ENDS[case]
    assert command_line(*line.split()) == code, command_line.err
    others = [line for line in command_line.err.splitlines() if not line.startswith("gd_lightning: warning: ")]
    assert len(others) == (1 if code in (FAILED, BAD) else 0), command_line.err


@pytest.mark.parametrize("engine", ["in_chunks", "one by one"])
@pytest.mark.parametrize("batch_size", ["full", 10])
def test_lbfgs_trains_as_torch_alone_does(make_trainer: MakeTrainer, engine: str, batch_size: int | str) -> None:
    data = RegressionDataModule(SteepLine(), batch_size=batch_size, order="sequential")  # type: ignore[arg-type]
    spec = {"class_path": "torch.optim.LBFGS", "init_args": {"lr": 0.5, "max_iter": 3}}
    module = RegressionModule(lr=0.5, optimizer=spec, initialization="zero")
    options = {} if engine == "in_chunks" else {"gradient_clip_val": 1e30}
    make_trainer(max_epochs=2, **options).fit(module, data)
    assert module.decision.in_chunks == (engine == "in_chunks")

    layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), lr=0.5, max_iter=3)
    x, y = data.train.x, data.train.y
    size = len(x) if batch_size == "full" else int(batch_size)
    for _ in range(2):
        for start in range(0, len(x), size):

            def closure(rows: slice = slice(start, start + size)) -> torch.Tensor:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(layer(x[rows]), y[rows])
                loss.backward()
                return loss

            optimizer.step(closure)
    found = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    expected = torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "place"), [("make_trial_step", "traceback.txt"), ("print_run", "lightning_logs/*/traceback.txt")]
)
def test_a_fault_of_the_program_is_one_line_that_says_where_its_traceback_is(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit, function, None)
    assert command_line("fit") == FAILED
    (line,) = command_line.err.splitlines()
    (file,) = tmp_path.glob(place)
    assert line.startswith("gd_lightning: cannot continue, because of an internal error (TypeError: ")
    assert line.endswith((f" is in {file.relative_to(tmp_path)}", f" is in {file}"))
    text = file.read_text()
    assert text.startswith("Traceback")
    assert "command.py" in text


def test_a_traceback_that_cannot_be_written_leaves_the_line(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fit, "make_trial_step", None)
    monkeypatch.setattr(error_messages, "claim_file", full)
    assert command_line("fit") == FAILED
    (line,) = command_line.err.splitlines()
    assert "internal error (TypeError: " in line
    assert line.endswith("its traceback could not be written, because of no space left on device")


@pytest.mark.parametrize("kind", ["mkfifo", "in a config", "of a section", "of a class", "in the environment"])
def test_a_pipe_is_not_waited_for(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("config.yaml").write_text("model: pipe\n")
    options = {"mkfifo": "--config=pipe", "of a section": "--data pipe", "of a class": "--optimizer=pipe"}
    if kind == "in the environment":
        monkeypatch.setenv("PL_FIT__TRAINER", "pipe")
    assert command_line("fit", *options.get(kind, "--config config.yaml").split()) == BAD
    assert "pipe is a pipe, which can be read once at most; give a file" in command_line.err
    assert len(command_line.err.splitlines()) == 1


@pytest.mark.parametrize("stage", ["fit", "test", "predict"])
def test_a_node_without_a_first_one_is_not_waited_for(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    run: list[str | Path] = [] if stage == "fit" else ["--ckpt_path", command_line.fit("--trainer.max_epochs", "1")]
    before = sorted(tmp_path.rglob("*"))
    assert command_line(stage, *run, "--trainer.num_nodes", "2") == BAD
    assert "cannot train on 2 nodes" in command_line.err
    assert sorted(tmp_path.rglob("*")) == before


class Untyped(nn.Module):
    def __init__(self, in_features, out_features, width=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.Linear(width, out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(x)
        return found


class Renamed(Untyped):
    def __init__(self, n, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        super().__init__(n, k, 3)  # type: ignore[no-untyped-call]


class Typed(Untyped):
    def __init__(self, in_features: int, out_features: int, width: int = 2) -> None:
        super().__init__(in_features, out_features, width)  # type: ignore[no-untyped-call]


class HalfTyped(Untyped):
    def __init__(self, in_features: int, out_features, width=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        super().__init__(in_features, out_features, width)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("network", "width"), [("Untyped", 2), ("Untyped", 4), ("Renamed", 3), ("Typed", 4), ("HalfTyped", 2)]
)
def test_a_network_of_ones_own_needs_no_types(command_line: CommandLine, network: str, width: int) -> None:
    name = f"tests.cli.test_one_line.{network}"
    more = ["--model.network.width", str(width)] if width == 4 else []
    run = command_line.fit("--model.network", name, "--trainer.max_epochs", "1", *more)
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert weights["network.layers.0.weight"].shape == (width, 1)
    assert command_line("predict", "--ckpt_path", run) == COMPLETED


@pytest.mark.parametrize(
    "options",
    [
        "--trainer.profiler nothing",
        "--trainer.accelerator nothing",
        "--trainer.limit_predict_batches -1",
        "--trainer.max_time soon",
        "--trainer.val_check_interval soon",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor nothing",
        "--model.network torch.nn.ReLU",
        "--model.out_features 3",
        "--columns [nope]",
        "--columns [train_loss,nope]",
        "--columns+ nope",
        "--directory deep/below --trainer.profiler nothing",
        "--trainer.default_root_dir deep/below --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor nothing",
    ],
)
def test_what_only_a_run_can_tell_leaves_nothing_of_a_comparison(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["compare", "--seeds", "1", "--trainer.max_epochs", "1", *options.split()]
    root = [] if "default_root_dir" in options else ["--trainer.default_root_dir", str(tmp_path)]
    assert gd_lightning.main([*line, *root]) == BAD
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_callbacks_could_have_measured_is_missed_behind_the_table(
    command_line: CommandLine, tmp_path: Path
) -> None:
    line = "compare --seeds 1 --trainer.max_epochs 1 --batch_sizes full,10 --columns [val_r2,own] "
    assert command_line(*f"{line} --trainer.callbacks+=LearningRateMonitor".split()) == COMPLETED, command_line.err
    for name in ("val_r2", "own"):
        assert f"- No run has the quantity {name}." in command_line.out
    assert (tmp_path / "lightning_logs" / "compare-SteepLine" / "table.csv").is_file()


def test_the_figures_of_runs_that_diverged_are_compared(command_line: CommandLine) -> None:
    line = "compare --seeds 1 --trainer.max_epochs 2 --batch_sizes full,10 --lrs 1e39 --columns [weight_norm]"
    assert command_line(*line.split()) == COMPLETED, command_line.err


def test_a_command_line_in_a_program_leaves_it_as_it_was(command_line: CommandLine) -> None:
    before = dict(os.environ), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    for options in (["--trainer.deterministic", "true", "--trainer.benchmark", "true"], ["--seed_everything", "abc"]):
        command_line("fit", "--trainer.max_epochs", "1", *options)
        assert dict(os.environ) == before[0]
        assert torch.equal(torch.get_rng_state(), before[1])
        assert random.getstate() == before[2]
        assert np.random.get_state()[1].tolist() == before[3]  # type: ignore[index]
        assert not torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark


@dataclass
class Named(Problem):
    features: list[str] | None = None
    targets: list[str] | None = None

    @property
    def feature_names(self) -> list[str] | None:
        return self.features

    @property
    def target_names(self) -> list[str] | None:
        return self.targets

    def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.arange(12.0).reshape(6, 2)
        return x, x.square()


@pytest.mark.parametrize(
    ("stage", "names", "code"),
    [
        ("fit", "features [a]", BAD),
        ("fit", "features [a,b,c]", BAD),
        ("plan", "features [a,a]", BAD),
        ("sweep", "features []", BAD),
        ("fit", "targets [a]", BAD),
        ("compare", "targets [a,b,c]", BAD),
        ("fit", "targets [a,a]", BAD),
        ("fit", "targets [a,b]", COMPLETED),
    ],
)
def test_names_are_as_many_as_columns(
    command_line: CommandLine, tmp_path: Path, stage: str, names: str, code: int
) -> None:
    problem = ["--data.problem", "tests.cli.test_one_line.Named", *f"--data.problem.{names}".split()]
    assert command_line(stage, *problem, "--trainer.max_epochs", "1", "--data.standardize", "true") == code
    if code == BAD:
        assert "because its data have 2 columns there" in command_line.err
        assert len(command_line.err.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []


def test_where_numba_may_not_compile_autograd_trains(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    options = ["--data.batch_size", "1", "--trainer.max_epochs", "3", "--model.lr", "0.001"]
    assert command_line("fit", *options, "--model.engine", "fused") == COMPLETED
    assert "the updates are carried out by autograd" in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert command_line("sweep", "--lrs", "0.001,0.0001", "--trainer.max_epochs", "2") == COMPLETED
    assert command_line.err == ""


@pytest.mark.parametrize("given", ["fit --help", [1], ["fit", None], [b"fit"], {"fit": 1}, 3], ids=repr)
def test_arguments_that_are_no_list_of_texts(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gd_lightning.main(given) == BAD
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gd_lightning: cannot use ")
    assert line.endswith("as arguments; give a list of texts, such as ['fit', '--model.lr', '0.1']")


def test_a_tuple_of_texts_is_a_list_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert gd_lightning.main(("plan", "--map=false", "--json")) == COMPLETED
    assert capsys.readouterr().err == ""
