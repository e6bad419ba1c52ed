"""The help of a parser: a short one with the parser's own defaults, and a complete one."""

from __future__ import annotations

import inspect
import re
from argparse import SUPPRESS, Action
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gd_lightning.cli.options.jsonargparse_internals import actions_of
from gd_lightning.cli.options.short_help import Option, short_help
from gd_lightning.data import RegressionDataModule
from gd_lightning.module import RegressionModule

HELP_ALL = "--help-all"
# Groups of options are called after classes, by the first lines of their docstrings, which speak to who reads code.
_TITLES = {
    "data": "Data and algorithm (options of gd_lightning)",
    "model": "Model (options of gd_lightning)",
    "optimizer": "Optimiser (a class of torch)",
    "lr_scheduler": "Scheduler of the learning rate (a class of torch)",
    "recorder": "What is recorded (options of gd_lightning)",
    "checkpoint": "Checkpoints (options of gd_lightning)",
    "StopOnDivergence": "Divergence (options of gd_lightning)",
    "trainer": "Training (options of Lightning's Trainer)",
}
_HELP = {
    # Lightning's own description also names values that this package refuses, such as hpc.
    "ckpt_path": "The run to continue, evaluate or use: its directory, such as lightning_logs/NAME, a checkpoint "
    "file, last, which is the newest run in lightning_logs, or best (RUN/best of another run), the checkpoint with the "
    "best value that one of its ModelCheckpoints has monitored.",
    "animate": "Show path, fit and loss in motion: html, gif or mp4 (which needs the program ffmpeg) for a file beside "
    "the others of the run, or the name of a new file with such an ending; --animate alone means html.",
    "formats": "Formats of the picture of the run: png, svg and pdf, one file each.",
    "seed_everything": "Seed of the initial weights; true: one that is drawn.",
}
_OWN = {"data": RegressionDataModule, "model": RegressionModule}


class PrintHelpAll(Action):
    """Prints the help with every option, and ends the program."""

    def __init__(self, option_strings: list[str], **_: Any) -> None:
        super().__init__(option_strings, dest=SUPPRESS, default=SUPPRESS, nargs=0, help="Show every option and exit.")

    def __call__(self, parser: Any, *_: object) -> None:
        """Print it."""
        print(parser.full_help(), end="")
        parser.exit()


def describe(parser: LightningArgumentParser, stage: str) -> None:
    """Describe groups and options in words for users.

    Args:
        parser: The parser of a subcommand, with all of its options.
        stage: The subcommand.
    """
    for name, group in (parser.groups or {}).items():
        group.title = _TITLES.get(name, f"Options of {stage} (gd_lightning)" if name == stage else group.title)
    for action in actions_of(parser):
        action.help = _HELP.get(action.dest, action.help)


def help_of(parser: LightningArgumentParser, stage: str) -> str:
    """Return the short help of a subcommand, with the options of a module and data of another project.

    Args:
        parser: The parser of the subcommand.
        stage: The subcommand.
    """
    known = {action.dest for action in actions_of(parser)}

    def default_of(option: Option) -> str | None:
        name = option.name.rstrip("+")
        if name not in known:  # it may be an argument of a class that is chosen
            of_a_class = name.rpartition(".")[0]
            return option.default if "." in of_a_class and of_a_class in known else None
        return _text(parser.get_default(name)) if option.default else ""

    return short_help(stage, default_of, _added(parser))


def _added(parser: LightningArgumentParser) -> list[Option]:
    """Return the options of module and data that those of this package do not have."""
    known = {f"{section}.{name}" for section, of in _OWN.items() for name in inspect.signature(of).parameters}
    return [
        Option(action.dest, "VALUE", (action.help or "").partition(".")[0].strip(), _text(action.default))
        for action in actions_of(parser)
        if action.dest.partition(".")[0] in _OWN and "." in action.dest and ".help" not in action.dest
        if action.dest not in known and action.option_strings
    ]


def _text(value: Any) -> str:
    """Return a default value as a user would type it."""
    if isinstance(value, dict | Namespace) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or value == SUPPRESS else str(value)


def in_plain_words(text: str) -> str:
    """Return jsonargparse's help without the parts that are only for developers of parsers."""
    text = re.sub(r"(?ms)^Linked arguments:\n.*?\n\n", "", text)  # the options themselves are in the group of the model
    text = text.replace("\x08[=flags]", "[=FLAGS]").replace("<class 'Problem'>", "Problem")
    return re.sub(r":(?:\w+:)?\w+:`~?(?:gd_lightning\.)?([^`]+)`", r"\1", text)  # roles of docstrings
