"""The loss at which a run of a linear regressor counts as converged."""

from __future__ import annotations

import sys

from gd_lightning.theory.quadratic_loss import LinearLoss

_TOLERANCE = 0.01  # fraction of the least-squares loss
_NO_SCALE = 1e-6  # fraction of the loss of the best constant below which a least-squares loss counts as 0
_TOLERANCE_IF_NO_SCALE = 1e-4  # fraction of the loss of the best constant
_ROUNDING = 1e-28  # fraction of the excess at the start below which the loss of the best constant is rounding error


def target_excess(loss: LinearLoss, excess_at_start: float) -> float:
    """Return the excess, the loss above the lowest, at which a run has converged.

    It is 1 % of the lowest loss, the least-squares loss unless there is weight decay, or, if that is less than a
    millionth of the loss of the best constant, a ten-thousandth of the latter. So with a bias, R2 is within 0.01 of
    that of the least-squares solution, wherever the run starts.

    Args:
        loss: The loss that is minimised.
        excess_at_start: The excess before the first update, the scale of constant targets.
    """
    scale = loss.constant if loss.constant > _ROUNDING * excess_at_start else excess_at_start
    if loss.lowest > _NO_SCALE * scale:
        return _TOLERANCE * loss.lowest
    return max(_TOLERANCE_IF_NO_SCALE * scale, sys.float_info.min)
