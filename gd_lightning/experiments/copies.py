"""Copies of the objects among the options of several runs, one for each run, and their names in tables."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from gd_lightning.errors import InputError, first_line

Names = dict[tuple[str, int], str]
"""The name of an object, by the option whose value it is and its id."""

_PLAIN = (str, int, float, bool, type(None))


def own_copy(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deep copy of options; an object that occurs several times is copied once.

    Args:
        options: problem, data, model, trainer.

    Raises:
        InputError: An option cannot be copied, or would make all runs write to the same place.
    """
    trainer = options.get("trainer", {})
    _check_loggers(trainer.get("logger"))
    try:
        return copy.deepcopy(dict(options))
    except Exception as error:  # an object may raise anything when it is copied
        name, value = _what_fails(options)
        cure = {
            "trainer": "give a function that makes it, such as lambda: [...]",
            "problem": "keep no open file, lock or generator in it",
            "model": "give a class or a function that makes it",
        }.get(name.partition(".")[0], "give plain values")
        raise InputError(
            f"cannot give each run its own {name}, because {type(value).__name__} cannot be copied "
            f"({first_line(error)}); {cure}"
        ) from error


def made_by_functions(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a Trainer, with functions replaced by their results."""
    makers = (FunctionType, functools.partial)
    return {name: value() if isinstance(value, makers) else value for name, value in trainer.items()}


def names_of(settings: Sequence[Mapping[str, Any]]) -> Names:
    """Name the objects among varied values by their class, or as a function; equal names are numbered.

    Args:
        settings: The settings of each group.

    Example:
        >>> class Network: ...
        >>> first, second = Network(), Network()
        >>> list(names_of([{"model.network": first}, {"model.network": second}, {"model.lr": 0.1}]).values())
        ['Network 1', 'Network 2']
    """
    objects: Names = {}
    for setting in settings:
        for name, value in setting.items():
            if not _is_plain(value):
                objects[name, id(value)] = getattr(value, "__qualname__", type(value).__qualname__)
    counts = Counter((name, called) for (name, _), called in objects.items())
    seen: Counter[tuple[str, str]] = Counter()
    for (name, at), called in objects.items():
        if counts[name, called] > 1:
            seen[name, called] += 1
            objects[name, at] = f"{called} {seen[name, called]}"
    return objects


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _what_fails(options: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the innermost option that cannot be copied, and its part that cannot."""
    for name, value in options.items():
        try:
            copy.deepcopy(value)
        except Exception:
            if isinstance(value, (list, tuple)):
                return name, _what_fails({f"{name}.{i}": each for i, each in enumerate(value)})[1]
            if isinstance(value, Mapping):
                inner, part = _what_fails(value)
                return f"{name}.{inner}", part
            return name, value
    return "option", options


def _check_loggers(given: Any) -> None:
    """Refuse loggers whose copies would write into one directory."""
    for logger in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(logger, WandbLogger):
            raise InputError(
                "cannot log several runs with one WandbLogger, because its copies share one run of W&B; give a "
                "function that makes it, such as lambda: WandbLogger()"
            )
        own = vars(logger) if isinstance(logger, Logger) else {}
        version = own.get("_version", own.get("_run_id"))
        if version is not None:
            raise InputError(
                f"cannot log several runs with one {type(logger).__name__} of version {version!r}, because they would "
                "write into one directory; leave the version out, or give directory to compare"
            )
