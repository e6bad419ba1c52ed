"""Classes and subcommands of another project that uses this command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gd_lightning.cli.options.parser import Parser
from gd_lightning.cli.program import Program, typed
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.module import RegressionModule


def classes_of(program: Program) -> tuple[type[RegressionModule], type[RegressionDataModule]]:
    """Return the module and the data module that a program trains.

    Raises:
        InputError: A class is not a subclass of a class of this package.
    """
    found = []
    for given, base in ((program.module_class, RegressionModule), (program.data_class, RegressionDataModule)):
        if given is not None and not (isinstance(given, type) and issubclass(given, base)):
            name = getattr(given, "__name__", type(given).__name__)
            raise InputError(f"cannot train {name}, because it is not a {base.__name__}; give a subclass of it")
        found.append(base if given is None else given)
    module, data = found
    return module, data  # type: ignore[return-value]  # as has been checked


def call(function: Callable[..., Any], name: str, args: list[str]) -> int:
    """Call a function with arguments of a command line, and return the exit code.

    Args:
        function: A function with type hints.
        name: The name of the subcommand.
        args: The arguments after the subcommand.

    Raises:
        InputError: An option cannot be used.
    """
    parser = Parser(prog=f"{typed()} {name}", description=(function.__doc__ or "").partition("\n")[0])
    parser.add_function_arguments(function, fail_untyped=False)
    made = parser.instantiate_classes(parser.parse_args(args))
    code = function(**made.as_dict())
    return code if isinstance(code, int) and not isinstance(code, bool) else 0
