"""Each says which release of jsonargparse has changed what its documentation does not promise."""

from __future__ import annotations

from typing import Any

import jsonargparse
import pytest
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from gd_lightning.cli.options import jsonargparse_internals as internals

RELEASE = f"jsonargparse {jsonargparse.__version__} has changed it"


class _Made:
    def __init__(self, lr: float = 0.1, name: str | None = None) -> None:
        pass


def _parser() -> ArgumentParser:
    parser = ArgumentParser()
    parser.add_class_arguments(_Made, "model")
    parser.add_argument("--seed", type=int)
    return parser


def test_options_have_names_and_defaults() -> None:
    actions = {action.dest: action for action in internals.actions_of(_parser())}
    assert {"model.lr", "model.name", "seed"} <= set(actions), RELEASE
    assert actions["model.lr"].default == 0.1, RELEASE
    assert actions["seed"].option_strings == ["--seed"], RELEASE


def test_options_have_types() -> None:
    types: dict[str, Any] = {action.dest: internals.type_of(action) for action in internals.actions_of(_parser())}
    assert types["model.lr"] is float, RELEASE
    assert types["model.name"] == (str | None), RELEASE
    assert types["help"] is None, RELEASE


def test_subcommands_have_parsers() -> None:
    parser, children = ArgumentParser(), {"fit": _parser(), "test": _parser()}
    assert internals.subcommands_of(parser) == {}, RELEASE
    subcommands = parser.add_subcommands()
    for name, child in children.items():
        subcommands.add_subcommand(name, child)
    assert internals.subcommands_of(parser) == children, RELEASE


def test_sections_have_names() -> None:
    assert internals.sections_of(_parser()) == {"model"}, RELEASE
    assert internals.sections_of(ArgumentParser()) == set(), RELEASE


def test_a_namespace_holds_namespaces() -> None:
    values = Namespace({"a.b": 1, "a.c": 2, "d": 3})
    assert dict(internals.branches_of(values)) == {"a": Namespace(b=1, c=2), "d": 3}, RELEASE


def test_single_values_are_read_by_a_safe_reader_whose_resolvers_can_be_replaced() -> None:
    reader = internals.yaml_reader()
    assert issubclass(reader, yaml.constructor.SafeConstructor), RELEASE
    before = reader.yaml_implicit_resolvers
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--lr", type=float)
    assert parser.parse_args(["--lr", "1:30"]).lr == 90, RELEASE  # what the command line never takes it for
    try:
        reader.yaml_implicit_resolvers = {}
        with pytest.raises(ArgumentError):
            parser.parse_args(["--lr", "1:30"])
    finally:
        reader.yaml_implicit_resolvers = before
    assert parser.parse_args(["--lr", "1:30"]).lr == 90, RELEASE
