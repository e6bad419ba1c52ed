"""Tasks carried out by an executor, with the same results as in this process."""

from __future__ import annotations

import os
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, TypeVar

from gd_lightning.errors import InputError, first_line
from gd_lightning.experiments.imported_main import check_main
from gd_lightning.threads import one_thread_if

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_Process = tuple[str, int]  # name of the machine, and number of the process there


def carried_out(executor: Executor, carry_out: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
    """Yield the results of the tasks in order; if one fails, those that have not begun are cancelled.

    A worker in another process computes in one thread, since it shares the machine with others, unless its environment
    variable OMP_NUM_THREADS sets the number. A process pool breaks if one of its workers is killed; the remaining tasks
    are then carried out in this process.

    Args:
        executor: An executor of ``concurrent.futures``, or another object with its ``submit``.
        carry_out: A function of a task, which a worker in another process must be able to import.
        tasks: The tasks.

    Raises:
        InputError: The object is not an executor, its workers cannot import the running program, or the tasks cannot be
            sent to them.
    """
    if not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"cannot use {executor!r} as executor, because it has no submit; give an executor of concurrent.futures, "
            "such as ProcessPoolExecutor(2)"
        )
    check_main(executor)
    futures = list[Any]()
    try:
        for task in tasks:
            futures.append(_submitted(executor, carry_out, task))
        for task, future in zip(tasks, futures, strict=True):
            yield _result(future, carry_out, task)
    finally:
        for future in futures:
            future.cancel()


def _submitted(executor: Executor, carry_out: Callable[[_Task], _Result], task: _Task) -> Any:
    """Return the future of a task, with an error if the executor has lost its workers."""
    try:
        return executor.submit(_in_a_worker, carry_out, task, _this_process())
    except BrokenExecutor as error:
        failed = Future[_Result]()
        failed.set_exception(error)
        return failed
    except Exception:  # the executor may pickle the task in this call
        _refuse_unpicklable(carry_out, task)
        raise


def _result(future: Any, carry_out: Callable[[_Task], _Result], task: _Task) -> _Result:
    try:
        result: _Result = future.result()
    except BrokenExecutor:
        warnings.warn(
            "a worker of the executor was killed or could not start; the remaining tasks are run in this process",
            stacklevel=2,
        )
        return carry_out(task)
    except InputError:
        raise
    except Exception:
        _refuse_unpicklable(carry_out, task)
        raise
    return result


def _refuse_unpicklable(carry_out: Callable[[_Task], _Result], task: _Task) -> None:
    """Raise an error that says so if a task failed because it cannot be pickled."""
    try:
        pickle.dumps((carry_out, task))
    except Exception as error:  # an object that cannot be pickled may raise anything
        raise InputError(
            f"cannot send the runs to the executor's workers, because something in them cannot be pickled "
            f"({first_line(error)[:100]}); use functions and classes of a module that workers can import, or an "
            "executor of threads"
        ) from error


def _in_a_worker(carry_out: Callable[[_Task], _Result], task: _Task, caller: _Process) -> _Result:
    is_away = _this_process() != caller
    with one_thread_if(is_away and "OMP_NUM_THREADS" not in os.environ):
        try:
            return carry_out(task)
        except Exception as error:
            # An exception that cannot be pickled would end the pool without a reason.
            if is_away and not _is_sendable(error):
                kind = InputError if isinstance(error, InputError) else RuntimeError
                raise kind(f"{error}" if kind is InputError else f"{type(error).__name__}: {error}") from None
            raise


def _is_sendable(error: Exception) -> bool:
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    except Exception:  # the class of the exception may take other arguments than it keeps
        return False


def _this_process() -> _Process:
    return socket.gethostname(), os.getpid()
