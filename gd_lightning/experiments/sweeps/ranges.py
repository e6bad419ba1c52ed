"""The values of a swept option: a list, a range, or the beginning of a series; and those that are swept by default."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison.members import values_of

LRS, BATCH_SIZES = "log(1e-4,1,40)", "1,2,4,...,full"
"""The default values of the swept options."""

_MOST = 10_000  # largest number of values of an option
_AND_SO_ON = "..."
_CLOSE = 1e-9  # relative difference below which two numbers count as equal
_EXAMPLES = "0.1,0.2, log(1e-4,1,40), linear(0,0.9,10) or 1,2,4,...,64"

Given = str | float | Sequence[float | str]


def numbers(name: str, given: Given, full: int | None = None) -> list[float]:
    """Return the numbers given by a text, a number or a list of both, each once, in ascending order.

    Args:
        name: The option, for messages.
        given: Numbers and ranges, separated by commas: log(first,last,count) has equal ratios, linear(first,last,count)
            equal differences, and 1,2,4,...,64 continues the pattern of the three numbers before the dots, up to the
            number after them.
        full: The number that the word full stands for; None if the word is not allowed.

    Raises:
        InputError: The text cannot be parsed.

    Example:
        >>> numbers("lrs", "log(0.001,1,4), 0.5")
        [0.001, 0.01, 0.1, 0.5, 1.0]
        >>> numbers("batch_sizes", "1,2,4,...,full", full=100)
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0]
    """
    parts, found = _parts(name, given), list[float]()
    if not parts:
        raise _unusable(name, given, "it has no value", f"give numbers, as in {_EXAMPLES}")
    for i, part in enumerate(parts):
        if str(part).strip() == _AND_SO_ON:
            end = [_number(name, each, full) for each in parts[i + 1 : i + 2]]
            # With few samples, the three numbers before the dots can be too many.
            if end == [full] and found and found[-1] >= end[0]:
                found = [value for value in found if value < end[0]]
            else:
                found += _series(name, given, found[-3:], end)
        else:
            found += _range(name, part, full)
    if len(found) > _MOST:
        raise _unusable(name, given, f"these are more than {_MOST:,} values", "give fewer")
    return sorted(set(found))


def written_twice(name: str, given: Given, full: int | None = None) -> list[str]:
    """Return the numbers that are written out twice, except within ranges and series, which may overlap.

    Args:
        name: The option, for messages.
        given: See :func:`numbers`.
        full: See :func:`numbers`.

    Example:
        >>> written_twice("batch_sizes", "1,full,100,log(1,100,3)", full=100)
        ['100']
    """
    parts, seen, found = [str(part).strip() for part in _parts(name, given)], set[float](), list[str]()
    for part in parts if _AND_SO_ON not in parts else ():
        if "(" not in part:
            value = _number(name, part, full)
            if value in seen:
                found.append(part)
            seen.add(value)
    return found


def whole_numbers(name: str, given: Given, full: int) -> list[int]:
    """Return batch sizes like :func:`numbers`; those of a range are rounded to whole numbers.

    Args:
        name: The option, for messages.
        given: Numbers, ranges and the word full.
        full: The number that the word full stands for.

    Raises:
        InputError: The text cannot be parsed, or a value is not a whole number.

    Example:
        >>> whole_numbers("batch_sizes", "log(1,full,6)", full=100)
        [1, 3, 6, 16, 40, 100]
    """
    is_range, found = any("(" in str(part) for part in _parts(name, given)), set[int]()
    for value in numbers(name, given, full):
        if value != round(value) and not is_range:
            raise _unusable(name, given, f"{value:g} is not a number of samples", "give whole numbers from 1, or full")
        found.add(round(value))
    return sorted(found)


def _parts(name: str, given: Given) -> list[float | str]:
    if isinstance(given, str):
        return list(values_of(given))
    if isinstance(given, Sequence) and len(given) > _MOST:  # a range takes no memory before it is listed
        raise _unusable(name, given[:3], f"these are the first of {len(given):,} values", f"give {_MOST:,} at most")
    return list(given) if isinstance(given, Sequence) else [given]


def _range(name: str, part: float | str, full: int | None) -> list[float]:
    """Return the numbers of a range, or one number."""
    called = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", str(part))
    if called is None:
        return [_number(name, part, full)]
    kind, arguments = called[1], values_of(called[2])
    if kind not in ("log", "linear") or len(arguments) != 3:
        raise _unusable(name, part, "", "write log(first,last,count) or linear(first,last,count), as log(1e-4,1,40)")
    first, last, count = (_number(name, each, full) for each in arguments)
    if count != round(count) or not 1 <= count <= _MOST:
        raise _unusable(name, part, f"{count:g} is not a number of values", f"give a whole number from 1 to {_MOST:,}")
    if kind == "log" and not (first > 0 and last > 0):
        raise _unusable(name, part, "a range of equal ratios contains only numbers above 0", "give linear(...) instead")
    space = np.geomspace if kind == "log" else np.linspace
    between = space(first, last, int(count))[1:-1].tolist()
    # The printed values are the trained ones, unless the values are too close together for that.
    is_coarse = abs(last - first) > count * 1e-4 * max(abs(first), abs(last))
    return [first, *(_rounded(value, 6 if is_coarse else 12) for value in between), last][: int(count)]


def _number(name: str, given: float | str, full: int | None) -> float:
    text = str(given).strip()
    if text == "full" and full is not None:
        return float(full)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if isinstance(given, bool) or not math.isfinite(value):
        raise _unusable(name, given, "", f"give numbers, as in {_EXAMPLES}")
    return value


def _series(name: str, given: Given, begun: Sequence[float], end: Sequence[float]) -> list[float]:
    """Return the numbers between the beginning of a series and its end, both excluded."""
    if len(begun) < 3 or not end:
        raise _unusable(
            name, given, "", "write three numbers before the dots and the last one after them, as 1,2,4,...,64"
        )
    (first, second, third), last = begun, end[0]
    ratio, step = second / first if first else math.nan, second - first
    is_geometric = ratio > 0 and ratio != 1 and math.isclose(third, second * ratio, rel_tol=_CLOSE)
    is_arithmetic = step != 0 and math.isclose(third - second, step, rel_tol=_CLOSE)
    if not (is_geometric or is_arithmetic):
        three = ",".join(f"{value:g}" for value in begun)
        raise _unusable(name, given, f"{three} have neither equal ratios nor differences", "write the numbers out")
    if last == third:
        return []
    if (third > second) != (last > third):
        raise _unusable(name, given, f"{last:g} does not follow {third:g} in this series", "write the numbers out")
    length = math.log(last / third) / math.log(ratio) if is_geometric and last * third > 0 else (last - third) / step
    if length > _MOST or (is_geometric and last * third <= 0):
        raise _unusable(name, given, f"these are more than {_MOST:,} values", "give fewer")
    between = range(1, math.ceil(length - _CLOSE * max(1.0, length)))
    return [_rounded(third * ratio**i if is_geometric else third + step * i) for i in between]


def _rounded(value: float, digits: int = 12) -> float:
    """Round to some significant digits, to remove artefacts of floating point or to shorten values."""
    return float(f"{value:.{digits}g}")


def _unusable(name: str, given: object, reason: str, way_out: str) -> InputError:
    because = f", because {reason}" if reason else ""
    return InputError(f"cannot use {str(given)[:80]!r} as {name}{because}; {way_out}")
