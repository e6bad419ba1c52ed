"""Carrying out a comparison: its runs one after the other, then what they show."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jsonargparse import Namespace
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tqdm import tqdm

from gd_lightning.cli.output import shown
from gd_lightning.cli.subcommands.compare import CompareRequest, is_finished, own_directory
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments import Comparison, Member, Report, Scene, best_lr
from gd_lightning.experiments.comparison.claims import check
from gd_lightning.experiments.comparison.table import check_columns
from gd_lightning.float64 import precision_of_run
from gd_lightning.module import RegressionModule
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT, LOGS
from gd_lightning.tracking.run_reader import find_runs, read_run
from gd_lightning.variants import BatchSize, Variant

# One process, whose runs leave all their files.
_NEEDED: dict[str, tuple[Any, ...]] = {
    "devices": (1, "1", "auto"),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "logger": (None, True),
    "fast_dev_run": (False, 0),
    "barebones": (False,),
    "enable_checkpointing": (None, True),
}


class Trains(Protocol):
    """What a comparison needs of the command line."""

    config: Namespace
    model: RegressionModule
    datamodule: RegressionDataModule

    def check_member(self, settings: Mapping[str, Any], options: Mapping[str, str]) -> Namespace:
        """Refuse the options of a run that cannot be followed; returns all of them."""

    def is_given(self, name: str) -> bool:
        """Whether an option was given."""

    def train_member(self, directory: Path, settings: Mapping[str, Any], options: Mapping[str, str]) -> None:
        """Train a run."""


def compare(command: Trains, options: Mapping[str, Any]) -> None:
    """Compare finished runs, or make those that are not there yet first.

    Args:
        command: With the options of ``fit``.
        options: Those of ``compare``.

    Raises:
        InputError: Something cannot be compared.
    """
    check(options["claims"] or {})
    if options["target"] is not None and not 0 <= options["target"] < math.inf:
        raise InputError(f"target {options['target']} is no train loss; use a number from 0, or null")
    request, settings = CompareRequest(options), command.config.compare.as_dict()
    logs = Path(settings["trainer"]["default_root_dir"] or ".") / LOGS
    if options["runs"]:
        paths = find_runs([Path(run) for run in options["runs"]])
        comparison = Comparison.of([read_run(path) for path in paths], options["target"])
        made_of: dict[str, Any] = {"runs": [str(path.resolve()) for path in paths]}
        report = Report(comparison, "runs", **_words(options))
        report.check_columns()
        with own_directory(options["directory"], logs, "compare-runs", made_of) as directory:
            _show(report, directory)
        return
    if not settings["trainer"]["callbacks"]:  # which can measure something of their own
        check_columns(options["columns"] or ())
    for name, allowed in _NEEDED.items():
        if settings["trainer"][name] not in allowed:
            raise InputError(f"cannot compare with trainer.{name} {settings['trainer'][name]}; leave it out")
    data, precision = command.datamodule, settings["trainer"]["precision"]
    with precision_of_run(precision):
        variant, title = data.variant, type(data.problem).__name__
    sizes = request.batch_sizes(variant)
    with precision_of_run(precision):
        lrs = [_learning_rate(command, lr, sizes[i] if sizes else None) for i, lr in enumerate(request.lrs(sizes))]
    axes = request.axes([_checked(size, variant) for size in sizes], lrs)
    varied = {name for axis in axes for setting in axis for name in setting}
    members = request.members(axes, _seeds(settings, options["vary_data"], varied))
    shared = _shared(settings, set(options), varied)
    if "optimizer" in varied and not command.is_given("model.lr"):
        del shared["model"]["lr"]  # else the default of SGD would be that of every optimiser
    # All mistakes are found before anything is made; seeds make none.
    _check_settings(command, shared, [member.options for member in members[:: options["seeds"]]], varied, variant)
    made_of = {"settings": shared, "members": {member.name: dict(member.options) for member in members}}
    with own_directory(options["directory"], logs, f"compare-{title}", made_of) as directory:
        interruption: BaseException | None = None
        try:
            _train(command, directory, shared, members)
        except (KeyboardInterrupt, SystemExit, SIGTERMException) as error:
            interruption = error
        runs = [read_run(directory / member.name) for member in members if is_finished(directory / member.name)]
        if runs:
            comparison = Comparison.of(runs, options["target"], varied)
            scene = Scene()
            if not any(name.startswith("data.problem") for name in varied):
                with precision_of_run(precision):
                    scene = Scene.of(data, _first_modules(type(command.model), directory, comparison))
            _show(Report(comparison, title, scene, **_words(options)), directory)
        if interruption is not None:
            print(f"finished     {len(runs)} of {len(members)} runs; the same command makes the others")
            raise interruption


def _check_settings(
    command: Trains,
    shared: Mapping[str, Any],
    settings: Sequence[Mapping[str, str]],
    varied: Collection[str],
    variant: Variant,
) -> None:
    """Parse what is compared.

    Raises:
        InputError: Something cannot be used, or comes to the same options as something else.
    """
    has_one_size = not any(name.startswith("data.") and name != "data.batch_size" for name in varied)
    known: dict[str, str] = {}
    for setting in settings:
        made = command.check_member(shared, setting).as_dict()
        if has_one_size and made["data"]["batch_size"] == variant.train_samples:
            made["data"]["batch_size"] = "full"
        named = ", ".join(f"{name} {value}" for name, value in setting.items() if name in varied)
        content = json.dumps(made, sort_keys=True, default=str)
        if content in known:
            raise InputError(
                f"cannot compare {known[content]} and {named}, because they are the same; give each value once"
            )
        known[content] = named


def _words(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"columns": options["columns"] or (), "claims": options["claims"] or {}}


def _checked(size: str, variant: Variant) -> str:
    """Return a batch size of the comparison.

    Raises:
        InputError: It is none.
    """
    if size != "full" and not size.isdecimal():
        raise InputError(f"batch_size {size!r} is no number of samples; use 'full' or a whole number from 1")
    Variant.of("full" if size == "full" else int(size), variant.train_samples)
    return size


def _learning_rate(command: Trains, lr: str, size: str | None) -> str:
    """Return a learning rate as text; the best one, as far as theory knows it, where that is asked for.

    Raises:
        InputError: Theory does not know it.
    """
    if lr != "best":
        return lr
    asked: BatchSize = command.datamodule.variant.batch_size
    if size is not None:
        asked = "full" if size == "full" else int(size)
    return f"{best_lr(command.model, command.datamodule, asked):.3g}"


def _seeds(settings: Mapping[str, Any], vary_data: bool, varied: Collection[str]) -> dict[str, int]:
    """Return the options that a seed changes, with the values that are configured, but for those that are varied.

    Raises:
        InputError: The data should change, and their problem has no seed.
    """
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
    return shared


def _train(command: Trains, directory: Path, settings: Mapping[str, Any], members: Sequence[Member]) -> None:
    left = [member for member in members if not is_finished(directory / member.name)]
    with tqdm(left, unit=" runs", disable=None, leave=False, dynamic_ncols=True) as bar:
        for member in bar:
            bar.set_description(member.name)
            command.train_member(directory / member.name, settings, member.options)


def _show(report: Report, directory: Path) -> None:
    """Write what a comparison shows, and print it."""
    try:
        report.write(directory)
    finally:
        print(report)
    print(f"\nfiles        {shown(directory)}")
    # TensorBoard opens another tab first, whatever a log directory holds.
    print(f"to see them  tensorboard --logdir {shown(directory)}, then http://localhost:6006/#custom_scalars")


def _first_modules(
    module_class: type[RegressionModule], directory: Path, comparison: Comparison
) -> dict[str, RegressionModule]:
    """Return the module of the first run of each group, unless it diverged."""
    modules = {}
    for group, runs in zip(comparison.groups, comparison.runs, strict=True):
        if runs[0].history in group.sound:
            path = directory / runs[0].name / LAST_CHECKPOINT
            modules[group.label] = module_class.load_from_checkpoint(path, "cpu", weights_only=True)
    return modules
