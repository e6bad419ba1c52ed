"""Seconds of training, without the time that anything else takes."""

from __future__ import annotations

import time


class Stopwatch:
    """Counts seconds while it runs; stopped and started as often as needed.

    Args:
        seconds: What has been counted before.

    Example:
        >>> watch = Stopwatch()
        >>> watch.seconds
        0.0
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._counted = seconds
        self._started: float | None = None

    def start(self) -> None:
        """Go on counting; no effect while it runs."""
        if self._started is None:
            self._started = time.perf_counter()

    def stop(self) -> None:
        """Stop counting; no effect while it stands."""
        self._counted = self.seconds
        self._started = None

    def leave_out(self, seconds: float) -> None:
        """Take back seconds that something else took while it ran."""
        self._counted -= seconds

    @property
    def running(self) -> bool:
        """Whether it counts now."""
        return self._started is not None

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return self._counted + (0.0 if self._started is None else time.perf_counter() - self._started)
