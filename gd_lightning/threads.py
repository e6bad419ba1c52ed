"""Limiting torch to one thread for small workloads (layer 0)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_if(is_little: bool) -> Iterator[None]:
    """Let torch compute in one thread where several would only wait for each other.

    Where another process has the other core, that takes far longer than little work itself.

    Args:
        is_little: Whether the work is so little; else threads are as they were.
    """
    before = torch.get_num_threads()
    if is_little and before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if is_little and before > 1:
            torch.set_num_threads(before)
