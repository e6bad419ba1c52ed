"""``compare``: what is varied, where its runs are, and what is printed and written of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gd_lightning.cli.error_origin import is_bad_input
from gd_lightning.cli.options.config_text import text_of
from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison.members import Member, members, usual_batch_sizes, values_of
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.run_directory import (
    SUMMARY,
    claim_directory,
    held,
    is_taken,
    missing_directories,
    remove_empty,
    write_json,
)
from gd_lightning.tracking.run_files import read_summary
from gd_lightning.tracking.text_files import ConfigError, plain_copy, read_json_file
from gd_lightning.variants import Variant

PLAN = "compare.json"  # what a comparison is made of


class CompareOptions:
    """Where the subcommand's own options are found; each of its runs has a Trainer of its own."""

    def compare(
        self,
        runs: list[str] | None = None,
        batch_sizes: str | int | list[int | str] | None = None,
        seeds: int = 3,
        vary_data: bool = False,
        lrs: str | float | list[float | str] | None = None,
        # Of a list[Any] jsonargparse makes classes, with all of their arguments, wherever it finds a class_path.
        vary: str | list[str] | dict[str, list] | None = None,  # type: ignore[type-arg]
        target: float | None = None,
        directory: str | None = None,
        columns: list[str] | None = None,
        claims: dict[str, str] | None = None,
    ) -> None:
        """Train variants side by side, from the same start on the same data, and compare them; or compare runs.

        Args:
            runs: Directories of finished runs to compare instead, of this or of another Lightning project; they can be
                given without the name of this option.
            batch_sizes: The variants, such as full,16,1; null: these, or the configured one where something else is
                varied.
            seeds: From how many seeds each is trained: the configured one and those that follow. A seed changes the
                start, and the order of samples.
            vary_data: Whether a seed changes the data that the problem draws, too.
            lrs: Learning rates: one for all variants, one for each, such as 0.1,0.05,0.01, or best, which is what
                theory says of a linear regressor.
            vary: Any option and its values, such as model.momentum=0,0.5,0.9 or optimizer=SGD,Adam; more options with
                more --vary. In a config, a mapping from options to lists of values.
            target: The train loss whose first crossing is compared; null: 1 % above the least squares where they are
                known, else what all variants reach that do not diverge and get below every start.
            directory: Where the runs and the comparison are; null: a directory in lightning_logs. Runs that are
                finished there are not made again.
            columns: Names of other figures to show, such as [distance_to_truth, val_r2]; table.csv has all of them.
            claims: What somebody claims, each with what it expects of the figures, such as {"0.1 is faster than 0.01":
                "epochs_to_target: lr 0.1 < lr 0.01"}; whether it agrees is said with the findings.
        """


@dataclass(frozen=True)
class CompareRequest:
    """What is to be compared.

    Args:
        options: The options of CompareOptions, by their names.
    """

    options: Mapping[str, Any]

    @property
    def varied(self) -> dict[str, list[str]]:
        """Any options that are varied, with their values as text.

        Raises:
            InputError: One of them is no option=values, or an option is there twice.
        """
        given = self.options["vary"] or []
        if isinstance(given, Mapping):
            return {name: [_text(value) for value in values] for name, values in given.items()}
        varied = {}
        for text in [given] if isinstance(given, str) else given:
            name, is_there, values = text.partition("=")
            if not (is_there and name.strip() and values.strip()):
                raise InputError(f"cannot vary {text!r}; write an option and its values, such as model.lr=0.01,0.1")
            name = name.strip().removeprefix("--")
            if name in varied:
                raise InputError(f"cannot vary {name} twice; give its values once")
            varied[name] = values_of(values)
        return varied

    def batch_sizes(self, configured: Variant) -> list[str]:
        """Return the batch sizes as text; the configured one alone where other options are varied."""
        given = self.options["batch_sizes"]
        if given is not None:
            return [_text(value) for value in given] if isinstance(given, list) else values_of(str(given))
        if self.options["vary"]:
            return []
        return [_text(size) for size in usual_batch_sizes(configured.train_samples)]

    def lrs(self, sizes: Sequence[str]) -> list[str]:
        """Return a learning rate for each batch size, as text; empty where the configured one is for all.

        Raises:
            InputError: They are neither one nor as many as there are batch sizes.
        """
        given = self.options["lrs"]
        if given is None:
            return []
        found = [_text(value) for value in given] if isinstance(given, list) else values_of(str(given))
        count = max(1, len(sizes))
        if len(found) == 1:
            return found * count
        if len(found) != count:
            raise InputError(
                f"cannot give {len(found)} lrs to {count} batch sizes; give one, one for each, or best, or vary "
                "model.lr=... to try each with all"
            )
        return found

    def axes(self, sizes: Sequence[str], lrs: Sequence[str]) -> list[list[dict[str, str]]]:
        """Return the settings of each axis of the comparison."""
        first: list[dict[str, str]] = [{"data.batch_size": size} for size in sizes] or [{}]
        if lrs:
            first = [{**setting, "model.lr": lr} for setting, lr in zip(first, lrs, strict=True)]
        others = [[{name: value} for value in values] for name, values in self.varied.items()]
        return [first, *others]

    def members(self, axes: Sequence[Sequence[Mapping[str, str]]], base: Mapping[str, int]) -> list[Member]:
        """Return all runs to be made.

        Args:
            axes: What is varied.
            base: The options that a seed changes, with the first value of each.

        Raises:
            InputError: There are less than one seed.
        """
        if self.options["seeds"] < 1:
            raise InputError(f"cannot compare with {self.options['seeds']} seeds; use 1 or more")
        seeds = [{name: str(value + i) for name, value in base.items()} for i in range(self.options["seeds"])]
        return members(axes, seeds)


@contextmanager
def own_directory(given: str | None, logs: Path, name: str, content: Mapping[str, Any]) -> Iterator[Path]:
    """Have the directory of a comparison for oneself: where the same one was begun, else a new one.

    A new one is taken back where only the first run can tell that it cannot be made, such as for a metric to monitor
    that there is not.

    Args:
        given: What a person chose.
        logs: Where it is else.
        name: What it is called there.
        content: What the comparison is made of.

    Raises:
        InputError: The directory that was chosen holds something else, or another process writes there.
    """
    plain = plain_copy(content)
    parent = logs if given is None else Path(given)
    missing = missing_directories(parent)
    if given is not None:
        directory = Path(given)
        _refuse_another(directory, plain)
        directory.mkdir(parents=True, exist_ok=True)
    else:
        begun = (path for path in sorted(logs.glob(f"{name}*")) if _content_of(path) == plain)
        directory = next(begun, None) or claim_directory(logs, name)
        missing = [directory, *missing]
    with held(directory):
        _refuse_another(directory, plain)  # what another process has begun since
        is_new = _content_of(directory) != plain
        if is_new:
            write_json(directory / PLAN, plain)
        try:
            yield directory
        except Exception as error:
            if is_new and is_bad_input(error) and not any(is_finished(path) for path in directory.iterdir()):
                _take_back(directory, missing)
            raise


def _take_back(directory: Path, made: Sequence[Path]) -> None:
    """Remove what is in a directory, and of those that were made for it what others have put nothing into."""
    for path in list(directory.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    remove_empty(made)


def _refuse_another(directory: Path, content: object) -> None:
    if _content_of(directory) != content and is_taken(directory):
        raise InputError(
            f"cannot compare in {directory}, because something else is there; give another directory, or the same "
            "options as before"
        )


def _content_of(directory: Path) -> object:
    try:
        return read_json_file(directory / PLAN)
    except ConfigError:
        return None


def is_finished(run: Path) -> bool:
    """Whether a run reached its end, whatever it came to."""
    try:
        summary = read_summary(run / SUMMARY)
    except InputError:
        return False
    return summary is not None and summary["outcome"] != Outcome.INTERRUPTED


def with_own_options(args: Sequence[str]) -> list[str]:
    """Return the arguments of compare with directories of runs, and each --vary, as the options that they are.

    Args:
        args: What was given behind ``compare``.
    """
    runs: list[str] = []
    varied: list[str] = []
    others: list[str] = []
    at = 0
    while at < len(args):
        argument = args[at]
        if argument == "--vary" and at + 1 < len(args):
            varied.append(args[at + 1])
            at += 1
        elif argument.startswith("--vary="):
            varied.append(argument.partition("=")[2])
        elif not argument.startswith("-") and not _is_value(others):
            runs.append(argument)
        else:
            others.append(argument)
        at += 1
    lists = {"runs": runs, "vary": varied}
    return [*others, *(f"--{name}={text_of(values)}" for name, values in lists.items() if values)]


def _is_value(before: Sequence[str]) -> bool:
    """Whether what follows some arguments is the value of the last of them."""
    return bool(before) and before[-1].startswith("--") and "=" not in before[-1]


def _text(value: object) -> str:
    return value if isinstance(value, str) else text_of(value)
