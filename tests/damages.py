"""Every way to damage plain values that were read from a file: each key and each value, by each other kind of value."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Place = tuple[Any, ...]
DELETED = "deleted"
_OTHERS: dict[str, Any] = {
    "nothing": None,
    "text": "text",
    "a number": 7.5,
    "nan": math.nan,
    "a negative number": -1,
    "true": True,
    "an empty list": [],
    "a list": [3],
    "an empty mapping": {},
    "a mapping": {"a": 1},
    "a tensor": torch.ones(3),
    "a huge number": 10**30,
}


def damages(values: Any) -> Iterator[tuple[Place, str]]:
    """Yield each place of nested values, and each way in which what is there can be damaged."""
    for place in _places(values):
        yield from ((place, kind) for kind in _kinds(_at(values, place)))


def damaged(values: Any, place: Place, kind: str) -> Any:
    """Return a copy of values with a damage, which shares what is not damaged."""
    key, *rest = place
    changed = list(values) if isinstance(values, tuple) else copy.copy(values)
    if rest:
        changed[key] = damaged(values[key], tuple(rest), kind)
    elif kind == DELETED:
        del changed[key]
    else:
        changed[key] = _other(values[key], kind)
    return tuple(changed) if isinstance(values, tuple) else changed


def _places(values: Any, above: Place = ()) -> Iterator[Place]:
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if _is_list(values) else ()
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))


def _at(values: Any, place: Place) -> Any:
    for key in place:
        values = values[key]
    return values


def _kinds(value: Any) -> Iterator[str]:
    yield DELETED
    for kind, other in _OTHERS.items():
        # Another value of the same kind is no damage that anyone could see.
        is_same_kind = type(other) is type(value) or (_is_list(value) and isinstance(other, list))
        if isinstance(value, Mapping):
            is_same_kind = isinstance(other, dict)
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            is_same_kind = value.shape == other.shape
        if is_same_kind and not (kind in ("nan", "a negative number") or (kind.startswith("an empty") and len(value))):
            continue
        yield kind
    if isinstance(value, Tensor):
        yield "another type"
        if value.numel() > 1:
            yield "another shape"


def _other(value: Any, kind: str) -> Any:
    if kind == "another type":
        return value.to(torch.int64 if value.is_floating_point() else torch.float32)
    return value.flatten()[:-1].clone() if kind == "another shape" else copy.copy(_OTHERS[kind])


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))
