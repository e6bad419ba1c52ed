"""Writing a history to TensorBoard: each quantity against each axis, in a tag family per axis.

TensorBoard draws against one integer step, and cannot name it. So the axis is the first part of the tag, and runs of
different batch sizes overlay in the family of the axis that they are to be compared on:

- ``updates/...``, ``samples/...``: the number of optimiser steps, or of training samples consumed;
- ``epochs/...``: whole epochs, for what is measured at their ends;
- ``microseconds/...``: training time; the *relative* axis of the other families is training time as well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams as hparams_summaries
from torch.utils.tensorboard.writer import SummaryWriter

from gd_lightning.errors import DataWarning, first_line
from gd_lightning.records.history import AXES, PREDICTED, History, Outcome
from gd_lightning.tracking.run_directory import EVENTS

# Of each series, so that writing them does not cost more than the training; the history has them all.
POINTS = 500

_OWN_TAGS = ("updates/", "samples/", "epochs/", "microseconds/", "final/", "run card/", "_hparams_/")

# Of the Custom Scalars tab, which draws several tags of a run into one chart: a chart an axis.
_LAYOUT = {
    "train loss, measured and predicted": {
        axis: ["Multiline", [rf"{axis}/train_loss(_predicted)?$"]] for axis in ("epochs", "updates", "samples")
    }
}

SHOWN_SETTINGS = ("problem", "variant", "batch_size", "lr", "seed", "outcome")
RESULTS = (
    "train_loss",
    "val_loss",
    "val_mse",
    "val_mae",
    "val_r2",
    "distance_to_least_squares",
    "updates",
    "samples",
    "seconds",
)


class RowsInTurn:
    """Which rows of a growing history are written, each once; arguments as for :class:`HistoryWriter`."""

    def __init__(self, updates: float, epochs: float) -> None:
        self._updates, self._epochs = updates, epochs
        self._written = -1.0
        self._count = 0.0  # that were in turn so far

    def new(self, history: History, to_the_end: bool = False) -> Iterator[Mapping[str, float]]:
        """Yield those that came since the last call; arguments as for :meth:`HistoryWriter.write_new`."""
        updates = history["update"]
        start = history.first_row_behind(self._written)  # rows may have been removed since the last call
        at_ends = history.measured("train_loss", start)
        at_ends = at_ends[_is_in_turn(history["epoch"][at_ends].astype(int), self._epochs)]
        in_turn = start + np.flatnonzero(_is_in_turn(updates[start:], self._updates))
        last = [len(history) - 1] if to_the_end and start < len(history) else []
        yield from history.rows_at(np.unique(np.concatenate([at_ends, in_turn, np.array(last, dtype=np.int64)])))
        self._written = max(self._written, history.last("update"))
        self._count = self._in_turn(self._written, history.last("epoch"))

    def due(self, update: float, epoch: float) -> float:
        """Return about how many rows, at most, have come since the last call of :meth:`new`."""
        return max(0.0, self._in_turn(update, epoch) - self._count)

    def _in_turn(self, update: float, epoch: float) -> float:
        return _number_in_turn(update, self._updates) + _number_in_turn(epoch, self._epochs)


class HistoryWriter:
    """Writes the rows of a growing history to event files, each row once.

    Args:
        writer: Where to.
        started: Wall-clock time at which training began, in seconds since the epoch.
        updates: Expected number of updates, from which it follows how many rows are left out; infinite where it is not
            known: then more are left out the further a run gets, so that there are 500 for each doubling of its length.
        epochs: Expected number of epochs; infinite where nothing limits it.
    """

    def __init__(self, writer: SummaryWriter, started: float, updates: float, epochs: float) -> None:
        self._writer = writer
        self._started = started
        self.rows = RowsInTurn(updates, epochs)
        """Which rows are written."""
        self._has_layout = False

    def write_new(self, history: History, to_the_end: bool = False) -> None:
        """Write the rows that came since the last call: at most 500 updates and 500 ends of epochs, if they are known.

        Args:
            history: The growing history.
            to_the_end: Write the newest row in any case; it is the last one.
        """
        if not self._has_layout and len(history.measured(PREDICTED)):
            self._writer.add_custom_scalars(_LAYOUT)
            self._has_layout = True
        for row in self.rows.new(history, to_the_end):
            self._write_row(row)

    def begin_again(self, directory: Path, before: int) -> None:
        """Make TensorBoard discard what earlier processes of this run wrote, which is about to be written again.

        They may have got further than the checkpoint that is continued from, or have lost their newest points. What
        others logged up to there is kept.

        Args:
            directory: Where the event files of the run are.
            before: The update at which the run continues.
        """
        self.flush()
        kept = list(_events_of_others(directory, before))
        file_writer = self._writer._get_file_writer()
        file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=0)
        for event in kept:
            file_writer.add_event(event, step=event.step, walltime=event.wall_time)

    def _write_row(self, row: Mapping[str, float]) -> None:
        measured = {name: value for name, value in row.items() if name not in AXES and not name.startswith("grad_")}
        steps = {
            "updates": row["update"],
            "samples": row["samples"],
            "microseconds": round(row["seconds"] * 1e6),
        }
        if row["epoch"] == int(row["epoch"]):
            steps["epochs"] = row["epoch"]
        for axis, step in steps.items():
            # One event holds all values of a row on an axis: several times faster than add_scalar for each.
            values = [Summary.Value(tag=f"{axis}/{name}", simple_value=value) for name, value in measured.items()]
            file_writer = self._writer._get_file_writer()
            file_writer.add_summary(Summary(value=values), int(step), walltime=self._started + row["seconds"])

    def write_hparams(
        self, settings: Mapping[str, Any], results: Mapping[str, float], outcome: Outcome | None = None
    ) -> None:
        """Fill the HParams tab: a row of settings and final results, each result also a scalar ``final/...``.

        Args:
            settings: What the run was made with.
            results: Its results, as numbers.
            outcome: How it ended: TensorBoard's status, and a setting too, for only settings are shown as words.
        """
        for summary in hparams_of(settings, results, outcome):
            self._writer._get_file_writer().add_summary(summary)
        for name, value in results.items():
            self._writer.add_scalar(f"final/{name}", value, 0)

    def write_text(self, tag: str, text: str) -> None:
        """Show Markdown in the Text tab."""
        self._writer.add_text(tag, text, 0)

    def flush(self) -> None:
        """Flush everything to the file system."""
        self._writer.flush()


def _is_in_turn(numbers: NDArray[Any], expected: float) -> NDArray[np.bool_]:
    """Return which updates or epochs are written, by their numbers, shape (R,), of so many that are expected."""
    if math.isfinite(expected):
        stride: Any = max(1, math.ceil(expected / POINTS))
    else:
        stride = 2.0 ** np.ceil(np.log2(np.maximum(numbers / (2 * POINTS), 1)))
    is_in_turn: NDArray[np.bool_] = numbers % stride == 0
    return is_in_turn


def _number_in_turn(number: float, expected: float) -> float:
    """Return about how many updates or epochs are written of the first ones, by the rule of :func:`_is_in_turn`."""
    if math.isfinite(expected):
        return number / max(1, math.ceil(expected / POINTS))
    return min(number, 2 * POINTS) + POINTS * math.log2(max(number / (2 * POINTS), 1))


def hparams_of(
    settings: Mapping[str, Any], results: Mapping[str, float], outcome: Outcome | None = None
) -> tuple[Summary, Summary, Summary]:
    """Return what makes a row of the HParams tab; arguments as for :meth:`HistoryWriter.write_hparams`."""
    plain = {
        name: value if type(value) in (int, float, str) else str(value)
        for name, value in settings.items()
        if value is not None
    }
    choices = {}
    if outcome is not None:
        plain["outcome"] = str(outcome)
        choices["outcome"] = [str(each) for each in Outcome]
    # TensorBoard takes the columns of the whole tab from any one run, so each run announces those of all.
    announced = {f"final/{name}": 0.0 for name in dict.fromkeys([*RESULTS, *results])}
    experiment, start, end = hparams_summaries(plain, announced, choices)
    return _with_shown_columns(experiment), start, _with_status(end, outcome)


def _with_shown_columns(experiment: Summary) -> Summary:
    """Mark the settings that runs usually differ in: TensorBoard shows these columns first, the others on request."""
    metadata = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(metadata.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in SHOWN_SETTINGS
    metadata.content = content.SerializeToString()
    return experiment


def _with_status(end: Summary, outcome: Outcome | None) -> Summary:
    """Tell TensorBoard, which can leave out what failed, how a run ended."""
    metadata = end.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(metadata.content)
    failed = outcome in (Outcome.DIVERGED, Outcome.INTERRUPTED)
    content.session_end_info.status = STATUS_FAILURE if failed else STATUS_SUCCESS
    metadata.content = content.SerializeToString()
    return end


def _events_of_others(directory: Path, before: int) -> Iterator[Event]:
    """Yield what other callbacks and the user's code logged in a run before an update, from all its event files."""
    for path in sorted(directory.glob(EVENTS)):
        if not path.is_file():  # a pipe would be waited for without end
            warnings.warn(f"{path} is left out, because it is no file", DataWarning, stacklevel=2)
            continue
        try:
            for event in LegacyEventFileLoader(str(path)).Load():  # it ends where a file is truncated
                foreign = [value for value in event.summary.value if not value.tag.startswith(_OWN_TAGS)]
                if foreign and event.step < before:
                    yield Event(wall_time=event.wall_time, step=event.step, summary=Summary(value=foreign))
        except Exception as error:  # whatever a damaged file makes the reader stumble on
            warnings.warn(f"{path} is left out, because of {first_line(error)}", DataWarning, stacklevel=2)
