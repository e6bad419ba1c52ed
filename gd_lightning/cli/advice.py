"""What every plan shares: the batch sizes that are shown, and how a learning rate is advised."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gd_lightning.variants import BatchSize, Variant

SAFE = 0.8  # of a limit: an advice that is not on the edge
_FEW = (10, 100)  # mini-batches that are shown beside the configured one, where they are smaller than the training set


def batch_sizes(configured: Variant) -> Iterator[BatchSize]:
    """Yield the batch sizes to show, largest first, the configured one among them."""
    n = configured.train_samples
    yield "full"
    yield from sorted({configured.batch_size, *_FEW} & set(range(2, n)), reverse=True)
    if n > 1:
        yield 1


def rounded(lr: float) -> str:
    """Write a learning rate with two digits, rounded down: an advice may not pass a limit.

    Example:
        >>> rounded(0.0499), rounded(123.4)
        ('0.049', '1.2e+02')
    """
    digit = 10 ** (math.floor(math.log10(lr)) - 1)
    return f"{math.floor(lr / digit + 1e-9) * digit:.2g}"
