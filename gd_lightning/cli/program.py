"""The name of the command, which projects that extend this command line can change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

DEFAULT = "python -m gd_lightning"


@dataclass(frozen=True)
class Program:
    """A command line program.

    Args:
        prog: The command as users type it; None: ``python -m gd_lightning``.
        module_class: The module that it trains; None: ``RegressionModule``.
        data_class: The data module that it trains on; None: ``RegressionDataModule``.
        subcommands: Functions that are further subcommands, by their names.
    """

    prog: str | None = None
    module_class: type | None = None
    data_class: type | None = None
    subcommands: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


_running: ContextVar[Program | None] = ContextVar("running", default=None)


@contextmanager
def running(program: Program) -> Iterator[None]:
    """Use the name of a program in messages and examples while it runs."""
    token = _running.set(program)
    try:
        yield
    finally:
        _running.reset(token)


def program_that_runs() -> Program:
    """Return the running program."""
    return _running.get() or Program()


def typed() -> str:
    """Return the command as users type it."""
    return program_that_runs().prog or DEFAULT


def own_subcommands() -> list[str]:
    """Return the names of the further subcommands of the running program."""
    return list(program_that_runs().subcommands)


def speaker() -> str:
    """Return the name that every message begins with."""
    prog = program_that_runs().prog
    return "gd_lightning" if prog is None else prog.split()[-1]


def as_typed(text: str) -> str:
    """Return a text of examples with the command of the running program."""
    return text.replace(DEFAULT, typed())
