"""The argument parser: short usage, examples first in the help, and errors of one line."""

from __future__ import annotations

from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from gd_lightning.cli.messages import plain
from gd_lightning.errors import InputError

PROGRAM = "python -m gd_lightning"


class Parser(LightningArgumentParser):
    """A ``LightningArgumentParser`` for people; ``examples`` is a text that its help begins with."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        self.examples = examples
        super().__init__(*args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Return the examples, then the options."""
        text = super().format_help(*args, **kwargs)
        return f"{self.examples}\n{text}" if self.examples else text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the command line prints in one line.

        Raises:
            InputError: Always.
        """
        raise InputError(plain(message, _options(self))) from ex


def _options(parser: LightningArgumentParser) -> list[str]:
    """Return the names of all options of a parser and its subcommands."""
    names = [option.lstrip("-") for action in parser._actions for option in action.option_strings]
    for action in parser._actions:
        choices = getattr(action, "choices", None)
        if isinstance(choices, dict):
            names += [name for child in choices.values() for name in _options(child)]
    return names
