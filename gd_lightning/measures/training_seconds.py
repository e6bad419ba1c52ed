"""A stopwatch for seconds of training, without the time of anything else."""

from __future__ import annotations

import time


class Stopwatch:
    """Counts seconds while it runs; it can be stopped and started again.

    Args:
        seconds: Seconds counted before.

    Example:
        >>> watch = Stopwatch()
        >>> watch.seconds
        0.0
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._counted = seconds
        self._started: float | None = None

    def start(self) -> None:
        """Start or continue counting; no effect if it runs."""
        if self._started is None:
            self._started = time.perf_counter()

    def stop(self) -> None:
        """Stop counting; no effect if it does not run."""
        self._counted = self.seconds
        self._started = None

    def leave_out(self, seconds: float) -> None:
        """Subtract seconds of something other than training that were counted."""
        self._counted -= seconds

    @property
    def running(self) -> bool:
        """Whether it is counting."""
        return self._started is not None

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return self._counted + (0.0 if self._started is None else time.perf_counter() - self._started)
