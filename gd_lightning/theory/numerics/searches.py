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
    """Narrow down the number from which on something holds.

    Args:
        holds: Whether it holds at a number.
        low: Where it does not hold.
        high: Where it holds.
        middle: Gives a number between two; None where they are close enough.

    Returns:
        Two numbers that are close enough; it holds at the second one alone.
    """
    while (between := middle(low, high)) is not None:
        low, high = (low, between) if holds(between) else (between, high)
    return low, high


def smallest_whole(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the smallest whole number for which something holds, between one where it does not and one where it does.

    Example:
        >>> smallest_whole(lambda number: number**2 >= 50, 0, 100)
        8
    """

    def middle(low: float, high: float) -> float | None:
        between = (low + high) // 2
        return between if low < between < high else None  # of large floating-point numbers, none is

    return bisected(holds, low, high, middle)[1]


def root(
    function: Callable[[float], float],
    low: float,
    high: float,
    at_low: float | None = None,
    at_high: float | None = None,
) -> float:
    """Return where a function changes its sign, to about nine digits, by the rule of false position.

    Args:
        function: Best one that is nearly a straight line.
        low: Where it has one sign.
        high: Where it has the other.
        at_low: Its value there, or one that stands for it where it cannot be evaluated.
        at_high: Its value at ``high``, or one that stands for it.

    Example:
        >>> round(root(lambda x: x * x - 2, 0, 2), 8)
        1.41421356
    """
    at_low = function(low) if at_low is None else at_low
    at_high = function(high) if at_high is None else at_high
    found, last = math.inf, 0
    for _ in range(_MOST):
        before, found = found, (low * at_high - high * at_low) / (at_high - at_low)
        if abs(found - before) <= _SETTLED * abs(found):
            break
        value = function(found)
        if value == 0:
            break
        # An end that stays twice counts half, so that both ends move.
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
    """Return where a function that falls and then rises is smallest, or small, by golden section.

    Args:
        function: The function.
        low: Where to look from.
        high: To where.
        enough: How close is close.
        small: A value at or below which nothing smaller is looked for.

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
