"""What a config may name: classes of the type that an option expects, local files, and plain values.

Nothing else is called, and nothing beyond this machine is read or written.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from importlib.abc import MetaPathFinder
from pathlib import PurePath
from types import ModuleType
from typing import Any, get_args

import torch
from jsonargparse import Namespace, set_parsing_settings

from gd_lightning.cli.options.checks import refuse_null
from gd_lightning.cli.options.jsonargparse_internals import actions_of, branches_of, type_of
from gd_lightning.cli.options.parser import Parser
from gd_lightning.errors import InputError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, timedelta, PurePath, Enum, torch.device, torch.dtype)
_BUILT_IN = {Any, object, type, list, tuple, dict, set, frozenset, *_PLAIN}
# The model's copies of what is chosen and checked as optimizer and lr_scheduler; what a comparison varies is checked as
# an option of each of its runs.
_COPIES = ("model.optimizer", "model.lr_scheduler", "vary")
# Options that are words to be shown, or names of columns, and no paths whatever they hold.
_WORDS = {"title", "features", "targets", "columns", "claims", "monitor", "notes", "tags", "description"}
_PATH = re.compile(r"dir|path|file|folder|root|logs|runs", re.IGNORECASE)
_ADDRESS = re.compile(r"(ur[il]|host|endpoint|location)$", re.IGNORECASE)
# What fsspec, by which Lightning opens files, takes for another place than a directory of this machine.
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # one letter alone is a drive
_CHAINED = re.compile(r"://|::|^data:")


class _NoPrograms(MetaPathFinder):
    """Finds no module that is there to be run as a program, ``__main__`` of a package."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse such a module; leave others to whoever finds them."""
        if name.endswith(".__main__"):
            raise ImportError(f"Importing '{name}' is not allowed")


@contextlib.contextmanager
def no_programs() -> Iterator[None]:
    """Import no program meanwhile, whatever an option names: importing it is running it."""
    finder = _NoPrograms()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def distrust() -> None:
    """Set jsonargparse, for this process, to read local configs only and to import nothing of Python's own library.

    No option takes a class of it, and many of its modules run commands, or are programs that begin when imported.
    """
    set_parsing_settings(
        config_read_mode_fsspec_enabled=False,
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=sorted({*sys.stdlib_module_names, "test", "lib2to3", "distutils"}),
    )


def refuse_foreign_code(
    parser: Parser, values: Namespace | Mapping[str, Any], prefix: str = "", typed: Collection[str] = ()
) -> None:
    """Check all that parsed options name, also within the arguments of a class, before any class is made.

    Args:
        parser: The parser of these options, which knows their types.
        values: The parsed options.
        prefix: What comes before the names of the options, for messages.
        typed: The arguments that a person typed: the address of a server of results may stand there, and nowhere else.

    Raises:
        InputError: A class is not of the type that its option expects, something else than a class is named, or a
            place that is not on this machine.
    """
    for action in actions_of(parser):
        hint, name = type_of(action), prefix + action.dest
        if hint is None or name in _COPIES or action.dest not in values:
            continue
        value = values[action.dest]
        # A default is its author's, and no config's; jsonargparse keeps a function as its path.
        if value is not action.default and value is not _look_up(str(action.default)):
            _check(value, tuple(_classes(hint)), name, typed)


def _refuse_remote(text: str, name: str, typed: Collection[str]) -> None:
    """Refuse a text that names a place beyond this machine."""
    path, option = name.split("."), name.rpartition(".")[2]
    if _WORDS.intersection(path):
        return
    if _ADDRESS.search(option):
        is_local = not _URL.match(text) or text.startswith(("file:", "sqlite:"))
        if not (is_local or any(text in argument for argument in typed)):
            raise InputError(
                f"cannot use {text} as {name}, because a config may not send anything away from this machine; give "
                f"--{name} on the command line"
            )
    elif _URL.match(text) or (path[0] != "data" and _PATH.search(option) and _CHAINED.search(text)):
        raise InputError(
            f"cannot use {text} as {name}, because it is the address of another place than a directory of this "
            "machine; give a plain path"
        )


def _check(value: Any, expected: tuple[type, ...], name: str, typed: Collection[str]) -> None:
    """Check the classes in a value of an option, which may hold others."""
    if isinstance(value, (Namespace, Mapping)):
        if "class_path" in value:
            _check_class(value, expected, name, typed)
        else:
            for key, item in branches_of(value) if isinstance(value, Namespace) else value.items():
                _check(item, expected, f"{name}.{key}", typed)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _check(item, expected, name, typed)
    elif isinstance(value, (str, os.PathLike)):
        _refuse_remote(os.fspath(value), name, typed)
    elif not isinstance(value, _PLAIN):
        shown = getattr(value, "__name__", type(value).__name__)
        raise InputError(
            f"cannot use {shown} as {name}, because a config can name classes, but neither functions nor objects; use "
            "it in Python"
        )


def _check_class(
    spec: Namespace | Mapping[str, Any], expected: tuple[type, ...], name: str, typed: Collection[str]
) -> None:
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
    refuse_foreign_code(parser, arguments, f"{name}.", typed)
    _check(spec.get("dict_kwargs"), (), name, typed)


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
