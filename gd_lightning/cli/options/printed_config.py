"""``--print_config``, and the options that ``--print_config=skip_default`` must print although they are defaults."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from gd_lightning.cli.options.config_text import text_of
from gd_lightning.cli.options.parser import DEFAULT_PROBLEM
from gd_lightning.cli.options.parsing import ParsedOptions, parse_options
from gd_lightning.errors import InputError
from gd_lightning.tracking.yaml_and_json import read_own_yaml

_FLAGS = ("skip_default", "skip_unset")


def printed_config(parsed: ParsedOptions, flags: str) -> str:
    """Return the config with all options resolved, so that it describes the run.

    Args:
        parsed: The options.
        flags: Flags that say what is left out, separated by commas.

    Raises:
        InputError: A flag is unknown.
    """
    given = [flag for flag in flags.split(",") if flag]
    if unknown := [flag for flag in given if flag not in _FLAGS]:
        raise InputError(f"cannot print the config with {unknown[0]}; use {' or '.join(_FLAGS)}")
    text: str = parsed.stage_parser.dump(parsed.values, **{"skip_unset": False, **dict.fromkeys(given, True)})
    return _with_what_makes_it_differ(parsed, text) if "skip_default" in given else text


def _with_what_makes_it_differ(parsed: ParsedOptions, text: str) -> str:
    """Return a config without defaults that is resolved to the present options.

    An option that is resolved from several others, such as the learning rate of model and optimiser, can get another
    value if one of these is a default and left out. So can an option that an environment variable overrides.
    """
    parser = parsed.stage_parser
    wanted = as_plain_values(parser, parsed.values)
    printed: dict[str, Any] = read_own_yaml(text) or {}
    # Twice each, since options that are added to the config can change the resolved values again.
    for has_options in (False, True, False, True):
        with environment_with(has_options):
            parser.choose_problem(DEFAULT_PROBLEM)
            made = parse_options(parsed.parser, [parsed.stage, f"--config={text_of(printed)}"])
        printed = merged(printed, what_differs(wanted, as_plain_values(parser, made.values)))
    header = [line for line in text.splitlines(keepends=True) if line.startswith("#")]
    return "".join([*header, yaml.safe_dump(printed, sort_keys=False)])


def as_plain_values(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return all options of a config as plain values, as in a file.

    Args:
        parser: The parser of the options.
        config: The resolved options.
    """
    values = read_own_yaml(parser.dump(config, skip_none=False, skip_validation=True))
    assert isinstance(values, dict)
    return values


def what_differs(wanted: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ between two configs, or are only in the first.

    A class is returned with its path and all of its arguments, since arguments need the path.

    Args:
        wanted: The options that a config should be resolved to.
        made: The options to which it is resolved.
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
    """Return a config updated with the options of another one."""
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
    """Keep or remove environment variables that are options, such as ``PL_FIT__MODEL__LR``, in this context.

    Args:
        options: Whether they are kept.
    """
    taken = {} if options else {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PL_")}
    try:
        yield
    finally:
        os.environ.update(taken)
