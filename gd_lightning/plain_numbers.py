"""NumPy's numbers as Python's own, which every checkpoint reader can load (layer 0)."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_python(value: Any) -> Any:
    """Return a value with NumPy's numbers and arrays, also those in lists, tuples and dicts, as Python's.

    Args:
        value: Any value; what is not a number, array, list, tuple or dict is returned as it is.

    Example:
        >>> as_python({"lr": np.float32(0.5), "sizes": np.array([8, 4]), "nested": (np.int64(1), "auto", None)})
        {'lr': 0.5, 'sizes': [8, 4], 'nested': (1, 'auto', None)}
    """
    if isinstance(value, np.longdouble):  # Python has no other number of this precision
        return float(value)
    if isinstance(value, (np.number, np.bool_)):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return as_python(value.tolist())
    if type(value) in (list, tuple):
        return type(value)(as_python(item) for item in value)
    if type(value) is dict:
        return {as_python(key): as_python(item) for key, item in value.items()}
    return value
