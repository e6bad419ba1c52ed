"""Numbers beyond a precision, and whatever else a run can meet: it ends as it should, without a traceback."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning import RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.cli import command, execution
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
    "features of 1e200": (f"fit {T} x200.csv --trainer.precision 64-true", DIVERGED),
    "features of 1e200, planned": (f"plan {T} x200.csv --trainer.precision 64-true", BAD),
    "features of 1e150, planned": (f"plan {T} x150.csv --trainer.precision 64-true", BAD),
    "features of 1e200, swept": (f"sweep {T} x200.csv --trainer.precision 64-true --model.lr 0.1,1e-300", COMPLETED),
    "features of 1e200, standardised": (
        f"fit {T} x200.csv --trainer.precision 64-true --data.standardize true",
        COMPLETED,
    ),
    "features of 1e38": (f"fit {T} x38.csv", DIVERGED),
    "features of 1e38, planned": (f"plan {T} x38.csv", COMPLETED),
    "features of 1e38, swept": (f"sweep {T} x38.csv --model.lr 0.1,1e-30", COMPLETED),
    "targets of 1e200": (f"fit {T} y200.csv --trainer.precision 64-true", DIVERGED),
    "targets of 1e200, swept": (f"sweep {T} y200.csv --trainer.precision 64-true --model.lr 0.1,0.2", COMPLETED),
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
    ("function", "place"), [("rehearse", "traceback.txt"), ("print_run", "lightning_logs/*/traceback.txt")]
)
def test_a_fault_of_the_program_is_one_line_that_says_where_its_traceback_is(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, function, None)
    assert command_line("fit") == FAILED
    (line,) = command_line.err.splitlines()
    (file,) = tmp_path.glob(place)
    assert line.startswith("gd_lightning: cannot go on, because of a fault of this program (TypeError: ")
    assert line.endswith((f" is in {file.relative_to(tmp_path)}", f" is in {file}"))
    text = file.read_text()
    assert text.startswith("Traceback")
    assert "command.py" in text


def test_a_traceback_that_cannot_be_written_leaves_the_line(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command, "rehearse", None)
    monkeypatch.setattr(execution, "claim_file", full)
    assert command_line("fit") == FAILED
    (line,) = command_line.err.splitlines()
    assert "fault of this program (TypeError: " in line
    assert line.endswith("its traceback could not be written, because of no space left on device")
