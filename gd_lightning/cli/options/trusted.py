"""Restricting configs to classes of the type that an option expects, local files, and plain values.

Nothing else is called, and nothing outside this machine is read or written.
"""

from __future__ import annotations

import contextlib
import functools
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

from gd_lightning.cli.options.checks import imported, refuse_null
from gd_lightning.cli.options.jsonargparse_internals import actions_of, branches_of, type_of
from gd_lightning.cli.options.parser import Parser
from gd_lightning.errors import InputError
from gd_lightning.tracking.run_directory import as_directory

_PLAIN = (type(None), bool, int, float, complex, str, bytes, timedelta, PurePath, Enum, torch.device, torch.dtype)
_BUILT_IN = {Any, object, type, list, tuple, dict, set, frozenset, *_PLAIN}
# Copies of optimizer and lr_scheduler, which are checked themselves; options that a comparison varies are checked in
# each of its runs.
_COPIES = ("model.optimizer", "model.lr_scheduler", "vary")
# Options that are texts to show, or names of columns, and never paths.
_WORDS = {"title", "features", "targets", "columns", "claims", "monitor", "notes", "tags", "description"}
_PATH = re.compile(r"dir|path|file|folder|root|logs|runs", re.IGNORECASE)
_DIRECTORY = re.compile(r"[.](save_|root_|default_root_)?dir(path|ectory)?$")
_ADDRESS = re.compile(r"(ur[il]|host|endpoint|location)$", re.IGNORECASE)
# Paths that fsspec, with which Lightning opens files, does not read as a directory of this machine.
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a scheme of one letter is the drive of a path on Windows
_CHAINED = re.compile(r"://|::|^data:")


class _NoPrograms(MetaPathFinder):
    """Refuses to import modules that are programs, ``__main__`` of a package."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse such a module; leave others to the other finders."""
        if name.endswith(".__main__"):
            raise ImportError(f"Importing '{name}' is not allowed")


@contextlib.contextmanager
def no_programs() -> Iterator[None]:
    """Refuse to import programs in this context, since importing a program runs it."""
    finder = _NoPrograms()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def distrust() -> None:
    """Set jsonargparse, for this process, to read only local configs and to import nothing of the standard library.

    No option takes a class of the standard library, and many of its modules run commands, or are programs.
    """
    set_parsing_settings(
        config_read_mode_fsspec_enabled=False,
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=sorted({*sys.stdlib_module_names, "test", "lib2to3", "distutils"}),
    )


def refuse_foreign_code(
    parser: Parser, values: Namespace | Mapping[str, Any], prefix: str = "", typed: Collection[str] = ()
) -> None:
    """Check all classes and paths in parsed options, also in arguments of classes, before any object is made.

    Args:
        parser: The parser of these options, which knows their types.
        values: The parsed options.
        prefix: Prefix of the names of the options in messages.
        typed: The arguments that the user typed, in which alone addresses of servers for results are allowed.

    Raises:
        InputError: A class is not of the type that its option expects, or an option names something other than a class,
            or a place outside this machine, or as a directory what cannot be one.
    """
    for action in actions_of(parser):
        hint, name = type_of(action), prefix + action.dest
        if hint is None or name in _COPIES or action.dest not in values:
            continue
        value = values[action.dest]
        # Defaults are trusted, since they do not come from a config; jsonargparse stores a function by its path.
        if value is not action.default and value is not imported(str(action.default)):
            _check(value, tuple(_classes(hint)), name, typed)


def _refuse_remote(text: str, name: str, typed: Collection[str]) -> None:
    """Refuse a text that names a place outside this machine."""
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
            f"cannot use {text} as {name}, because it is the address of a place outside this machine; give a plain path"
        )


def _check(value: Any, expected: tuple[type, ...], name: str, typed: Collection[str]) -> None:
    """Check the classes and paths in the value of an option, which may be nested."""
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
        if _DIRECTORY.search(f".{name}"):
            as_directory(value)
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
    cls = imported(path)
    if not expected:
        raise InputError(f"cannot use the class {path} as {name}, because no class is expected there; give a value")
    if not (isinstance(cls, type) and issubclass(cls, expected)):
        names = " or ".join(dict.fromkeys(base.__name__ for base in expected))
        raise InputError(
            f"cannot use {path} as {name}, because it is not a subclass of {names}; give the class path of one"
        )
    parser = _parser_of(cls)  # type: ignore[arg-type]  # mypy takes classes for unhashable
    arguments = spec.get("init_args") or {}
    refuse_null(parser, arguments, f"{name}.")
    refuse_foreign_code(parser, arguments, f"{name}.", typed)
    _check(spec.get("dict_kwargs"), (), name, typed)


@functools.cache
def _parser_of(cls: type) -> Parser:
    """Return a parser with the arguments of a class; the runs of a comparison share one parser for each class."""
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    return parser


def _classes(hint: Any) -> Iterator[type]:
    """Yield the classes whose instances match a type hint; for a callable, those of its results."""
    if arguments := get_args(hint):
        for argument in arguments:
            yield from () if isinstance(argument, list) else _classes(argument)
    elif inspect.isclass(hint) and hint not in _BUILT_IN and not getattr(hint, "_is_protocol", False):
        yield hint
