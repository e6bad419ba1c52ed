"""What a config may name: classes of the type that an option expects, and plain values; nothing else is called."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, get_args

import torch
from jsonargparse import Namespace, set_parsing_settings

from gd_lightning.cli.parser import Parser
from gd_lightning.cli.settings import refuse_null
from gd_lightning.errors import InputError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, timedelta, PurePath, Enum, torch.device, torch.dtype)
_BUILT_IN = {Any, object, type, list, tuple, dict, set, frozenset, *_PLAIN}
# The model's copies of what is chosen and checked as optimizer and lr_scheduler; what a comparison varies is checked as
# an option of each of its runs.
_COPIES = ("model.optimizer", "model.lr_scheduler", "vary")


def distrust() -> None:
    """Set jsonargparse, for this process, to read local configs only and to import no module that runs commands."""
    set_parsing_settings(
        config_read_mode_fsspec_enabled=False,
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=["this", "idlelib", "turtle", "turtledemo", "test", "tkinter"],
    )


def refuse_foreign_code(parser: Parser, values: Mapping[str, Any], prefix: str = "") -> None:
    """Check all classes that parsed options name, also those within the arguments of another, before any is made.

    Args:
        parser: The parser of these options, which knows their types.
        values: The parsed options.
        prefix: What comes before the names of the options, for messages.

    Raises:
        InputError: A class is not of the type that its option expects, or something else than a class is named.
    """
    for action in parser._actions:
        hint, name = getattr(action, "_typehint", None), prefix + action.dest
        if hint is None or name in _COPIES or action.dest not in values:
            continue
        value = values[action.dest]
        # A default is its author's, and no config's; jsonargparse keeps a function as its path.
        if value is not action.default and value is not _look_up(str(action.default)):
            _check(value, tuple(_classes(hint)), name)


def _check(value: Any, expected: tuple[type, ...], name: str) -> None:
    """Check a value of an option, which may hold others."""
    if isinstance(value, (Namespace, Mapping)):
        if "class_path" in value:
            _check_class(value, expected, name)
        else:
            for key, item in vars(value).items() if isinstance(value, Namespace) else value.items():
                _check(item, expected, f"{name}.{key}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _check(item, expected, name)
    elif not isinstance(value, _PLAIN):
        shown = getattr(value, "__name__", type(value).__name__)
        raise InputError(
            f"cannot use {shown} as {name}, because a config can name classes, but neither functions nor objects; use "
            "it in Python"
        )


def _check_class(spec: Namespace | Mapping[str, Any], expected: tuple[type, ...], name: str) -> None:
    path = str(spec["class_path"])
    cls = _look_up(path)
    if not expected:
        raise InputError(f"cannot use the class {path} as {name}, because no class is expected there; give a value")
    if not (isinstance(cls, type) and issubclass(cls, expected)):
        names = " or ".join(dict.fromkeys(base.__name__ for base in expected))
        raise InputError(
            f"cannot use {path} as {name}, because it is no subclass of {names}; give the class path of one"
        )
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    arguments = spec.get("init_args") or {}
    refuse_null(parser, arguments, f"{name}.")
    refuse_foreign_code(parser, arguments, f"{name}.")
    _check(spec.get("dict_kwargs"), (), name)


def _look_up(path: str) -> object:
    """Return what a path names in the modules that are imported already."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:end]))
        if module is not None:
            found: object = module
            for name in parts[end:]:
                found = getattr(found, name, None)
            return found
    return None


def _classes(hint: Any) -> Iterator[type]:
    """Yield the classes of which a type hint takes instances; of a callable, those that it returns."""
    if arguments := get_args(hint):
        for argument in arguments:
            yield from () if isinstance(argument, list) else _classes(argument)
    elif inspect.isclass(hint) and hint not in _BUILT_IN and not getattr(hint, "_is_protocol", False):
        yield hint
