"""Several processes share the runs of a comparison, and the runs are those of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import gd_lightning
from gd_lightning import History
from gd_lightning.cli.subcommands import workers
from gd_lightning.experiments import CompareTask, MemberResult
from gd_lightning.tracking.run_directory import claimed
from gd_lightning.tracking.run_files import read_summary
from tests.conftest import TIMEOUT, CommandLine

SHORT = ("--batch_sizes", "full,50", "--seeds", "2", "--lrs", "0.01", "--trainer.max_epochs", "2")
# Runs of a second each, at least.
LONG = (
    *("--vary", "model.lr=0.001,0.002,0.003", "--data.batch_size", "1", "--model.engine", "autograd"),
    *("--seeds", "2", "--trainer.max_epochs", "40"),
)


@dataclass(frozen=True)
class _Member:
    """A member that is finished where its name is in a list, and claimed as those of the command line are."""

    name: str
    directory: Path
    done: list[str]

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Claim it."""
        with claimed(self.directory / ".claims" / self.name) as is_ours:
            yield is_ours

    def finished(self) -> MemberResult | None:
        """Return its name, where it is finished."""
        return cast(MemberResult, self.name) if self.name in self.done else None


def _results(members: Sequence[_Member], train: Any) -> list[str]:
    task = CompareTask("", members, train, None)
    return sorted(cast(str, result) for result in task.results())


def test_several_that_share_members_train_each_once_and_have_all_results(tmp_path: Path) -> None:
    done, trained, found = list[str](), list[str](), list[list[str]]()
    members = [_Member(str(i), tmp_path, done) for i in range(12)]

    def train(member: _Member) -> str:
        trained.append(member.name)
        time.sleep(0.002)
        done.append(member.name)
        return member.name

    threads = [threading.Thread(target=lambda: found.append(_results(members, train))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    names = sorted(member.name for member in members)
    assert sorted(trained) == names
    assert found == [names] * 4


def test_what_a_process_leaves_that_dies_is_trained_by_another(tmp_path: Path) -> None:
    done, begun, trained = list[str](), threading.Event(), list[str]()
    members = [_Member(name, tmp_path, done) for name in "ab"]

    def dies(member: _Member) -> str:
        begun.set()
        time.sleep(0.2)
        raise SystemExit  # its claim is given up, as where a process is killed

    def train(member: _Member) -> str:
        trained.append(member.name)
        return member.name

    def die() -> None:
        with suppress(SystemExit):
            _results(members, dies)

    dying = threading.Thread(target=die)
    dying.start()
    assert begun.wait(TIMEOUT)
    assert _results(members, train) == ["a", "b"]
    assert trained == ["b", "a"]
    dying.join()


def _weights_and_losses(directory: Path) -> dict[str, list[Any]]:
    found = {}
    for path in directory.glob("*/history.csv"):
        summary = read_summary(path.parent / "summary.json")
        assert summary is not None
        columns = History.from_csv(path)
        found[path.parent.name] = [
            summary["parameters"],
            *(columns[name].tolist() for name in ("train_loss", "update")),
        ]
    return found


def _check_same(one: Path, other: Path) -> None:
    for (name, first), (same, second) in zip(
        *(sorted(_weights_and_losses(path).items()) for path in (one, other)), strict=True
    ):
        assert name == same
        assert first[0] == second[0]
        np.testing.assert_array_equal(first[1:], second[1:])


def test_a_worker_is_not_waited_for_and_none_is_started_in_vain(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_line("compare", *SHORT, "--directory", tmp_path / "one") == 0, command_line.err
    assert command_line("compare", *SHORT, "--directory", tmp_path / "two", "--workers", "2") == 0, command_line.err
    assert command_line.err == ""
    _check_same(tmp_path / "one", tmp_path / "two")
    assert not (tmp_path / "two" / ".claims").exists()
    monkeypatch.setattr(workers, "_Worker", None)  # of what is finished, nobody trains anything
    assert command_line("compare", *SHORT, "--directory", tmp_path / "two", "--workers", "9") == 0, command_line.err


def test_a_worker_trains_what_nobody_else_does_and_says_it_at_once(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process of a worker does, in this process: the other one has claimed a member."""
    sent: list[tuple[str, ...]] = []

    def as_worker(arguments: list[str], members: Any, count: int) -> Any:
        monkeypatch.undo()
        output = SimpleNamespace(taken=lambda: ("", ""))
        share = workers._Share(members, cast(Any, output), cast(Any, SimpleNamespace(send=sent.append)))
        token = workers._share.set(share)
        with members[0].claimed():
            codes.append(command_line(*arguments))
        workers._share.reset(token)
        return workers.Workers(arguments, members, 1)

    codes: list[int] = []
    monkeypatch.setattr("gd_lightning.cli.subcommands.compare.Workers", as_worker)
    assert command_line("compare", *SHORT, "--directory", tmp_path / "two") == 0, command_line.err
    assert codes == [0]
    assert len(sent) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("compare", "--workers", "0"), "cannot compare with 0 workers; use 1 or more"),
        (("sweep", "--workers", "-1"), "cannot sweep with -1 workers; use 1 or more"),
        (("compare", "--workers", "two"), "workers"),
    ],
)
def test_what_is_no_number_of_workers_is_refused(
    command_line: CommandLine, options: tuple[str, ...], message: str
) -> None:
    assert command_line(*options) == 2
    (line,) = command_line.err.splitlines()
    assert message in line
    assert not (command_line.root / "lightning_logs").exists()


def test_a_class_that_no_process_can_import_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Own(gd_lightning.RegressionModule):
        """Has no name that another process could import."""

    arguments = ["compare", *SHORT, "--directory", str(tmp_path / "there")]
    assert gd_lightning.main([*arguments, "--workers", "2"], Own) == 2
    assert "leave workers out" in capfd.readouterr().err
    assert not (tmp_path / "there").exists()
    assert gd_lightning.main(arguments, Own) == 0


def _start(directory: Path, *options: str, path: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{path or ''}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "gd_lightning", "compare", *options, "--directory", str(directory)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=directory.parent
    )


def _workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that a process has started and that train; another one of Python counts their semaphores."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and "spawn_main" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:  # it has ended
            continue
    return found


def _until_a_worker_trains(process: subprocess.Popen[str], directory: Path) -> int:
    """Wait until two runs have begun; returns the worker, which trains one of them."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        begun = [path for path in directory.glob("*/config.yaml") if not (path.parent / "summary.json").is_file()]
        if len(begun) > 1:
            (worker,) = _workers_of(process)
            return worker
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Return the directory of a long comparison by one process, and how many seconds it took."""
    directory, began = tmp_path_factory.mktemp("alone") / "alone", time.perf_counter()
    process = _start(directory, *LONG)
    assert process.communicate(timeout=TIMEOUT)[1] == ""
    return directory, time.perf_counter() - began


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of another one are read there")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_runs_of_a_worker_that_is_ended_are_made_by_the_other(
    tmp_path: Path, alone: tuple[Path, float], number: int
) -> None:
    process = _start(tmp_path / "two", *LONG, "--workers", "2")
    os.kill(_until_a_worker_trains(process, tmp_path / "two"), number)
    _, errors = process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == 0
    line = f"gd_lightning: warning: a worker was ended by {signal.Signals(number).name}; its runs are trained by"
    assert errors.startswith(line)
    assert len(errors.splitlines()) == 1
    _check_same(alone[0], tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of another one are read there")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_workers_end_with_the_command_and_it_goes_on_from_there(
    tmp_path: Path, alone: tuple[Path, float], number: int, code: int
) -> None:
    process = _start(tmp_path / "two", *LONG, "--workers", "2")
    worker = _until_a_worker_trains(process, tmp_path / "two")
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code
    assert len(errors.splitlines()) == (number != signal.SIGKILL)
    end = time.monotonic() + TIMEOUT
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    again = _start(tmp_path / "two", *LONG)
    assert again.communicate(timeout=2 * TIMEOUT)[1] == ""
    assert again.returncode == 0
    _check_same(alone[0], tmp_path / "two")


@pytest.mark.slow
def test_two_commands_over_one_directory_share_its_runs(tmp_path: Path, alone: tuple[Path, float]) -> None:
    processes = [_start(tmp_path / "shared", *LONG) for _ in range(2)]
    said = [process.communicate(timeout=2 * TIMEOUT) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all("model.lr" in out or "lr 0.001" in out for out, _ in said)
    _check_same(alone[0], tmp_path / "shared")
    starts = {path.parent.name for path in (tmp_path / "shared").glob("*/events*")}
    assert len(list((tmp_path / "shared").glob("*/events*"))) == len(starts)  # each was begun once
    assert not (tmp_path / "shared" / ".claims").exists()


FAULTS = '''
import errno, multiprocessing
from lightning.pytorch import Callback
from gd_lightning import InputError

class Fails(Callback):
    """Fails in a worker alone."""
    def __init__(self, kind: str) -> None:
        self.kind = kind
    def on_train_epoch_end(self, trainer, pl_module):
        if multiprocessing.parent_process() is not None:
            raise {"full": OSError(errno.ENOSPC, "No space left on device"), "refused": InputError("cannot do so"),
                   "fault": ZeroDivisionError("one by zero")}[self.kind]
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("full", 1, "cannot go on, because of no space left on device"),
        ("refused", 2, "cannot do so"),
        ("fault", 1, "because of a fault in faults.py"),
    ],
)
def test_what_fails_in_a_worker_ends_the_command_as_in_its_own_process(
    tmp_path: Path, kind: str, code: int, message: str
) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)
    callback = json.dumps([{"class_path": "faults.Fails", "init_args": {"kind": kind}}])
    options = (*LONG[:-1], "100", "--trainer.callbacks", callback, "--workers", "2")
    process = _start(tmp_path / "two", *options, path=tmp_path)
    _, errors = process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == code, errors
    (line,) = errors.splitlines()
    assert message in line


@pytest.mark.slow
def test_a_sweep_of_workers_ends_at_the_same_bits(command_line: CommandLine, tmp_path: Path) -> None:
    options = ("sweep", "--model.lr", "0.001,0.01,0.1", "--data.batch_size", "1,10,full", "--seeds", "2")
    tables = []
    for count in ("1", "2"):
        assert command_line(*options, "--workers", count, "--directory", tmp_path / count) == 0, command_line.err
        tables.append((tmp_path / count / "sweep.csv").read_text())
    assert tables[0] == tables[1]
