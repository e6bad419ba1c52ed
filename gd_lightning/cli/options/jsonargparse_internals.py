"""Uses of undocumented parts of jsonargparse, each in one function.

``tests/cli/options/test_jsonargparse_internals.py`` asks of each whether an installed release still has it.
"""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterator
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._loaders_dumpers import get_yaml_default_loader


def actions_of(parser: ArgumentParser) -> list[Action]:
    """Return what argparse knows of each option of a parser, those of its subcommands left out."""
    return list(parser._actions)


def type_of(action: Action) -> Any:
    """Return the type hint of an option; None for those without, such as ``--help``."""
    return getattr(action, "_typehint", None)


def subcommands_of(parser: ArgumentParser) -> dict[str, Any]:
    """Return the parsers of the subcommands of a parser, by their names."""
    choices = [action.choices for action in parser._actions]
    return {name: child for mapping in choices if isinstance(mapping, dict) for name, child in mapping.items()}


def sections_of(parser: ArgumentParser) -> set[str]:
    """Return the names before the dot in the options of a parser, such as ``data`` and ``model``."""
    return set(parser.groups or {})


def branches_of(values: Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the names that stand directly in a namespace, with their values; ``items`` goes into nested ones."""
    yield from vars(values).items()


def yaml_reader() -> Any:
    """Return the class by which jsonargparse reads the text of a single value, whatever reader a parser has."""
    return get_yaml_default_loader()


def construct_with(parser: ArgumentParser, construct: Callable[..., Any]) -> None:
    """Have a function called with each class that is made of options, its subcommands' too, and their arguments.

    To give it to each call instead, as releases from 4.49 on recommend, reaches no class that LightningCLI makes.
    """
    parser.add_instantiator(construct, object, subclasses=True)
