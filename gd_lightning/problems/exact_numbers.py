"""Arrays of real numbers of any type, as floating-point numbers that hold them exactly.

Letters: N rows.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.float64 import EXACT

_NUMBERS = (Real, Decimal, np.bool_)
_WAY_OF_TIMES = "write it as a number, such as the days since the first one"


def as_array(given: Any, name: str) -> NDArray[Any]:
    """Convert a tensor, a list or another object to a NumPy array; integers are kept.

    Args:
        given: Anything.
        name: The name of the array in messages.

    Raises:
        InputError: NumPy cannot convert it, or some values are masked, or it is sparse.
    """
    given = without_tensors(given, name)
    check_masks(given, name)
    if hasattr(given, "tocsr"):
        raise InputError(f"cannot use {name}, because it is a sparse {type(given).__name__}; give its toarray()")
    try:
        values = np.asarray(given)
        if isinstance(given, (list, tuple)) and values.dtype == np.float64 and (np.abs(values) > EXACT).any():
            return np.asarray(given, object)  # NumPy would convert whole numbers of more than 63 bits to floats
    except MemoryError:
        raise
    except Exception as error:  # objects of other libraries may raise anything
        raise InputError(
            f"cannot use {name}, because its rows have different lengths, or are not numbers; give an array of shape "
            "(N, columns)"
        ) from error
    return values


def check_masks(given: Any, name: str) -> None:
    """Refuse masked values, of which NumPy would take what lies below the mask.

    Raises:
        InputError: A value of an array, or of an array in a list, is masked.
    """
    rows = given if isinstance(given, (list, tuple)) else ()
    if np.ma.is_masked(given) or any(isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row) for row in rows):
        raise InputError(f"cannot use {name}, because values of it are masked; drop these rows, or fill them")


def without_tensors(given: Any, name: str) -> Any:
    """Return a tensor, or a list with tensors, as an array that shares their values, and all else as it is.

    Raises:
        InputError: A tensor does not hold real numbers, one in each place.
    """
    if isinstance(given, Tensor):
        return _values_of(given, name)
    if isinstance(given, (list, tuple)) and any(isinstance(part, Tensor) for part in given):
        return [_values_of(part, name) if isinstance(part, Tensor) else part for part in given]
    return given


def _values_of(given: Tensor, name: str) -> NDArray[Any]:
    kind: object = given.dtype if given.is_complex() or given.is_quantized else given.layout
    kind = "rows of different lengths" if given.is_nested else "the device meta" if given.is_meta else kind
    if kind is not torch.strided:
        raise InputError(f"cannot use {name}, because it is a tensor of {kind}; give a dense tensor of real numbers")
    values = given.detach().cpu().resolve_neg()  # data are read here; a run brings them to where it trains
    has_own = not values.is_floating_point() or values.dtype in (torch.float32, torch.float64)
    try:
        return (values if has_own else values.float()).numpy()
    except (RuntimeError, TypeError) as error:  # a subclass without values, or a type that NumPy does not have
        kind = f"{type(given).__name__} of {given.dtype}"
        raise InputError(f"cannot use {name}, because it is a {kind}; give a dense tensor of real numbers") from error


def as_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of real numbers of any type as float32 if their type has no more digits, else as float64.

    Args:
        values: The numbers, shape (N, ...).
        name: The name of the numbers in messages.

    Raises:
        InputError: A value is not a real number, or has more digits than float64.
    """
    kind = values.dtype.kind
    if kind == "O" and is_numeric(values):
        check_exact(values, name)
        return values.astype(np.float64)
    if kind not in "biuf":
        what = {"c": "complex numbers", "M": "times", "m": "lengths of time"}.get(kind, _first_of(values))
        way = _WAY_OF_TIMES if kind in "mM" else "use real numbers"
        raise InputError(f"cannot use {name}, because it contains {what}; {way}")
    if kind in "iu" and values.dtype.itemsize > 4:
        check_exact(values, name)
    return values.astype(np.float32 if kind == "f" and values.dtype.itemsize <= 4 else np.float64, copy=False)


def is_numeric(values: NDArray[Any]) -> bool:
    """Whether all values of an array are numbers, complex ones included, which are refused as such."""
    kind = values.dtype.kind
    return all(isinstance(value, _NUMBERS) for value in values.flat) if kind == "O" else kind in "biufc"


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
