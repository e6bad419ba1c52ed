"""What a terminal shows of long computations, and a file never."""

from __future__ import annotations

import functools
import io
import math
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

import gd_lightning
from gd_lightning.callbacks import HistoryRecorder, LongRunProgress, PrintUpdates
from gd_lightning.callbacks import progress as progress_module
from gd_lightning.callbacks.progress import progress_bar, waiting
from gd_lightning.data import RegressionDataModule
from gd_lightning.experiments import make_plan
from gd_lightning.module import RegressionModule
from gd_lightning.problems import Parabola, SteepLine
from tests.conftest import CommandLine, MakeTrainer


class Terminal(io.StringIO):
    """A terminal, or a file, that keeps what is written.

    Args:
        is_one: Whether it is a terminal.
    """

    def __init__(self, is_one: bool = True) -> None:
        super().__init__()
        self._is_one = is_one

    def isatty(self) -> bool:
        return self._is_one


def _instead_of_stderr(monkeypatch: pytest.MonkeyPatch, is_terminal: bool = True) -> Terminal:
    """Return what is written to; in a fixture it would be replaced by pytest's own before the test."""
    shown = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show bars of the command line from the beginning, with each loss."""
    monkeypatch.setattr("gd_lightning.cli.subcommands.fit.LongRunProgress", functools.partial(LongRunProgress, 0.0))
    monkeypatch.setattr(progress_module, "_EVERY", 0.0)
    monkeypatch.setattr(progress_module, "tqdm", functools.partial(tqdm, mininterval=0, miniters=1))


def _train(make_trainer: MakeTrainer, delay: float, *callbacks: Any) -> None:
    options = {"callbacks": [HistoryRecorder(), LongRunProgress(delay), *callbacks], "max_epochs": 20}
    data = RegressionDataModule(SteepLine(), batch_size=50)
    make_trainer(**options, enable_progress_bar=True).fit(RegressionModule(lr=0.01), data)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("others", [[], [PrintUpdates]], ids=["chunks", "single updates"])
def test_the_bar_of_a_run_shows_losses_rate_and_time_left(
    make_trainer: MakeTrainer, others: list[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _instead_of_stderr(monkeypatch)
    _train(make_trainer, 0.0, *(other() for other in others))
    assert re.search(
        r"\d+ of 40\.?0? updates, .*updates/s, .*left, train loss \d[\d.]*, batch loss \d", terminal.getvalue()
    )


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_bar_shows_a_loss_rate_and_time_left_on_a_terminal_of_any_width(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = _instead_of_stderr(monkeypatch)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 24))
    _train(make_trainer, 0.0, PrintUpdates())
    moments = [each for each in terminal.getvalue().split("\r") if "loss" in each]
    assert moments
    assert all(len(moment) <= columns for moment in moments)
    assert all(re.search(r"updates/s, .* left, (train|batch) loss [\d.e+-]+", moment) for moment in moments)
    assert all(("batch loss" in moment) for moment in moments) or columns < 120


def test_a_short_run_shows_no_bar(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _instead_of_stderr(monkeypatch)
    _train(make_trainer, 60.0)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("_at_once")
def test_nothing_is_written_where_nobody_looks(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _instead_of_stderr(monkeypatch, is_terminal=False)
    _train(make_trainer, 0.0)
    with waiting("plan", delay=0.0) as begins:
        begins("a part")
    with progress_bar(3, " runs") as bar:
        bar.update()
    assert file.getvalue() == ""


def test_there_may_be_no_stream_and_no_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar(math.inf, " updates") as bar, waiting("plan", delay=0.0):
        bar.update()
    shown = _instead_of_stderr(monkeypatch)
    with progress_bar(math.inf, " updates") as bar:
        bar.update()
    assert "updates" in shown.getvalue()
    assert "%" not in shown.getvalue(), "of what?"


def test_a_long_computation_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _instead_of_stderr(monkeypatch)
    threads = threading.active_count()
    with waiting("plan", delay=0.0) as begins:
        begins("eigenvalues")
        for _ in range(100):
            if "plan: eigenvalues, 00:00" in terminal.getvalue():
                break
            threading.Event().wait(0.05)
    assert "plan: eigenvalues, 00:00" in terminal.getvalue()
    assert threading.active_count() <= threads + 1  # tqdm's own watcher stays
    before = terminal.getvalue()
    with waiting("a short one"):
        pass
    assert terminal.getvalue() == before


@pytest.mark.parametrize(
    ("problem", "options", "parts"),
    [
        (SteepLine, {}, ["eigenvalues of the Hessian", "batch_size full", "batch_size 10", "what rounding leaves"]),
        (Parabola, {"hidden_sizes": [3]}, ["curvature at the start", "trial of batch_size 100"]),
    ],
)
def test_a_plan_tells_its_parts(problem: Callable[[], Any], options: dict[str, Any], parts: list[str]) -> None:
    told: list[str] = []
    make_plan(RegressionModule(lr=0.01, **options), RegressionDataModule(problem()), 5, told.append)
    assert [part for part in told if part in parts] == parts


@pytest.mark.usefixtures("_at_once")
def test_a_comparison_shows_the_updates_of_the_run_that_is_trained(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _instead_of_stderr(monkeypatch)
    options = ("--batch_sizes", "50", "--seeds", "2", "--trainer.max_epochs", "3", "--model.engine", "autograd")
    assert command_line("compare", *options) == 0
    shown = terminal.getvalue()
    assert re.search(r"of 6\.?0* updates, .*left, train loss", shown)
    assert re.search(r"1 of 2 runs, .*left", shown)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(
    "command",
    [
        ["fit", "--data.batch_size", "50"],
        pytest.param(["compare", "--batch_sizes", "50", "--seeds", "1", "--model.lr", "0.01"], marks=pytest.mark.slow),
        ["sweep", "--model.lr", "0.01,0.02", "--data.batch_size", "full", "--seeds", "1", "--trainer.max_epochs", "2"],
        ["plan", "--map", "false"],
    ],
    ids=lambda command: str(command[0]),
)
def test_no_control_character_goes_into_a_file(
    command: list[str], command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _instead_of_stderr(monkeypatch, is_terminal=False)
    assert command_line(*command) == 0
    assert file.getvalue() == ""
    assert not re.search(r"[\r\x00-\x08\x1b]", command_line.out)


KINDS = {
    "batched": [],
    "one by one": ["--optimizer", "SGD", "--optimizer.lr", "0.01"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_keeps_what_a_sweep_has(
    kind: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What has ended is what a whole sweep says, and a run that has not is where one of fewer epochs ends."""
    options = ["--data.batch_size", "50,100", "--seeds", "1", *KINDS[kind]]
    options += [] if kind == "one by one" else ["--model.lr", "0.001,0.01"]

    def swept(epochs: int, name: str, code: int = 0) -> list[dict[str, str]]:
        given = [*options, "--trainer.max_epochs", str(epochs), "--directory", str(tmp_path / name)]
        assert command_line("sweep", *given) == code, command_line.err
        header, *rows = (tmp_path / name / "sweep.csv").read_text().splitlines()
        return [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]

    by_epochs = {epochs: swept(epochs, f"{epochs}") for epochs in range(1, 5)}
    told = []

    def interrupt(bar: Any, updates: int) -> None:
        told.append(updates)
        if len(told) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(tqdm, "update", interrupt)
    found = swept(4, "interrupted", code=130)
    assert command_line.err.endswith("ended by Ctrl-C\n")
    ended = [run for run in found if run["outcome"] == "completed"]
    assert (
        f"finished     {len(ended)} of {len(by_epochs[4])} runs, and {len(found) - len(ended)} in part"
        in command_line.out
    )
    assert "interrupted" in {run["outcome"] for run in found}
    assert len(ended) == (1 if kind == "one by one" else 0)
    for run in found:
        epochs = int(run["updates"]) * int(run["batch_size"]) // 100
        same = {name: run[name] for name in ("batch_size", "lr", "seed", "updates", "train_loss_first", "train_loss")}
        assert any(same.items() <= other.items() for other in by_epochs[epochs])


def test_in_python_a_sweep_keeps_them_in_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gd_lightning.engine.many.batched._Group.leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gd_lightning.sweep(lrs=[0.01, 0.02], batch_sizes=["full"], seeds=1, epochs=2, directory=tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["sweep.csv"]
    assert (tmp_path / "kept" / "sweep.csv").read_text().count("completed") == 2
