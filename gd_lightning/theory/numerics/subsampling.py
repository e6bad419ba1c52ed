"""Representative subsamples, for computations that would take minutes on all samples."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn_evenly(n: int, most: int | None) -> Tensor | None:
    """Draw one row number from each of some equal parts of n; None if all rows would be drawn.

    Args:
        n: Number of rows.
        most: Number of rows to draw; None: all.

    Returns:
        Row numbers, ascending, shape (most,).

    Example:
        >>> drawn_evenly(3, 3) is None, drawn_evenly(9, 3).numpy() // 3
        (True, array([0, 1, 2]))
    """
    if most is None or n <= most:
        return None
    starts = torch.arange(most + 1) * n // most
    shares = torch.rand(most, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows: Tensor = starts[:-1] + (shares * starts.diff()).long()
    return rows
