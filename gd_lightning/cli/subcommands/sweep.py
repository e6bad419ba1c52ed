"""``sweep``: every combination of some settings, many runs at once."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from gd_lightning.callbacks.progress import progress_bar
from gd_lightning.cli.options.checks import callback_classes
from gd_lightning.cli.shown_paths import files_shown, shown
from gd_lightning.cli.subcommands.configured import Configured
from gd_lightning.cli.subcommands.described_data import say_what_was_read
from gd_lightning.cli.subcommands.sweep_options import GRIDS
from gd_lightning.cli.subcommands.workers import check_workers, pool
from gd_lightning.cli.terminal import warn
from gd_lightning.errors import InputError
from gd_lightning.experiments import Grid, SweepTask
from gd_lightning.experiments.sweeps.ranges import written_twice
from gd_lightning.experiments.sweeps.report import RUNS, SweepReport, save_runs
from gd_lightning.float64 import PRECISIONS
from gd_lightning.plots.style import checked_formats
from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.locks import held
from gd_lightning.tracking.run_directory import CONFIG, SWEEPS, claim_directory, is_taken
from gd_lightning.tracking.run_files import with_header

# Options that would change the runs, which have no Trainer.
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
    "precision": PRECISIONS,
    "accelerator": ("cpu", "gpu", "cuda", "auto"),
}
_MOST_NAMED = 8  # largest number of values in a warning
# Callbacks that may be ignored, since they only show something of single runs.
_ONLY_SHOW = re.compile(r"gd_lightning\.(?:\w+\.)*PrintUpdates")


def sweep(command: Configured, options: Mapping[str, Any]) -> None:
    """Train all runs of a sweep, write its table, and print it.

    Args:
        command: The command, with the options of ``fit``.
        options: The options of ``sweep``.

    Raises:
        InputError: A sweep cannot use the given options.
    """
    config, module, data = command.config.sweep, command.model, command.datamodule
    trainer, count = config.trainer, options["seeds"]
    check_workers("sweep", options["workers"])
    formats = checked_formats(options["formats"])
    _refuse_what_needs_a_trainer(trainer)
    given = {
        name.partition(".")[2]: config[name] if options[own] is None else options[own] for name, own in GRIDS.items()
    }
    grid = Grid.of(given, module, data, count)
    _warn_of_repetitions(given, data.variant.train_samples)
    say_what_was_read(data)
    seeds = tuple((config.seed_everything + i, config.data.seed + i) for i in range(count))
    stops = config.on_divergence == "stop"
    task = SweepTask(grid, seeds, trainer.max_epochs, _device(trainer.accelerator), config.divergence_factor, stops)
    with contextlib.nullcontext() if options["directory"] is None else _empty(Path(options["directory"])) as chosen:

        def directory() -> Path:
            return chosen or claim_directory(command.options.logs, f"sweep-{name}")

        def keep(report: SweepReport) -> None:
            bar.close()
            where = directory()
            print(f"finished     {save_runs(report, where)}; they are in {shown(where / RUNS)}", flush=True)

        name, updates = type(data.problem).__name__, task.updates(data)
        bar = progress_bar(updates, " updates")
        with bar, pool(options["workers"]) as executor:
            report = task.train(module, data, bar.update, executor, keep)
        try:
            where = directory()
            # If the log directory had the many runs of a sweep, too, TensorBoard would select none of its runs.
            sweeps = command.options.logs.with_name(SWEEPS)
            board = where / "hparams" if chosen else claim_directory(sweeps, where.name)
            report.save(where, formats, board)
            write_text(where / CONFIG, with_header(command.options.text()))
        finally:
            print(report, flush=True)  # printed even if the disk is full
    print(files_shown(where, "hparams", board))


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
        raise InputError("cannot sweep over an unlimited number of epochs; give trainer.max_epochs")


def _warn_of_repetitions(given: Mapping[str, Any], train_samples: int) -> None:
    for name, values in given.items():
        again = dict.fromkeys(written_twice(name, values, train_samples) if values is not None else [])
        if again:
            more = ", ..." if len(again) > _MOST_NAMED else ""
            warn(f"{', '.join(list(again)[:_MOST_NAMED])}{more} is given twice as {name}, but trained once")


def _device(accelerator: str) -> torch.device:
    has_gpu = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise InputError(f"cannot sweep on a {accelerator}, because this machine has none; use trainer.accelerator cpu")
    return torch.device("cuda" if has_gpu and accelerator != "cpu" else "cpu")


@contextlib.contextmanager
def _empty(directory: Path) -> Iterator[Path]:
    """Create and lock an empty directory, which is removed afterwards if it is still empty.

    Raises:
        InputError: The directory is not empty, or another process writes there.
    """
    taken = f"cannot sweep into {directory}, because it contains something else; give another directory"
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
