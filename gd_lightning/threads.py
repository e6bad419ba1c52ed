"""Limiting torch to one thread for small workloads (layer 0)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_LITTLE_WORK = 2**23  # multiply-adds, which take some milliseconds on one core
_IMPORTED_BY = os.getpid()
_FEW_NUMBERS = 2**18  # inputs and outputs of layers; an operation on fewer than 2**15 has one thread in any case


def is_little(network: nn.Module, samples: float) -> bool:
    """Whether a pass of some samples through a network is so little work that several threads do not pay.

    On two idle cores, one thread takes at most half as long again as two; where other processes have the cores, two
    threads take up to fifty times as long as one. It depends on nothing that changes from run to run, since the number
    of threads may decide how sums are rounded.

    Args:
        network: The network; only of linear layers it is known how much work they are.
        samples: How many samples there are.
    """
    parameters = list(network.parameters())
    weights = [parameter.shape for parameter in parameters if parameter.ndim == 2]
    if any(parameter.ndim > 2 or parameter.device.type != "cpu" for parameter in parameters):
        return False
    work, numbers = sum(outputs * inputs for outputs, inputs in weights), sum(sum(shape) for shape in weights)
    return samples * work <= _LITTLE_WORK and samples * numbers <= _FEW_NUMBERS


def one_thread_if_forked() -> None:
    """Let torch compute in one thread in a process that was forked from one that may have computed in several.

    Threads are not forked, and torch would wait for those of its parent without end. That is the case of a
    ``ProcessPoolExecutor`` on Linux before Python 3.14.
    """
    if os.getpid() != _IMPORTED_BY:
        torch.set_num_threads(1)


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
