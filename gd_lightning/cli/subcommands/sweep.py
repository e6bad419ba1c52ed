"""``sweep``: every combination of some settings, many runs at once."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jsonargparse import Namespace
from tqdm import tqdm

from gd_lightning.cli.options.checks import callback_classes
from gd_lightning.cli.options.trial_step import rehearse
from gd_lightning.cli.output import files_shown
from gd_lightning.cli.terminal import warn
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments import Grid, SweepTask
from gd_lightning.experiments.sweeps.grid import BATCH_SIZES, LRS
from gd_lightning.experiments.sweeps.ranges import numbers, written_twice
from gd_lightning.module import RegressionModule
from gd_lightning.tracking.run_directory import CONFIG, LOGS, claim_directory, held, is_taken, write_text

# The options of fit that take a grid here, and the own options that hold it.
GRIDS = {
    "data.batch_size": "batch_sizes",
    "model.lr": "lrs",
    "model.momentum": "momentums",
    "model.weight_decay": "weight_decays",
    "model.l1": "l1s",
}
# What would change runs that have no Trainer.
_NEEDED: dict[str, tuple[Any, ...]] = {
    "devices": (1, "1", "auto"),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "fast_dev_run": (False, 0),
    "max_steps": (-1,),
    "max_time": (None,),
    "min_steps": (None,),
    "gradient_clip_val": (None, 0, 0.0),
    "accumulate_grad_batches": (1,),
    "plugins": (None, []),
    "model_registry": (None,),
    "precision": (None, "32-true", "64-true", 32, 64, "32", "64"),
    "accelerator": ("cpu", "gpu", "cuda", "auto"),
}
_MOST_NAMED = 8  # values in a warning
# Callbacks that change nothing, and have nothing to show of many runs at once.
_ONLY_SHOW = re.compile(r"gd_lightning\.(?:\w+\.)*PrintUpdates")


class SweepOptions:
    """Where the subcommand's own options are found; its runs have no Trainer."""

    def sweep(
        self,
        lrs: str | float | list[float | str] | None = None,
        batch_sizes: str | int | list[int | str] | None = None,
        momentums: str | float | list[float | str] | None = None,
        weight_decays: str | float | list[float | str] | None = None,
        l1s: str | float | list[float | str] | None = None,
        seeds: int = 3,
        directory: str | None = None,
    ) -> None:
        """Train every combination of some settings, many runs at once, and map what they come to.

        Args:
            lrs: Learning rates, such as 0.01,0.1 or log(1e-4,1,40), which has equal ratios; what --model.lr is given
                here is meant, too. Null: log(1e-4,1,40).
            batch_sizes: Batch sizes, such as 1,2,4,...,full; --data.batch_size likewise. Null: these.
            momentums: Values of the momentum, such as 0,0.5,0.9; --model.momentum likewise.
            weight_decays: Values of the L2 penalty; --model.weight_decay likewise.
            l1s: Values of the L1 penalty; --model.l1 likewise.
            seeds: From how many seeds each combination is trained: the configured one and those that follow. A seed
                changes the start, and the order of samples.
            directory: Where the results go; null: a new directory in lightning_logs.
        """


class Sweeps(Protocol):
    """What a sweep needs of the command line."""

    config: Namespace
    model: RegressionModule
    datamodule: RegressionDataModule

    def config_text(self) -> str:
        """Return all options as a config."""


def with_grids(args: Sequence[str]) -> list[str]:
    """Return the arguments of sweep with options of fit that take a grid here as the options that hold it.

    Args:
        args: What was given behind ``sweep``.

    Example:
        >>> with_grids(["--model.lr", "0.1,0.2", "--data.batch_size=1,2,4,...,full", "--seeds", "2"])
        ['--lrs=0.1,0.2', '--batch_sizes=1,2,4,...,full', '--seeds', '2']
    """
    found: list[str] = []
    for argument in args:
        before = found[-1].removeprefix("--") if found and found[-1].startswith("--") else ""
        name, is_there, value = argument.partition("=")
        if before in GRIDS and not argument.startswith("--"):
            found[-1] = f"--{GRIDS[before]}={argument}"
        elif is_there and name.startswith("--") and name[2:] in GRIDS:
            found.append(f"--{GRIDS[name[2:]]}={value}")
        else:
            found.append(argument)
    return found


def settle_grids(config: Namespace, given: Namespace) -> None:
    """Say what is swept where nothing is given, and let the module have one of the values, which is checked.

    Args:
        config: All options; changed.
        given: Those that were given, in arguments, configs or the environment.
    """
    if config.batch_sizes is None and given.get("data.batch_size") is None:
        config.batch_sizes = BATCH_SIZES
    if config.lrs is None and given.get("model.lr") is None and given.get("optimizer.init_args.lr") is None:
        config.lrs = LRS
    for option, own in GRIDS.items():
        if option.startswith("model.") and config[own] is not None:
            config[option] = numbers(own, config[own])[-1]


def sweep(command: Sweeps, options: Mapping[str, Any]) -> None:
    """Train all runs of a sweep, write its table, and print it.

    Args:
        command: With the options of ``fit``.
        options: Those of ``sweep``.

    Raises:
        InputError: Something cannot be swept.
    """
    config, module, data = command.config.sweep, command.model, command.datamodule
    trainer, count = config.trainer, options["seeds"]
    _refuse_what_needs_a_trainer(trainer)
    given = {
        name.partition(".")[2]: config[name] if options[own] is None else options[own] for name, own in GRIDS.items()
    }
    rehearse({name: module.hparams[name] for name in ("lr", "optimizer", "lr_scheduler")}, trainer.max_epochs)
    grid = Grid.of(given, module, data, count)
    _warn_of_repetitions(given, data.variant.train_samples)
    seeds = tuple((config.seed_everything + i, config.data.seed + i) for i in range(count))
    stops = config.on_divergence == "stop"
    task = SweepTask(grid, seeds, trainer.max_epochs, _device(trainer.accelerator), config.divergence_factor, stops)
    with contextlib.nullcontext() if options["directory"] is None else _empty(Path(options["directory"])) as chosen:
        with tqdm(total=task.updates(data), unit=" updates", unit_scale=True, disable=None, leave=False) as bar:
            report = task.train(module, data, bar.update)
        try:
            logs = Path(trainer.default_root_dir or ".") / LOGS
            directory = chosen or claim_directory(logs, f"sweep-{report.title}")
            report.write(directory)
            write_text(directory / CONFIG, command.config_text())
        finally:
            print(report, flush=True)  # where the disk is full, at least this is there
    print(files_shown(directory, "hparams"))


def _refuse_what_needs_a_trainer(trainer: Namespace) -> None:
    for name, allowed in _NEEDED.items():
        if trainer[name] not in allowed:
            raise InputError(
                f"cannot sweep with trainer.{name} {trainer[name]}, because the runs of a sweep have no Trainer; leave "
                "it out, or use compare"
            )
    for path in callback_classes(trainer):
        if not _ONLY_SHOW.fullmatch(path):
            raise InputError(
                f"cannot sweep with the callback {path.rpartition('.')[2]}, because the runs of a sweep have no "
                "Trainer; leave it out, or use compare"
            )
    if trainer.max_epochs < 1:
        raise InputError("cannot sweep without a last epoch; give trainer.max_epochs")


def _warn_of_repetitions(given: Mapping[str, Any], train_samples: int) -> None:
    for name, values in given.items():
        again = dict.fromkeys(written_twice(name, values, train_samples) if values is not None else [])
        if again:
            more = ", ..." if len(again) > _MOST_NAMED else ""
            warn(f"{', '.join(list(again)[:_MOST_NAMED])}{more} is given twice as {name}, and swept once")


def _device(accelerator: str) -> torch.device:
    has_gpu = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise InputError(f"cannot sweep on a {accelerator}, because there is none; use trainer.accelerator cpu")
    return torch.device("cuda" if has_gpu and accelerator != "cpu" else "cpu")


@contextlib.contextmanager
def _empty(directory: Path) -> Iterator[Path]:
    """Have a directory that holds nothing yet for oneself; where nothing comes into it, it is removed again.

    Raises:
        InputError: Something is there, or comes from another process.
    """
    taken = f"cannot sweep into {directory}, because something else is there; give another directory"
    if is_taken(directory):
        raise InputError(taken)
    directory.mkdir(parents=True, exist_ok=True)
    with held(directory):
        if is_taken(directory):
            raise InputError(taken)
        try:
            yield directory
        finally:
            with contextlib.suppress(OSError):
                directory.rmdir()
