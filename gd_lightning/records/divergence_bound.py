"""The bound above which a train loss has diverged, for all engines, callbacks and reports (layer 0)."""

from __future__ import annotations

import math

# A train loss this many times the one at update 0 is not a fluctuation: on the steep line at lr 0.1, B = 1, the factor
# separates all of 40 seeds that diverge from all that converge.
DIVERGENCE_FACTOR = 1e6

UPDATES_BETWEEN_CHECKS = 100
"""Updates from one check of the batch losses to the next: to read them is to wait for the device."""


def is_beyond(loss: float, first: float, factor: float = DIVERGENCE_FACTOR) -> bool:
    """Whether a loss is not finite, or more than a multiple of the first train loss.

    Args:
        loss: The loss.
        first: The train loss at update 0; if it is 0, every finite loss is within the bound.
        factor: The multiple.

    Example:
        >>> is_beyond(1e7, first=2.0), is_beyond(math.inf, first=0.0), is_beyond(1e7, first=0.0)
        (True, True, False)
    """
    return not math.isfinite(loss) or 0 < first < loss / factor
