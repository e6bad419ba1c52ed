"""Worker processes of a command line, which train some runs of a comparison, or parts of a sweep."""

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
from gd_lightning.cli.fork_server import context_of_workers, without_ctrl_c
from gd_lightning.cli.program import program_that_runs, speaker
from gd_lightning.cli.subcommands.compare_directory import is_finished
from gd_lightning.cli.subcommands.compare_members import FitMember, Trains
from gd_lightning.errors import InputError, first_line
from gd_lightning.experiments.imported_main import check_main
from gd_lightning.signals import ENDING, name_of

_TERMINATED = 128 + signal.SIGTERM
_share: ContextVar[_Share | None] = ContextVar("share", default=None)  # set in worker processes only


def check_workers(subcommand: str, workers: int) -> None:
    """Refuse a number of workers below 1.

    Raises:
        InputError: The number is below 1.
    """
    if workers < 1:
        raise InputError(f"cannot {subcommand} with {workers} workers; use 1 or more")


def this_share() -> _Share | None:
    """Return the share of this process if it is a worker, else None."""
    return _share.get()


@dataclass(frozen=True)
class _Share:
    """The members of a comparison; a worker trains those that no other process trains.

    Args:
        members: All members.
        output: Receives everything that is printed.
        connection: Sends the output to the process that started this one.
    """

    members: Sequence[FitMember]
    output: _Output
    connection: Connection

    def carry_out(self, command: Trains) -> None:
        """Train the members that are neither finished nor claimed.

        Args:
            command: Trains the members.
        """
        self.output.taken()  # the starting process has printed the same lines
        for member in self.members:
            with member.claimed() as is_ours:
                if is_ours and not is_finished(member.directory):
                    command.fit_member(member)
                    self.connection.send(self.output.taken())


class _Output:
    """The output of a worker, kept until a run has ended, so that the lines of different runs do not mix."""

    def __init__(self) -> None:
        self._out, self._err = io.StringIO(), io.StringIO()
        sys.stdout, sys.stderr = self._out, self._err

    def taken(self) -> tuple[str, str]:
        """Return the output and the error output since the last call."""
        said = self._out.getvalue(), self._err.getvalue()
        for stream in (self._out, self._err):
            stream.seek(0)
            stream.truncate()
        return said


class Workers:
    """Context in which worker processes train members of a comparison in parallel with this process.

    Their output is printed here, one run at a time. Only this process handles Ctrl-C; it ends the workers by SIGTERM,
    and they keep what they have trained. A worker ends at once if this process is killed.

    Args:
        arguments: The arguments of this process's command line.
        members: The members; there are no more processes than unfinished members.
        count: Number of processes that train, including this one.
    """

    def __init__(self, arguments: Sequence[str], members: Sequence[FitMember], count: int) -> None:
        self._arguments, self._members = list(arguments), members
        self._count = min(count, sum(not is_finished(member.directory) for member in members))
        self._workers: list[_Worker] = []
        self._all = contextlib.ExitStack()

    def __enter__(self) -> None:
        if self._count < 2:
            return
        check_main()
        threads = self._all.enter_context(_shared_threads(self._count))
        self._all.callback(self._end)
        described = self._described()
        for _ in range(self._count - 1):
            self._workers.append(_Worker(self._arguments, described, threads))

    def _described(self) -> bytes:
        """Return the pickled task of the workers.

        Raises:
            InputError: A class of another project cannot be imported by a process.
        """
        program = program_that_runs()
        try:
            return pickle.dumps((self._members, program.module_class, program.data_class, program.prog))
        except Exception as error:  # an object that cannot be pickled may raise anything
            raise InputError(
                f"cannot train in several processes, because an object cannot be sent to them "
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
        """Raise the error of a worker that has failed.

        Raises:
            InputError: A worker has refused a run.
            SystemExit: A worker failed for another reason, which it has printed.
        """
        for worker in self._workers:
            if worker.code in (None, COMPLETED):
                continue
            assert worker.code is not None
            if worker.code == BAD_INPUT:
                raise InputError(worker.reason)
            raise SystemExit(worker.code)


class _Worker:
    """A worker process, with its output.

    Args:
        arguments: The command line.
        described: The pickled task.
        threads: Number of threads in which it computes.
    """

    def __init__(self, arguments: list[str], described: bytes, threads: int) -> None:
        self._before = f"{speaker()}: "  # put in front of each message
        self.code: int | None = None
        self.reason = ""
        self._is_ended = False
        context: Any = context_of_workers()
        ours, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(arguments, described, threads, theirs))
        with without_ctrl_c():
            self.process.start()
        theirs.close()
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        """Print the output of the worker, and record how it ends."""
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
            said = f"warning: a worker was ended by {name_of(number)}; the others train its runs"
            _print("", f"{self._before}{said}\n")

    def end(self) -> None:
        """End the process; its unfinished run is kept."""
        self._is_ended = True
        self.process.terminate()


def _print(said: str, errors: str) -> None:
    for text, stream in ((said, sys.stdout), (errors, sys.stderr)):
        if text:
            tqdm.write(text, stream, end="")


def _work(arguments: list[str], described: bytes, threads: int, connection: Connection) -> None:
    """Run as a worker: parse the same command line, and train some of its members."""
    output = _Output()
    _begin(threads)
    members, *program = pickle.loads(described)
    _share.set(_Share(members, output, connection))
    code = main(arguments, *program)
    with contextlib.suppress(OSError):  # the starting process has ended
        connection.send((*output.taken(), code))


def _begin(threads: int) -> None:
    """Set the number of threads, ignore signals except SIGTERM, and end when the starting process ends."""
    torch.set_num_threads(threads)
    # tqdm's own lock is shared between processes, and a process that is killed never releases it.
    tqdm.set_lock(threading.RLock())
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
    """Let this process compute in its share of the threads, and yield their number."""
    before = torch.get_num_threads()
    share = max(1, before // processes)
    torch.set_num_threads(share)
    try:
        yield share
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Executor | None]:
    """Yield an executor of processes, which end with this one, or when an error leaves the context.

    Args:
        workers: Number of processes; with 1, the executor is None, and this process computes.
    """
    if workers < 2:
        yield None
        return
    check_main()
    before = set(multiprocessing.active_children())
    with _shared_threads(workers) as threads:
        executor: Any = ProcessPoolExecutor(workers, context_of_workers(), _begin, (threads,))
        try:
            yield executor
        except BaseException:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)
