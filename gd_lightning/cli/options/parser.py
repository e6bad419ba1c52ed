"""The argument parser: short usage and help, checked configs, and errors of one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gd_lightning.cli.options.base_configs import check_base, merged
from gd_lightning.cli.options.config_text import MODE, read, register
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.options.jsonargparse_errors import plain, with_hint
from gd_lightning.cli.options.jsonargparse_internals import actions_of, sections_of, subcommands_of
from gd_lightning.cli.options.parser_help import HELP_ALL, PrintHelpAll, describe, help_of, in_plain_words
from gd_lightning.cli.options.shipped_configs import shipped_config, shipped_configs_in_environment
from gd_lightning.cli.program import as_typed, typed
from gd_lightning.errors import InputError, first_line
from gd_lightning.tracking.yaml_and_json import ConfigError

DEFAULT_PROBLEM = "gd_lightning.SteepLine"  # as jsonargparse writes it after parsing, so that it is parsed only once


class Parser(LightningArgumentParser):
    """A ``LightningArgumentParser`` for people; ``stage`` is the subcommand that it parses, if it is one of ours."""

    default_problem = ""

    def __init__(self, *args: Any, stage: str = "", **kwargs: Any) -> None:
        self.stage = stage
        register()
        super().__init__(*args, **{"allow_abbrev": False, "parser_mode": MODE, **kwargs})
        if stage:
            self.add_argument(HELP_ALL, action=PrintHelpAll)

    def choose_problem(self, class_path: str) -> None:
        """Set the default problem."""
        self.default_problem = class_path
        self.set_defaults({"data.problem": {"class_path": class_path}})

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a method, and adapt all descriptions of the parser to this program."""
        added: list[str] = super().add_method_arguments(*args, **kwargs)
        if self.stage == "fit":  # the other options of fit are the arguments of the Trainer's method
            self.add_argument("--animate", type=str | None, default=None)
            self.add_argument("--formats", type=str | list[str], default="png")
        describe(self, self.stage)
        return added

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Return the examples and the most important options."""
        return help_of(self, self.stage) if self.stage else super().format_help(*args, **kwargs)

    def full_help(self) -> str:
        """Return the help with every option."""
        self.default_env = False  # otherwise the help names an environment variable for each option
        try:
            return f"{as_typed(EXAMPLES[self.stage])}\n{in_plain_words(super().format_help())}"
        finally:
            self.default_env = True

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # as its base class
        """Parse the arguments, and the files that they name.

        Raises:
            InputError: An argument cannot be used.
        """
        try:
            with shipped_configs_in_environment():
                parsed: Namespace = super().parse_args(*args, **kwargs)
        except UnicodeDecodeError as error:
            raise InputError("cannot read the given config, because it is not UTF-8 text") from error
        except (InputError, OSError, MemoryError):
            raise
        except Exception as error:
            # Only what is given can make jsonargparse stumble; the parser of a nested class reports to its parent's.
            if not self.exit_on_error:
                raise
            raise InputError(
                f"cannot use these options, because {first_line(error)}; see --help for the options"
            ) from error
        return parsed

    def parse_path(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Namespace:
        """Parse a config file, and say which file it is that has a mistake.

        Raises:
            InputError: The config cannot be read, or has a mistake.
        """
        try:
            parsed: Namespace = super().parse_path(path, *args, **kwargs)
        except UnicodeDecodeError:
            raise InputError(f"cannot read the config {path}, because it is not UTF-8 text; save it in UTF-8") from None
        except InputError as error:
            message = str(error)
            named = re.sub("the config(?=[,;])", lambda _: f"the config {path}", message, count=1)
            raise InputError(named if named != message else f"{message} (in the config {path})") from error
        return parsed

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a config's text.

        Raises:
            InputError: The config is not a mapping of sections and options.
        """
        try:
            config = read(content)
        except ConfigError as error:
            raise InputError(f"cannot read the config, because {error}; correct it") from error
        _refuse_no_mapping(self, config)
        if (base := config.pop("config", None)) is not None:
            return merged(self, shipped_config(base), yaml.safe_dump(config, sort_keys=False))
        if _drop_empty_sections(self, config):
            content = yaml.safe_dump(config, sort_keys=False)
        parsed: Namespace = super().parse_string(content, *args, **kwargs)
        return parsed

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error that the command line prints in one line; that of a nested class tells it to its parent.

        Raises:
            InputError: Unless this is the parser of a nested class.
        """
        if message.startswith('expected "subcommand"'):
            known = ", ".join(subcommands_of(self))
            raise InputError(f"no subcommand is given; use one of {known}, for example: {typed()} fit") from ex
        if not self.exit_on_error:
            super().error(with_hint(message, options_of(self)), ex)
        raise InputError(plain(message, options_of(self))) from ex


def _refuse_no_mapping(parser: LightningArgumentParser, config: object, section: str = "") -> None:
    """Refuse sections that are a number or a list, which jsonargparse would ignore silently."""
    what = f"{section.rstrip('.')} in the config" if section else "the config"
    if config is None and section:
        return  # a section whose options are all commented out
    if not isinstance(config, Mapping):
        given = "it is empty" if config is None else f"{str(config).strip()[:80]!r} is not a mapping of options"
        raise InputError(f"cannot read {what}, because {given}; write option: value, a line for each")
    subcommands = subcommands_of(parser)
    for name, value in config.items():
        if not isinstance(name, str) or not name.strip() or name.startswith("__"):
            raise InputError(f"cannot use {name!r} as an option in {what}; see --help for the options")
        if section.endswith("model.") and name in ("optimizer", "lr_scheduler"):
            raise InputError(f"cannot use {section}{name} in the config; give it as {name}, beside model")
        if name == "config":
            check_base(value, what)
        if name == "subcommand" and subcommands and value not in subcommands:
            raise InputError(f"there is no subcommand {value!r}; use one of {', '.join(subcommands)}")
        if name in subcommands:
            _refuse_no_mapping(subcommands[name], value, f"{section}{name}.")
        elif name in sections_of(parser) and not isinstance(value, str):  # the path of a config of the section
            _refuse_no_mapping(parser, value, f"{section}{name}.")


def _drop_empty_sections(parser: LightningArgumentParser, config: Any) -> bool:
    """Remove sections without options from a config, as where all are commented out; return whether there were any."""
    subcommands = subcommands_of(parser)
    nested = [_drop_empty_sections(subcommands[name], config[name]) for name in subcommands if config.get(name)]
    empty = [name for name in sections_of(parser) if name in config and config[name] is None]
    for name in empty:
        del config[name]
    return bool(empty) or any(nested)


def options_of(parser: LightningArgumentParser) -> list[str]:
    """Return the names of all options of a parser and its subcommands."""
    names = [option.lstrip("-") for action in actions_of(parser) for option in action.option_strings]
    return names + [name for child in subcommands_of(parser).values() for name in options_of(child)]
