"""Running a command line that nobody should give, and saying what is wrong with how it ends."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

import gd_lightning
from gd_lightning.errors import InputError
from tests.cli.drawn_inputs import TABLES, Case
from tests.conftest import share_parsers

_PIXEL = bytes(16) + b"\0\0\0\1" * 2  # as much of a PNG file as is read
SECONDS = 30  # of the processor, within which each has to end
WAITING = 120  # seconds by the clock, for what computes nothing; a machine that is busy is no hang
# Threads that are nobody's run: of tqdm and of multiprocessing, which lends tensors to other processes, one for the
# process each, and of Lightning one that ends by itself.
_PASSING = ("TMonitor", "_ChildProcessObserver", "resource sharer")
_ENDING = 5.0  # seconds that a thread has which was told to end


def prepare(directory: Path) -> dict[str, bytes]:
    """Make what the command lines name, in the present directory, and a sound copy of it.

    Args:
        directory: Where the copy is made.

    Returns:
        The content of each file by its name.
    """
    rows = np.random.default_rng(0).normal(size=(20, 3)).round(3)
    for ending, comma in (("csv", ","), ("tsv", "\t")):
        np.savetxt(f"table.{ending}", rows, "%.6g", comma, header=comma.join("aby"), comments="")
    np.save("table.npy", rows)
    np.savez("table.npz", x=rows[:, :2], y=rows[:, 2])
    Path("table.parquet").write_bytes(_parquet(rows))
    Path("empty.csv").touch()
    Path("noise.csv").write_bytes(random.Random(0).randbytes(2000))
    Path("a_directory").mkdir()
    for name, more in (("run", []), ("table_run", ["--data.problem=Table", "--data.problem.path=table.csv"])):
        assert gd_lightning.main(["fit", "--trainer.max_epochs=2", *more]) == 0
        (made,) = Path("lightning_logs").iterdir()
        made.rename(name)
        shutil.rmtree("lightning_logs")
    assert gd_lightning.main(["fit", "--print_config"]) == 0
    shutil.copy("run/config.yaml", "config.yaml")
    shutil.copytree(".", directory, dirs_exist_ok=True)
    _make_special()
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def _parquet(rows: np.ndarray[Any, Any]) -> bytes:
    """Return a table as Parquet, or what looks like it where it cannot be written."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:  # an extra
        return b"PAR1" + rows.tobytes() + b"PAR1"
    out = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({name: rows[:, i] for i, name in enumerate("aby")}), out)
    return bytes(out.getvalue())


def _make_special() -> None:
    Path("loop").symlink_to("loop")
    for ending in ("", *(f".{ending}" for ending in TABLES)):
        os.mkfifo(f"fifo{ending}")
        Path(f"dangling{ending}").symlink_to("nowhere")
        Path(f"a_directory{ending}").mkdir(exist_ok=True)


def _restore(directory: Path) -> None:
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(directory, ".", dirs_exist_ok=True)
    _make_special()


def tree() -> dict[str, tuple[int, int]]:
    """Return all directories below the current one, and all files with when they were changed and how large they are.

    That a directory was changed says only that a file was made there, and removed again: what only Lightning can
    compare with the run that it restores is refused behind its set-up, in which the log was opened.
    """
    found: dict[str, tuple[int, int]] = {}
    for root, directories, files in os.walk("."):
        found |= {str(Path(root) / name): (0, 0) for name in directories}
        for name in files:
            path = Path(root) / name
            state = path.lstat()
            found[str(path)] = (state.st_mtime_ns, state.st_size)
    return found


def process_state() -> dict[str, object]:
    """Return what a command line finds in its process, and should leave as it was."""
    return {
        "directory": Path.cwd(),
        "environment": dict(os.environ),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": np.random.get_state()[1].tobytes(),  # type: ignore[index]
        "Python's generator": random.getstate(),
        "threads of torch": torch.get_num_threads(),
        "threads": sorted(kind for kind in map(_kind, threading.enumerate()) if kind not in _PASSING),
        "dtype": torch.get_default_dtype(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "gradients": torch.is_grad_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "benchmark": torch.backends.cudnn.benchmark,
        "processes": torch.distributed.is_initialized(),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)],
        "NumPy's errors": np.geterr(),
        "umask": _umask(),
    }


def _wait_for_threads(before: list[threading.Thread]) -> None:
    """Wait until those that were told to end have ended: a refreshing thread of rich is not waited for by rich."""
    for thread in threading.enumerate():
        if thread not in before and _kind(thread) not in _PASSING:
            thread.join(_ENDING)


def _kind(thread: threading.Thread) -> str:
    return "resource sharer" if thread.name.endswith("(_serve)") else type(thread).__name__


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


class Hangs(BaseException):
    """A command line has not ended in time."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hangs

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, WAITING)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share parsers, start no processes, and draw no pictures."""
    share_parsers(monkeypatch)

    def start(self: Any, *_: Any) -> None:
        if self.num_processes > 1:
            raise InputError("cannot start processes, because this is a test; use one")

    def spawn(*_: Any, **__: Any) -> None:
        raise AssertionError("processes are spawned")

    monkeypatch.setattr(_SubprocessScriptLauncher, "_call_children_scripts", start)
    monkeypatch.setattr(_MultiProcessingLauncher, "launch", spawn)
    for module in ("comparison.report", "sweeps.report"):
        monkeypatch.setattr(f"gd_lightning.experiments.{module}.save_figures", lambda *_: _PIXEL)


def what_is_wrong(tried: Case, directory: Path, read: Callable[[], tuple[str, str]]) -> list[str]:
    """Run a command line, and return what is wrong with how it ends.

    Args:
        tried: The command line.
        directory: Where the sound copy is, from which all is as it was afterwards.
        read: Returns what was printed since it was called last.
    """
    for name, content in tried.files.items():
        Path(name).write_bytes(content)
    found, before = tree(), dict(os.environ)
    os.environ.update(tried.variables)
    around, threads = process_state(), threading.enumerate()
    read()
    wrong: list[str] = []
    code: object = None
    try:
        with _in_time():
            code = gd_lightning.main(list(tried.arguments))
    except Hangs:
        wrong.append("hangs")
    except BaseException as error:
        wrong.append(f"raises {type(error).__name__}: {error}")
    _wait_for_threads(threads)
    out, err = read()
    for name, value in process_state().items():
        if value != around[name]:
            wrong.append(f"leaves {name} changed from {str(around[name])[:200]} to {str(value)[:200]}")
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
    wrong += _wrong_end(code, out, err)
    left = tree()
    if code == 2 and left != found:
        wrong.append(f"leaves {sorted(set(left.items()) ^ set(found.items()))[:4]}")
    if left != found:
        _restore(directory)
    for name in tried.files:
        if (directory / name).exists():
            shutil.copyfile(directory / name, name)
        else:
            Path(name).unlink(missing_ok=True)
    return [*wrong, f"ends with {code}: {err[-900:]}"] if wrong else []


def _wrong_end(code: object, out: str, err: str) -> list[str]:
    wrong = []
    if code not in (0, 1, 2, 3):
        wrong.append(f"exit code {code}")
    if "Traceback" in out + err:
        wrong.append("prints a traceback")
    if "internal error" in err:
        wrong.append("a fault of the program")
    lines = err.splitlines()
    others = [line for line in lines if not line.startswith("gd_lightning: warning: ")]
    if code in (1, 2) and not (lines and others == lines[-1:] and others[0].startswith("gd_lightning: ")):
        wrong.append("does not say why in one line")
    if code == 1 and not err.splitlines()[-1:][0].startswith("gd_lightning: cannot continue, because"):
        wrong.append("fails otherwise")
    if any(len(line) > 640 or not line.isprintable() for line in lines):
        wrong.append("prints what is no line for a person")
    return wrong
