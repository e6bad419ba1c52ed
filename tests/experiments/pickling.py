"""An executor for tests, which pickles as one of other processes does."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any


class Pickling(Executor):
    """Carries tasks out at once, in this process, as if it were another one: all is pickled on its way.

    Args:
        broken_from: From which task on its workers are gone.
    """

    def __init__(self, broken_from: float = math.inf) -> None:
        self.submitted = 0
        self._broken_from = broken_from

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Carry a task out."""
        self.submitted += 1
        future = Future[Any]()
        try:
            if self.submitted > self._broken_from:
                raise BrokenExecutor
            called = pickle.loads(pickle.dumps((function, args, options)))
            future.set_result(pickle.loads(pickle.dumps(called[0](*called[1], **called[2]))))
        except Exception as error:
            future.set_exception(error)
        return future
