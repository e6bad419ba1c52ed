"""Safe reading of YAML and JSON, with checks of input that their readers misread or fail on (layer 3)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _SafeLoader  # eight times faster than the loader in Python
except ImportError:  # a PyYAML that was built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

from gd_lightning.errors import first_line

DEEPEST, MOST_VALUES = 50, 100_000
"""Limits of the nesting and of the number of values in a file. Values that aliases repeat are counted each time, since
a few lines of aliases can stand for billions of values."""

_LONGEST = 2**24  # maximum number of bytes of a file

RENAMED = {"NoProgress": "LossPlateau", "ShowSteps": "PrintUpdates", "EndBetweenUpdates": "StopOnSignal"}
"""Earlier names of classes, with their present names."""

_OLD_PATH = re.compile(rf"\b(gd_lightning\.(?:\w+\.)*)({'|'.join(RENAMED)})\b")


class ConfigError(yaml.YAMLError):
    """A text is not usable YAML or JSON; the message says why in one line."""


def with_present_names(text: str) -> str:
    """Return a text with class paths of earlier versions replaced by the current ones.

    Example:
        >>> with_present_names("- class_path: gd_lightning.callbacks.NoProgress")
        '- class_path: gd_lightning.callbacks.LossPlateau'
    """
    return _OLD_PATH.sub(lambda found: found[1] + RENAMED[found[2]], text)


def read_yaml_file(path: Path) -> Any:
    """Read a YAML file as plain values, without creating objects of the classes that its tags name.

    Raises:
        ConfigError: The file cannot be read, or is not YAML that :func:`check_yaml` accepts.
    """
    text = with_present_names(read_text(path))
    check_yaml(text)
    with reason_told():
        return yaml.load(text, _PlainLoader)


def read_json_file(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ConfigError: The file cannot be read, or is not JSON.
    """
    text = with_present_names(read_text(path))
    with reason_told():
        return json.loads(text, object_pairs_hook=_without_repetition)


def read_own_yaml(text: str) -> Any:
    """Read YAML that this program has written itself."""
    return yaml.safe_load(text)


def read_own_json_lines(text: str) -> list[Any]:
    """Read lines of JSON that this program has written itself.

    Raises:
        ValueError: A line is not JSON.
    """
    return [json.loads(line) for line in text.splitlines()]


def plain_copy(values: Any) -> Any:
    """Return values as read back from JSON, with lists for tuples, and text for values that JSON does not have."""
    return json.loads(json.dumps(values, default=str))


def flat(values: Mapping[Any, Any], separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, each with its keys as one name.

    Example:
        >>> dict(flat({"lr": 0.1, "problem": {"class_path": "Sine", "init_args": {"seed": 1}}}, "."))
        {'lr': 0.1, 'problem.class_path': 'Sine', 'problem.init_args.seed': 1}
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value


@contextmanager
def reason_told() -> Iterator[None]:
    """Turn exceptions of a reader into errors that say why a text is not YAML.

    Raises:
        ConfigError: The reader raised an exception.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # a reader may also raise other errors at values of the wrong kind after a tag
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        reason = getattr(error, "problem", None) or first_line(error)
        raise ConfigError(f"it is not valid YAML: {line}{reason}") from error


def read_text(path: Path) -> str:
    """Return the text of a file; pipes are refused, since reading one could wait for ever.

    Raises:
        ConfigError: The path is not that of a file, or the file cannot be read, or is too long.
    """
    try:
        if not path.is_file():
            raise ConfigError("it is not a file")
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ConfigError(f"it is longer than {_LONGEST:,} bytes")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"it cannot be read: {first_line(error)}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ConfigError("it repeats a key")
    return values


class _PlainLoader(_SafeLoader):
    """Reads Python objects in YAML as plain values, without creating the objects."""

    def _plain(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return self.construct_scalar(node)  # type: ignore[arg-type]


_PlainLoader.add_constructor(None, _PlainLoader._plain)


@dataclass
class _Open:
    """A mapping or list whose end has not been read yet."""

    is_mapping: bool
    anchor: str | None
    keys: dict[str, int] = field(default_factory=dict)
    items: int = 0  # keys and values, or elements, directly in the collection
    values: int = 1  # all values in the collection, itself included


@reason_told()
def check_yaml(text: str, why_not: Callable[[str], str] = lambda _: "") -> None:
    """Check a text before it is parsed, event by event: to build deeply nested values would overflow the stack.

    Args:
        text: The text, in YAML.
        why_not: Returns why a single value cannot be used; "" if it can.

    Raises:
        ConfigError: The text is not YAML, or repeats a key of a mapping, or its values are too many, nested too deep,
            or contain themselves.
    """
    stack: list[_Open] = []
    sizes: dict[str, int] = {}
    events: Iterator[Any] = yaml.parse(text, Loader=_SafeLoader)
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor))
            if len(stack) > DEEPEST:
                raise ConfigError(f"line {line} nests values more than {DEEPEST} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
            anchor, size, key = closed.anchor, closed.values, None
        elif isinstance(event, yaml.ScalarEvent):
            if why := why_not(event.value):
                raise ConfigError(f"in line {line} {why}")
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


def _add(collection: _Open, key: str | None, size: int, line: int) -> None:
    """Count an item of a mapping or list, and refuse a repeated key."""
    if collection.is_mapping and collection.items % 2 == 0 and key is not None:
        if key in collection.keys:
            raise ConfigError(f"the key {key!r} is in line {collection.keys[key]} and again in line {line}")
        collection.keys[key] = line
    collection.items += 1
    collection.values += size
    if collection.values > MOST_VALUES:
        raise ConfigError(f"it contains more than {MOST_VALUES:,} values up to line {line}")
