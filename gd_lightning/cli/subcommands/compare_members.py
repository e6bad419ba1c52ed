"""The members of a comparison on the command line: runs of ``fit``, each with its options and its directory."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jsonargparse import Namespace

from gd_lightning.cli.options.config_text import text_of
from gd_lightning.cli.options.parser import Parser
from gd_lightning.cli.options.parsing import ParsedOptions
from gd_lightning.cli.subcommands.compare_directory import CLAIMS, is_finished
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments import best_lr
from gd_lightning.experiments.comparison.members import (
    check_seeds,
    combinations,
    name_of,
    usual_batch_sizes,
    values_of,
)
from gd_lightning.experiments.comparison.task import MemberResult
from gd_lightning.module import RegressionModule
from gd_lightning.records.history import History
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.locks import claimed
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT
from gd_lightning.tracking.run_reader import read_run
from gd_lightning.tracking.yaml_and_json import plain_copy
from gd_lightning.variants import BatchSize, Variant


class Trains(Protocol):
    """What a comparison needs of the command line."""

    config: Namespace
    model: RegressionModule
    datamodule: RegressionDataModule
    options: ParsedOptions

    def checked_fit(self, *arguments: str) -> Namespace:
        """Return options of ``fit`` with which a run can be trained, as a parsed command."""

    def fit_member(self, member: FitMember) -> History:
        """Train a run; returns its history."""


@dataclass(frozen=True)
class FitMember:
    """A run of a comparison, as a task of its own: plain values, which any process can carry out.

    Args:
        name: What it is called.
        directory: Where its files are.
        config: A parsed command: ``fit`` and all of its options, with its own seeds.
        module_class: What is trained.
    """

    name: str
    directory: Path
    config: Namespace
    module_class: type[RegressionModule]

    def finished(self, history: History | None = None) -> MemberResult | None:
        """Return the result that its files hold; None where they do not say that it reached its end.

        Args:
            history: Its history, where it is at hand.
        """
        if not is_finished(self.directory):
            return None
        return MemberResult(read_run(self.directory, history), self._load)

    def claimed(self) -> AbstractContextManager[bool]:
        """Claim the member among all processes that carry out the same comparison, on whatever machine."""
        return claimed(self.directory.parent / CLAIMS / self.name)

    def _load(self) -> RegressionModule:
        """Return the trained module, with the network that the options name, of which a checkpoint has the weights."""
        parser = Parser()
        parser.add_class_arguments(self.module_class, "model")
        module = parser.instantiate_classes(Namespace(model=self.config.fit.model)).model
        assert isinstance(module, RegressionModule)
        checkpoint = read_checkpoint(self.directory / LAST_CHECKPOINT)
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
        return module


@dataclass(frozen=True)
class FitVariants:
    """What is compared on the command line, as text, by the full names of the options.

    Args:
        shared: The options that all runs have.
        settings: What each variant sets.
        seeds: What each seed sets.
    """

    shared: Mapping[str, Any]
    settings: Sequence[Mapping[str, str]]
    seeds: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, command: Trains, options: Mapping[str, Any], variant: Variant) -> FitVariants:
        """Make them of what a person gave.

        Args:
            command: With the options of ``fit``.
            options: Those of ``compare``, by their names.
            variant: The configured batches.

        Raises:
            InputError: It cannot be compared.
        """

        def best(size: str | None) -> str:
            asked = variant.batch_size if size is None else _as_size(size)
            return f"{best_lr(command.model, command.datamodule, asked):.3g}"

        lrs = None if options["lrs"] is None else _as_texts(options["lrs"])
        settings = combinations(_batch_sizes(options, variant), lrs, _varied(options["vary"]), best)
        check_seeds(options["seeds"])
        given, names = command.config.compare.as_dict(), set(settings[0])
        base = _seeds(given, options["vary_data"], names)
        shared = _shared(given, set(options), names)
        if "optimizer" in names and command.options.given.get("model.lr") is None:
            del shared["model"]["lr"]  # else the default of SGD would be that of every optimiser
        seeds = [{name: str(value + i) for name, value in base.items()} for i in range(options["seeds"])]
        return cls(shared, settings, seeds)

    @property
    def varied(self) -> set[str]:
        """The names of the options that set variants apart."""
        return set(self.settings[0])

    @property
    def options(self) -> dict[str, dict[str, str]]:
        """What each run sets, by its name: every variant with every seed."""
        found: dict[str, dict[str, str]] = {}
        for setting in self.settings:
            for i, seed in enumerate(self.seeds):
                found[name_of(setting, i, found)] = {**setting, **seed}
        return found

    def configs(self, command: Trains, variant: Variant) -> list[Namespace]:
        """Return a parsed ``fit`` for each variant, with which the first seed can be trained.

        Raises:
            InputError: Something cannot be used, or gives the same options as something else.
        """
        has_one_size = not any(name.startswith("data.") and name != "data.batch_size" for name in self.varied)
        known: dict[str, str] = {}
        configs = []
        for setting in self.settings:
            own = (f"--{name}={value}" for name, value in {**setting, **self.seeds[0]}.items())
            configs.append(command.checked_fit("--config", text_of(self.shared), *own))
            made = configs[-1].fit.as_dict()
            if has_one_size and made["data"]["batch_size"] == variant.train_samples:
                made["data"]["batch_size"] = "full"
            named = ", ".join(f"{name} {value}" for name, value in setting.items())
            other = known.setdefault(json.dumps(made, sort_keys=True, default=str), named)
            if other is not named:
                raise InputError(f"cannot compare {other} and {named}, because they are the same; give each value once")
        return configs

    def members(
        self, configs: Sequence[Namespace], directory: Path, module_class: type[RegressionModule]
    ) -> list[FitMember]:
        """Return every run, with its options as :meth:`configs` returns them and a directory in that of all."""
        own = [_with(config, seed) for config in configs for seed in self.seeds]
        named = zip(self.options, own, strict=True)
        return [FitMember(name, directory / name, config, module_class) for name, config in named]


def _with(config: Namespace, seed: Mapping[str, str]) -> Namespace:
    """Return options with the seeds of a run."""
    own = copy.deepcopy(config)
    for name, value in seed.items():
        own.fit[name] = int(value)
    return own


def _varied(given: str | Sequence[str] | Mapping[str, Sequence[Any]] | None) -> dict[str, list[str]]:
    """Return the options that are varied, with their values as text."""
    if isinstance(given, Mapping):
        return {name: list(map(_text, values)) for name, values in given.items()}
    varied: dict[str, list[str]] = {}
    for text in [given] if isinstance(given, str) else given or []:
        name, is_there, values = text.partition("=")
        if not (is_there and name.strip() and values.strip()):
            raise InputError(f"cannot vary {text!r}; write an option and its values, such as model.lr=0.01,0.1")
        name = name.strip().removeprefix("--")
        if name in varied:
            raise InputError(f"cannot vary {name} twice; give its values once")
        varied[name] = values_of(values)
    return varied


def _batch_sizes(options: Mapping[str, Any], configured: Variant) -> list[str]:
    """Return the batch sizes as text; the configured one alone where other options are varied."""
    if options["batch_sizes"] is None:
        return [] if options["vary"] else list(map(_text, usual_batch_sizes(configured.train_samples)))
    sizes = _as_texts(options["batch_sizes"])
    for size in sizes:
        Variant.of(_as_size(size), configured.train_samples)
    return sizes


def _as_size(text: str) -> BatchSize:
    if text != "full" and not text.isdecimal():
        raise InputError(f"batch_size {text!r} is no number of samples; use 'full' or a whole number from 1")
    return "full" if text == "full" else int(text)


def _as_texts(given: object) -> list[str]:
    return list(map(_text, given)) if isinstance(given, list) else values_of(str(given))


def _text(value: object) -> str:
    return value if isinstance(value, str) else text_of(value)


def _seeds(settings: Mapping[str, Any], vary_data: bool, varied: Collection[str]) -> dict[str, int]:
    """Return the options that a seed changes, with the values that are configured, but for those that are varied."""
    base = {"seed_everything": int(settings["seed_everything"]), "data.seed": int(settings["data"]["seed"])}
    if vary_data:
        problem = settings["data"]["problem"]
        if "seed" not in problem.get("init_args", {}):
            raise InputError(
                f"cannot vary the data, because {problem['class_path'].rpartition('.')[2]} draws them from no seed; "
                "leave vary_data out"
            )
        base["data.problem.init_args.seed"] = int(problem["init_args"]["seed"])
    return {name: value for name, value in base.items() if not {name, name.replace(".init_args", "")} & set(varied)}


def _shared(settings: dict[str, Any], own: set[str], varied: set[str]) -> dict[str, Any]:
    """Return the settings that fit has, too, without those that each run has of its own."""
    shared = {name: value for name, value in settings.items() if name not in {*own, "config", "ckpt_path"}}
    # The model's optimiser and scheduler are those beside it.
    linked = ("optimizer", "lr_scheduler")
    shared["model"] = {name: value for name, value in shared["model"].items() if name not in linked}
    optimizer = shared.get("optimizer")
    if optimizer is not None and "model.lr" in varied:  # it follows the model's
        optimizer["init_args"].pop("lr", None)
    plain: dict[str, Any] = plain_copy(shared)  # an option can have an object, such as a device
    return plain
