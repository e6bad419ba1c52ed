"""Arrays of real numbers of any type, as floating-point numbers that hold them exactly.

Letters: N rows.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.float64 import EXACT

_NUMBERS = (Real, Decimal, np.bool_)
_WAY_OF_TIMES = "write it as a number, such as the days since the first one"


def as_array(given: Any) -> NDArray[Any]:
    """Convert a list or another object to a NumPy array; integers are kept."""
    values = np.asarray(given)
    if isinstance(given, (list, tuple)) and values.dtype == np.float64 and (np.abs(values) > EXACT).any():
        return np.asarray(given, object)  # NumPy takes whole numbers of more than 63 bits for floats
    return values


def as_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of real numbers of any type as float32 if their type has no more digits, else as float64.

    Args:
        values: The numbers, shape (N, ...).
        name: Their name in messages.

    Raises:
        InputError: A value is not a real number, or has more digits than float64.
    """
    kind = values.dtype.kind
    if kind == "O" and all(isinstance(value, _NUMBERS) for value in values.flat):
        check_exact(values, name)
        return values.astype(np.float64)
    if kind not in "biuf":
        what = {"c": "complex numbers", "M": "times", "m": "lengths of time"}.get(kind, _first_of(values))
        way = _WAY_OF_TIMES if kind in "mM" else "use real numbers"
        raise InputError(f"cannot use {name}, because it contains {what}; {way}")
    if kind in "iu" and values.dtype.itemsize > 4:
        check_exact(values, name)
    return values.astype(np.float32 if kind == "f" and values.dtype.itemsize <= 4 else np.float64, copy=False)


def check_exact(values: NDArray[Any], name: str) -> None:
    """Refuse whole numbers that float64 cannot represent, such as identifiers of 19 digits.

    Raises:
        InputError: There is such a number.
    """
    large = np.argwhere((values > EXACT) | (values < -EXACT))
    for place in large:
        value = values[tuple(place)]
        if isinstance(value, Integral) and int(float(value)) != int(value):
            raise InputError(
                f"cannot use {name}, because {value} in row {int(place[0]) + 1} has more digits than a float64 number; "
                "leave out a column of identifiers, or subtract a constant from it"
            )


def _first_of(values: NDArray[Any]) -> str:
    """Describe the content of an array without numbers by its first value that is not a number."""
    value = next((value for value in values.flat if not isinstance(value, _NUMBERS)), None)
    return f"{str(value)[:40]!r}" if isinstance(value, (str, bytes)) else f"a {type(value).__name__}"
