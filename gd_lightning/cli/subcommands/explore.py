"""``explore`` on the command line: its options, and where its page goes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.cli.program import typed
from gd_lightning.cli.shown_paths import shown
from gd_lightning.cli.subcommands.configured import Configured
from gd_lightning.cli.subcommands.described_data import say_what_was_read
from gd_lightning.errors import InputError
from gd_lightning.experiments import make_exploration
from gd_lightning.tracking.run_directory import is_taken, new_file

# Options that the page sets, or that are its own: they are left out of the command that trains the same run.
_SET = (
    *("data.batch_size", "data.order", "data.seed", "model.lr", "model.momentum", "model.nesterov"),
    *("trainer.max_epochs", "trainer.default_root_dir", "file"),
)


class ExploreOptions:
    """Where the subcommand's own options are found; there is no Trainer."""

    def explore(self, file: str | None = None) -> None:
        """Make a web page on which learning rate, batch size, momentum and start of a line can be changed.

        Args:
            file: The file of the page, such as explore.html; null: a new file in lightning_logs.
        """


def explore(command: Configured, options: Mapping[str, Any]) -> None:
    """Make a page that trains in the browser what the options of a command describe.

    Args:
        command: The command, with the options of ``fit``.
        options: The options of ``explore``.

    Raises:
        InputError: The options do not train a line over one feature, or the file already exists.
    """
    trainer, arguments = command.options.values.trainer, command.options.arguments
    epochs = most_epochs(trainer.max_epochs, trainer.max_steps, command.datamodule.variant)
    say_what_was_read(command.datamodule)
    complete = not any(argument.partition("=")[0] == "--config" for argument in arguments)  # no config sets an option
    made = make_exploration(command.model, command.datamodule, epochs, command_of(arguments), is_complete=complete)
    if (file := options["file"]) is None:
        with new_file(command.options.logs, f"explore-{made.title}", ".html") as path:
            made.save(path)
    else:
        path = Path(file)
        if is_taken(path):
            raise InputError(f"cannot write the page to {file}, because it already exists; give another name")
        made.save(path)
    print(f"page  {shown(path)}\n\nopen it in a browser; it needs no network, and nothing of this program")


def command_of(arguments: Sequence[str]) -> str:
    """Return the command that trains what is explored, without the options that the page sets.

    Args:
        arguments: The arguments of ``explore``.

    Example:
        >>> command_of(["explore", "--model.lr", "0.2", "--data.problem=FourPoints", "--file", "a.html"])
        'python -m gd_lightning fit --data.problem=FourPoints'
    """
    return f"{typed()} fit {shlex.join(_others(arguments))}".strip()


def _others(arguments: Sequence[str]) -> Iterator[str]:
    is_value_left_out = False
    for argument in arguments:
        name, has_value, _ = argument.partition("=")
        if argument.startswith("--"):
            is_set = name[2:] in _SET
            is_value_left_out = is_set and not has_value
            if not is_set:
                yield argument
        elif is_value_left_out:
            is_value_left_out = False
        elif argument != "explore":
            yield argument
