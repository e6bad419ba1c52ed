"""Uses of undocumented parts of jsonargparse, each in one function.

``tests/cli/options/test_jsonargparse_internals.py`` tests that the installed release still has each of them.
"""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterator
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._loaders_dumpers import get_yaml_default_loader


def actions_of(parser: ArgumentParser) -> list[Action]:
    """Return the actions of argparse for the options of a parser, without those of its subcommands."""
    return list(parser._actions)


def type_of(action: Action) -> Any:
    """Return the type hint of an option; None for those without, such as ``--help``."""
    return getattr(action, "_typehint", None)


def subcommands_of(parser: ArgumentParser) -> dict[str, Any]:
    """Return the parsers of the subcommands of a parser, by their names."""
    choices = [action.choices for action in parser._actions]
    return {name: child for mapping in choices if isinstance(mapping, dict) for name, child in mapping.items()}


def sections_of(parser: ArgumentParser) -> set[str]:
    """Return the sections of a parser, which precede the dot in its options, such as ``data`` and ``model``."""
    return set(parser.groups or {})


def branches_of(values: Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the names and values directly in a namespace; ``items`` would also yield those of nested ones."""
    yield from vars(values).items()


def yaml_reader() -> Any:
    """Return the class with which jsonargparse reads the text of a single value, whatever reader a parser has."""
    return get_yaml_default_loader()


def construct_with(parser: ArgumentParser, construct: Callable[..., Any]) -> None:
    """Let a parser and its subcommands create objects by a function that is called with class and arguments.

    Passing the function to each call, as recommended from 4.49 on, does not reach the classes that LightningCLI makes.
    """
    parser.add_instantiator(construct, object, subclasses=True)
