"""Further processes of a command line: each trains some of the runs of a comparison, or parts of a sweep."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from tqdm import tqdm

from gd_lightning.cli import main
from gd_lightning.cli.exit_codes import BAD_INPUT, COMPLETED
from gd_lightning.cli.program import program_that_runs, speaker
from gd_lightning.cli.subcommands.compare_directory import is_finished
from gd_lightning.cli.subcommands.compare_members import FitMember, Trains
from gd_lightning.errors import InputError, first_line
from gd_lightning.signals import ENDING, name_of

_TERMINATED = 128 + signal.SIGTERM
# A process that is forked from one with threads hangs, or is ended by the libraries that compute.
_PROCESSES = multiprocessing.get_context("spawn")
_share: ContextVar[_Share | None] = ContextVar("share", default=None)  # of a process that is a worker


def check_workers(subcommand: str, workers: int) -> None:
    """Refuse a number of workers below 1.

    Raises:
        InputError: The number is below 1.
    """
    if workers < 1:
        raise InputError(f"cannot {subcommand} with {workers} workers; use 1 or more")


def this_share() -> _Share | None:
    """Return what this process trains as a worker; None where it is none."""
    return _share.get()


@dataclass(frozen=True)
class _Share:
    """The members that a worker trains those of that nobody else does.

    Args:
        members: All of them.
        output: Where everything goes that is printed meanwhile.
        connection: Where the process that started this one is told what was printed.
    """

    members: Sequence[FitMember]
    output: _Output
    connection: Connection

    def carry_out(self, command: Trains) -> None:
        """Train the members that are neither finished nor claimed.

        Args:
            command: What trains them.
        """
        self.output.taken()  # the process that started this one has said it, too
        for member in self.members:
            with member.claimed() as is_ours:
                if is_ours and not is_finished(member.directory):
                    command.fit_member(member)
                    self.connection.send(self.output.taken())


class _Output:
    """What a worker prints, kept until a run has ended, so that the lines of runs are not mixed up."""

    def __init__(self) -> None:
        self._out, self._err = io.StringIO(), io.StringIO()
        sys.stdout, sys.stderr = self._out, self._err

    def taken(self) -> tuple[str, str]:
        """Return what was printed since the last call, and what of errors."""
        said = self._out.getvalue(), self._err.getvalue()
        for stream in (self._out, self._err):
            stream.seek(0)
            stream.truncate()
        return said


class Workers:
    """Processes that train members of a comparison beside this one, from when it is entered until it is left.

    What they print is printed here, a run at a time. Ctrl-C is left to this process, which ends the others by SIGTERM;
    they then keep what they have trained. A worker ends at once where this process is killed.

    Args:
        arguments: Those of this process's command line.
        members: The members; of those that are not finished, each process trains one at least.
        count: How many processes train, with this one.
    """

    def __init__(self, arguments: Sequence[str], members: Sequence[FitMember], count: int) -> None:
        self._arguments, self._members = list(arguments), members
        self._count = min(count, sum(not is_finished(member.directory) for member in members))
        self._workers: list[_Worker] = []
        self._all = contextlib.ExitStack()

    def __enter__(self) -> None:
        if self._count < 2:
            return
        threads = self._all.enter_context(_shared_threads(self._count))
        self._all.callback(self._end)
        described = self._described()
        for _ in range(self._count - 1):
            self._workers.append(_Worker(self._arguments, described, threads))

    def _described(self) -> bytes:
        """Return what a worker has to know.

        Raises:
            InputError: A class of another project is not one that a process can import.
        """
        program = program_that_runs()
        try:
            return pickle.dumps((self._members, program.module_class, program.data_class, program.prog))
        except Exception as error:  # whatever an object raises that cannot be pickled
            raise InputError(
                f"cannot train in several processes, because something cannot be sent to them "
                f"({first_line(error)[:100]}); leave workers out, or define classes in a module"
            ) from error

    def __exit__(self, *error: object) -> None:
        self._all.close()

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.process.join()

    def check(self) -> None:
        """Fail as a worker has failed.

        Raises:
            InputError: A worker says that something cannot be trained.
            SystemExit: A worker failed otherwise, and has said why.
        """
        for worker in self._workers:
            if worker.code in (None, COMPLETED):
                continue
            assert worker.code is not None
            if worker.code == BAD_INPUT:
                raise InputError(worker.reason)
            raise SystemExit(worker.code)


class _Worker:
    """A process that trains, and what it says.

    Args:
        arguments: The command line.
        described: What it has to know, pickled.
        threads: In how many threads it computes.
    """

    def __init__(self, arguments: list[str], described: bytes, threads: int) -> None:
        self._before = f"{speaker()}: "  # a message
        self.code: int | None = None
        self.reason = ""
        self._is_ended = False
        ours, theirs = _PROCESSES.Pipe(duplex=False)
        self.process = _PROCESSES.Process(target=_work, args=(arguments, described, threads, theirs))
        self.process.start()
        theirs.close()
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        """Print what the worker says, and note how it ends."""
        code: int | None = None
        with contextlib.suppress(EOFError, OSError):
            while code is None:
                said, errors, *ends = connection.recv()
                code = ends[0] if ends else None
                if code == BAD_INPUT:
                    errors, _, self.reason = errors.rpartition(self._before)
                if code != _TERMINATED:
                    _print(said, errors)
        if code not in (None, _TERMINATED):
            self.code = code
        elif not self._is_ended:
            self.process.join()
            number = max(0, -(self.process.exitcode or 0)) or signal.SIGTERM
            said = f"warning: a worker was ended by {name_of(number)}; its runs are trained by the others"
            _print("", f"{self._before}{said}\n")

    def end(self) -> None:
        """Have the process end; what it trains is kept."""
        self._is_ended = True
        self.process.terminate()


def _print(said: str, errors: str) -> None:
    for text, stream in ((said, sys.stdout), (errors, sys.stderr)):
        if text:
            tqdm.write(text, stream, end="")


def _work(arguments: list[str], described: bytes, threads: int, connection: Connection) -> None:
    """Be a worker: read the same command line, and train some of its members."""
    output = _Output()
    _begin(threads)
    members, *program = pickle.loads(described)
    _share.set(_Share(members, output, connection))
    code = main(arguments, *program)
    with contextlib.suppress(OSError):  # the process that started this one is gone
        connection.send((*output.taken(), code))


def _begin(threads: int) -> None:
    """Compute in some threads, leave signals but SIGTERM to the process that started this one, and end with it."""
    torch.set_num_threads(threads)
    for number in ENDING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _shared_threads(processes: int) -> Iterator[int]:
    """Let this process compute in its share of the threads; the context is how many they are."""
    before = torch.get_num_threads()
    share = max(1, before // processes)
    torch.set_num_threads(share)
    try:
        yield share
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Executor | None]:
    """Have an executor of processes, which end with this one, and are ended where this is left by an error.

    Args:
        workers: How many; with 1, there is none, and this process computes.
    """
    if workers < 2:
        yield None
        return
    before = set(multiprocessing.active_children())
    with _shared_threads(workers) as threads:
        executor: Any = ProcessPoolExecutor(workers, _PROCESSES, _begin, (threads,))
        try:
            yield executor
        except BaseException:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)
