"""The ``LightningCLI`` of this package: its options, defaults and files, and what each subcommand ends with."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, LRSchedulerTypeTuple
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor
from torch.optim import Optimizer

from gd_lightning.callbacks import (
    EndedBySignal,
    EndsRun,
    Forecast,
    GradientVariance,
    HistoryRecorder,
    LastCheckpoint,
    LongRunProgress,
    Pictures,
    StopOnDivergence,
    StopOnSignal,
    TimeLimit,
)
from gd_lightning.callbacks.directories import check_names, choose_directory, directory_of
from gd_lightning.callbacks.run_loggers import end_runs
from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.cli.checkpoint_argument import EarlierRun, differences, find_run
from gd_lightning.cli.error_origin import is_bad_input, refusals_of_loggers
from gd_lightning.cli.options.checks import (
    leave_sizes_open,
    refuse_nonsense,
    refuse_null,
    refuse_parts_of_samples,
    refuse_unknown_variables,
    repeated,
)
from gd_lightning.cli.options.config_text import refuse_unreadable, text_of
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.options.parser import PROGRAM, Parser, options_of
from gd_lightning.cli.options.printed_config import as_plain_values, environment_with, merged, what_differs
from gd_lightning.cli.options.trial_step import rehearse
from gd_lightning.cli.options.trusted import distrust, no_programs, refuse_foreign_code
from gd_lightning.cli.output import predictions_csv, print_judgement, print_run
from gd_lightning.cli.processes import (
    check_against_torchrun,
    check_launcher,
    check_nodes,
    is_first_process,
    torchrun_defaults,
)
from gd_lightning.cli.saved_config import RunLogger, SaveConfig, settle_version
from gd_lightning.cli.subcommands.compare import CompareOptions, with_own_options
from gd_lightning.cli.subcommands.compare_runs import compare
from gd_lightning.cli.subcommands.plan import PlanOptions, plan, show
from gd_lightning.cli.subcommands.sweep import SweepOptions, settle_grids, sweep, with_grids
from gd_lightning.cli.terminal import warn
from gd_lightning.data import RegressionDataModule
from gd_lightning.engine import why_no_numba
from gd_lightning.errors import InputError
from gd_lightning.float64 import precision_of_run
from gd_lightning.module import NOT_THERE, RegressionModule
from gd_lightning.problems import Problem
from gd_lightning.records.history import Outcome
from gd_lightning.texts import in_one_line
from gd_lightning.tracking.run_directory import (
    CONFIG,
    EVENTS,
    LOGS,
    claim_directory,
    claim_file,
    forget,
    held,
    missing_directories,
    remove_empty,
    run_name,
    write_text,
)
from gd_lightning.tracking.text_files import plain_copy, read_own_yaml
from gd_lightning.variants import Variant

_DEFAULT_PROBLEM = "gd_lightning.SteepLine"  # as it is called once it is parsed, so that this is done once
_TRAINING = ("fit", "plan", "compare", "sweep")  # subcommands whose options are those of a training run
_REWRITTEN: dict[str, Callable[[list[str]], list[str]]] = {"compare": with_own_options, "sweep": with_grids}
_PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
# A run is the same run, whatever these are.
_FREE_OPTIONS = {"predict_inputs", "micro_batch_size", "engine"}
_LITTLE = 10.0  # seconds of training; a run that its options end later keeps its files
_DEFAULTS = {
    # Small problems are many times faster on the CPU; configs/gpu.yaml has what a GPU needs.
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 20,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    # The data module shares batches among processes itself, exactly.
    "use_distributed_sampler": False,
}


class OwnSubcommands(PlanOptions, CompareOptions, SweepOptions, Trainer):
    """A Trainer beside whose methods LightningCLI finds the options of this package's own subcommands."""


class Command(LightningCLI):
    """``python -m gd_lightning``.

    Args:
        args: Arguments without the program's name.
        model_class: The module that is trained.
        datamodule_class: The data module that it is trained on.
        made: Where the directory of each run is added as it is chosen, for whoever says what became of them.
        begun: When the command began, by ``time.monotonic()``; None: now.
    """

    config: Namespace
    model: RegressionModule
    datamodule: RegressionDataModule

    def __init__(
        self,
        args: list[str],
        model_class: type[RegressionModule] = RegressionModule,
        datamodule_class: type[RegressionDataModule] = RegressionDataModule,
        made: list[Path] | None = None,
        begun: float | None = None,
    ) -> None:
        self._begun = time.monotonic() if begun is None else begun
        check_launcher()
        distrust()
        self._made = [] if made is None else made
        self._missing: list[Path] = []  # what has to be made for the directory of a run, the innermost first
        self._typed = self.arguments = args
        self._default_problem = _DEFAULT_PROBLEM
        self.run: EarlierRun | None = None
        self.run_directory: Path | None = None
        self._member_directory: Path | None = None
        self._made_by_loggers: list[Path] = []
        self._holds = contextlib.ExitStack()
        self.outcome: Outcome | None = None
        parsers = {
            name: {"examples": EXAMPLES[name], "usage": f"{PROGRAM} {name} [options]", "default_env": True}
            for name in self.subcommands()
        }
        super().__init__(
            model_class,
            datamodule_class,
            save_config_callback=SaveConfig,
            trainer_defaults={**_DEFAULTS, **torchrun_defaults()},
            trainer_class=OwnSubcommands,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={
                "prog": PROGRAM,
                "usage": f"{PROGRAM} {{{','.join(EXAMPLES)}}} [options]",
                "description": "Gradient descent where batch_size is the algorithm; SUBCOMMAND --help for its options.",
                "default_env": True,
                **parsers,
            },
            args=args,
            auto_configure_optimizers=False,
            # The classes save plain hyperparameters themselves; Lightning would add the path of an instantiator.
            load_from_checkpoint_support=False,
        )

    # Options

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning asks the object, never the class
        """Return the subcommands and the arguments of the Trainer's methods that are no options.

        The options of one take as long to collect as those of any other. So where the first argument says which one it
        is, and nothing in the environment speaks of all of them, it is the only one.
        """
        judged = {"model", "dataloaders", "datamodule", "verbose", "weights_only", "return_predictions"}
        known: dict[str, set[str]] = {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": judged,
            "test": judged,
            "predict": judged,
            "plan": set(),
            "compare": set(),
            "sweep": set(),
        }
        first = self.arguments[0] if self.arguments else None
        if first in known and not {"PL_CONFIG", "PL_SUBCOMMAND"} & set(os.environ):
            needed = [first, "fit"] if first == "compare" else [first]  # the runs of a comparison are runs of fit
            return {name: known[name] for name in needed}
        return known

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add data and model before the many options of the Trainer."""
        parser.add_lightning_class_args(self._datamodule_class, "data")
        parser.add_lightning_class_args(self._model_class, "model")
        parser.set_defaults({"data.problem": {"class_path": _DEFAULT_PROBLEM}})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add optimiser, scheduler, recording and Trainer."""
        parser.add_optimizer_args((Optimizer,))
        parser.add_lr_scheduler_args(LRSchedulerTypeTuple)
        for name in ("optimizer", "lr_scheduler"):
            parser.link_arguments(name, f"model.{name}", compute_fn=_class_spec)
        parser.add_lightning_class_args(HistoryRecorder, "recorder")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_class_arguments(StopOnDivergence)
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; a run that is given supplies what it was made with, below what a person gives."""
        refuse_unreadable([*args, *(value for name, value in os.environ.items() if name.startswith("PL_"))])
        printing = [argument for argument in args if argument.startswith("--print_config")]
        given = [argument for argument in _flags_as_options(args) if argument not in printing]
        at = next((i for i, argument in enumerate(given, start=1) if argument in EXAMPLES), 0)
        own = _REWRITTEN.get(given[at - 1], list)(given[at:]) if at else given
        self.arguments = [*given[:at], *own]
        self.config = self._parse(self.arguments)
        stage = self.config.subcommand
        if stage not in self.arguments:  # it was given by a config or by the environment
            self.arguments = [*self.arguments, stage]
        run = self.config[stage].get("ckpt_path")
        if run is None and stage not in _TRAINING:
            raise InputError(
                f"cannot {stage} without a checkpoint, because the weights would be random; give --ckpt_path with the "
                "directory of a run"
            )
        if run is not None:
            root = Path(self.config[stage].trainer.default_root_dir or ".")
            self.run = find_run(str(run), root / LOGS, to_continue=stage == "fit")
            if self.run.checkpoint is None and stage != "fit":
                raise InputError(f"cannot {stage} {self.run.name}, because it was ended before its first checkpoint")
            at = self.arguments.index(stage) + 1
            settings = ["--config", text_of(self._settings_for(stage))]
            self.config = self._parse([*self.arguments[:at], *settings, *self.arguments[at:]])
            self.config[stage].ckpt_path = None if self.run.checkpoint is None else str(self.run.checkpoint)
            self._refuse_another_run(stage)
            if stage == "fit":
                self._refuse_to_diverge_again()
        refuse_null(self._parser(stage), self.config[stage])
        if stage == "sweep":
            settle_grids(self.config.sweep, self._given())
        if stage in _TRAINING:
            self._settle_learning_rate(self.config[stage])
            self._settle_length(self.config[stage])
            self._refuse_fewer_epochs(self.config[stage].trainer.max_epochs)
        refuse_unknown_variables(stage, options_of(self._parser(stage)), os.environ)
        refuse_nonsense(self.config[stage])
        refuse_parts_of_samples(stage, self.config[stage].trainer)
        for flags in printing:
            self._print(stage, flags.partition("=")[2])

    def _print(self, stage: str, flags: str) -> NoReturn:
        """Print the config as it is settled, so that it says what would run, and end."""
        known = ("skip_default", "skip_unset")
        given = [flag for flag in flags.split(",") if flag]
        if unknown := [flag for flag in given if flag not in known]:
            raise InputError(f"cannot print the config with {unknown[0]}; use {' or '.join(known)}")
        parser = self._parser(stage)
        text = parser.dump(self.config[stage], **{"skip_unset": False, **dict.fromkeys(given, True)})
        if "skip_default" in given:
            text = self._with_what_makes_it_differ(stage, text)
        print(text, end="")
        parser.exit()

    def _with_what_makes_it_differ(self, stage: str, text: str) -> str:
        """Return a config without defaults that is settled as the present options are.

        What is settled from several options, such as the learning rate of model and optimiser, can come out otherwise
        where one of them is a default and left out; so can what a variable of the environment overrules.
        """
        parser = self._parser(stage)
        wanted = as_plain_values(parser, self.config[stage])
        kept: dict[str, Any] = read_own_yaml(text) or {}
        # Twice each: what is added to the config can change in turn what is settled from it.
        for has_options in (False, True, False, True):
            with environment_with(has_options):
                self._make_default(stage, _DEFAULT_PROBLEM)
                self.parse_arguments(self.parser, [stage, f"--config={text_of(kept)}"])
            kept = merged(kept, what_differs(wanted, as_plain_values(parser, self.config[stage])))
        header = [line for line in text.splitlines(keepends=True) if line.startswith("#")]
        return "".join([*header, yaml.safe_dump(kept, sort_keys=False)])

    def _make_default(self, stage: str, problem: str) -> None:
        self._default_problem = problem
        self._parser(stage).set_defaults({"data.problem": {"class_path": problem}})

    def _settings_for(self, stage: str) -> dict[str, Any]:
        """Return what a run was made with, as far as the stage needs it; only fit goes on as the run began."""
        assert self.run is not None
        settings = self.run.settings
        if stage == "fit":
            return settings
        names = ("seed_everything", "model", "data", "optimizer", "lr_scheduler")
        kept: dict[str, Any] = {name: settings[name] for name in names if name in settings}
        precision = settings["trainer"].get("precision")
        return kept if precision is None else {**kept, "trainer": {"precision": precision}}

    def _parse(self, args: list[str]) -> Namespace:
        """Parse with the defaults of the problem that is chosen.

        Where another class than the default one is chosen, jsonargparse carries over what both take: the seed and the
        noise of the default problem. So the choice is made the default, and all is parsed again.
        """
        with no_programs():
            config = self.parser.parse_args(args)
        stage = config.subcommand
        problem = None if stage is None else config[stage].data.problem
        if isinstance(problem, Problem):
            raise InputError(
                f"cannot use an object of {type(problem).__name__} as data.problem, because a config can name classes "
                "only; give the class path"
            )
        chosen = self._default_problem if problem is None else problem.class_path
        if chosen != self._default_problem:
            self._make_default(stage, chosen)
            config = self.parser.parse_args(args)
        assert isinstance(config, Namespace)
        return config

    def _parse_ckpt_path(self) -> None:
        """Leave Lightning's own way out: it silently overrules what a person gives."""

    def _given(self) -> Namespace:
        """Return the options that were given, in arguments, configs or the environment, without defaults."""
        at = self.arguments.index(self.config.subcommand) + 1
        # Without defaults, what is required must be there; what a person gives comes later and wins. The problem that
        # is chosen may need arguments, which come later, too.
        required = ["--data.problem", _DEFAULT_PROBLEM]
        given = self.parser.parse_args([*self.arguments[:at], *required, *self.arguments[at:]], defaults=False)
        of_stage = given[self.config.subcommand]
        assert isinstance(of_stage, Namespace)
        return of_stage

    def _refuse_another_run(self, stage: str) -> None:
        """Refuse model and data that differ from those of the run that is judged or continued."""
        assert self.run is not None
        now = {name: _plain(self.config[stage][name]) for name in ("model", "data") if name in self.run.settings}
        for name, settings in now.items():
            made_with = self.run.settings[name]
            # What a checkpoint alone leaves open cannot differ.
            compared = set(settings) & set(made_with) - _FREE_OPTIONS
            comparable = {key: value for key, value in settings.items() if key in compared}
            for option, value, before in differences(comparable, made_with, f"{name}."):
                raise InputError(
                    f"cannot {stage} with {option} {value}, because the run was made with {before}; leave the option "
                    "out, or train anew without --ckpt_path"
                )

    def _refuse_fewer_epochs(self, epochs: int | None) -> None:
        """Refuse to end a run that is continued before the epoch that it has come to."""
        if self.run is not None and epochs is not None and -1 < epochs < self.run.epochs:
            raise InputError(
                f"cannot go on with {self.run.name} to trainer.max_epochs {epochs}, because it has had "
                f"{self.run.epochs}; give trainer.max_epochs {self.run.epochs} or more, or train anew without "
                "--ckpt_path"
            )

    def _refuse_to_diverge_again(self) -> None:
        """Refuse to continue a run behind the divergence that stopped it, with the same lr and the same bound."""
        assert self.run is not None
        names, config = ("on_divergence", "divergence_factor"), self.config.fit
        is_as_before = all(config[name] == self.run.settings.get(name, config[name]) for name in names)
        if config.on_divergence == "stop" and is_as_before and self.run.goes_on_in_place and self.run.divergence:
            raise InputError(
                f"cannot go on with {self.run.name}, because it diverged: {self.run.divergence}; train anew with a "
                "smaller model.lr, or see where it leads with --on_divergence continue"
            )

    def _settle_learning_rate(self, config: Namespace) -> None:
        """Let --model.lr and --optimizer.lr mean the same one number."""
        optimizer = config.get("optimizer")
        if optimizer is None or "lr" not in optimizer.init_args:
            return
        given = self._given()
        model_lr, optimizer_lr = given.get("model.lr"), given.get("optimizer.init_args.lr")
        if None not in (model_lr, optimizer_lr) and model_lr != optimizer_lr:
            # A config that --print_config printed holds the defaults too; they are no choice.
            if model_lr == self._parser(self.config.subcommand).get_default("model.lr"):
                model_lr = None
            elif optimizer_lr == _default_lr(optimizer.class_path):
                optimizer_lr = None
        if None not in (model_lr, optimizer_lr) and model_lr != optimizer_lr:
            raise InputError(f"model.lr {model_lr} and optimizer.lr {optimizer_lr} differ; give one of them")
        lr = optimizer_lr if model_lr is None else model_lr
        lr = optimizer.init_args.lr if lr is None else lr
        config.model.lr = optimizer.init_args.lr = lr
        config.model.optimizer = _class_spec(optimizer)

    def _settle_length(self, config: Namespace) -> None:
        """Let a number of updates or a time that is given alone not be cut short by the default number of epochs."""
        trainer = config.trainer
        limited = trainer.max_steps != -1 or trainer.max_time is not None
        if limited and self._given().get("trainer.max_epochs") is None:
            trainer.max_epochs = -1
        if 0 in (trainer.max_epochs, trainer.max_steps):
            name = "max_epochs" if trainer.max_epochs == 0 else "max_steps"
            raise InputError(f"trainer.{name} 0 trains nothing; use 1 or more")

    # Making

    def before_instantiate_classes(self) -> None:
        """Look at every class that the config names before one of them is called."""
        parser = self._parser(self.config.subcommand)
        assert isinstance(parser, Parser)
        refuse_foreign_code(parser, self.config[self.config.subcommand], typed=self._typed)
        leave_sizes_open(self.config[self.config.subcommand].model)

    def instantiate_classes(self) -> None:
        """Make data, model and Trainer; a plan and a sweep need no Trainer, and a comparison one for each run."""
        if self.subcommand not in ("plan", "compare", "sweep"):
            with refusals_of_loggers():
                super().instantiate_classes()
            if self.run is not None:
                # Lightning does it when the data have been read, and the network was made for them.
                self.datamodule.load_state_dict(self.run.data)
            return
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with the recorder before and the pictures behind the callbacks that a person adds."""
        config = self.config_init[self.subcommand].trainer
        check_against_torchrun(config.devices)
        self._logs_itself = config.logger in (None, True)
        config.logger = False if self._logs_itself or self.subcommand != "fit" else config.logger
        callbacks = config.callbacks if isinstance(config.callbacks, list) else [config.callbacks]
        added = [callback for callback in callbacks if callback is not None]
        own = [self._get(self.config_init, "recorder"), *added]
        if self.subcommand == "fit":
            options = self.config_init.fit
            if any(isinstance(callback, StopOnDivergence) for callback in added):
                raise InputError(
                    "cannot add StopOnDivergence, because fit has one; give --on_divergence and --divergence_factor"
                )
            is_member = self._member_directory is not None
            if not any(isinstance(callback, Forecast) for callback in added):
                own.append(Forecast((lambda _: None) if is_member else warn))
            if config.max_time is not None:
                own.append(TimeLimit(config.max_time, self._begun))
                config.max_time = None  # else Lightning says that it leaves its own Timer out
            own += [StopOnDivergence(options.on_divergence, options.divergence_factor), StopOnSignal()]
            own.append(GradientVariance() if is_member else Pictures())
            if not (is_member or config.barebones or any(isinstance(callback, ProgressBar) for callback in added)):
                own.append(LongRunProgress())
            if config.enable_checkpointing is not False:
                own.append(self._get(self.config_init, "checkpoint"))
        config.callbacks = own
        # The bar above is one of Lightning's kind, for which the option must be on.
        config.enable_progress_bar = any(isinstance(callback, ProgressBar) for callback in own)
        trainer = self._instantiate_trainer({**config.as_dict(), **kwargs}, [])
        check_nodes(trainer.strategy)
        if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
            does = "train" if self.subcommand == "fit" else self.subcommand
            raise InputError(f"cannot {does} in processes that are spawned or forked; use --trainer.strategy ddp")
        return trainer

    # Running

    def _run_subcommand(self, subcommand: str) -> None:
        """Run a subcommand; all but plan, compare and sweep are the Trainer's."""
        if is_first_process():
            for name in repeated(self.arguments):
                warn(f"{name} is given twice, and the last value counts")
        if subcommand == "plan":
            self.plan(json=self.config_init.plan.json, with_map=self.config_init.plan.map)
        elif subcommand == "compare":
            self.compare()
        elif subcommand == "sweep":
            self.sweep()
        else:
            try:
                super()._run_subcommand(subcommand)
            except EndedBySignal as ended:
                launcher = self.trainer.strategy.launcher
                if isinstance(launcher, _SubprocessScriptLauncher):  # those that wait for this process know nothing yet
                    launcher.kill(ended.number)
                raise
            finally:
                end_runs(self.trainer.loggers)
                self._holds.close()

    def plan(self, json: bool, with_map: bool) -> None:
        """Say what the options will come to."""
        trainer = self.config_init.plan.trainer
        with self._precision():
            epochs = most_epochs(trainer.max_epochs, trainer.max_steps, self.datamodule.variant)
            made = plan(self.model, self.datamodule, epochs)
        logs = Path(trainer.default_root_dir or ".") / LOGS
        show(made, type(self.datamodule.problem).__name__, json, logs if with_map else None)

    def compare(self) -> None:
        """Train variants side by side, or compare runs."""
        compare(self, self._own_options("compare", CompareOptions.compare))

    def sweep(self) -> None:
        """Train every combination of some settings."""
        with self._precision():
            sweep(self, self._own_options("sweep", SweepOptions.sweep))

    def config_text(self) -> str:
        """Return all options as a config that makes the same again."""
        stage = str(self.subcommand)
        text: str = self._parser(stage).dump(self.config[stage], skip_none=False, skip_validation=True)
        return text

    def _own_options(self, stage: str, method: Callable[..., None]) -> dict[str, Any]:
        """Return the options that a subcommand has beside those of fit, as plain values."""
        config = self.config[stage].as_dict()
        return {name: config[name] for name in signature(method).parameters if name != "self"}

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        return precision_of_run(self.config[str(self.subcommand)].trainer.precision)

    def parse_member(self, settings: Mapping[str, Any], options: Mapping[str, str]) -> None:
        """Parse the options of a run of a comparison as those of ``fit``.

        Args:
            settings: All options of the comparison that fit has, too.
            options: Those that are the run's own.

        Raises:
            InputError: One of them cannot be used.
        """
        given = [f"--{name}={value}" for name, value in options.items()]
        self.run = None
        self.parse_arguments(self.parser, ["fit", "--config", text_of(settings), *given])

    def check_member(self, settings: Mapping[str, Any], options: Mapping[str, str]) -> None:
        """Refuse the options of a run of a comparison that cannot be followed, before anything is made.

        Args:
            settings: As for :meth:`parse_member`.
            options: Likewise.

        Raises:
            InputError: They cannot be parsed, or data, model and Trainer cannot be made with them.
        """
        given = self.model, self.datamodule, self.config_init, self.subcommand
        try:
            self.parse_member(settings, options)
            self.subcommand, self._member_directory = "fit", Path()
            self.before_instantiate_classes()
            self.instantiate_classes()
            with precision_of_run(self.config.fit.trainer.precision):
                self._check_fit()
        finally:
            self.model, self.datamodule, self.config_init, self.subcommand = given

    def is_given(self, name: str) -> bool:
        """Whether an option of the subcommand was given, in arguments, configs or the environment."""
        return self._given().get(name) is not None

    def train_member(self, directory: Path, settings: Mapping[str, Any], options: Mapping[str, str]) -> None:
        """Train a run of a comparison as ``fit`` would, or what is left of it.

        Args:
            directory: Where it is.
            settings: As for :meth:`parse_member`.
            options: Likewise.
        """
        self._begun = time.monotonic()  # the time of a run of a comparison is its own
        if (directory / CONFIG).is_file():
            self.run = None
            self.parse_arguments(self.parser, ["fit", "--ckpt_path", str(directory)])
        else:
            self.parse_member(settings, options)
        self._member_directory, self.run_directory, self.subcommand = directory, None, "fit"
        self._set_seed()
        self.before_instantiate_classes()
        self.instantiate_classes()
        self.model.fewest_fused_updates = 0  # seconds are compared, so that all should have one engine
        self._run_subcommand("fit")
        self.outcome = None  # to diverge is a finding here

    def before_fit(self) -> None:
        """Check the data before anything is written, then name the run."""
        self._check_fit()
        if self.model.hparams["engine"] == "fused" and (missing := why_no_numba()):
            warn(NOT_THERE.format(missing))
        if not (self.trainer.fast_dev_run or self.trainer.barebones):  # type: ignore[attr-defined]
            self._choose_directory(self.datamodule.variant)

    def _choose_directory(self, variant: Variant) -> None:
        """Choose where the files of a run go: what is continued goes on in its place, whatever logger it has."""
        logs = Path(self.trainer.default_root_dir) / LOGS
        self._missing = missing_directories(logs)
        if self._goes_on_in_place:
            assert self.run is not None
            assert self.run.directory is not None
            self.run_directory = self.run.directory
        elif self._member_directory is not None:
            self.run_directory = self._member_directory
        elif self._logs_itself or not (self.trainer.loggers or self.config.fit.trainer.enable_checkpointing is False):
            seed = self._get(self.config, "seed_everything")
            name = run_name(type(self.datamodule.problem).__name__, variant, self.model.hparams["lr"], seed)
            # Of several processes the first one decides, and tells the others when it is asked for the directory.
            self.run_directory = claim_directory(logs, name) if self.trainer.is_global_zero else logs / name
        if self.run_directory is not None:
            self._made.append(self.run_directory)
            self._events_before = set(self.run_directory.glob(EVENTS))
            choose_directory(self.trainer, self.run_directory)
        if self._logs_itself:
            assert self.run_directory is not None
            directory, name = self.run_directory.parent, self.run_directory.name
            self.trainer.loggers = [RunLogger(directory, name="", version=name, default_hp_metric=False)]
        continued = self.run_directory if self._goes_on_in_place else None
        for logger in self.trainer.loggers:
            check_names(logger)
            if self.trainer.is_global_zero and (made := settle_version(logger, continued)) is not None:
                self._made_by_loggers.append(made)
            if not isinstance(logger, TensorBoardLogger):
                with refusals_of_loggers():
                    _ = getattr(logger, "experiment", None)  # begins it, before anything else is made
        self._hold()

    def _hold(self) -> None:
        """Let no other process continue the run meanwhile.

        Raises:
            InputError: One is about it, or has been since the run was read.
        """
        # Of several processes, nobody knows yet which directory a logger of another program will lead to.
        directory = self.run_directory if self.trainer.world_size > 1 else directory_of(self.trainer)
        if directory is None or not self.trainer.is_global_zero:
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._holds.enter_context(held(directory))
        if self._goes_on_in_place and self.run is not None and self.run.has_gone_on:
            raise InputError(
                f"cannot go on with {self.run.name}, because another process has just done so; repeat the command to "
                "go on from there"
            )

    def _check_fit(self) -> None:
        """Refuse what only data, model and Trainer together show to be impossible.

        Raises:
            InputError: It is.
        """
        self.datamodule.trainer = self.trainer
        if self.trainer.precision not in _PRECISIONS:
            raise InputError(f"cannot train in {self.trainer.precision}; use one of {', '.join(_PRECISIONS)}")
        variant = self.datamodule.variant
        if self.trainer.world_size > variant.train_samples:
            raise InputError(
                f"cannot share {variant.train_samples} training samples among {self.trainer.world_size} processes; use "
                "fewer trainer.devices"
            )
        options = {name: self.model.hparams[name] for name in ("lr", "optimizer", "lr_scheduler")}
        rehearse(options, most_epochs(self.trainer.max_epochs, self.trainer.max_steps, variant))

    @property
    def _goes_on_in_place(self) -> bool:
        return self.run is not None and self.run.goes_on_in_place

    def fit(self, **kwargs: Any) -> None:
        """Train, and say what it came to."""
        recorder, refused = self._recorder(), False
        try:
            self.trainer.fit(weights_only=True, **kwargs)
            if recorder.summary is None and self.run is not None:
                self._end_without_training()
            if recorder.summary is None:
                raise InputError("these options train nothing; leave out what limits the run to no update")
        except Exception as error:
            # What only the first epoch can tell, such as a metric to monitor that there is not; little is lost.
            lost = recorder.history["seconds"][-1] if len(recorder.history) else 0.0
            refused = self.trainer.current_epoch == 0 and lost < _LITTLE and is_bad_input(error)
            raise
        finally:
            if self.trainer.is_global_zero and recorder.summary is not None and not refused:
                if self._member_directory is None:  # of a comparison, a run that diverges is a result
                    self.outcome = recorder.history.outcome
                    print_run(recorder, self.trainer)
            elif self.trainer.is_global_zero:
                self._remove_what_it_left()

    def _end_without_training(self) -> None:
        """Give a run that is continued at its end the files of one: Lightning calls no hook where nothing is to do."""
        for hook in ("on_train_start", "on_train_end"):
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(
                    callback, (HistoryRecorder, EndsRun, StopOnDivergence, Pictures, LastCheckpoint, SaveConfig)
                ):
                    getattr(callback, hook)(self.trainer, self.model)
            getattr(self.model, hook)()

    def _remove_what_it_left(self) -> None:
        """Remove what a run left that failed before its first update, or in its first epoch by its options."""
        if self._goes_on_in_place:
            assert self.run_directory is not None
            for events in set(self.run_directory.glob(EVENTS)) - self._events_before:  # opened in the set-up
                events.unlink(missing_ok=True)
            return
        for made in (self.run_directory, *self._made_by_loggers):
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
                forget(made, Path(self.trainer.default_root_dir) / LOGS)
        remove_empty(self._missing)  # another run may have begun there

    def _recorder(self) -> HistoryRecorder:
        recorder = self._get(self.config_init, "recorder")
        assert isinstance(recorder, HistoryRecorder)
        return recorder

    def validate(self, **kwargs: Any) -> None:
        """Judge a run on held-out samples."""
        self._judge("validate", self.trainer.validate, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Judge a run on held-out samples."""
        self._judge("test", self.trainer.test, **kwargs)

    def _judge(self, stage: Any, judge: Callable[..., list[Any]], **kwargs: Any) -> None:
        results = judge(weights_only=True, verbose=False, **kwargs)[0]
        assert self.run is not None
        if not self.trainer.is_global_zero:
            return
        print_judgement(self.run.name, stage, self.datamodule, results)

    def predict(self, **kwargs: Any) -> None:
        """Predict, into a CSV file that did not exist before."""
        batches = self.trainer.predict(weights_only=True, return_predictions=True, **kwargs)
        assert self.run is not None
        assert batches is not None
        if not self.trainer.is_global_zero:
            return
        directory = self.run.directory or Path()
        predictions = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
        text = predictions_csv(self.datamodule, predictions)
        file = claim_file(directory, "predictions", ".csv")
        try:
            write_text(file, text)
        except BaseException:
            file.unlink()
            raise
        print(in_one_line(f"{len(predictions)} predictions of {self.run.name} in {file}"))


def _flags_as_options(args: list[str]) -> Iterator[str]:
    """Yield the arguments with --json alone as --json=true."""
    for argument, following in zip(args, [*args, ""][1:], strict=True):
        yield "--json=true" if argument == "--json" and following not in ("true", "false") else argument


def _default_lr(class_path: str) -> object:
    """Return the default lr of an optimiser, which the parser has imported."""
    module, _, name = class_path.rpartition(".")
    return signature(getattr(sys.modules[module], name)).parameters["lr"].default


def _class_spec(config: Namespace | None) -> dict[str, Any] | None:
    """Return the class that was chosen as the plain values that a checkpoint holds."""
    return None if config is None else config.as_dict()


def _plain(config: Namespace) -> dict[str, Any]:
    values = plain_copy(config.as_dict())
    assert isinstance(values, dict)
    return values
