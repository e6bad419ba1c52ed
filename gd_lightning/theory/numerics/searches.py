"""Searches for boundaries, roots and minima of expensive functions of one variable.

Sources: Dowell and Jarratt, A modified regula falsi method, BIT 11 (1971), https://doi.org/10.1007/BF01934364, the
Illinois rule; Kiefer, Sequential minimax search for a maximum, Proc. AMS 4 (1953),
https://doi.org/10.1090/S0002-9939-1953-0055639-3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_SETTLED = 1e-9
_MOST = 100


def bisected(
    holds: Callable[[float], bool], low: float, high: float, middle: Callable[[float, float], float | None]
) -> tuple[float, float]:
    """Narrow down the number from which on a condition is true.

    Args:
        holds: Whether the condition is true at a number.
        low: A number at which it is false.
        high: A number at which it is true.
        middle: Returns a number between two; None if they are close enough.

    Returns:
        Two numbers that are close enough; the condition is true only at the second one.
    """
    while (between := middle(low, high)) is not None:
        low, high = (low, between) if holds(between) else (between, high)
    return low, high


def smallest_whole(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the smallest integer at which a condition is true, from one where it is false to one where it is true.

    Example:
        >>> smallest_whole(lambda number: number**2 >= 50, 0, 100)
        8
    """

    def middle(low: float, high: float) -> float | None:
        between = (low + high) // 2
        return between if low < between < high else None  # there is no number between two large neighbouring floats

    return bisected(holds, low, high, middle)[1]


def root(function: Callable[[float], float], low: float, high: float, at_high: float | None = None) -> float:
    """Return a root of a function, to about nine digits, by the rule of false position.

    Args:
        function: A function, preferably nearly linear.
        low: A point at which the function has one sign.
        high: A point at which the function has the other sign.
        at_high: Value of the function at ``high``, or a substitute if it cannot be evaluated.

    Example:
        >>> round(root(lambda x: x * x - 2, 0, 2), 8)
        1.41421356
    """
    at_low, at_high = function(low), function(high) if at_high is None else at_high
    found, last = math.inf, 0
    for _ in range(_MOST):
        before, found = found, (low * at_high - high * at_low) / (at_high - at_low)
        if abs(found - before) <= _SETTLED * abs(found):
            break
        value = function(found)
        if value == 0:
            break
        # The value at an end that stays twice is halved, so that both ends move (Illinois method).
        if (value > 0) == (at_low > 0):
            low, at_low = found, value
            at_high, last = at_high / 2 if last == -1 else at_high, -1
        else:
            high, at_high = found, value
            at_low, last = at_low / 2 if last == 1 else at_low, 1
    return found


def minimum(
    function: Callable[[float], float], low: float, high: float, enough: float, small: float = -math.inf
) -> float:
    """Return the minimum of a function that falls and then rises, or a point with a small value, by golden section.

    Args:
        function: The function.
        low: Lower end of the interval.
        high: Upper end of the interval.
        enough: Length of the interval at which the search ends.
        small: A value that ends the search when it is reached.

    Example:
        >>> round(minimum(lambda x: (x - 1) ** 2, 0, 3, enough=1e-3), 2)
        1.0
    """
    golden = (math.sqrt(5) - 1) / 2
    inner = [high - golden * (high - low), low + golden * (high - low)]
    values = [function(place) for place in inner]
    while high - low > enough:
        if min(values) <= small:
            return inner[values.index(min(values))]
        if values[0] < values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - golden * (high - low)
            values[0] = function(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + golden * (high - low)
            values[1] = function(inner[1])
    return (low + high) / 2
