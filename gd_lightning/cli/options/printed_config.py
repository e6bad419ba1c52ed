"""What ``--print_config=skip_default`` has to print beside what is no default."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from gd_lightning.tracking.text_files import read_own_yaml


def as_plain_values(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return all options of a config as the plain values that a file would hold.

    Args:
        parser: The parser of the options.
        config: The options as they are settled.
    """
    values = read_own_yaml(parser.dump(config, skip_none=False, skip_validation=True))
    assert isinstance(values, dict)
    return values


def what_differs(wanted: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one config says otherwise than another, or in addition to it.

    A class is returned with its path and all of its arguments, since arguments without a path say nothing.

    Args:
        wanted: What a config should come to.
        made: What it comes to.
    """
    found: dict[str, Any] = {}
    for name, value in wanted.items():
        other = made.get(name)
        if value == other and name in made:
            continue
        if not (isinstance(value, Mapping) and isinstance(other, Mapping) and "class_path" not in value):
            found[name] = value
        elif inner := what_differs(value, other):
            found[name] = inner
    return found


def merged(config: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the options of another one, which count where both have them."""
    result = dict(config)
    for name, value in more.items():
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and "class_path" not in value:
            result[name] = merged(before, value)
        else:
            result[name] = value
    return result


@contextlib.contextmanager
def environment_with(options: bool) -> Iterator[None]:
    """Let the environment have the variables that are options, such as ``PL_FIT__MODEL__LR``, or not.

    Args:
        options: Whether it has them.
    """
    taken = {} if options else {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PL_")}
    try:
        yield
    finally:
        os.environ.update(taken)
