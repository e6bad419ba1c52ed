"""Parsing arguments to options: completed by those of an earlier run, resolved, and checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from gd_lightning.cli.checkpoint_argument import EarlierRun, find_run
from gd_lightning.cli.options.checks import (
    refuse_nonsense,
    refuse_null,
    refuse_parts_of_samples,
    refuse_unknown_variables,
)
from gd_lightning.cli.options.config_text import text_of
from gd_lightning.cli.options.dependent_options import (
    settle_default_lr,
    settle_learning_rate,
    settle_length,
    settle_standardize,
)
from gd_lightning.cli.options.earlier_run import (
    refuse_another_run,
    refuse_fewer_epochs,
    refuse_to_diverge_again,
    settings_for,
    take_whole_table,
)
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.options.jsonargparse_internals import subcommands_of
from gd_lightning.cli.options.parser import DEFAULT_PROBLEM, Parser, options_of
from gd_lightning.cli.options.shipped_configs import with_shipped_configs
from gd_lightning.cli.options.trusted import no_programs
from gd_lightning.cli.subcommands.compare_options import with_own_options
from gd_lightning.cli.subcommands.sweep_options import settle_grids, with_grids
from gd_lightning.errors import InputError
from gd_lightning.problems import Problem
from gd_lightning.tracking.run_directory import LOGS

_OF_A_RUN = ("validate", "test", "predict")  # they need a run; all other subcommands have the options of a training run
_REWRITTEN: dict[str, Callable[[list[str]], list[str]]] = {"compare": with_own_options, "sweep": with_grids}


@dataclass
class ParsedOptions:
    """The options of a command line, resolved and checked.

    Args:
        parser: The parser of all subcommands.
        arguments: The arguments.
        config: All options, with the name of the subcommand.
        run: The run that ``--ckpt_path`` names, if any.
        chosen: The choices made for this batch size, as a sentence; "" if there are none.
    """

    parser: Parser
    arguments: list[str]
    config: Namespace
    run: EarlierRun | None = None
    chosen: str = ""

    @property
    def stage(self) -> str:
        """The subcommand."""
        return str(self.config.subcommand)

    @property
    def values(self) -> Namespace:
        """The options of the subcommand."""
        values = self.config[self.stage]
        assert isinstance(values, Namespace)
        return values

    @property
    def logs(self) -> Path:
        """The directory of runs."""
        return Path(self.values.trainer.default_root_dir or ".") / LOGS

    @property
    def stage_parser(self) -> Parser:
        """The parser of the subcommand."""
        parser = subcommands_of(self.parser)[self.stage]
        assert isinstance(parser, Parser)
        return parser

    @property
    def earlier_run(self) -> EarlierRun:
        """The run that ``--ckpt_path`` names, for a subcommand that requires it."""
        assert self.run is not None
        return self.run

    @cached_property
    def given(self) -> Namespace:
        """The options that were given, in arguments, configs or the environment, without defaults."""
        # Parsed without defaults, required options must be given; the user's problem comes later, and overrides this.
        # So must the arguments that the user's problem may need.
        given = _parse(self.parser, self._with("--data.problem", DEFAULT_PROBLEM), defaults=False)[self.stage]
        assert isinstance(given, Namespace)
        return given

    def own(self, method: Callable[..., None]) -> dict[str, Any]:
        """Return the options of a subcommand that fit does not have, the arguments of a method, as plain values."""
        values = self.values.as_dict()
        return {name: values[name] for name in signature(method).parameters if name != "self"}

    def text(self) -> str:
        """Return all options as a config that reproduces them."""
        return str(self.stage_parser.dump(self.values, skip_none=False, skip_validation=True))

    def take_up(self, path: str) -> None:
        """Complete the options by those of a run; options given by the user take precedence.

        Args:
            path: The value of ``--ckpt_path``.

        Raises:
            InputError: There is no such run, or it cannot be used with these options.
        """
        stage = self.stage
        self.run = run = find_run(path, self.logs, to_continue=stage == "fit")
        if run.checkpoint is None and stage != "fit":
            raise InputError(f"cannot {stage} {run.name}, because it was ended before its first checkpoint")
        settings = text_of(settings_for(stage, run))
        self.config = _with_defaults_of_the_problem(self.parser, self._with("--config", settings))
        self.values.ckpt_path = None if run.checkpoint is None else str(run.checkpoint)
        refuse_another_run(stage, self.values, run)
        if stage == "fit":
            refuse_to_diverge_again(self.values, run)
        else:
            take_whole_table(self.values, run)

    def _with(self, *first: str) -> list[str]:
        """Return the arguments with others inserted directly after the subcommand."""
        at = self.arguments.index(self.stage) + 1
        return [*self.arguments[:at], *first, *self.arguments[at:]]


@no_programs()
def parse_options(parser: Parser, arguments: Sequence[str]) -> ParsedOptions:
    """Parse, resolve and check the arguments of a command.

    Args:
        parser: The parser of all subcommands.
        arguments: The arguments.

    Raises:
        InputError: An option cannot be used.
    """
    rewritten = _rewritten(list(with_shipped_configs(list(_flags_as_options(arguments)))))
    rewritten = _with_problem_of_the_run(rewritten)
    parsed = ParsedOptions(parser, rewritten, _with_defaults_of_the_problem(parser, rewritten))
    stage = parsed.stage
    if stage not in rewritten:  # it was given by a config or by the environment
        rewritten.append(stage)
    run = parsed.values.get("ckpt_path")
    if run is not None:
        parsed.take_up(str(run))
    elif stage in _OF_A_RUN:
        raise InputError(
            f"cannot {stage} without a checkpoint, because the weights would be random; give --ckpt_path with the "
            "directory of a run"
        )
    values = parsed.values
    refuse_null(parsed.stage_parser, values)
    if stage == "sweep":
        settle_grids(values, parsed.given)
    settle_standardize(values.data)
    if stage not in _OF_A_RUN:
        settle_learning_rate(values, lambda: parsed.given, parsed.stage_parser.get_default("model.lr"))
        settle_length(values.trainer, lambda: parsed.given)
    if stage in ("fit", "plan") and run is None:
        parsed.chosen = settle_default_lr(values, lambda: parsed.given)
    if stage == "fit" and parsed.run is not None:
        refuse_fewer_epochs(values.trainer.max_epochs, parsed.run)
    refuse_unknown_variables(stage, options_of(parsed.stage_parser), os.environ)
    refuse_nonsense(values)
    refuse_parts_of_samples(stage, values.trainer)
    return parsed


def _flags_as_options(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments, with --json=true for a --json without a value, and --animate=html for such an --animate."""
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        if argument == "--json" and following not in ("true", "false"):
            yield "--json=true"
        elif argument == "--animate" and following.startswith("--"):
            yield "--animate=html"
        else:
            yield argument


def _rewritten(arguments: list[str]) -> list[str]:
    """Return the arguments with special forms of a subcommand rewritten as options."""
    at = next((i for i, argument in enumerate(arguments, start=1) if argument in EXAMPLES), 0)
    own = _REWRITTEN.get(arguments[at - 1], list) if at else list
    return [*arguments[:at], *own(arguments[at:])]


def _with_problem_of_the_run(arguments: list[str]) -> list[str]:
    """Return the arguments with the class of the problem of the run that ``--ckpt_path`` names.

    Options of the problem, such as the path of another table, cannot be parsed without its class.
    """
    names = {argument.partition("=")[0] for argument in arguments}
    path, root = (_value_of(name, arguments) for name in ("--ckpt_path", "--trainer.default_root_dir"))
    if path is None or "--data.problem" in names or not any(name.startswith("--data.problem.") for name in names):
        return arguments
    problem = find_run(path, Path(root or ".") / LOGS, to_continue=False).settings.get("data", {}).get("problem", {})
    at = next((i for i, argument in enumerate(arguments, start=1) if argument in EXAMPLES), 0)
    chosen = ["--data.problem", str(problem["class_path"])] if "class_path" in problem else []
    return [*arguments[:at], *chosen, *arguments[at:]]


def _value_of(name: str, arguments: Sequence[str]) -> str | None:
    """Return the value of an option among arguments; None if it is not given."""
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        option, is_one, value = argument.partition("=")
        if option == name:
            return value if is_one else following
    return None


def _with_defaults_of_the_problem(parser: Parser, arguments: list[str]) -> Namespace:
    """Parse with the defaults of the chosen problem.

    If a class other than the default is chosen, jsonargparse carries over the arguments that both have, such as seed
    and noise of the default problem. So the chosen class is made the default, and everything is parsed again.
    """
    config = _parse(parser, arguments)
    problem = None if config.subcommand is None else config[config.subcommand].data.problem
    if isinstance(problem, Problem):
        raise InputError(
            f"cannot use an object of {type(problem).__name__} as data.problem, because a config can name classes "
            "only; give the class path"
        )
    if problem is not None and problem.class_path != (of := subcommands_of(parser)[config.subcommand]).default_problem:
        of.choose_problem(problem.class_path)
        config = _parse(parser, arguments)
    return config


def _parse(parser: Parser, arguments: list[str], defaults: bool = True) -> Namespace:
    """Parse, if possible by the parser of the subcommand alone, since the parser of all subcommands parses twice."""
    stage = arguments[0] if arguments else ""
    if stage not in subcommands_of(parser) or any(name.startswith("PL_") for name in os.environ):
        return parser.parse_args(arguments, defaults=defaults)
    values = subcommands_of(parser)[stage].parse_args(arguments[1:], defaults=defaults, env=False)
    return Namespace(subcommand=stage, **{stage: values})


def without_best_lr(arguments: list[str]) -> list[str]:
    """Return the arguments of ``fit`` without ``--model.lr best``; those of other subcommands are unchanged.

    Example:
        >>> without_best_lr(["fit", "--model.lr", "best", "--data.batch_size=10"])
        ['fit', '--data.batch_size=10']
    """
    if arguments[:1] != ["fit"]:
        return arguments
    found = list(arguments)
    for at in reversed(range(len(found))):
        if found[at] == "--model.lr=best":
            del found[at]
        elif found[at : at + 2] == ["--model.lr", "best"]:
            del found[at : at + 2]
    return found
