"""The members of a comparison on the command line: runs of ``fit``, each with its options and its directory."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jsonargparse import Namespace

from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.cli.options.config_text import text_of
from gd_lightning.cli.options.parser import Parser
from gd_lightning.cli.subcommands.compare_directory import CLAIMS, is_finished
from gd_lightning.cli.subcommands.configured import Configured
from gd_lightning.cli.terminal import say
from gd_lightning.default_learning_rate import DEFAULT_LR, default_lr
from gd_lightning.errors import InputError
from gd_lightning.experiments import best_lr
from gd_lightning.experiments.comparison.members import (
    check_runs,
    combinations,
    name_of,
    usual_batch_sizes,
    values_of,
    with_default_lrs,
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


class Trains(Configured, Protocol):
    """The part of the command line that a comparison uses."""

    def checked_fit(self, *arguments: str) -> Namespace:
        """Return checked options of ``fit``, as a parsed command."""

    def fit_member(self, member: FitMember) -> History:
        """Train a run, and return its history."""


@dataclass(frozen=True)
class FitMember:
    """A run of a comparison as a task of plain values, which any process can carry out.

    Args:
        name: The name of the run.
        directory: The directory of its files.
        config: A parsed command: ``fit`` and all options of the run, with its seeds.
        module_class: The class of its module.
        varied: The options of its variant, as text.
    """

    name: str
    directory: Path
    config: Namespace
    module_class: type[RegressionModule]
    varied: Mapping[str, str]

    def finished(self, history: History | None = None) -> MemberResult | None:
        """Return the result of the run from its files; None if it has not reached its end.

        Args:
            history: The history, if it is in memory; None: it is read from its file.
        """
        if not is_finished(self.directory):
            return None
        return MemberResult(read_run(self.directory, history), self._load)

    def claimed(self) -> AbstractContextManager[bool]:
        """Claim the member among all processes, on all machines, that carry out the same comparison."""
        return claimed(self.directory.parent / CLAIMS / self.name)

    def _load(self) -> RegressionModule:
        """Return the trained module: the network is made from the options, its weights are those of the checkpoint."""
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
    """The variants of a comparison on the command line: values as text, by the full names of the options.

    Args:
        shared: The options of all runs.
        settings: The options of each variant.
        seeds: The options of each seed.
        best: Sentences on the learning rates that theory chose, and what each is best for.
    """

    shared: Mapping[str, Any]
    settings: Sequence[Mapping[str, str]]
    seeds: Sequence[Mapping[str, str]]
    best: Sequence[str] = ()

    @classmethod
    def of(cls, command: Trains, options: Mapping[str, Any], variant: Variant) -> FitVariants:
        """Return the variants that the options describe.

        Args:
            command: The command, with the options of ``fit``.
            options: The options of ``compare``, by their names.
            variant: The configured batches.

        Raises:
            InputError: Runs with the given options cannot be compared.
        """
        said = list[str]()
        best = functools.partial(_best_lr, command, variant, said, options["lrs"] is not None)
        sizes, varied = _batch_sizes(options, variant), _varied(options["vary"])
        check_runs(options["seeds"], sizes, *varied.values())
        lrs = None if options["lrs"] is None else _as_texts(options["lrs"])
        settings = combinations(sizes, lrs, varied, best)
        chosen = command.options.given
        if lrs is None and not varied and all(chosen.get(name) is None for name in ("model.lr", "optimizer")):
            try:
                settings = combinations(sizes, ["best"], varied, best)
            except InputError:  # models other than linear regressors have no best lr: the default is used
                said.clear()
                model, standardize = command.options.values.model, command.options.values.data.standardize
                is_network = bool(model.get("hidden_sizes")) and model.get("lr") == DEFAULT_LR
                settings = with_default_lrs(
                    settings, lambda size: default_lr(_as_size(size), is_network, standardize), "{:g}".format
                )
        given, names = command.config.compare.as_dict(), set(settings[0])
        base = _seeds(given, options["vary_data"], names)
        shared = _shared(given, set(options), names)
        if "optimizer" in names and command.options.given.get("model.lr") is None:
            del shared["model"]["lr"]  # otherwise the default of SGD would be used for every optimiser
        seeds = [{name: str(value + i) for name, value in base.items()} for i in range(options["seeds"])]
        if lrs is not None:
            for sentence in said:
                say(sentence.removesuffix("."))
        return cls(shared, settings, seeds, said)

    @property
    def varied(self) -> set[str]:
        """The names of the options that differ between variants."""
        return set(self.settings[0])

    @property
    def options(self) -> dict[str, dict[str, str]]:
        """The options of each run, by its name: every variant with every seed."""
        found: dict[str, dict[str, str]] = {}
        for setting in self.settings:
            for i, seed in enumerate(self.seeds):
                found[name_of(setting, i, found)] = {**setting, **seed}
        return found

    def configs(self, command: Trains, variant: Variant) -> list[Namespace]:
        """Return a checked and parsed ``fit`` of the first seed for each variant.

        Raises:
            InputError: An option cannot be used, or two variants have the same options.
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
        """Return every run, with its options from :meth:`configs` and a directory in that of the comparison."""
        own = [
            (_with(config, seed), setting)
            for config, setting in zip(configs, self.settings, strict=True)
            for seed in self.seeds
        ]
        named = zip(self.options, own, strict=True)
        return [FitMember(name, directory / name, config, module_class, setting) for name, (config, setting) in named]


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
    """Return the batch sizes as text; empty, for the configured one, if only other options are varied."""
    if options["batch_sizes"] is None:
        return [] if options["vary"] else list(map(_text, usual_batch_sizes(configured.train_samples)))
    sizes = _as_texts(options["batch_sizes"])
    for size in sizes:
        Variant.of(_as_size(size), configured.train_samples)
    return sizes


def _best_lr(command: Trains, variant: Variant, said: list[str], by_trial: bool, size: str | None) -> str:
    """Return the learning rate that is best at a batch size, and add to what is said what it is best for."""
    asked = variant.batch_size if size is None else _as_size(size)
    of_size = Variant.of(asked, variant.train_samples, variant.drop_last)
    limits = command.options.values.trainer
    epochs = most_epochs(limits.max_epochs, limits.max_steps, of_size)
    found = best_lr(command.model, command.datamodule, asked, epochs, by_trial)
    said.append(found.sentence(of_size.batch_size))
    return f"{found.lr:g}"


def _as_size(text: str) -> BatchSize:
    if text != "full" and not text.isdecimal():
        raise InputError(f"cannot use {text!r} as batch_size; use 'full' or a whole number from 1")
    return "full" if text == "full" else int(text)


def _as_texts(given: object) -> list[str]:
    return list(map(_text, given)) if isinstance(given, list) else values_of(str(given))


def _text(value: object) -> str:
    return value if isinstance(value, str) else text_of(value)


def _seeds(settings: Mapping[str, Any], vary_data: bool, varied: Collection[str]) -> dict[str, int]:
    """Return the options that a seed changes, with their configured values, without those that are varied."""
    base = {"seed_everything": int(settings["seed_everything"]), "data.seed": int(settings["data"]["seed"])}
    if vary_data:
        problem = settings["data"]["problem"]
        if "seed" not in problem.get("init_args", {}):
            raise InputError(
                f"cannot vary the data, because {problem['class_path'].rpartition('.')[2]} has no seed; leave "
                "vary_data out"
            )
        base["data.problem.init_args.seed"] = int(problem["init_args"]["seed"])
    return {name: value for name, value in base.items() if not {name, name.replace(".init_args", "")} & set(varied)}


def _shared(settings: dict[str, Any], own: set[str], varied: set[str]) -> dict[str, Any]:
    """Return the settings that are options of fit, without those that differ between runs."""
    shared = {name: value for name, value in settings.items() if name not in {*own, "config", "ckpt_path"}}
    # The model's copies are linked to optimizer and lr_scheduler.
    linked = ("optimizer", "lr_scheduler")
    shared["model"] = {name: value for name, value in shared["model"].items() if name not in linked}
    optimizer = shared.get("optimizer")
    if optimizer is not None and "model.lr" in varied:  # the learning rate of the optimiser is model.lr
        optimizer["init_args"].pop("lr", None)
    plain: dict[str, Any] = plain_copy(shared)  # an option can have an object, such as a device
    return plain
