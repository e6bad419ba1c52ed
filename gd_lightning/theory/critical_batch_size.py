"""The critical batch size, up to which a larger batch helps, from bounds of one update.

Source: Ma, Bassily and Belkin, The power of interpolation, ICML 2018, https://arxiv.org/abs/1712.06559. They write the
loss with a 1/2; the formulas hold as they are where beta and lambda are eigenvalues of the Hessian of our loss,
(1 / K) mean |z'd - e|^2.

Letters: N samples, B batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gd_lightning.update_rule import PLAIN, UpdateRule


def share_of_variance(n_samples: int, batch_size: int, replacement: bool = True) -> float:
    """Return the variance of a batch's mean in units of one sample's.

    It is 1 / B, or (N - B) / ((N - 1) B) for a batch without replacement.

    Args:
        n_samples: N.
        batch_size: B.
        replacement: Whether a batch may hold a sample twice.
    """
    if replacement:
        return 1 / batch_size
    return (n_samples - batch_size) / (max(n_samples - 1, 1) * batch_size)


@dataclass(frozen=True)
class Interpolation:
    """The benefit of mini-batches if the model can fit all samples exactly: bounds that hold for a single update.

    Args:
        beta: The largest eigenvalue of the Hessian of one sample's loss.
        lambda_min: Smallest eigenvalue of the Hessian that is not 0; 0 where it is not known.
        lambda_max: Largest eigenvalue.

    Example:
        >>> bounds = Interpolation(beta=2.0, lambda_min=0.1, lambda_max=0.5)
        >>> bounds.critical_batch_size
        5.0
    """

    beta: float
    lambda_min: float
    lambda_max: float

    @property
    def critical_batch_size(self) -> float:
        """m* = beta / lambda_max + 1: below it twice the batch saves half of the updates, far above it none."""
        return self.beta / self.lambda_max + 1

    def largest_stable_lr(self, batch_size: int, rule: UpdateRule = PLAIN) -> float:
        """Return a learning rate below which the expected squared error is sure to shrink in the long run.

        Without momentum it is 2 m / (beta + (m - 1) lambda_max). An update adds noise whose power is at most lr^2 / m
        times the sum of lam (beta - lam) E d^2 over the directions of eigenvectors, d being the error there. In its
        direction noise of power s settles to the variance s G / (lr lam): an update is a filter of second order. So the
        error shrinks where less noise comes back than went in:

            lr (beta - lam) G / m < 1    at lambda_min and at lambda_max,    a = lr lam,
            G = (1 + mu) / ((1 - mu) (2 (1 + mu) - a))    (momentum mu)
            G = (1 + 2 mu + 2 mu^2 - mu (1 + 2 mu) (1 - a)) / ((1 - mu (1 - a)) (1 + (1 + 2 mu) (1 - a)))    (Nesterov)

        which is a quadratic inequality in lr. For samples in one direction, each of one norm or 0, it is the limit
        itself; the tests enumerate all batches.

        Args:
            batch_size: m.
            rule: How an update moves, with momentum mu.

        Example:
            >>> bounds = Interpolation(beta=2.0, lambda_min=0.0, lambda_max=0.5)
            >>> [round(bounds.largest_stable_lr(size), 9) for size in (1, 4, 1000)]
            [1.0, 2.285714286, 3.988035892]
        """
        m, mu = batch_size, rule.momentum

        def limit(lam: float) -> float:
            size, slope = 2 * m * (1 - mu**2), (self.beta - lam) * (1 + mu) + m * lam * (1 - mu)
            if not rule.nesterov:
                return size / slope
            slope, curved = slope - 4 * m * lam * mu**2, lam * mu * (1 + 2 * mu) * (self.beta - lam + m * lam)
            return 2 * size / (slope + math.sqrt(slope**2 + 4 * curved * size))

        return min(limit(self.lambda_min), limit(self.lambda_max))
