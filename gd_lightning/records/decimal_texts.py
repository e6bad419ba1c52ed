"""The texts of many numbers at once: the same as those of ``repr``, in half of its time (layer 0).

The shortest decimal number that is nearest to a float64 is found as by Raffaello Giulietti, The Schubfach way to render
doubles (2022), section 9; in arrays, since ``repr`` takes most of the time of writing a long history.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

# Bytes of a cell: a sign; a zero, a point and zeros; 17 digits, each with room for a point behind it; an exponent.
WIDTH = 45
_ZEROS, _DIGITS, _EXPONENT = slice(1, 6), slice(6, 40, 2), slice(40, 45)
_MOST_EXACT = 1e15  # whole numbers below are written without a point
_LARGEST_FIXED, _SMALLEST_FIXED = 16, -3  # places of the point without an exponent, counted from the first digit
_LEAST_POWER, _GREATEST_POWER = -292, 324  # of ten, that a float64 is multiplied by
_LOW, _HALF = np.uint64(2**32 - 1), np.uint64(32)


def cells(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    r"""Return the texts of numbers as bytes, shape (n, WIDTH), between which are bytes of 0 that are to be left out.

    Whole numbers below 1e15 are without a point.

    Args:
        values: The numbers, shape (n,).

    Example:
        >>> cells(np.array([0.1, -2.0, 1e-5, float("nan")])).tobytes().replace(b"\0", b"")
        b'0.1-21e-05nan'
    """
    texts, size = np.zeros((len(values), WIDTH), np.uint8), np.abs(values)
    is_usual = (size >= np.finfo(np.float64).tiny) & (size < np.inf)
    is_usual &= (size < _MOST_EXACT) | (size >= 10 * _MOST_EXACT)  # between, some have a point and a zero
    for i in np.flatnonzero(~is_usual).tolist():
        text = b"0" if values[i] == 0 else repr(float(values[i])).encode()
        texts[i, : len(text)] = np.frombuffer(text, np.uint8)
    if is_usual.all():
        _write_usual(values, texts)
    else:
        written = np.zeros((int(is_usual.sum()), WIDTH), np.uint8)
        _write_usual(values[is_usual], written)
        texts[is_usual] = written
    return texts


def _write_usual(values: NDArray[np.float64], texts: NDArray[np.uint8]) -> None:
    """Write numbers that are neither zero, nor infinite, nor so small that they have fewer digits."""
    digits, exponent = _shortest(values.view(np.uint64))
    lacking = np.uint64(2) - (digits >= 10**15) - (digits >= 10**16)  # of 17 digits
    digits, point = digits * _TENS[lacking], (17 + exponent - lacking.astype(np.int64))
    letters, count = _letters(digits)
    is_fixed = (point <= _LARGEST_FIXED) & (point >= _SMALLEST_FIXED)
    behind = np.where(is_fixed, point, 1)  # how many digits there are before the point
    texts[:, 0] = np.where(np.signbit(values), ord("-"), 0)
    texts[:, _DIGITS] = letters * _FIRST[np.maximum(count, np.where(is_fixed, point, 0))]
    has_point = np.flatnonzero((behind > 0) & (count > behind))
    texts[has_point, _DIGITS.start - 1 + 2 * behind[has_point]] = ord(".")
    small = np.flatnonzero(behind <= 0)
    texts[small, _ZEROS] = _LEADING[-behind[small]]
    if not is_fixed.all():
        for place in np.unique(point[~is_fixed]).tolist():
            texts[np.flatnonzero(~is_fixed & (point == place)), _EXPONENT] = _power(place - 1)


def _shortest(bits: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return d and k of the shortest d 10^k that is read as a float64, of 15 to 17 digits, the last ones maybe 0."""
    fraction = bits & np.uint64(2**52 - 1)
    power = ((bits >> np.uint64(52)) & np.uint64(2047)).astype(np.int64) - 1075
    # The next smaller number is half as far away as the next larger one.
    is_power = fraction == 0
    k = (power * 1_262_611 - is_power * 524_031) >> 22
    shift = (power + ((-k * 1_741_647) >> 19) + 1).astype(np.uint64)
    of_ten = tuple(part[-k - _LEAST_POWER] for part in _powers_of_ten())
    number = (fraction | np.uint64(2**52)) << np.uint64(2)
    is_odd = fraction & np.uint64(1)  # an even one is also read from the middle between it and its neighbour
    lower = _scaled(of_ten, (number - np.uint64(2) + is_power) << shift) + is_odd
    middle = _scaled(of_ten, number << shift)
    upper = _scaled(of_ten, (number + np.uint64(2)) << shift) - is_odd
    with_last = middle >> np.uint64(2)
    without = with_last // np.uint64(10)
    down, up = lower <= np.uint64(40) * without, np.uint64(40) * without + np.uint64(40) <= upper
    is_shorter = down != up
    fits, next_fits = lower <= with_last << np.uint64(2), (with_last << np.uint64(2)) + np.uint64(4) <= upper
    rest = middle & np.uint64(3)
    nearest = (rest > 2) | ((rest == 2) & ((with_last & np.uint64(1)) == 1))
    full = with_last + np.where(fits != next_fits, next_fits, nearest)
    return np.where(is_shorter, without + up, full), k + is_shorter


def _scaled(of_ten: tuple[NDArray[np.uint64], ...], number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a number times a power of ten, over 2^128, with a last bit of 1 where that is not whole."""
    high, low = _product(of_ten[0], number)
    carried, _ = _product(of_ten[1], number)
    low = low + carried
    return (high + (low < carried)) | (low > 1)


def _product(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the upper and the lower 64 bits of a product."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    low, left, right = a_low * b_low, a_high * b_low, a_low * b_high
    middle = (low >> _HALF) + (left & _LOW) + (right & _LOW)
    high = a_high * b_high + (left >> _HALF) + (right >> _HALF) + (middle >> _HALF)
    return high, (middle << _HALF) | (low & _LOW)


@functools.cache
def _powers_of_ten() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the upper and lower 64 of the first 128 bits of powers of ten, rounded up."""
    found = []
    for power in range(_LEAST_POWER, _GREATEST_POWER + 1):
        over, under = 10 ** max(power, 0), 10 ** max(-power, 0)
        places = 127 - ((power * 1_741_647) >> 19)
        over, under = over << max(places, 0), under << max(-places, 0)
        found.append(-(-over // under))
    return (np.array([each >> 64 for each in found], np.uint64), np.array([each % 2**64 for each in found], np.uint64))


def _letters(digits: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the 17 digits of numbers as ASCII, shape (n, 17), and how many there are without zeros at the end."""
    of_four, zeros_of_four = _fours()
    first, rest = np.divmod(digits, np.uint64(10**16))
    halves = np.stack(np.divmod(rest, np.uint64(10**8)), axis=1).astype(np.uint32)
    fours = np.stack(np.divmod(halves, np.uint32(10**4)), axis=2).reshape(-1, 4)
    zeros = zeros_of_four[fours[:, 0]]
    for column in (1, 2, 3):
        own = zeros_of_four[fours[:, column]]
        zeros = np.where(own == 4, zeros + 4, own)
    letters = np.empty((len(digits), 17), np.uint8)
    letters[:, 0] = first + np.uint64(ord("0"))
    letters[:, 1:] = of_four[fours].view(np.uint8)
    return letters, 17 - zeros


@functools.cache
def _fours() -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return four digits as ASCII in one number, and how many zeros they end with, for 0 to 9999."""
    texts = [f"{number:04}" for number in range(10_000)]
    letters = np.frombuffer("".join(texts).encode(), np.uint32)
    return letters, np.array([4 - len(text.rstrip("0")) for text in texts])


@functools.cache
def _power(exponent: int) -> NDArray[np.uint8]:
    """Return an exponent as ``repr`` writes it, padded by bytes of 0."""
    return np.frombuffer(f"e{exponent:+03}".encode().ljust(5, b"\0"), np.uint8)


_TENS = np.array([1, 10, 100], np.uint64)
_FIRST = np.tri(18, 17, -1, np.uint8)  # _FIRST[n] has n times 1, then 0
_LEADING = np.array([list(text.ljust(5, b"\0")) for text in itertools.accumulate([b"0.", b"0", b"0", b"0"])], np.uint8)
