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
from gd_lightning.tracking.locks import claimed
from gd_lightning.tracking.run_files import read_summary
from tests.conftest import TIMEOUT, CommandLine

MANY = (
    *("--vary", "model.lr=0.001,0.002,0.003", "--data.batch_size", "1", "--model.engine", "autograd"),
    *("--seeds", "2", "--trainer.max_epochs", "3"),
)
SHORT = ("--batch_sizes", "full,50", "--seeds", "2", "--lrs", "0.01", "--trainer.max_epochs", "2")
MEETING = '''
import errno, multiprocessing, os, time
from pathlib import Path
from lightning.pytorch import Callback
from gd_lightning import InputError

ERRORS = {"full": OSError(errno.ENOSPC, "No space left on device"), "refused": InputError("cannot do so"),
          "fault": ZeroDivisionError("one by zero")}

class Meets(Callback):
    """Has each process say within its first run that it trains, and wait until it is told to go on."""
    def __init__(self, path: str, fails_with: str = "") -> None:
        self.path, self.fails_with = Path(path), fails_with
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.global_step == 1:
            return  # a trial of the options
        is_worker = multiprocessing.parent_process() is not None
        if is_worker and self.fails_with:
            raise ERRORS[self.fails_with]
        (self.path / ("worker" if is_worker else "command") / str(os.getpid())).touch()
        end = time.monotonic() + 120
        while not (self.path / "go_on").exists() and time.monotonic() < end:
            time.sleep(0.01)
        while self.fails_with and multiprocessing.active_children():
            time.sleep(0.01)
        time.sleep(0.2 * bool(self.fails_with))  # what the worker has said is read
'''


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


class _Meeting:
    """Commands in processes of their own, which wait within their first run until they are told to go on.

    Args:
        root: An empty directory, which has the module with the callback that does so.
        fails_with: What the callback raises in a worker.
    """

    def __init__(self, root: Path, fails_with: str = "") -> None:
        self.root, self.directory = root, root / "compared"
        (root / "meeting.py").write_text(MEETING)
        for kind in ("worker", "command"):
            (root / kind).mkdir()
        given = {"class_path": "meeting.Meets", "init_args": {"path": str(root), "fails_with": fails_with}}
        self.options = (*MANY, "--trainer.callbacks", json.dumps([given]))

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a command."""
        environment = {**os.environ, "PYTHONPATH": f"{self.root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, "-m", "gd_lightning", "compare", *self.options, "--directory", str(self.directory)]
        return subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.root,
        )

    def those_that_train(self, kind: str, count: int, *commands: subprocess.Popen[str]) -> list[int]:
        """Wait until a number of workers or commands train; returns the numbers of their processes."""
        end = time.monotonic() + TIMEOUT
        while len(found := list((self.root / kind).iterdir())) < count:
            for command in commands:
                assert command.poll() is None, command.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.02)
        return [int(path.name) for path in found]

    def go_on(self) -> None:
        """Let all of them go on."""
        (self.root / "go_on").touch()


def _check_alone(directory: Path, command_line: CommandLine) -> None:
    """Compare the runs in a directory with those of this process."""
    alone = command_line.root / "alone"
    assert command_line("compare", *MANY, "--directory", alone) == 0, command_line.err
    _check_same(alone, directory)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_runs_of_a_worker_that_is_ended_are_made_by_the_other(
    tmp_path: Path, command_line: CommandLine, number: int
) -> None:
    meeting = _Meeting(tmp_path)
    process = meeting.start("--workers", "2")
    (worker,) = meeting.those_that_train("worker", 1, process)
    meeting.those_that_train("command", 1, process)
    os.kill(worker, number)
    meeting.go_on()
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    line = f"gd_lightning: warning: a worker was ended by {signal.Signals(number).name}; the others train its runs"
    assert errors.startswith(line)
    assert len(errors.splitlines()) == 1
    _check_alone(meeting.directory, command_line)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Where nobody takes up its exit code, a process that has ended keeps its number.
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_workers_end_with_the_command_and_it_goes_on_from_there(
    tmp_path: Path, command_line: CommandLine, number: int, code: int
) -> None:
    meeting = _Meeting(tmp_path)
    process = meeting.start("--workers", "2")
    (worker,) = meeting.those_that_train("worker", 1, process)
    meeting.those_that_train("command", 1, process)
    process.send_signal(number)
    meeting.go_on()
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code
    assert len(errors.splitlines()) == (number != signal.SIGKILL)
    end = time.monotonic() + TIMEOUT
    while _is_there(worker):
        assert time.monotonic() < end
        time.sleep(0.02)
    again = meeting.start()
    assert again.communicate(timeout=TIMEOUT)[1] == ""
    assert again.returncode == 0
    _check_alone(meeting.directory, command_line)


@pytest.mark.slow
def test_two_commands_over_one_directory_share_its_runs(tmp_path: Path, command_line: CommandLine) -> None:
    meeting = _Meeting(tmp_path)
    processes = [meeting.start() for _ in range(2)]
    meeting.those_that_train("command", 2, *processes)
    meeting.go_on()
    said = [process.communicate(timeout=TIMEOUT) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all("lr 0.001" in out for out, _ in said)
    _check_alone(meeting.directory, command_line)
    events = [path.parent.name for path in meeting.directory.glob("*seed*/events*")]
    assert len(events) == len(set(events)) == 6  # each was begun once
    assert not (meeting.directory / ".claims").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("full", 1, "cannot continue, because of no space left on device"),
        ("refused", 2, "cannot do so"),
        ("fault", 1, "because of an error in on_train_epoch_end of meeting.py"),
    ],
)
def test_what_fails_in_a_worker_ends_the_command_as_in_its_own_process(
    tmp_path: Path, kind: str, code: int, message: str
) -> None:
    meeting = _Meeting(tmp_path, fails_with=kind)
    meeting.go_on()
    process = meeting.start("--workers", "2")
    _, errors = process.communicate(timeout=TIMEOUT)
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
