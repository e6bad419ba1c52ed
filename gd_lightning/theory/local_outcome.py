"""What the curvature at the start, and learning rates that were tried, say of a run of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from gd_lightning.variants import Variant


class LocalVerdict(str, Enum):
    """The outcome of a run by the curvature at its start."""

    STABLE = "stable here"
    """The learning rate is below the limit."""
    PERHAPS_UNSTABLE = "may be unstable here"
    """It is above the limit, but below what diverged in the trial; without one, errors shrink on average over all
    samples, and only the noise of the batches may let them grow."""
    UNSTABLE = "unstable here"
    """It is at least what diverged in the trial; or errors grow, as long as the curvature stays that of the start, and
    the run may settle where the loss is flatter."""
    NO_LIMIT = "no limit here"
    """The loss curves upward in no direction, so no learning rate is too large for its curvature."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LocalOutcome:
    """The statements for a batch size at the start.

    Args:
        variant: The batches of an epoch.
        limit: The learning rate below which a run is stable here; ``inf`` without a limit.
        lr: The configured learning rate.
        verdict: The outcome.
        curvature_limit: The limit by the curvature at the start.
        diverging: The smallest learning rate that diverged in a trial, ``inf`` if none did; None without a trial.
    """

    variant: Variant
    limit: float
    lr: float
    verdict: LocalVerdict
    curvature_limit: float = math.inf
    diverging: float | None = None

    @property
    def half(self) -> float:
        """Half of the limit; if that is by curvature, the sharpest error shrinks fastest there, without momentum."""
        return self.limit / 2

    @classmethod
    def tried(
        cls, variant: Variant, lr: float, curvature_limit: float, diverging: float, at_most: float = math.inf
    ) -> LocalOutcome:
        """Return the outcome if learning rates were tried.

        The limit is the one by curvature if the trial confirms it, that is, if it is between a third and 0.45 of the
        smallest learning rate that diverged. Else it is 0.4 of that: a longer run can diverge from less than half of
        it, and three times the limit is beyond it.

        Args:
            variant: The batches of an epoch.
            lr: The configured learning rate.
            curvature_limit: The limit by the curvature at the start; ``inf`` without one.
            diverging: The smallest learning rate that diverged; ``inf`` if none did.
            at_most: Another upper bound of the limit.

        Example:
            >>> [LocalOutcome.tried(Variant.of(1, 9), 0.1, found, 1.0).limit for found in (0.01, 0.35, 0.5)]
            [0.4, 0.35, 0.4]
        """
        is_borne_out = diverging / 3 <= curvature_limit <= 0.45 * diverging
        limit = min(curvature_limit if is_borne_out or diverging == math.inf else 0.4 * diverging, at_most)
        if limit == math.inf:
            verdict = LocalVerdict.NO_LIMIT
        elif lr >= diverging:
            verdict = LocalVerdict.UNSTABLE
        else:
            verdict = LocalVerdict.STABLE if lr < limit else LocalVerdict.PERHAPS_UNSTABLE
        return cls(variant, limit, lr, verdict, curvature_limit, diverging)
