"""Reading options in YAML and JSON with jsonargparse's reader, after a check for input that it misreads."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import get_loader, set_loader
from jsonargparse.typing import register_type

from gd_lightning.cli.options.jsonargparse_internals import yaml_reader
from gd_lightning.errors import InputError
from gd_lightning.escaping import is_unicode
from gd_lightning.tracking.run_files import with_present_options
from gd_lightning.tracking.yaml_and_json import check_yaml, reason_told, with_present_names

MODE = "checked_yaml"
_LONGEST_SHOWN = 80
_TAG = "tag:yaml.org,2002:"
# A whole number beyond float64: Python raises an error when such a number is combined with a float.
_TOO_LARGE = re.compile(r"(?<![\w.])[-+]?(?:[1-9](?:_?[0-9]){308,}|0b[01]{1024,}|0x[0-9a-fA-F]{256,})(?![\w.])")
_DIGITS = "[0-9]+(?:_[0-9]+)*"
# YAML 1.1 takes 1:30 for 90, 017 for 15 and 1__0 for 10. These are numbers as YAML 1.2 and Python read them.
_NUMBERS = {
    "int": r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0b[01]+|0x[0-9a-fA-F]+)",
    "float": rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?|[-+]?{_DIGITS}[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
_BOOLEANS = {"bool": "true|True|TRUE|false|False|FALSE"}


def register() -> None:
    """Register the checked reader as a parser mode of jsonargparse."""
    register_type(torch.device)  # so that it can be written into a config, as a default of StochasticWeightAveraging
    set_loader(MODE, read, exceptions=(yaml.YAMLError,))


@contextlib.contextmanager
def numbers_as_written() -> Iterator[None]:
    """Keep jsonargparse, in this context, from reading text as a number that only YAML 1.1 knows, such as 1:30.

    jsonargparse reads single numbers and booleans with a reader of its own, whatever reader the parser has.
    """
    reader = yaml_reader()
    before = reader.yaml_implicit_resolvers
    reader.yaml_implicit_resolvers = _with(before, _NUMBERS)
    try:
        yield
    finally:
        reader.yaml_implicit_resolvers = before


def _with(resolvers: dict[str, list[Any]], forms: dict[str, str]) -> dict[str, list[Any]]:
    """Return implicit resolvers, by the first letters of a plain text, with other patterns for some types."""
    tags = {_TAG + name for name in forms}
    found = {letter: [pair for pair in pairs if pair[0] not in tags] for letter, pairs in resolvers.items()}
    for name, form in forms.items():
        for letter in "-+.0123456789tTfF":
            found.setdefault(letter, []).append((_TAG + name, re.compile(f"(?:{form})$")))
    return found


@cache
def _reader() -> type[Any]:
    """Return the reader of configs, in which yes, no, on and off are texts; boolean options accept them."""
    safe = yaml_reader()
    resolvers = _with(safe.yaml_implicit_resolvers, {**_NUMBERS, **_BOOLEANS})
    return type("Reader", (safe,), {"yaml_implicit_resolvers": resolvers})


def read(text: str) -> Any:
    """Read a text as jsonargparse reads YAML, except for YAML 1.1 values that are not what the user meant.

    Args:
        text: YAML, and so JSON.

    Returns:
        Plain values; no tag creates an object. Ambiguous values, such as 1:30, 017, no or a date, are text.

    Raises:
        ConfigError: The text is not YAML, or repeats a key of a mapping, or its values are too many, nested too deep,
            or contain themselves.
        InputError: The arguments of a class are not a mapping from names.
    """
    with reason_told():
        check_yaml(text, _why_unreadable)
        text = with_present_names(text)
        value = yaml.load(text, Loader=_reader())  # a child of the safe one
        # jsonargparse reads such a mapping as text, as in {a, b}.
        is_text = isinstance(value, dict) and value and not any(item is not None for item in value.values())
        value = get_loader("yaml")(text) if is_text else value
    value = with_present_options(value, text)
    _refuse_no_arguments(value)
    return value


def _refuse_no_arguments(value: Any) -> None:
    """Refuse arguments of a class that are not a mapping from names, which jsonargparse does not check."""
    if isinstance(value, dict):
        for key in {"init_args", "dict_kwargs"} & set(value):
            given = value[key]
            if not (isinstance(given, dict) and all(isinstance(name, str) and name for name in given)):
                shown = json.dumps(given, default=str)[:_LONGEST_SHOWN]
                of = value.get("class_path", "a class")
                raise InputError(
                    f"cannot use {shown} as the arguments of {of}, because they have names; give a mapping as {key}, "
                    "or leave it out"
                )
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_no_arguments(item)


def text_of(values: Any) -> str:
    r"""Return plain values as a text for :func:`read`: JSON, except for characters that JSON escapes as two.

    Args:
        values: Mappings, lists, strings, numbers and null.

    Example:
        >>> text_of({"title": "\U0001f600"})
        '{"title": "\\U0001f600"}'
    """
    text = json.dumps(values, ensure_ascii=False)
    return "".join(letter if " " <= letter <= "~" else f"\\U{ord(letter):08x}" for letter in text)


def refuse_unreadable(arguments: Iterable[str]) -> None:
    """Refuse pipes, and values that no option can have.

    jsonargparse opens a file that has the name of an option's value. Reading a pipe would wait for its writer, and give
    nothing when the options are read again.

    Args:
        arguments: The arguments of the command line.

    Raises:
        InputError: A value is not text in UTF-8, contains a NUL or a whole number beyond float64, or names a pipe.
    """
    for argument in arguments:
        name, has_value, value = argument.partition("=")
        if why := _why_unreadable(value if has_value and name.startswith("-") else argument):
            raise InputError(f"cannot use this argument, because {why}")


def _why_unreadable(text: str) -> str:
    shown = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:_LONGEST_SHOWN]
    if "\0" in text:
        return f"{shown!r} contains a NUL character; leave it out"
    if not is_unicode(text):
        return f"{shown!r} is not text in UTF-8, the encoding of files; give it another name"
    if found := _TOO_LARGE.search(text):
        return f"{found[0][:_LONGEST_SHOWN]!r}... has more than 308 digits, the limit of float64; give a smaller number"
    try:
        is_pipe = Path(text).is_fifo()
    except (OSError, ValueError):
        return ""
    return f"{text} is a pipe, which can be read once at most; give a file" if is_pipe else ""
