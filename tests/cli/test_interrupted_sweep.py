"""A sweep that a signal ends keeps the runs that have ended, and those in part, whatever trains them."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gd_lightning.callbacks import raise_for_signal
from gd_lightning.engine.many.fused import FusedPopulation
from gd_lightning.signals import handled_by, name_of
from tests.conftest import TIMEOUT, CommandLine

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
EPOCHS, AT_ONCE = 60, 20  # of a run; for which compiled code trains a run at a time
OPTIONS = ("--seeds", "1", "--data.batch_size", "full", "--trainer.max_epochs", str(EPOCHS))
ENGINES: dict[str, tuple[str, ...]] = {
    "fused": ("--model.lr", "0.01,0.02,10"),
    "batched": ("--model.lr", "0.01,0.02,10"),
    "one by one": ("--model.lr", "0.01,0.02", "--optimizer", "Adam"),
}


class _Bar(contextlib.nullcontext[None]):
    """A bar of progress that sends a signal to this process once, after more than a number of updates."""

    def __init__(self, number: int, after: int) -> None:
        super().__init__()
        self._number, self._after, self._made = number, after, 0

    def update(self, made: int) -> None:
        """Count updates."""
        before, self._made = self._made, self._made + made
        if before <= self._after < self._made:
            os.kill(os.getpid(), self._number)

    def close(self) -> None:
        """Show no more."""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A signal that comes late is not to end pytest."""
    with handled_by(raise_for_signal):
        yield


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have compiled code train a sweep, for some epochs at a time; return its module."""
    pytest.importorskip("numba", reason="the code is compiled by numba")
    from gd_lightning.engine.many import kernels  # imports Numba

    monkeypatch.setattr("gd_lightning.engine.many.choice._LOADING", -1e9)
    monkeypatch.setattr(FusedPopulation, "rows_at_once", 100 * AT_ONCE)
    return kernels


def _kept(command_line: CommandLine, engine: str) -> list[dict[str, str]]:
    """Return the runs that an interrupted sweep has kept, and check how it says so."""
    (directory,) = (command_line.root / "lightning_logs").glob("sweep-*")
    assert [path.name for path in directory.iterdir()] == ["sweep.csv"]
    with (directory / "sweep.csv").open(newline="") as lines:
        runs = list(csv.DictReader(lines))
    in_part, count = sum(run["outcome"] == "interrupted" for run in runs), ENGINES[engine][1].count(",") + 1
    assert f"finished     {len(runs) - in_part} of {count} runs, and {in_part} in part; " in command_line.out
    return runs


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        *(("fused", signal.SIGINT), ("batched", signal.SIGTERM), ("one by one", signal.SIGINT)),
        pytest.param("fused", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("batched", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("one by one", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_what_is_finished_is_kept_and_what_is_in_part_is_right(
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    engine: str,
    number: signal.Signals,
) -> None:
    if engine == "fused":
        request.getfixturevalue("compiled")
    elif engine == "batched":
        monkeypatch.setattr("gd_lightning.engine.many.choice._LOADING", 1e9)
    monkeypatch.setattr("gd_lightning.cli.subcommands.sweep.progress_bar", lambda *_: _Bar(number, EPOCHS + 5))
    assert command_line("sweep", *ENGINES[engine], *OPTIONS) == CODES[number]
    assert command_line.err == f"gd_lightning: ended by {name_of(number)}\n"
    runs = _kept(command_line, engine)
    ended = "completed" if engine == "one by one" else "diverged"
    assert sorted({run["outcome"] for run in runs}) == sorted([ended, "interrupted"])
    part = next(run for run in runs if run["outcome"] == "interrupted")
    assert 0 < int(part["updates"]) < EPOCHS
    same = ("--model.lr", part["lr"], *ENGINES[engine][2:], "--trainer.max_steps", part["updates"])
    (history,) = command_line.fit(*same, "--trainer.max_epochs", str(EPOCHS)).glob("history.csv")
    with history.open(newline="") as lines:
        *_, last = csv.DictReader(lines)
    assert float(part["train_loss"]) == pytest.approx(float(last["train_loss"]), rel=1e-5)


@pytest.mark.parametrize("signals", [1, 2])
def test_compiled_code_that_runs_in_a_thread_ends_with_its_epoch(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, compiled: Any, signals: int
) -> None:
    """The main thread waits for it, and for hours if it went on; a second Ctrl-C changes nothing of what is kept."""
    train, sent, main = compiled.train, list[int](), threading.main_thread().ident
    assert main is not None

    def trained(members: Any, task: Any, network: Any, settings: Any, states: Any, scratch: Any) -> None:
        if task.first_epoch == AT_ONCE and not sent:
            end = time.monotonic() + TIMEOUT
            for _ in range(signals):
                sent.append(signal.SIGINT)
                signal.pthread_kill(main, signal.SIGINT)  # a system may give one of its own to the thread that sends it
                while not states.stop[0]:
                    assert time.monotonic() < end
                    time.sleep(0.001)
        train(members, task, network, settings, states, scratch)

    monkeypatch.setattr(compiled, "train", trained)
    assert command_line("sweep", *ENGINES["fused"], *OPTIONS) == CODES[signal.SIGINT]
    assert command_line.err == "gd_lightning: ended by Ctrl-C\n"
    assert len(sent) == signals
    runs = _kept(command_line, "fused")
    assert [run["outcome"] for run in runs] == ["interrupted", "interrupted", "diverged"]
    assert [int(run["updates"]) for run in runs[:2]] == [AT_ONCE] * 2
