"""Making a Trainer, after a check of its options by its own type hints (layer 4)."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lightning.pytorch import Trainer

from gd_lightning.errors import InputError
from gd_lightning.module.library_errors import refusals_of
from gd_lightning.tracking.schema import kind_of

_LOWEST = {
    "max_epochs": (-1, "a number of epochs, or -1 for no limit"),
    "max_steps": (-1, "a number of updates, or -1 for no limit"),
    "min_epochs": (0, "a number of epochs"),
    "min_steps": (0, "a number of updates"),
    "check_val_every_n_epoch": (1, "a number of epochs"),
    "log_every_n_steps": (0, "a number of updates"),
    "num_sanity_val_steps": (-1, "a number of batches, or -1 for all"),
    "gradient_clip_val": (0, "a bound of 0 or more"),
}
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}


def make_trainer(options: Mapping[str, Any]) -> Trainer:
    """Make a Trainer.

    Args:
        options: The options of the Trainer, by name.

    Raises:
        InputError: An option cannot be used.
    """
    check_trainer_options(options)
    with refusals_of(Trainer):
        return Trainer(**options)


def check_trainer_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a Trainer with a wrong type, or out of their range.

    Args:
        options: The given options, by name.

    Raises:
        InputError: An option cannot be used.
    """
    hints = _hints()
    for name, value in options.items():
        if not _fits(value, hints[name]):
            shown = repr(value) if isinstance(value, (str, bool)) else kind_of(value)
            raise InputError(f"cannot use {shown} as {name} of the Trainer; give {_in_words(hints[name])}")
    check_limits(options)


def check_limits(options: Mapping[str, Any]) -> None:
    """Refuse options of a Trainer that are out of their range, or contradict each other.

    Args:
        options: The given options, by name.

    Raises:
        InputError: An option cannot be used.
    """
    for name, (lowest, what) in _LOWEST.items():
        if (value := options.get(name)) is not None and not lowest <= value <= sys.float_info.max:
            raise InputError(f"cannot use {value} as trainer.{name}; give {what}")
    for name in ("epochs", "steps"):
        least, most = options.get(f"min_{name}"), options.get(f"max_{name}", -1)
        if least is not None and most is not None and -1 < most < least:
            raise InputError(
                f"cannot train at least {least} and at most {most} {name}; give a smaller trainer.min_{name}"
            )
    _check_interval(options.get("val_check_interval"), options.get("check_val_every_n_epoch", 1))


def _check_interval(interval: Any, epochs: int | None) -> None:
    """Refuse invalid intervals of validations."""
    if not isinstance(interval, (int, float)):
        return
    is_part = isinstance(interval, float)
    if not 0 < interval <= (1 if is_part else sys.float_info.max):
        raise InputError(
            f"cannot validate at intervals of trainer.val_check_interval {interval:g}; give a fraction of an epoch up "
            "to 1.0, or a whole number of updates"
        )
    if is_part and epochs is None:
        raise InputError(
            f"cannot validate every {interval:g} epochs with trainer.check_val_every_n_epoch null; give a whole number "
            "of updates as trainer.val_check_interval"
        )


@cache
def _hints() -> dict[str, Any]:
    """Return the type hints of a Trainer's options, by their names."""
    return get_type_hints(Trainer.__init__)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value matches a type hint; whole numbers are numbers, but booleans are not."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if kind is not None:  # the hint is a list or an iterable
        is_list = isinstance(value, (list, tuple) if kind is list else Collection) and not isinstance(value, str)
        return is_list and all(_fits(each, parts[0]) for each in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def _in_words(hint: Any) -> str:
    """Return the values that a type hint allows, in words."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return " or ".join(map(repr, parts))
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, parts)))
    if kind is dict:
        return "a dict"
    if kind is not None:
        return f"a list of {_in_words(parts[0]).removeprefix('a ')}s"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))
