"""Reading finished runs as histories, of this package or any Lightning project that logs a loss (layer 3)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gd_lightning.errors import InputError, first_line
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_directory import CONFIG, HISTORY, SUMMARY
from gd_lightning.tracking.run_files import check_header, read_summary
from gd_lightning.tracking.tensorboard.reader import event_files, logs_a_loss, read_events
from gd_lightning.tracking.yaml_and_json import ConfigError, flat, read_yaml_file

HPARAMS = "hparams.yaml"
"""The file in which Lightning's loggers save the hyperparameters of a module."""

_OTHER_NAMES = {"lr": ("lr", "learning_rate"), "batch_size": ("batch_size",)}


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as read from its files.

    Args:
        name: Name of the run, that of its directory.
        history: The losses of the run; nan on an axis that its files do not contain.
        source: The origin of its train loss, in words, which also states if it is not the loss of the whole training
            set at one set of weights.
        summary: The content of its ``summary.json``, if any.
        settings: The settings of the run, such as ``model.lr``, from its config and hyperparameter files.
    """

    name: str
    history: History
    source: str
    summary: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, name: str) -> Any:
        """Return the setting of a name in any section, the outermost if there are several; None if there is none.

        Args:
            name: A name such as ``batch_size``, or ``lr``, which also finds ``learning_rate``.

        Example:
            >>> FinishedRun("version_0", History(), "loss", settings={"model.learning_rate": 0.1}).setting("lr")
            0.1
        """
        return _setting(self.settings, name)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return which directories are runs, and the runs within those that are not, such as lightning_logs.

    Within a directory of runs, those that logged no loss are left out, since they failed before their first update.

    Args:
        paths: Directories.

    Raises:
        InputError: There is no run in one of them.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path] if _is_run(path) else sorted(_runs_below(path), key=_in_natural_order)
        if not inside:
            reason = "it contains no run" if path.is_dir() else "there is no such directory"
            raise InputError(
                f"cannot find runs in {path}, because {reason}; give the directory of a run, with {HISTORY} or "
                "TensorBoard event files in it, or of several"
            )
        found += inside
    return list(dict.fromkeys(found))


def read_run(directory: Path, known: History | None = None) -> FinishedRun:
    """Read a run from its ``history.csv``, or else from its TensorBoard event files.

    Lightning counts updates and epochs from 0, and logs an epoch's loss at the index of its last update. Here, as in
    every history, a loss is at the number of updates and epochs made when it was logged.

    Args:
        directory: The directory of its files.
        known: The history of the run, if it is in memory; reading that of a long run takes a second.

    Raises:
        InputError: There is no loss, or a file is damaged.
    """
    settings = _settings_of(directory)
    summary = None
    if (directory / HISTORY).is_file():
        history, source = _read_history(directory / HISTORY) if known is None else known, HISTORY
        summary = read_summary(directory / SUMMARY)
        if summary is not None:
            history.outcome, history.reason = Outcome(summary["outcome"]), summary["reason"]
    else:
        history, source = read_events(directory, _setting(settings, "batch_size"))
    if history.outcome is None and history.has_diverged:
        history.outcome, history.reason = Outcome.DIVERGED, history.divergence
    return FinishedRun(_name(directory), history, source, summary, settings)


def _name(directory: Path) -> str:
    *_, parent, name = ("", *directory.resolve().parts)
    return f"{parent}/{name}" if re.fullmatch(r"version_\d+", name) else name  # Lightning numbers the runs of a project


# Finding runs


def _is_run(directory: Path) -> bool:
    return (directory / HISTORY).is_file() or bool(event_files(directory))


def _runs_below(path: Path) -> Iterator[Path]:
    for directory, children, _ in os.walk(path):
        here = Path(directory)
        if _is_run(here):
            children.clear()  # the subdirectories of a run contain no other runs
            if (here / HISTORY).is_file() or logs_a_loss(here):
                yield here


def _in_natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts version_2 before version_10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(path))]


# Files of this package


def _read_history(path: Path) -> History:
    try:
        history = History.from_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read a history from {path}, because of {first_line(error)}; repair or delete it"
        ) from error
    if "train_loss" not in history:
        raise InputError(f"cannot read a run from {path.parent}, because {HISTORY} has no train loss; give another run")
    return history


def _settings_of(directory: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for path in (directory / HPARAMS, directory / CONFIG):
        if path.is_file():
            try:
                check_header(path)
                content = read_yaml_file(path)
                settings |= {name.replace(".init_args.", "."): value for name, value in flat(content or {}, ".")}
            except (ConfigError, AttributeError) as error:
                raise InputError(
                    f"cannot read the settings of a run from {path}, because it is damaged; repair it, or delete it to "
                    "continue without it"
                ) from error
    return settings


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    names = _OTHER_NAMES.get(name, (name,))
    found = [key for key in settings if key.rpartition(".")[2] in names]
    return settings[min(found, key=lambda key: key.count("."))] if found else None
