"""Checks of the options of a module, and their conversion to plain values (layer 4)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, get_args

from gd_lightning.errors import InputError
from gd_lightning.losses import forms_of
from gd_lightning.models import Activation
from gd_lightning.module.engine_choice import EngineChoice
from gd_lightning.plain_numbers import as_python
from gd_lightning.tracking.schema import kind_of

ClassSpec = dict[str, Any]
"""``{"class_path": ..., "init_args": {...}}``: a class as plain values."""


OPTIONS = (
    *("lr", "momentum", "nesterov", "weight_decay", "l1", "loss", "huber_delta"),
    *("hidden_sizes", "activation", "bias", "dropout", "initialization"),
    *("in_features", "out_features", "optimizer", "lr_scheduler", "engine"),
)
"""Names of the options that are hyperparameters of a module: all but a network of one's own."""


PACKAGES = {"optimizer": "torch.optim", "lr_scheduler": "torch.optim.lr_scheduler"}
"""Where a class is looked up that an option names without its package."""


def class_spec(option: str, given: Any) -> Any:
    """Return a class as plain values; what stands for none is returned as it is, to be refused where it is used.

    Args:
        option: optimizer or lr_scheduler.
        given: A class, or a ``functools.partial`` of one; the name of one; or a mapping with a class or a name in
            ``class_path``.

    Example:
        >>> import functools, torch
        >>> class_spec("optimizer", functools.partial(torch.optim.Adam, eps=1e-6))
        {'class_path': 'torch.optim.adam.Adam', 'init_args': {'eps': 1e-06}}
    """
    if isinstance(given, functools.partial) and not given.args:
        made = class_spec(option, given.func)
        return {**made, "init_args": as_python(given.keywords)} if isinstance(made, dict) else given
    if isinstance(given, Mapping):
        path = class_spec(option, path) if isinstance(path := given.get("class_path"), (str, type)) else {}
        return {**given, **path}
    if isinstance(given, type):
        return {"class_path": f"{given.__module__}.{given.__qualname__}"}
    if isinstance(given, str):
        return {"class_path": given if "." in given else f"{PACKAGES[option]}.{given}"}
    return given


def plain_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a module as plain values, which a checkpoint reader can load without running code.

    Args:
        given: Arguments of the module, by name.

    Raises:
        InputError: An option is invalid.
    """
    options = {name: as_python(given[name]) for name in OPTIONS}
    sizes, values = options["hidden_sizes"], options["initialization"]
    options["hidden_sizes"] = list(sizes) if isinstance(sizes, Sequence) else sizes or []
    options["initialization"] = dict(values) if isinstance(values, Mapping) else values
    for name in PACKAGES:
        options[name] = class_spec(name, options[name])
    check_options(options)
    return options


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse invalid options of a module.

    Args:
        options: All options, by name.

    Raises:
        InputError: An option is invalid.
    """
    _check_types(options)
    lr = options["lr"]
    if not (math.isfinite(lr) and lr > 0):
        raise InputError(f"cannot train with lr {lr}; use a learning rate above 0")
    forms_of(options["loss"])
    for name, known in (("activation", Activation), ("engine", EngineChoice)):
        if options[name] not in get_args(known):
            raise InputError(f"{name} {options[name]!r} is unknown; use one of {', '.join(get_args(known))}")
    for name in ("momentum", "weight_decay", "l1"):
        if not (math.isfinite(options[name]) and options[name] >= 0):
            raise InputError(f"{name} {options[name]} is below 0 or not finite; use 0 or more")
    if options["nesterov"] and not options["momentum"]:
        raise InputError("cannot use nesterov without momentum; set momentum above 0, for example 0.9")
    if not 0 < options["huber_delta"] < math.inf:
        raise InputError(f"huber_delta {options['huber_delta']} is not a finite number above 0; use for example 1.0")
    if options["dropout"] and not options["hidden_sizes"]:
        raise InputError("cannot use dropout in a linear regressor, because it has no hidden units; give hidden_sizes")
    if options["optimizer"] is not None and (options["momentum"] or options["nesterov"] or options["weight_decay"]):
        raise InputError(
            "cannot use momentum, nesterov or weight_decay of the model with another optimizer, because they are "
            "options of its own SGD; give them to the optimizer instead"
        )


def _check_types(options: Mapping[str, Any]) -> None:
    """Refuse values of the wrong type, which an edited checkpoint may contain."""
    for words, fits, names in _TYPES:
        for name in names:
            if not fits(options[name]):
                raise InputError(f"cannot use {kind_of(options[name])} as {name}; give {words}")
    for name in PACKAGES:
        for key, value in ((options[name] or {}).get("init_args") or {}).items():
            if _holds_a_function(value):  # Lightning would leave a function out of the hyperparameters
                raise InputError(
                    f"cannot use a function as {key} of {name}, because checkpoints hold plain values; use another "
                    "class, or override configure_optimizers"
                )


def _holds_a_function(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_a_function, value))
    return callable(value) and not isinstance(value, type)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_spec(value: object) -> bool:
    if not isinstance(value, Mapping):
        return value is None
    return isinstance(value.get("class_path"), str) and isinstance(value.get("init_args", {}), Mapping)


_TYPES: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    ("a number", _is_number, ("lr", "momentum", "weight_decay", "l1", "huber_delta", "dropout")),
    ("a name", lambda value: isinstance(value, str), ("loss", "activation", "engine")),
    ("true or false", lambda value: isinstance(value, bool), ("nesterov", "bias")),
    (
        "a list of whole numbers",
        lambda value: isinstance(value, list) and all(map(_is_whole, value)),
        ("hidden_sizes",),
    ),
    ("a name, or a mapping of given values", lambda value: isinstance(value, (str, Mapping)), ("initialization",)),
    (
        "a whole number",
        lambda value: value is None or (_is_whole(value) and value > 0),
        ("in_features", "out_features"),
    ),
    ("a class, a functools.partial of one, or a mapping with class_path and init_args", _is_spec, tuple(PACKAGES)),
)
