"""Reading YAML and JSON texts: jsonargparse's own reader, behind a check of what it would take silently or choke on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml
from jsonargparse import get_loader, set_loader
from jsonargparse.typing import register_type

from gd_lightning.errors import first_line

MODE = "checked_yaml"
_DEEPEST = 50
_MOST_VALUES = 100_000  # counted with what aliases repeat: a few lines of aliases can stand for billions of values


class ConfigError(yaml.YAMLError):
    """A text is no config, and why, in one line."""


def register() -> None:
    """Make the checked reader known to jsonargparse, as a parser mode of its own."""
    register_type(torch.device)  # to be written into a config: a default of StochasticWeightAveraging
    set_loader(MODE, read, exceptions=(yaml.YAMLError,))


def read(text: str) -> Any:
    """Read a text as jsonargparse reads YAML.

    Args:
        text: YAML, and so JSON.

    Returns:
        Plain values; no tag makes an object of a class.

    Raises:
        ConfigError: It is no YAML, or a key stands twice in a mapping, or values are nested too deep, repeat
            themselves without end, or are too many.
    """
    try:
        _check(text)
        return get_loader("yaml")(text)
    except ConfigError:
        raise
    except Exception as error:  # also what a value of the wrong kind behind a tag makes the reader stumble on
        raise ConfigError(_reason(error)) from error


def text_of(values: Any) -> str:
    r"""Return plain values as a text that :func:`read` reads: JSON, but for characters that JSON writes as two.

    Args:
        values: Mappings, lists, strings, numbers and null.

    Example:
        >>> text_of({"title": "\U0001f600"})
        '{"title": "\\U0001f600"}'
    """
    text = json.dumps(values, ensure_ascii=False)
    return "".join(letter if " " <= letter <= "~" else f"\\U{ord(letter):08x}" for letter in text)


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = "" if mark is None else f"line {mark.line + 1}: "
    return f"it is no valid YAML: {line}{getattr(error, 'problem', None) or first_line(error)}"


@dataclass
class _Open:
    """A mapping or list whose end has not been read yet."""

    is_mapping: bool
    anchor: str | None
    keys: dict[str, int] = field(default_factory=dict)
    items: int = 0  # keys and values, or elements, that stand directly in it
    values: int = 1  # all values in it, itself included

    def expects_key(self) -> bool:
        return self.is_mapping and self.items % 2 == 0


def _check(text: str) -> None:
    """Check the events of a text, which come one by one: making nested values first would overflow the stack."""
    stack: list[_Open] = []
    sizes: dict[str, int] = {}
    for event in _events(text):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor))
            if len(stack) > _DEEPEST:
                raise ConfigError(f"line {line} nests values more than {_DEEPEST} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
            anchor, size, key = closed.anchor, closed.values, None
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size, key = event.anchor, 1, event.value
        elif isinstance(event, yaml.AliasEvent):
            if any(collection.anchor == event.anchor for collection in stack):
                raise ConfigError(f"the alias *{event.anchor} in line {line} stands for a value that it is part of")
            anchor, size, key = None, sizes.get(str(event.anchor), 1), None
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if stack:
            _add(stack[-1], key, size, line)


def _events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _add(collection: _Open, key: str | None, size: int, line: int) -> None:
    """Count what a mapping or list holds, and refuse a key that it has already."""
    if collection.expects_key() and key is not None:
        if key in collection.keys:
            raise ConfigError(f"the key {key!r} stands in line {collection.keys[key]} and again in line {line}")
        collection.keys[key] = line
    collection.items += 1
    collection.values += size
    if collection.values > _MOST_VALUES:
        raise ConfigError(f"it holds more than {_MOST_VALUES:,} values up to line {line}")
