"""Reading losses from TensorBoard event files, of this package or any Lightning project that logs a loss (layer 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.plugins.scalar.metadata import PLUGIN_NAME
from tensorboard.util.tensor_util import make_ndarray

from gd_lightning.errors import InputError, first_line
from gd_lightning.records.history import History
from gd_lightning.tracking.run_directory import EVENTS, HISTORY
from gd_lightning.tracking.tensorboard.groups_of_runs import AGGREGATE_ENDING
from gd_lightning.tracking.tensorboard.loss_tags import train_tag, validation_tag


class _Point(NamedTuple):
    step: int
    wall_time: float
    value: float


def event_files(directory: Path) -> list[Path]:
    """Return the event files of a run, without those of groups of runs."""
    return sorted(path for path in directory.glob(EVENTS) if not path.name.endswith(AGGREGATE_ENDING))


def logs_a_loss(directory: Path) -> bool:
    """Whether the event files of a directory have a train loss; also if they are damaged, so that it is reported."""
    try:
        return any(
            _is_scalar(value.metadata) and train_tag([value.tag]) is not None
            for path in event_files(directory)
            if path.is_file()
            for event in EventFileLoader(str(path)).Load()
            for value in event.summary.value
        )
    except Exception:
        return True


def read_events(directory: Path, batch_size: Any) -> tuple[History, str]:
    """Read the losses of a run from its event files.

    Args:
        directory: The directory of the run.
        batch_size: Samples per update; no integer if unknown.

    Returns:
        The history, and a description of its train loss.

    Raises:
        InputError: There is no loss, or a file is damaged.
    """
    scalars = _Scalars(directory) if event_files(directory) else None
    tag = None if scalars is None else train_tag(scalars.tags)
    if scalars is None or tag is None:
        raise InputError(
            f"cannot read a run from {directory}, because it has neither {HISTORY} nor TensorBoard event files with a "
            "loss; give a run that logs one, as with self.log('train_loss', loss)"
        )
    # Lightning logs the epoch together with every other value.
    epochs = [point for point in scalars.points("epoch") if point.step >= 0 <= point.value < math.inf]
    # The ratio is largest at the ends of epochs, where Lightning logs means and validations.
    per_epoch = max(((point.step + 1) / (point.value + 1) for point in epochs), default=math.nan)
    losses = {"train_loss": scalars.points(tag), "val_loss": scalars.points(validation_tag(scalars.tags))}
    history = History()
    for step, row in sorted(_rows(losses, scalars.start).items()):
        update = step + 1 if epochs else step
        samples = update * batch_size if type(batch_size) is int else math.nan
        history.append(update=update, epoch=update / per_epoch, samples=samples, **row)
    source = f"{tag} of TensorBoard event files"
    if epochs:
        at_ends = all(((point.step + 1) / per_epoch).is_integer() for point in losses["train_loss"])
        source += ", a mean over each epoch while the weights change" if at_ends else ", of single batches"
    return history, source


class _Scalars:
    """The scalars in the event files of a directory, as far as the files are whole.

    Args:
        directory: The directory of the event files.

    Raises:
        InputError: The content of a file is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if others := [path.name for path in event_files(directory) if not path.is_file()]:
            raise InputError(
                f"cannot read the TensorBoard event files in {directory}, because {others[0]} is not a file; remove it"
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
        except Exception as error:  # a damaged file may make the loader raise anything
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
