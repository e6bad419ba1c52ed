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


def draw_orders(seeds: Sequence[int], n: int, is_permuted: bool, out: Tensor | None = None) -> Tensor:
    """Return the order of each of several epochs; the same numbers, whoever draws them.

    Args:
        seeds: Seed of each epoch, below 2**64.
        n: N.
        is_permuted: Whether each sample comes once; else all rows are independent.
        out: Receives the row numbers, shape (E, N), int64; None: a new tensor does.

    Returns:
        Row numbers, shape (E, N), int64.
    """
    is_compiled = len(seeds) > 1 and prepare_to_draw(n)
    rows = torch.empty(len(seeds), n, dtype=torch.int64) if out is None else out
    (_draw_compiled if is_compiled else _draw_by_torch)(seeds, rows, is_permuted)
    return rows


def prepare_to_draw(n: int) -> bool:
    """Compile the code that draws orders, or load it, where it is used; returns whether it is.

    Args:
        n: N.
    """
    return n <= MOST_SAMPLES and _KERNELS in sys.modules and draws_as_torch()


@cache
def draws_as_torch() -> bool:
    """Whether compiled code draws the orders that this release of torch draws; looked at once in a process."""
    for n in (2, 250, 1_300, MOST_SAMPLES):
        compiled, by_torch = torch.empty(2, len(_SEEDS_CHECKED), n, dtype=torch.int64)
        for is_permuted in (True, False):
            _draw_compiled(_SEEDS_CHECKED, compiled, is_permuted)
            _draw_by_torch(_SEEDS_CHECKED, by_torch, is_permuted)
            if not torch.equal(compiled, by_torch):
                return False
    return True


def _draw_by_torch(seeds: Sequence[int], rows: Tensor, is_permuted: bool) -> None:
    n, generator = rows.shape[1], torch.Generator()
    for row, seed in zip(rows, seeds, strict=True):
        generator.manual_seed(seed)
        if is_permuted:
            torch.randperm(n, generator=generator, out=row)
        else:
            torch.randint(n, (n,), generator=generator, out=row)


def _draw_compiled(seeds: Sequence[int], rows: Tensor, is_permuted: bool) -> None:
    # Imported here, so that only users of compiled updates need Numba and wait for its import.
    from gd_lightning.engine.kernels import mersenne_twister

    words = np.zeros((mersenne_twister.WORDS + rows.shape[1]) * mersenne_twister.BESIDE, np.uint32)
    mersenne_twister.draw_orders(np.array(seeds, np.uint64), rows.numpy(), words, is_permuted)
