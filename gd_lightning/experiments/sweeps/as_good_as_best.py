"""Which learning rates of a sweep are as good as the best one, as far as its seeds distinguish them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gd_lightning.experiments.comparison.significance import Difference, difference, rounding_of


def as_good_as_best(
    lrs: Sequence[float], last: NDArray[np.float64], is_sound: NDArray[np.bool_], best: int, start: float
) -> tuple[float, float]:
    """Return the lowest and highest learning rate of those around the best that are not significantly worse.

    Args:
        lrs: The learning rates, ascending, L of them.
        last: The train losses at the end, shape (L, seeds), of at least two seeds.
        is_sound: Whether no run of a learning rate diverged, shape (L,).
        best: The place of the best learning rate.
        start: The largest train loss before the first update, which says how far losses are rounded.
    """

    def is_near(i: int) -> bool:
        rounding = rounding_of([*last[i], *last[best]], start)
        found = difference(last[i], last[best], paired=True, rounding=rounding) if is_sound[i] else None
        return found in (Difference.ALIKE, Difference.EXPLAINED)

    below = sum(1 for _ in itertools.takewhile(is_near, range(best - 1, -1, -1)))
    above = sum(1 for _ in itertools.takewhile(is_near, range(best + 1, len(last))))
    return lrs[best - below], lrs[best + above]
