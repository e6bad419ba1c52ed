"""``compare``: its checks, its execution, and the printed report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

from gd_lightning.callbacks.progress import progress_bar
from gd_lightning.cli.shown_paths import files_shown
from gd_lightning.cli.subcommands.animation import check_animation, write_animation_file
from gd_lightning.cli.subcommands.compare_directory import CLAIMS, own_directory
from gd_lightning.cli.subcommands.compare_members import FitMember, FitVariants, Trains
from gd_lightning.cli.subcommands.workers import Workers, check_workers, this_share
from gd_lightning.errors import InputError
from gd_lightning.experiments import CompareTask, Comparison, MemberResult, Report
from gd_lightning.experiments.comparison.claims import check
from gd_lightning.experiments.comparison.members import check_target
from gd_lightning.experiments.comparison.table import check_columns
from gd_lightning.plots.comparison.figure import checked_panels
from gd_lightning.plots.style import checked_formats
from gd_lightning.tracking.checkpoint_file import clear_parts
from gd_lightning.tracking.locks import in_turn
from gd_lightning.tracking.run_reader import find_runs, read_run

# A comparison needs a single process, and all files of its runs.
_NEEDED: dict[str, tuple[Any, ...]] = {
    "devices": (1, "1", "auto"),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "logger": (None, True),
    "fast_dev_run": (False, 0),
    "barebones": (False,),
    "enable_checkpointing": (None, True),
}


def compare(command: Trains, options: Mapping[str, Any]) -> None:
    """Compare finished runs, or train variants and compare them.

    Args:
        command: The command, with the options of ``fit``.
        options: The options of ``compare``.

    Raises:
        InputError: The given runs or variants cannot be compared.
    """
    if (share := this_share()) is not None:
        share.carry_out(command)
        return
    _refuse_nothing(options)
    check(options["claims"] or {})
    check_workers("compare", options["workers"])
    check_target(options["target"])
    check_animation(options["animate"])
    words: dict[str, Any] = {"columns": options["columns"] or (), "claims": options["claims"] or {}}
    words |= {"shown": checked_panels(options["panels"]), "formats": checked_formats(options["formats"])}
    if options["runs"]:
        _compare_runs(command, options, words)
    else:
        _compare_variants(command, options, words)


def _refuse_nothing(options: Mapping[str, Any]) -> None:
    """Refuse options without a value, and varied values without the name of an option."""
    for name in ("runs", "batch_sizes", "lrs", "vary"):
        if options[name] in ([], {}, ""):
            raise InputError(f"cannot compare with {name} {options[name]!r}, because it is empty; leave it out")
    for name, values in options["vary"].items() if isinstance(options["vary"], Mapping) else ():
        if not (isinstance(name, str) and values):
            raise InputError(f"cannot vary {name!r} over {values}; give the name of an option and a list of values")


def _compare_runs(command: Trains, options: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    paths = find_runs([Path(run) for run in options["runs"]])
    report = Report(Comparison.of([read_run(path) for path in paths], options["target"]), "runs", **words)
    report.check_columns()
    made_of = {"runs": [str(path.resolve()) for path in paths]}
    with own_directory(options["directory"], command.options.logs, "compare-runs", made_of) as directory:
        _show(report, directory, options["animate"], is_whole=True)


def _compare_variants(command: Trains, options: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    trainer, data = command.config.compare.trainer, command.datamodule
    if not trainer.callbacks:  # callbacks can measure further quantities
        check_columns(options["columns"] or ())
    for name, allowed in _NEEDED.items():
        if trainer[name] not in allowed:
            raise InputError(f"cannot compare with trainer.{name} {trainer[name]}; leave it out")
    variants, title = FitVariants.of(command, options, data.variant), type(data.problem).__name__
    words = {**words, "best": variants.best}
    configs = variants.configs(command, data.variant)  # finds all errors before files are written
    drawn = None if any(name.startswith("data.problem") for name in variants.varied) else data
    made_of = {"settings": variants.shared, "members": variants.options}
    with own_directory(options["directory"], command.options.logs, f"compare-{title}", made_of) as directory:
        members = variants.members(configs, directory, type(command.model))

        def train(member: FitMember) -> MemberResult | None:
            return member.finished(command.fit_member(member))

        task = CompareTask(title, members, train, drawn, trainer.precision, options["target"], variants.varied, words)
        _carry_out(task, directory, Workers(command.options.arguments, members, options["workers"]), options["animate"])


def _carry_out(task: CompareTask[FitMember], directory: Path, workers: Workers, animate: str | None) -> None:
    """Train the unfinished runs, and show the results, after an interruption those of the finished runs."""
    interruption: BaseException | None = None
    with progress_bar(len(task.members), " runs", unit_scale=False) as bar:
        results = list[MemberResult]()

        def begins(name: str) -> None:
            bar.set_description(name)
            workers.check()

        try:
            with workers:
                for result in task.results(begins):
                    results.append(result)
                    bar.update()
        except (KeyboardInterrupt, SystemExit, SIGTERMException) as error:
            interruption, results = error, task.finished()
    if results:
        _show(task.report(results), directory, animate, is_whole=interruption is None)
    if interruption is not None:
        print(f"finished     {len(results)} of {len(task.members)} runs; repeat the command for the others")
        raise interruption


def _show(report: Report, directory: Path, animate: str | None, is_whole: bool) -> None:
    """Write and print a report, and write its animation if one is asked for.

    Args:
        report: The report.
        directory: The directory of the comparison, into which one process writes at a time.
        animate: The format of the animation.
        is_whole: Whether all runs are finished, so that nothing is to be claimed any more.
    """
    with in_turn(directory / CLAIMS / "report"):
        clear_parts(directory)
        try:
            report.save(directory)
        finally:
            print(report)
        print(files_shown(directory, "custom_scalars"))  # TensorBoard would show another tab first
        if animate is not None:
            write_animation_file(report.animate(), animate, directory)
        if is_whole:  # a process that waits for this one notices that its file is gone
            shutil.rmtree(directory / CLAIMS, ignore_errors=True)
