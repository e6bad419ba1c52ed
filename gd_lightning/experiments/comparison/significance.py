"""Significance tests of the difference between two groups of runs: one rule for every finding and claim.

Runs of two groups that have the same seeds share the order of the samples and the randomness of the initial weights, so
they are compared seed by seed: for the n differences, with mean m and standard deviation s (of the sample, n - 1),
Student's ``t = m / (s / sqrt(n))`` has n - 1 degrees of freedom. Other groups are compared by Welch's t. A difference
is larger than seeds explain if its two-sided p-value is below 5 %: beyond 12.7 standard errors with two seeds, 4.3 with
three, 2.8 with five, 2 with very many. The same holds for seconds, to which the machine adds its noise.

A group is named as the best of several only if it differs in this way from *every* other one. Then no correction for
multiple comparisons is needed: a wrong group could only be named if it also beat the right one.

The position at which a loss first reaches a target is known only up to a step, since the loss is measured at the ends
of epochs. Equal coarse values do not show that there is no noise, so the variance of a value counts as at least that of
its rounding, ``step ** 2 / 12``, unless all seeds end at the same loss.

A single run says nothing about the effect of the seed, so nothing is concluded from it. Where all seeds have the same
result, as in batch gradient descent from a prescribed start, every difference larger than rounding counts.

Student, "The probable error of a mean", Biometrika 6 (1908), https://doi.org/10.2307/2331554; B. L. Welch, "The
generalization of 'Student's' problem", Biometrika 34 (1947), https://doi.org/10.2307/2332510.
"""

from __future__ import annotations

import bisect
import enum
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_SEEDS = 1000
"""The most seeds that are advised."""

_LEVEL = 0.05
_DIGITS = 1e-5  # relative rounding of a value; a table shows five digits
_ROUNDING = 1e-6  # rounding of a residual in float32, as a fraction of the residuals at the start
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(256)


class Difference(enum.Enum):
    """Verdict on the difference between two groups of runs."""

    ALIKE = "the same, except for rounding"
    EXPLAINED = "no larger than seeds explain"
    UNKNOWN = "between single runs, which do not show the effect of the seed"
    CLEAR = "larger than seeds explain"


def difference(
    one: Sequence[float], other: Sequence[float], *, paired: bool, rounding: float = 0.0, step: float = 0.0
) -> Difference:
    """Judge whether two groups of runs differ in a quantity.

    Args:
        one: The quantity in each run of a group; finite.
        other: The quantity in each run of the other group.
        paired: Whether runs at the same index have the same seed.
        rounding: Differences up to this size are ignored.
        step: Resolution of the values.

    Example:
        >>> difference([1.0, 1.1, 0.9], [2.0, 2.1, 1.8], paired=True).name
        'CLEAR'
        >>> difference([1.0, 1.3], [1.2, 1.4], paired=True).name
        'EXPLAINED'
        >>> difference([1.0], [2.0], paired=True).name
        'UNKNOWN'
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    largest = np.abs(a - b).max() if paired else max(a.max(), b.max()) - min(a.min(), b.min())
    if largest <= rounding:
        return Difference.ALIKE
    if min(len(a), len(b)) < 2:
        return Difference.UNKNOWN
    mean = float(a.mean() - b.mean())
    if abs(mean) <= rounding:
        return Difference.EXPLAINED
    least = step**2 / 12
    parts = [(a - b, 2 * least)] if paired else [(a, least), (b, least)]
    variances = [_variance(*part) / len(part[0]) for part in parts]
    error, freedom = math.sqrt(sum(variances)), float(len(a) - 1)
    if error <= 1e-12 * abs(mean):
        return Difference.CLEAR
    if not paired:
        freedom = sum(variances) ** 2 / sum(own**2 / (len(x) - 1) for own, x in zip(variances, (a, b), strict=True))
    return Difference.CLEAR if two_sided(mean / error, freedom) < _LEVEL else Difference.EXPLAINED


def seeds_to_tell(one: Sequence[float], other: Sequence[float], *, paired: bool, step: float = 0.0) -> float:
    """Return how many seeds in each group would make a difference clear, if mean and spread stay as they are.

    Args:
        one: The quantity in each run of a group, at least two; finite.
        other: The quantity in each run of the other group.
        paired: Whether runs at the same index have the same seed.
        step: Resolution of the values.

    Returns:
        The smallest number; ``inf`` above :data:`MOST_SEEDS`.

    Example:
        >>> seeds_to_tell([1.0, 1.3], [1.2, 1.4], paired=True)
        4.0
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    mean, least = float(a.mean() - b.mean()), step**2 / 12
    parts = [(a - b, 2 * least)] if paired else [(a, least), (b, least)]
    spreads = [_variance(*part) for part in parts]
    share = sum(spreads) ** 2 / sum(spread**2 for spread in spreads) if any(spreads) else 1.0

    def is_clear(count: int) -> bool:
        error = math.sqrt(sum(spreads) / count)
        return two_sided(abs(mean) / error, share * (count - 1)) < _LEVEL if error else mean != 0

    if not is_clear(MOST_SEEDS):
        return math.inf
    return 2.0 + bisect.bisect_left(range(2, MOST_SEEDS), True, key=is_clear)


def rounding_of(losses: Sequence[float], start: float = 0.0) -> float:
    """Return the size up to which a difference counts as rounding.

    Args:
        losses: Values of the quantity; for a difference of losses, the losses themselves.
        start: The initial train loss if the values are losses: float32 residuals are accurate to 1e-6 of initial ones.
    """
    largest = max(map(abs, losses), default=0.0)
    residual = math.sqrt(largest) + _ROUNDING * math.sqrt(max(start, 0.0))
    return max(_DIGITS * largest, residual**2 - largest)


def two_sided(t: float, freedom: float) -> float:
    """Return the two-sided p-value of Student's t.

    With ``t = sqrt(freedom) tan(u)``, its density is proportional to ``cos(u) ** (freedom - 1)``.

    Args:
        t: Student's t.
        freedom: Degrees of freedom, from 1; need not be a whole number.

    Example:
        >>> round(two_sided(12.706, 1), 3), round(two_sided(2.776, 4), 3)
        (0.05, 0.05)
    """
    start = math.atan(abs(t) / math.sqrt(freedom))
    half = (math.pi / 2 - start) / 2
    tail = half * float(_WEIGHTS @ np.cos(start + half * (_NODES + 1)) ** (freedom - 1))
    whole = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi) / 2
    return tail / whole


def _variance(values: NDArray[np.float64], least: float) -> float:
    return max(float(values.var(ddof=1)), least)
