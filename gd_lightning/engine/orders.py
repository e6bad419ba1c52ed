"""Orders of samples of many epochs, drawn as torch draws them on the CPU; importing this module imports no Numba.

To seed torch's generator takes longer than to draw the order of some hundred samples. Compiled code, which makes only
what is needed of its state, is used where the compiled updates are loaded already: to load Numba takes longer still.

Letters: N samples, E epochs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

MOST_SAMPLES = 10_000
"""Samples up to which compiled code takes a fraction of torch's time, and little memory."""

_KERNELS = "gd_lightning.engine.kernels"
_SEEDS_CHECKED = [0, 1, 2**31, 2**32, 2**63 - 1, *range(2**64 - 20, 2**64)]


def draw_orders(seeds: Sequence[int], n: int, is_permuted: bool) -> Tensor:
    """Return the order of each of several epochs; the same numbers, whoever draws them.

    Args:
        seeds: Seed of each epoch, below 2**64.
        n: N.
        is_permuted: Whether each sample comes once; else all rows are independent.

    Returns:
        Row numbers, shape (E, N), int64.
    """
    is_compiled = len(seeds) > 1 and prepare_to_draw(n)
    return (_draw_compiled if is_compiled else _draw_by_torch)(seeds, n, is_permuted)


def prepare_to_draw(n: int) -> bool:
    """Compile the code that draws orders, or load it, where it is used; returns whether it is.

    Args:
        n: N.
    """
    return n <= MOST_SAMPLES and _KERNELS in sys.modules and draws_as_torch()


@cache
def draws_as_torch() -> bool:
    """Whether compiled code draws the orders that this release of torch draws; looked at once in a process."""
    return all(
        torch.equal(_draw_compiled(_SEEDS_CHECKED, n, is_permuted), _draw_by_torch(_SEEDS_CHECKED, n, is_permuted))
        for n in (2, 250, 1_300, MOST_SAMPLES)
        for is_permuted in (True, False)
    )


def _draw_by_torch(seeds: Sequence[int], n: int, is_permuted: bool) -> Tensor:
    rows, generator = torch.empty(len(seeds), n, dtype=torch.int64), torch.Generator()
    for row, seed in zip(rows, seeds, strict=True):
        generator.manual_seed(seed)
        if is_permuted:
            torch.randperm(n, generator=generator, out=row)
        else:
            torch.randint(n, (n,), generator=generator, out=row)
    return rows


def _draw_compiled(seeds: Sequence[int], n: int, is_permuted: bool) -> Tensor:
    # Imported here, so that only users of compiled updates need Numba and wait for its import.
    from gd_lightning.engine.kernels import orders

    rows = np.empty((len(seeds), n), np.int64)
    words = np.zeros((orders.WORDS + n) * orders.BESIDE, np.uint32)
    orders.draw_orders(np.array(seeds, np.uint64), rows, words, is_permuted)
    return torch.from_numpy(rows)
