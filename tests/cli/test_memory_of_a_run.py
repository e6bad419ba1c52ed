"""A run without an end needs no more memory the longer it lasts, its record, picture and checkpoint included."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import gd_lightning as gd
from gd_lightning.callbacks.return_memory import ReturnMemory
from gd_lightning.records.history import History
from gd_lightning.tracking.checkpoint_file import read_checkpoint, write_checkpoint

ENDLESS = [
    *("--data.problem", "LinearProblem", "--data.problem.n_samples", "20000", "--data.batch_size", "1"),
    *("--model.lr", "0.001", "--trainer.max_epochs", "-1"),
]
MOST = 500 * 2**20
SECONDS = 25


def _history(rows: int, columns: int) -> History:
    history = History()
    numbers = np.arange(float(rows))
    known = {f"w_{i}": numbers + i for i in range(columns)}
    axes = {"update": numbers, "epoch": numbers, "samples": numbers, "seconds": numbers, "train_loss": numbers}
    history.extend(rows, lambda where: {name: values[where] for name, values in (axes | known).items()}, [*known], {})
    assert len(history["w_0"]) == rows
    return history


def _peak_of(work: Any) -> int:
    """Return the most bytes that Python objects and NumPy arrays took at once while something was done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_rows_of_a_long_history_are_not_all_dictionaries_at_once() -> None:
    history = _history(20_000, 5)
    found = []
    assert _peak_of(lambda: found.append(sum(row["w_3"] for row in history.rows()))) < 10**6  # all of them: 15 MB
    assert found == [sum(range(20_000)) + 3 * 20_000]


def test_a_checkpoint_has_the_rows_of_a_history_once_and_is_written_as_it_is_made(tmp_path: Path) -> None:
    history = _history(20_000, 20)
    state, file = history.state_dict(), tmp_path / "last.ckpt"
    numbers = 26 * 20_000 * 8  # 25 columns, and the rows of all of them
    assert _peak_of(lambda: write_checkpoint({"history": state}, file)) < numbers / 4
    assert numbers < file.stat().st_size < 1.1 * numbers
    again = History.from_state_dict(read_checkpoint(file)["history"])
    assert again.to_csv() == history.to_csv()


def test_memory_is_given_back_at_first_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = [100.0], []
    monkeypatch.setattr("gd_lightning.callbacks.return_memory.time", SimpleNamespace(monotonic=lambda: now[0]))
    for name in ("forget_code", "return_free_memory"):
        monkeypatch.setattr(f"gd_lightning.callbacks.return_memory.{name}", lambda name=name: given.append(name))
    both, module = ["forget_code", "return_free_memory"], torch.nn.Identity()
    for limits, expected in (((-1, -1), [both, both, []]), ((20, -1), [[], [], both]), ((-1, 9), [[], [], both])):
        trainer: Any = SimpleNamespace(max_epochs=limits[0], max_steps=limits[1])
        callback: Any = ReturnMemory()
        for _ in range(2):  # of two runs, each has its own beginning
            found = []
            for hook, seconds in ((callback.on_fit_start, 0), (callback.on_train_batch_end, 1), (None, 4.5)):
                now[0] += seconds
                arguments = (trainer, module) if hook == callback.on_fit_start else (trainer, module, None, None, 0)
                (hook or callback.on_train_batch_end)(*arguments)
                found.append(given[:])
                given.clear()
            assert found == expected
            now[0] += 5.5
            callback.on_train_batch_end(trainer, module, None, None, 0)
            callback.on_train_end(trainer, module)
            assert given == ["return_free_memory"] * 2
            given.clear()


_SMALL: dict[str, Any] = {"lr": 0.01, "max_epochs": 3}
ONE_OF_MANY: dict[str, Callable[[], object]] = {
    "fit": lambda: gd.fit(gd.LinearProblem(n_samples=20), batch_size=5, **_SMALL),
    "perceptron": lambda: gd.fit(gd.Sine(n_samples=20), batch_size=5, hidden_sizes=[4], **_SMALL),
    "plan": lambda: gd.plan(gd.LinearProblem(n_samples=20), batch_size=5, **_SMALL),
    "sweep": lambda: gd.sweep(gd.LinearProblem(n_samples=20), batch_sizes=[5], lrs=[0.01, 0.02], max_epochs=3),
    "compare": lambda: gd.compare(gd.LinearProblem(n_samples=20), batch_sizes=[5], lrs=0.01, seeds=1, max_epochs=3),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "fit" else pytest.mark.slow) for name in ONE_OF_MANY]
)
def test_nothing_stays_of_the_many_runs_of_a_process(name: str) -> None:
    def made(runs: int) -> int:
        for _ in range(runs):
            ONE_OF_MANY[name]()
        gc.collect()
        return len(gc.get_objects())

    before = made(4)  # what is made once in a process is there
    assert made(8) < before + 8  # not one of a run's thousands of objects


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")
def test_a_run_without_an_end_stays_below_five_hundred_megabytes(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="without it there are too few updates for that to mean anything")
    command = [sys.executable, "-m", "gd_lightning", "fit", *ENDLESS, "--trainer.max_time"]
    # A compiler takes some more, once.
    subprocess.run([*command, "00:00:00:20"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    process = subprocess.Popen([*command, f"00:00:00:{SECONDS}"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        most = max([most, *(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))])
        time.sleep(0.05)
    assert process.returncode == 0
    assert 10**8 < most < MOST
    (_, history) = sorted(tmp_path.glob("lightning_logs/*/history.csv"), key=lambda path: path.stat().st_mtime)
    updates = History.from_csv(history).last("update")
    assert updates > 10**6, "it was not trained by compiled code"
