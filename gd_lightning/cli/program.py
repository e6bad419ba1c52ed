"""What the command is called, which other projects can make of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

DEFAULT = "python -m gd_lightning"


@dataclass(frozen=True)
class Program:
    """A command.

    Args:
        prog: What a person types for it; None: this package's own.
        module_class: The module that it trains; None: ``RegressionModule``.
        data_class: The data module that it trains on; None: ``RegressionDataModule``.
        subcommands: Functions that are subcommands besides those of this package, by their names.
    """

    prog: str | None = None
    module_class: type | None = None
    data_class: type | None = None
    subcommands: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


_running: ContextVar[Program | None] = ContextVar("running", default=None)


@contextmanager
def running(program: Program) -> Iterator[None]:
    """Let messages and examples name a program while it runs."""
    token = _running.set(program)
    try:
        yield
    finally:
        _running.reset(token)


def program_that_runs() -> Program:
    """Return the program that runs."""
    return _running.get() or Program()


def typed() -> str:
    """Return what a person types for the program that runs."""
    return program_that_runs().prog or DEFAULT


def own_subcommands() -> list[str]:
    """Return the names of the subcommands that the program that runs has of its own."""
    return list(program_that_runs().subcommands)


def speaker() -> str:
    """Return what each message begins with."""
    prog = program_that_runs().prog
    return "gd_lightning" if prog is None else prog.split()[-1]


def as_typed(text: str) -> str:
    """Return a text of examples with the program that runs in them."""
    return text.replace(DEFAULT, typed())
