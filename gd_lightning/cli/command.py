"""The ``LightningCLI`` of this package: options, defaults, instantiation and subcommands."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LRSchedulerTypeTuple
from torch.optim import Optimizer

from gd_lightning.callbacks import EndedBySignal, HistoryRecorder, LastCheckpoint, StopOnDivergence
from gd_lightning.callbacks.loggers import end_runs
from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.cli.first_process import is_first_process
from gd_lightning.cli.lightning_cli import OpenCLI
from gd_lightning.cli.options.checks import leave_sizes_open, repeated
from gd_lightning.cli.options.config_text import refuse_unreadable
from gd_lightning.cli.options.dependent_options import plain_values
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.options.jsonargparse_internals import construct_with
from gd_lightning.cli.options.parser import DEFAULT_PROBLEM, Parser
from gd_lightning.cli.options.parsing import ParsedOptions, parse_options, without_best_lr
from gd_lightning.cli.options.printed_config import printed_config
from gd_lightning.cli.options.trusted import distrust, refuse_foreign_code
from gd_lightning.cli.processes import check_against_torchrun, check_launcher, check_strategy, torchrun_defaults
from gd_lightning.cli.program import own_subcommands, typed
from gd_lightning.cli.saved_config import SaveConfig
from gd_lightning.cli.subcommands.animation import check_animation
from gd_lightning.cli.subcommands.compare import compare
from gd_lightning.cli.subcommands.compare_members import FitMember
from gd_lightning.cli.subcommands.compare_options import CompareOptions
from gd_lightning.cli.subcommands.described_data import say_what_was_read
from gd_lightning.cli.subcommands.evaluation import judge
from gd_lightning.cli.subcommands.explore import ExploreOptions, explore
from gd_lightning.cli.subcommands.fit import animate_run, callbacks_of_fit, check_fit, fit
from gd_lightning.cli.subcommands.fit_directory import FitFiles
from gd_lightning.cli.subcommands.plan import PlanOptions, plan
from gd_lightning.cli.subcommands.predict import predict
from gd_lightning.cli.subcommands.sweep import sweep
from gd_lightning.cli.subcommands.sweep_options import SweepOptions
from gd_lightning.cli.terminal import say, warn
from gd_lightning.data import RegressionDataModule
from gd_lightning.engine import why_no_numba
from gd_lightning.experiments import best_lr
from gd_lightning.experiments.comparison.trial_update import make_one_update, trial_options
from gd_lightning.experiments.options import TRAINER_DEFAULTS
from gd_lightning.float64 import precision_of_run
from gd_lightning.lightning_internals import pass_on_signal
from gd_lightning.module import NOT_THERE, RegressionModule
from gd_lightning.module.library_errors import GivenClasses, refusals_of
from gd_lightning.random_numbers import own_generator
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_directory import CONFIG, run_name

# As in Python, but with checkpoints; configs/gpu.yaml has what a GPU needs.
_DEFAULTS = {**TRAINER_DEFAULTS, "max_epochs": 20, "enable_checkpointing": None}
_JUDGED = {"model", "dataloaders", "datamodule", "verbose", "weights_only", "return_predictions"}
# The subcommands, and the arguments of the Trainer's methods that are not options.
_SUBCOMMANDS: dict[str, set[str]] = {
    "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
    "validate": _JUDGED,
    "test": _JUDGED,
    "predict": _JUDGED,
    "plan": set(),
    "compare": set(),
    "sweep": set(),
    "explore": set(),
}
# Functions of the subcommands that have no Trainer, or one for each run; each takes the subcommand's own options.
_WITHOUT_TRAINER: dict[str, Callable[[Command, Mapping[str, Any]], None]] = {
    "plan": plan,
    "compare": compare,
    "sweep": sweep,
    "explore": explore,
}


class OwnSubcommands(PlanOptions, CompareOptions, SweepOptions, ExploreOptions, Trainer):
    """A Trainer with this package's subcommands as methods, where LightningCLI finds their options."""


class Command(OpenCLI):
    """``python -m gd_lightning``.

    Args:
        args: Arguments without the program's name.
        model_class: The module that is trained.
        datamodule_class: The data module that it is trained on.
        made: A list to which the directory of each run is added, so that messages can name it; None: a new list.
        begun: ``time.monotonic()`` at the start of the command; None: now.
    """

    model: RegressionModule
    datamodule: RegressionDataModule
    options: ParsedOptions

    def __init__(
        self,
        args: list[str],
        model_class: type[RegressionModule] = RegressionModule,
        datamodule_class: type[RegressionDataModule] = RegressionDataModule,
        made: list[Path] | None = None,
        begun: float | None = None,
    ) -> None:
        self.outcome: Outcome | None = None
        self._typed = args
        self._begun = time.monotonic() if begun is None else begun
        self._made = [] if made is None else made
        self._named = GivenClasses()
        self._member_directory: Path | None = None  # the directory of a run of a comparison
        self._has_said_what_was_read = False
        self._is_member = False  # whether this command trains a run of a comparison, or makes its trial update
        # Whether this command makes the trial update of a comparison, before its first run is trained.
        self._is_tried = False
        check_launcher()
        distrust()
        super().__init__(
            model_class,
            datamodule_class,
            save_config_callback=SaveConfig,
            trainer_defaults={**_DEFAULTS, **torchrun_defaults()},
            trainer_class=OwnSubcommands,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs=_texts_of_parsers(self.subcommands()),
            args=args,
            auto_configure_optimizers=False,
            # The classes save plain hyperparameters themselves; Lightning would add the path of an instantiator.
            load_from_checkpoint_support=False,
        )

    # Options

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning asks the object, never the class
        """Return the subcommands, each with the arguments of its method that are not options.

        Collecting the options of a subcommand takes time. So if the first argument names it, and no environment
        variable can choose another one, the others are left out.
        """
        first = self._typed[0] if self._typed else None
        if first not in _SUBCOMMANDS or {"PL_CONFIG", "PL_SUBCOMMAND"} & set(os.environ):
            return _SUBCOMMANDS
        needed = [first, "fit"] if first == "compare" else [first]  # the runs of a comparison are runs of fit
        return {name: _SUBCOMMANDS[name] for name in needed}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add data and model before the many options of the Trainer."""
        # Targets and features are options of data frames, which come in Python alone.
        parser.add_class_arguments(
            self._datamodule_class, "data", fail_untyped=False, sub_configs=True, skip={"targets", "features"}
        )
        parser.add_lightning_class_args(self._model_class, "model")
        assert isinstance(parser, Parser)
        parser.choose_problem(DEFAULT_PROBLEM)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add optimiser, scheduler, recording and Trainer."""
        parser.add_optimizer_args((Optimizer,))
        parser.add_lr_scheduler_args(LRSchedulerTypeTuple)
        for name in ("optimizer", "lr_scheduler"):
            parser.link_arguments(name, f"model.{name}", compute_fn=plain_values)
        parser.add_lightning_class_args(HistoryRecorder, "recorder")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_class_arguments(StopOnDivergence)
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, resolve and check the options; with ``--print_config``, print them and exit."""
        assert isinstance(parser, Parser)
        refuse_unreadable([*args, *(value for name, value in os.environ.items() if name.startswith("PL_"))])
        printing = [argument for argument in args if argument.startswith("--print_config")]
        given = [argument for argument in args if argument not in printing]
        others = without_best_lr(given)
        self.options = parse_options(parser, others)
        self.config = self.options.config
        if len(others) < len(given):
            self.options = parse_options(parser, [*others, f"--model.lr={_announced_best_lr(self)}"])
            self.config = self.options.config
        for argument in printing:
            print(printed_config(self.options, argument.partition("=")[2]), end="")
            parser.exit()

    # Making the objects of a run

    def before_instantiate_classes(self) -> None:
        """Check every class that the config names before one of them is called."""
        refuse_foreign_code(self.options.stage_parser, self.options.values, typed=self._typed)
        leave_sizes_open(self.options.values.model)

    def instantiate_classes(self) -> None:
        """Make data, model and Trainer; plans and sweeps have no Trainer, and comparisons have one per run."""
        construct_with(self.parser, self._named.construct)
        with refusals_of():
            self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule, self.model = self.instantiated("data"), self.instantiated("model")
        self._named.add(self.model.hparams)  # with optimiser and scheduler, which the module makes
        if self.subcommand not in _WITHOUT_TRAINER:
            self.trainer = self.instantiate_trainer()
        if self.options.run is not None:
            # Lightning would do so only after the data have been read and the network was made for them.
            self.datamodule.load_state_dict(self.options.run.data)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer; callbacks that the user adds come after the recorder and before the others."""
        stage = str(self.subcommand)
        options = self.config_init[stage]
        config = options.trainer
        check_against_torchrun(config.devices)
        if stage != "fit" or _has_own_logger(config):
            config.logger = False
        callbacks = config.callbacks if isinstance(config.callbacks, list) else [config.callbacks]
        added = [callback for callback in callbacks if callback is not None]
        config.callbacks = [options.recorder, *added]
        if stage == "fit":
            config.callbacks += callbacks_of_fit(options, added, self._is_member, self._begun)
        config.max_time = None  # TimeLimit replaces it; otherwise Lightning would warn that it skips its own Timer
        # Lightning refuses a progress bar among the callbacks unless this option is true.
        config.enable_progress_bar = any(isinstance(callback, ProgressBar) for callback in config.callbacks)
        made_with = {**config.as_dict(), **kwargs}
        with refusals_of(Trainer):
            trainer = self.make_trainer(trial_options(made_with, config.callbacks) if self._is_tried else made_with)
        check_strategy(trainer, stage)
        return trainer

    # Running a subcommand

    def run(self, subcommand: str) -> None:
        """Run a subcommand."""
        if is_first_process():
            for name in repeated(self.options.arguments):
                warn(f"{name} is given twice, and the last value counts")
            if self.options.chosen:
                say(self.options.chosen)
        if subcommand in _WITHOUT_TRAINER:  # a Trainer would set the precision of a run
            own = self.options.own(getattr(OwnSubcommands, subcommand))
            with self._named.refusals_in_a_run(), precision_of_run(self.options.values.trainer.precision):
                _WITHOUT_TRAINER[subcommand](self, own)
            return
        try:
            with self._named.refusals_in_a_run():
                getattr(self, subcommand)()
        except EndedBySignal as ended:
            pass_on_signal(self.trainer, ended.number)  # other processes wait for this one and have not got the signal
            raise
        finally:
            end_runs(self.trainer.loggers)

    def fit(self) -> None:
        """Train: check the data before anything is written, then name the run."""
        check_fit(self.trainer, self.model, self.datamodule)
        check_animation(self.options.values.animate)
        if not self._is_member:
            say_what_was_read(self.datamodule)
        if self.model.hparams["engine"] == "fused" and (missing := why_no_numba()):
            warn(NOT_THERE.format(missing))
        options, run = self.options.values, self.options.run
        files = FitFiles(run, self._member_directory, self._made)
        try:
            if not (options.trainer.fast_dev_run or options.trainer.barebones):
                problem, lr = type(self.datamodule.problem).__name__, self.model.hparams["lr"]
                name = run_name(problem, self.datamodule.variant, lr, options.seed_everything)
                has_checkpoints = options.trainer.enable_checkpointing is not False
                files.choose(self.trainer, name, _has_own_logger(options.trainer), has_checkpoints)
            given = {"datamodule": self.datamodule, "ckpt_path": options.ckpt_path, "weights_only": True}
            train = self._named.refusals_in_a_run()(partial(self.trainer.fit, self.model, **given))
            continued = None if options.ckpt_path is None else self.model
            self.outcome = fit(train, self.trainer, continued, files, self._is_member)
            if options.animate is not None and self.outcome is not None and not self._is_member:
                animate_run(self.trainer, self.model, self.datamodule, options.animate)
        finally:
            files.release()

    def validate(self) -> None:
        """Evaluate a run on the samples that were held out for validation."""
        judge(self.trainer, self.model, self.datamodule, self.options.earlier_run, "validate")

    def test(self) -> None:
        """Evaluate a run on the samples that were held out for testing."""
        judge(self.trainer, self.model, self.datamodule, self.options.earlier_run, "test")

    def predict(self) -> None:
        """Write predictions into a new CSV file."""
        predict(self.trainer, self.model, self.datamodule, self.options.earlier_run)

    def checked_fit(self, *arguments: str) -> Namespace:
        """Return the parsed options of a run of a comparison, after a trial update with them.

        Args:
            arguments: Its options, in the form of arguments of ``fit``.

        Raises:
            InputError: An option cannot be used, or data, model and Trainer cannot be made with them.
        """
        tried = self._member(parse_options(self.options.parser, ["fit", *arguments]), None)
        with precision_of_run(tried.options.values.trainer.precision):
            check_fit(tried.trainer, tried.model, tried.datamodule)
            if not self._has_said_what_was_read:
                say_what_was_read(tried.datamodule)
                self._has_said_what_was_read = True
            with self._named.refusals_in_a_run():
                make_one_update(tried.trainer, tried.model, tried.datamodule)
        return tried.config

    def fit_member(self, member: FitMember) -> History:
        """Train a run of a comparison as ``fit`` does, or continue it; return its history.

        Args:
            member: The run.
        """
        options = ParsedOptions(self.options.parser, ["fit"], member.config)
        if (member.directory / CONFIG).is_file():
            options = parse_options(self.options.parser, ["fit", "--ckpt_path", str(member.directory)])
        command = self._member(options, member.directory)
        recorder: HistoryRecorder = command.instantiated("recorder")
        recorder.varied = member.varied
        command.run("fit")
        return recorder.history

    def _member(self, options: ParsedOptions, directory: Path | None) -> Command:
        """Return a command that trains a run of a comparison, with the parsers of this one.

        Args:
            options: The options of the run.
            directory: The directory of the run; None for a trial update.
        """
        member = copy.copy(self)
        member._begun, member._member_directory = time.monotonic(), directory  # each run has the whole time limit
        member.options, member.config, member.subcommand = options, options.config, "fit"
        member._is_member, member._is_tried = True, directory is None
        member.seed_anew()
        member.before_instantiate_classes()
        member.instantiate_classes()
        member.model.fewest_fused_updates = 0  # all runs should have the same engine, since their seconds are compared
        return member


def _announced_best_lr(command: Command) -> str:
    """Return the learning rate that is best for a run with the other options, and say what it is best for."""
    command.before_instantiate_classes()
    values = command.options.values
    with refusals_of():
        made = command.options.stage_parser.instantiate_classes(copy.deepcopy(values))
    data, limits = made.data, values.trainer
    with own_generator(data.seed), precision_of_run(limits.precision):
        epochs = most_epochs(limits.max_epochs, limits.max_steps, data.variant)
        found = best_lr(made.model, data, data.variant.batch_size, epochs)
    say(f"lr is {found.lr:g}: {found.purpose}")
    return f"{found.lr:g}"


def _texts_of_parsers(subcommands: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of the parsers that set usage, description and examples in their help."""
    return {
        "prog": typed(),
        "usage": f"{typed()} {{{','.join([*EXAMPLES, *own_subcommands()])}}} [options]",
        "description": "Gradient descent where batch_size is the algorithm; SUBCOMMAND --help for its options.",
        "default_env": True,
        **{
            name: {"stage": name, "usage": f"{typed()} {name} [options]", "description": None, "default_env": True}
            for name in subcommands
        },
    }


def _has_own_logger(trainer: Namespace) -> bool:
    """Whether the package's own logger is used, since no other one is chosen."""
    return trainer.logger in (None, True)
