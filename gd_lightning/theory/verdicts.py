"""The words for what is predicted of a run, as ``plan`` prints them."""

from __future__ import annotations

from enum import Enum


class Verdict(str, Enum):
    """The predicted outcome of a run in a word."""

    CONVERGES = "converges"
    """It reaches the target, close to the least-squares loss, within its epochs."""
    SLOW = "slow"
    """It would reach the target, but takes more epochs."""
    REACHES_ITS_FLOOR = "reaches its floor"
    """It is stable, but the noise of its batches, or rounding, keeps it above the target."""
    DIVERGES = "diverges"
    """Its learning rate is not below the largest stable one."""

    def __str__(self) -> str:
        return self.value
