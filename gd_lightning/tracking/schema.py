"""Validators of plain values and tensors read from files (layer 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.tracking.yaml_and_json import DEEPEST, MOST_VALUES

Check = Callable[[Any, str], None]
"""Raises :class:`MismatchError` where a value, found at a place such as ``loops.fit_loop``, is not what is expected."""

VERSION = 2
"""The version of checkpoints and files of a run; a higher one was written by a later version of this package."""

_LARGEST = 2**63


def refuse_later(version: object, cannot: str, otherwise: str = "") -> None:
    """Refuse files written by a later version of this package.

    Args:
        version: The version of the schema in the file, if any.
        cannot: What cannot be done, as in ``read config.yaml``.
        otherwise: Another remedy than to install that version, as the end of a sentence.

    Raises:
        InputError: A later version wrote the file.
    """
    if type(version) is int and version > VERSION:
        raise InputError(
            f"cannot {cannot}, because a later version of gd_lightning wrote it (schema {version}, and this one knows "
            f"{VERSION}); install that version{otherwise}"
        )


class MismatchError(ValueError):
    """A value is not what is expected at its place; the message is a part of a sentence."""


def refuse(value: object, where: str, expected: str) -> None:
    """Raise a MismatchError for a value of an unexpected type."""
    raise MismatchError(f"{where} is {kind_of(value)} instead of {expected}")


def kind_of(value: object) -> str:
    """Return the type of a value in words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < _LARGEST else "a number of many digits"
    if isinstance(value, float):
        return f"{value:g}"
    names: dict[type, str] = {str: "text", Mapping: "a mapping", list: "a list", tuple: "a list", Tensor: "a tensor"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)


def whole(value: Any, where: str, least: int = 0) -> None:
    """Expect a whole number from ``least``."""
    if type(value) is not int or not least <= value < _LARGEST:
        refuse(value, where, f"a whole number from {least}")


def position(value: Any, where: str) -> None:
    """Expect the number of an update, or -1 for none."""
    whole(value, where, -1)


def positive(value: Any, where: str) -> None:
    """Expect a whole number from 1."""
    whole(value, where, 1)


def number(value: Any, where: str) -> None:
    """Expect a number, which may be infinite or nan."""
    if type(value) not in (int, float):
        refuse(value, where, "a number")


def duration(value: Any, where: str) -> None:
    """Expect finite seconds, from 0."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        refuse(value, where, "a number of seconds")


def text(value: Any, where: str) -> None:
    """Expect text."""
    if not isinstance(value, str):
        refuse(value, where, "text")


def flag(value: Any, where: str) -> None:
    """Expect true or false."""
    if not isinstance(value, bool):
        refuse(value, where, "true or false")


def tensor(value: Any, where: str) -> None:
    """Expect a tensor."""
    if not isinstance(value, Tensor):
        refuse(value, where, "a tensor")


def plain(value: Any, where: str, with_tensors: bool = False) -> None:
    """Expect only numbers, text, and lists and mappings of these that do not contain themselves.

    Args:
        value: The value.
        where: Position of the value, for messages.
        with_tensors: Whether tensors are allowed, too.
    """
    kinds = (type(None), bool, int, float, str, *([Tensor] if with_tensors else []))
    pending, seen = [(value, where, 0)], 0
    while pending:
        item, place, depth = pending.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_VALUES:
            raise MismatchError(f"{where} contains too many values, or some that contain themselves")
        if isinstance(item, Mapping):
            for key, inner in item.items():
                if not isinstance(key, (str, int)):
                    refuse(key, f"a key of {place}", "text")
                pending.append((inner, f"{place}.{key}", depth + 1))
        elif isinstance(item, (list, tuple)):
            pending += [(inner, f"{place}[{i}]", depth + 1) for i, inner in enumerate(item)]
        elif not isinstance(item, kinds):
            refuse(item, place, "a plain value")


def is_plain(value: object) -> bool:
    """Whether a value is what :func:`plain` expects."""
    try:
        plain(value, "")
    except MismatchError:
        return False
    return True


def values(value: Any, where: str) -> None:
    """Expect plain values and tensors."""
    plain(value, where, with_tensors=True)


def optional(check: Check) -> Check:
    """Return a check that also accepts None."""

    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def listed(check: Check) -> Check:
    """Return the check of a list with a check for its elements."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)):
            refuse(value, where, "a list")
        for i, item in enumerate(value):
            check(item, f"{where}[{i}]")

    return checked


def named(check: Check, key: Check = text) -> Check:
    """Return the check of a mapping with checks for its keys and values."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            refuse(value, where, "a mapping")
        for name, item in value.items():
            key(name, f"a key of {where}")
            check(item, f"{where}.{name}")

    return checked


def fields(required: Mapping[Any, Check], others: Mapping[Any, Check] | None = None) -> Check:
    """Return the check of a mapping with one check per key; further keys are allowed."""
    known = {**required, **(others or {})}

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            refuse(value, where, "a mapping")
        for name, check in known.items():
            place = f"{where}.{name}" if where else str(name)
            if name in value:
                check(value[name], place)
            elif name in required:
                raise MismatchError(f"{place} is missing")

    return checked


def like(value: Any, pattern: Any, where: str) -> None:
    """Expect a value with the same structure as another one, such as the state of a new object of the same class.

    Where the other one is still empty, any plain value is accepted.

    Args:
        value: The value.
        pattern: The other value.
        where: The place of the value.
    """
    match pattern:
        case bool():
            flag(value, where)
        case int() | float() if isinstance(value, Tensor) and value.ndim == 0:
            pass  # optimisers first count steps with a number, and then with a tensor
        case int() | float():
            number(value, where)
            if not math.isfinite(value) and math.isfinite(pattern):
                refuse(value, where, "a finite number")
        case str():
            text(value, where)
        case Tensor():
            tensor(value, where)
            if value.shape != pattern.shape or value.is_floating_point() != pattern.is_floating_point():
                raise MismatchError(f"{where} has shape {tuple(value.shape)} instead of {tuple(pattern.shape)}")
        case Mapping() if pattern:
            _fields_like(pattern)(value, where)
        case [*items] if items:
            listed(values)(value, where)
            if len(value) != len(items):
                raise MismatchError(f"{where} has {len(value)} values instead of {len(items)}")
            for i, (item, other) in enumerate(zip(value, items, strict=True)):
                like(item, other, f"{where}[{i}]")
        case Mapping():
            named(values, key=values)(value, where)
        case [*_]:
            listed(values)(value, where)
        case _:
            values(value, where)


def _fields_like(pattern: Mapping[Any, Any]) -> Check:
    """Return the check of a mapping with the keys of another one; private and there empty ones are optional."""
    checks = {name: _like(item) for name, item in pattern.items() if not callable(item)}
    free = {name: checks[name] for name in checks if str(name).startswith("_") or pattern[name] is None}
    return fields({name: check for name, check in checks.items() if name not in free}, free)


def _like(pattern: Any) -> Check:
    return lambda value, where: like(value, pattern, where)


def build_of(value: Any, depth: int = 0) -> Any:
    """Return the structure of a value: names and types of everything in it, without the values themselves."""
    if depth > DEEPEST:
        return "deeper"
    if isinstance(value, Mapping):
        return {str(name): build_of(item, depth + 1) for name, item in value.items()}
    if isinstance(value, Tensor):
        has_nan = value.is_floating_point() and bool(value.isnan().any())
        return f"{value.dtype} {tuple(value.shape)}{' with nan' * has_nan}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [build_of(item, depth + 1) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return f"{type(value).__name__}{' below 0' * (type(value) in (int, float) and value < 0)}"


def first_difference(now: Any, before: Any, where: str) -> str:
    """Return where a structure differs from the previous one, as a part of a sentence; "" if it does not."""
    if isinstance(now, dict) and isinstance(before, dict):
        for name in before:
            if name not in now:
                return f"{where}.{name} is missing"
            if difference := first_difference(now[name], before[name], f"{where}.{name}"):
                return difference
        return next((f"{where}.{name} was added" for name in now if name not in before), "")
    if isinstance(now, list) and isinstance(before, list):
        if len(now) != len(before):
            return f"{where} has {len(now)} values, and had {len(before)}"
        pairs = enumerate(zip(now, before, strict=True))
        return next((found for i, pair in pairs if (found := first_difference(*pair, f"{where}[{i}]"))), "")
    return "" if now == before else f"{where} is {_in_words(now)}, and was {_in_words(before)}"


def _in_words(build: Any) -> str:
    return "a mapping" if isinstance(build, dict) else "a list" if isinstance(build, list) else str(build)


def is_generator_state(value: Any, where: str) -> None:
    """Expect the states of torch's generators on the CPU, of shape (processes, bytes)."""
    tensor(value, where)
    try:
        for state in value:
            torch.Generator().set_state(state.clone())
    except (RuntimeError, TypeError) as error:
        raise MismatchError(f"{where} has no states of random generators") from error
