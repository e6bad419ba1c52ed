"""Tasks carried out by an executor, with the results that they have in this process."""

from __future__ import annotations

import os
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from typing import Any, TypeVar

from gd_lightning.errors import InputError, first_line
from gd_lightning.threads import one_thread_if

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_Process = tuple[str, int]  # its machine, and its number there


def carried_out(executor: Executor, carry_out: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
    """Yield the result of each task, in their order; those that have not begun are cancelled where one fails.

    A worker in another process computes in one thread, since it shares the machine with others, unless its variable
    OMP_NUM_THREADS says how many. A process pool breaks where one of its workers is killed; what is left is then
    carried out in this process.

    Args:
        executor: Any executor of ``concurrent.futures``, or what has its ``submit``.
        carry_out: A function of a task, which a worker in another process has to be able to import.
        tasks: The tasks.

    Raises:
        InputError: There is no such executor, or the tasks cannot be sent to its workers.
    """
    if not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"cannot use {executor!r} as executor, because it has no submit; give an executor of concurrent.futures, "
            "such as ProcessPoolExecutor(2)"
        )
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
    """Return the future of a task; None where the workers are gone."""
    try:
        return executor.submit(_in_a_worker, carry_out, task, _this_process())
    except BrokenExecutor:
        return _Broken()
    except Exception:  # of an executor that pickles at once
        _refuse_unpicklable(carry_out, task)
        raise


class _Broken:
    """The future of a task that an executor without workers was given."""

    def result(self) -> Any:
        """Raise what the executor raises."""
        raise BrokenExecutor

    def cancel(self) -> None:
        """Do nothing: nothing has begun."""


def _result(future: Any, carry_out: Callable[[_Task], _Result], task: _Task) -> _Result:
    try:
        result: _Result = future.result()
    except BrokenExecutor:
        warnings.warn(
            "a worker of the executor was ended by something else, or could not begin; what is left is carried out in "
            "this process",
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
    """Say that a task cannot be pickled where that is why it failed."""
    try:
        pickle.dumps((carry_out, task))
    except Exception as error:  # whatever an object raises that cannot be pickled
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
            if is_away and not _is_sendable(error):  # it would end the pool, and nobody would know why
                kind = InputError if isinstance(error, InputError) else RuntimeError
                raise kind(f"{error}" if kind is InputError else f"{type(error).__name__}: {error}") from None
            raise


def _is_sendable(error: Exception) -> bool:
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    except Exception:  # of a class that takes other arguments than it keeps
        return False


def _this_process() -> _Process:
    return socket.gethostname(), os.getpid()
