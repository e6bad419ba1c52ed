"""Reading finished runs as histories, of this package or any Lightning project that logs a loss (layer 3)."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.plugins.scalar.metadata import PLUGIN_NAME
from tensorboard.util.tensor_util import make_ndarray

from gd_lightning.errors import InputError, first_line
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_directory import CONFIG, EVENTS, HISTORY, SUMMARY
from gd_lightning.tracking.run_files import check_header, read_summary
from gd_lightning.tracking.tensorboard_groups import AGGREGATE_ENDING
from gd_lightning.tracking.yaml_and_json import ConfigError, read_yaml_file

HPARAMS = "hparams.yaml"
"""What Lightning's loggers call the file of a module's hyperparameters."""

_OTHER_NAMES = {"lr": ("lr", "learning_rate"), "batch_size": ("batch_size",)}
# Those with an axis are of runs of ours that were killed, and left no history.csv.
_TRAIN_TAGS = ("train_loss", "train_loss_epoch", "train/loss", "updates/train_loss", "train_loss_step", "loss")
_VALIDATION_TAGS = ("val_loss", "val_loss_epoch", "val/loss", "validation_loss", "updates/val_loss")
_NOT_TRAINING = re.compile("val|test|dev", re.IGNORECASE)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as read from its files.

    Args:
        name: What it is called: the name of its directory.
        history: Its losses; nan on an axis that its files do not tell.
        source: Where its train loss comes from, in words, and what it is where that is not the loss of the whole
            training set at one set of weights.
        summary: The content of its ``summary.json``, if any.
        settings: What it was made with, such as ``model.lr``, from its config and hyperparameter files.
    """

    name: str
    history: History
    source: str
    summary: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, name: str) -> Any:
        """Return the setting of a name wherever it stands, the outermost if several do; None where none does.

        Args:
            name: Such as ``batch_size``, or ``lr``, which ``learning_rate`` is understood as too.

        Example:
            >>> FinishedRun("version_0", History(), "loss", settings={"model.learning_rate": 0.1}).setting("lr")
            0.1
        """
        return _setting(self.settings, name)


class _Point(NamedTuple):
    step: int
    wall_time: float
    value: float


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the directories of runs: those given, and the runs in those given that are none, such as lightning_logs.

    Inside a directory of runs, those that logged no loss are left out: they failed before their first update.

    Args:
        paths: Directories.

    Raises:
        InputError: There is no run in one of them.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path] if _is_run(path) else sorted(_runs_below(path), key=_in_natural_order)
        if not inside:
            reason = "it holds no run" if path.is_dir() else "there is no such directory"
            raise InputError(
                f"cannot find runs in {path}, because {reason}; give the directory of a run, with {HISTORY} or "
                "TensorBoard event files in it, or of several"
            )
        found += inside
    return list(dict.fromkeys(found))


def read_run(directory: Path, known: History | None = None) -> FinishedRun:
    """Read a run from its ``history.csv``, or else from its TensorBoard event files.

    Lightning counts updates from 0 and epochs from 0, and logs an epoch's loss under the last of its updates. Here, as
    in every history, a loss stands at the number of updates and epochs that were made when it was logged.

    Args:
        directory: Where its files are.
        known: Its history, where it is at hand: that of a long run takes a second to read.

    Raises:
        InputError: There is no loss to read, or a file is damaged.
    """
    settings = _settings_of(directory)
    summary = None
    if (directory / HISTORY).is_file():
        history, source = _read_history(directory / HISTORY) if known is None else known, HISTORY
        summary = read_summary(directory / SUMMARY)
        if summary is not None:
            history.outcome, history.reason = Outcome(summary["outcome"]), summary["reason"]
    else:
        history, source = _read_events(directory, _setting(settings, "batch_size"))
    if history.outcome is None and history.has_diverged:
        history.outcome, history.reason = Outcome.DIVERGED, history.divergence
    return FinishedRun(_name(directory), history, source, summary, settings)


def _name(directory: Path) -> str:
    *_, parent, name = ("", *directory.resolve().parts)
    return f"{parent}/{name}" if re.fullmatch(r"version_\d+", name) else name  # Lightning numbers those of a project


# Finding


def _event_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(EVENTS) if not path.name.endswith(AGGREGATE_ENDING))


def _is_run(directory: Path) -> bool:
    return (directory / HISTORY).is_file() or bool(_event_files(directory))


def _runs_below(path: Path) -> Iterator[Path]:
    for directory, children, _ in os.walk(path):
        here = Path(directory)
        if _is_run(here):
            children.clear()  # what a run has inside is a part of it
            if (here / HISTORY).is_file() or _logs_a_loss(here):
                yield here


def _logs_a_loss(directory: Path) -> bool:
    try:
        return any(
            _is_scalar(value.metadata) and _train_tag([value.tag]) is not None
            for path in _event_files(directory)
            if path.is_file()
            for event in EventFileLoader(str(path)).Load()
            for value in event.summary.value
        )
    except Exception:  # it is damaged: whoever reads it will say how
        return True


def _in_natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a sort key by which version_2 stands before version_10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(path))]


# Our own files


def _read_history(path: Path) -> History:
    try:
        history = History.from_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read a history from {path}, because of {first_line(error)}; mend or delete it"
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
                settings |= dict(_flat(content or {}))
            except (ConfigError, AttributeError) as error:
                raise InputError(
                    f"cannot read how a run was made from {path}, because it is damaged; mend it, or delete it to go "
                    "on without"
                ) from error
    return settings


def _flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name.replace(".init_args.", "."), value


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    names = _OTHER_NAMES.get(name, (name,))
    found = [key for key in settings if key.rpartition(".")[2] in names]
    return settings[min(found, key=lambda key: key.count("."))] if found else None


# Event files


def _read_events(directory: Path, batch_size: Any) -> tuple[History, str]:
    scalars = _Scalars(directory) if _event_files(directory) else None
    tag = None if scalars is None else _train_tag(scalars.tags)
    if scalars is None or tag is None:
        raise InputError(
            f"cannot read a run from {directory}, because it has neither {HISTORY} nor TensorBoard event files with a "
            "loss; give a run that logs one, as with self.log('train_loss', loss)"
        )
    # Lightning logs it beside whatever else it logs.
    epochs = [point for point in scalars.points("epoch") if point.step >= 0 <= point.value < math.inf]
    # Largest at the ends of epochs, where Lightning logs means and validations.
    per_epoch = max(((point.step + 1) / (point.value + 1) for point in epochs), default=math.nan)
    losses = {"train_loss": scalars.points(tag), "val_loss": scalars.points(_validation_tag(scalars.tags))}
    history = History()
    for step, row in sorted(_rows(losses, scalars.start).items()):
        update = step + 1 if epochs else step
        samples = update * batch_size if type(batch_size) is int else math.nan
        history.append(update=update, epoch=update / per_epoch, samples=samples, **row)
    source = f"{tag} of TensorBoard event files"
    if epochs:
        at_ends = all(((point.step + 1) / per_epoch).is_integer() for point in losses["train_loss"])
        source += ", a mean over each epoch while the weights move" if at_ends else ", of single batches"
    return history, source


class _Scalars:
    """The scalars in the event files of a directory, as far as the files are whole.

    Args:
        directory: Where they are.

    Raises:
        InputError: What they hold is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if others := [path.name for path in _event_files(directory) if not path.is_file()]:
            raise InputError(
                f"cannot read the TensorBoard event files in {directory}, because {others[0]} is no file; remove it"
            )
        self._events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
        with self._damage_told():
            self._events.Reload()
        about = self._events.summary_metadata
        self.tags = [tag for tag in about if _is_scalar(about[tag])]

    @property
    def start(self) -> float:
        """When the first event was written, in seconds since the epoch."""
        return float(self._events.FirstEventTimestamp())

    def points(self, tag: str | None) -> list[_Point]:
        """Return the points of a tag; none where there is no such scalar."""
        with self._damage_told():
            events = self._events.Tensors(tag) if tag in self.tags else []
            return [_Point(each.step, each.wall_time, float(make_ndarray(each.tensor_proto).item())) for each in events]

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a damaged file makes the reader stumble on
            raise InputError(
                f"cannot read the TensorBoard event files in {self._directory}, because of {first_line(error)}; give "
                "another run"
            ) from error


def _is_scalar(about: SummaryMetadata) -> bool:
    return bool(about.plugin_data.plugin_name == PLUGIN_NAME)


def _rows(losses: Mapping[str, list[_Point]], start: float) -> dict[int, dict[str, float]]:
    """Return the losses by step; where a step was logged twice, the newest."""
    rows: dict[int, dict[str, float]] = {}
    for column, points in losses.items():
        for point in points:
            rows.setdefault(point.step, {}).update({"seconds": point.wall_time - start, column: point.value})
    return rows


def _train_tag(tags: Collection[str]) -> str | None:
    losses = [tag for tag in tags if "loss" in tag.lower() and not _NOT_TRAINING.search(tag)]
    return _preferred(losses, _TRAIN_TAGS)


def _validation_tag(tags: Collection[str]) -> str | None:
    return _preferred([tag for tag in tags if re.search("val.*loss|loss.*val", tag, re.IGNORECASE)], _VALIDATION_TAGS)


def _preferred(tags: Collection[str], order: Sequence[str]) -> str | None:
    """Return the tag that stands first in an order, or else one of the others, rather of training and of epochs."""
    known = [tag for tag in order if tag in tags]
    others = sorted(tags, key=lambda tag: ("train" not in tag.lower(), "step" in tag.lower(), tag))
    return next(iter([*known, *others]), None)
