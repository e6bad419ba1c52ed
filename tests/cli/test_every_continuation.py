"""Whatever is trained by whatever, and however it ended: the command that is printed goes on to the same bits.

Every combination of problem, optimiser, scheduler and end is continued, and compared with the run that nothing stopped:
its weights, the state of its optimiser, and each number of its history.
"""

from __future__ import annotations

import csv
import itertools
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gd_lightning import HistoryRecorder, Problem
from gd_lightning.callbacks import TimeLimit
from tests.conftest import CommandLine

EPOCHS, STOP = 3, 5  # the run is stopped within its second epoch


@dataclass
class Elsewhere(Problem):
    """A problem of another package."""

    seed: int = 0
    n_samples: int = 21

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.rand(self.n_samples, 2, generator=torch.Generator().manual_seed(self.seed))
        return x, x.prod(dim=1, keepdim=True)


PROBLEMS: dict[str, list[str]] = {
    "SteepLine": ["--data.batch_size", "30", "--data.val_size", "10"],
    "NoisyLine": ["--data.batch_size", "30"],
    "FourPoints": ["--data.batch_size", "1"],
    "ExamScores": ["--data.batch_size", "1", "--data.standardize", "true"],
    "Parabola": ["--data.batch_size", "25", "--data.order", "with_replacement"],
    "Sine": ["--data.batch_size", "50", "--model.hidden_sizes", "[3]", "--model.dropout", "0.2"],
    "LinearProblem": ["--data.problem.n_samples", "40", "--data.batch_size", "9", "--data.drop_last", "true"],
    "Table": ["--data.problem.path", "table.csv", "--data.batch_size", "4", "--data.test_size", "2"],
    f"{__name__}.Elsewhere": ["--data.batch_size", "5"],
}
OPTIMIZERS: dict[str, list[str]] = {
    "SGD": ["--model.lr", "1e-4"],
    "momentum": ["--model.lr", "1e-4", "--model.momentum", "0.9", "--model.nesterov", "true"],
    "Adam": ["--optimizer", "Adam", "--optimizer.lr", "1e-3"],
    "clipped": [  # whose updates Lightning makes, one by one
        *("--optimizer", "Adagrad", "--optimizer.lr", "1e-3", "--trainer.gradient_clip_val", "1000"),
    ],
    "LBFGS": ["--optimizer", "LBFGS", "--optimizer.lr", "1e-3", "--optimizer.max_iter", "3"],
}
SCHEDULERS: dict[str, list[str]] = {
    "none": [],
    "StepLR": ["--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1", "--lr_scheduler.gamma", "0.7"],
    "ReduceLROnPlateau": [
        *("--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "train_loss"),
        *("--lr_scheduler.patience", "0", "--lr_scheduler.threshold", "0.9"),
    ],
    "CosineAnnealingLR": ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "4"],
}
ENDS = ("epochs", "steps", "time", "Ctrl-C", "kill")
Case = tuple[str, str, str, str]
ALL: list[Case] = list(itertools.product(PROBLEMS, OPTIMIZERS, SCHEDULERS, ENDS))


def _pairs(case: Case) -> set[tuple[int, str, int, str]]:
    numbered = list(enumerate(case))
    return {(i, a, j, b) for (i, a), (j, b) in itertools.combinations(numbered, 2)}


def _sample(cases: int) -> Iterator[Case]:
    """Yield some cases that have every value, and as many pairs of values as that many can."""
    order, covered = random.Random(0).sample(ALL, len(ALL)), set[Any]()
    for _ in range(cases):
        case = max(order, key=lambda case: (len(set(enumerate(case)) - covered), len(_pairs(case) - covered)))
        covered |= _pairs(case) | set(enumerate(case))
        yield case


class Run:
    """A run of a case, in a directory of its own.

    Args:
        command_line: Carries it out.
        root: The directory.
        options: Those of problem, optimiser and scheduler.
    """

    def __init__(self, command_line: CommandLine, root: Path, options: list[str]) -> None:
        self.command_line, self.root, self.options = command_line, root, options

    def fit(self, *options: str | Path, code: int = 0) -> str:
        """Train, expect an exit code, and return what was printed."""
        self.command_line.root = self.root
        assert self.command_line("fit", *options) == code, self.command_line.err
        return self.command_line.out

    def begin(self, *options: str, code: int = 0) -> str:
        """Train from the start."""
        return self.fit(*self.options, "--checkpoint.interval", "0.0001", *options, code=code)

    def result(self) -> tuple[dict[str, Any], Any, list[dict[str, str]]]:
        """Return weights, states of optimisers and schedulers, and history of the run."""
        (directory,) = (self.root / "lightning_logs").iterdir()
        state = torch.load(directory / "checkpoints/last.ckpt", weights_only=True)
        with (directory / "history.csv").open() as lines:
            rows = [{**row, "seconds": ""} for row in csv.DictReader(lines)]
        return state["state_dict"], [_plain(state[name]) for name in ("optimizer_states", "lr_schedulers")], rows


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, Tensor) else value


def _stopped(run: Run, end: str, patch: pytest.MonkeyPatch) -> Run:
    """Train until something ends the run, and let it go on."""
    limit = ["--trainer.max_epochs", str(EPOCHS)]
    if end == "epochs":
        run.begin("--trainer.max_epochs", "2")
        run.fit("--ckpt_path", "last", *limit)
    elif end == "steps":
        run.begin("--trainer.max_steps", str(STOP))
        run.fit("--ckpt_path", "last", "--trainer.max_steps", "-1", *limit)
    elif end == "time":
        with patch.context() as hurried:
            hurried.setattr(TimeLimit, "_seconds_to_finish", lambda _, trainer: 3600 * (trainer.global_step >= STOP))
            said = run.begin("--trainer.max_time", "00:01:00:00", *limit)
        assert "the time limit max_time was reached" in said
        run.fit("--ckpt_path", "last", "--trainer.max_time", "00:02:00:00", *limit)
    elif end == "Ctrl-C":
        with patch.context() as interrupted:
            interrupted.setattr(HistoryRecorder, "on_train_batch_end", _once(_interrupt))
            said = run.begin(*limit, code=130)
        found = re.search(r"to continue +python -m gd_lightning fit --ckpt_path (.+)", said)
        assert found is not None, said
        run.fit("--ckpt_path", found[1])
    else:
        killed = Run(run.command_line, run.root.with_name("killed"), run.options)
        with patch.context() as copied:
            # What a kill leaves: the files as they are at one moment.
            copied.setattr(HistoryRecorder, "on_train_batch_end", _once(lambda: shutil.copytree(run.root, killed.root)))
            run.begin(*limit)
        killed.fit("--ckpt_path", "last")
        return killed
    return run


def _interrupt() -> None:
    raise KeyboardInterrupt


def _once(do: Any) -> Any:
    """Return a hook of the recorder that does something else, too, once the updates before the stop are made."""
    hook, done = HistoryRecorder.on_train_batch_end, list[bool]()

    def on_train_batch_end(self: HistoryRecorder, trainer: Trainer, *arguments: Any) -> None:
        hook(self, trainer, *arguments)
        if trainer.global_step >= STOP and not done:
            done.append(True)
            do()

    return on_train_batch_end


def _check(command_line: CommandLine, tmp_path: Path, patch: pytest.MonkeyPatch, cases: list[Case]) -> dict[Case, str]:
    """Return the cases that do not come to the same, and in what."""
    patch.chdir(tmp_path)
    Path("table.csv").write_text("a,b,y\n" + "".join(f"{i},{i * i % 7},{2 * i - i % 3}\n" for i in range(16)))
    wrong: dict[Case, str] = {}
    for (problem, optimizer, scheduler), group in itertools.groupby(sorted(cases), key=lambda case: case[:3]):
        options = ["--data.problem", problem, *PROBLEMS[problem], *OPTIMIZERS[optimizer], *SCHEDULERS[scheduler]]
        whole = Run(command_line, tmp_path / "whole", options)
        whole.begin("--trainer.max_epochs", str(EPOCHS))
        expected = whole.result()
        for case in group:
            found = _stopped(Run(command_line, tmp_path / "run", options), case[3], patch).result()
            if not all(torch.equal(found[0][name], weights) for name, weights in expected[0].items()):
                wrong[case] = "weights"
            elif found[1:] != expected[1:]:
                wrong[case] = "history" if found[1] == expected[1] else "states"
            for name in ("run", "killed"):
                shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.rmtree(tmp_path / "whole")
    return wrong


def test_a_sample_goes_on(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each optimiser, scheduler and end, and a table; each problem, and all combinations, on request."""
    cases = [*_sample(4), ("Table", "Adam", "StepLR", "steps")]
    for number, values in enumerate((OPTIMIZERS, SCHEDULERS, ENDS), start=1):
        assert {case[number] for case in cases} == set(values)
    assert _check(command_line, tmp_path, monkeypatch, cases) == {}


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
def test_all_go_on(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    assert _check(command_line, tmp_path, monkeypatch, [case for case in ALL if case[0] == problem]) == {}
