"""Writing the history of a run to TensorBoard: each quantity against each axis, in a tag family per axis.

TensorBoard draws against one integer step, and cannot name it. So the axis is the first part of the tag, and runs of
different batch sizes overlay in the family of the axis that they are to be compared on:

- ``updates/...``, ``samples/...``: the number of optimiser steps, or of training samples consumed;
- ``epochs/...``: whole epochs, for what is measured at their ends;
- ``microseconds/...``: training time; the *relative* axis of the other families is training time as well.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.writer import SummaryWriter

from gd_lightning.errors import DataWarning, first_line
from gd_lightning.records.axes import AXES
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_directory import EVENTS
from gd_lightning.tracking.tensorboard.custom_scalars import LAYOUT
from gd_lightning.tracking.tensorboard.hparams import hparams_of
from gd_lightning.tracking.tensorboard.scalar_records import Scalars, add_scalars
from gd_lightning.tracking.thinned_rows import LoggedRows

_OWN_TAGS = ("updates/", "samples/", "epochs/", "microseconds/", "final/", "run card/", "_hparams_/")


class HistoryWriter:
    """Writes the rows of a growing history to event files, each row once.

    Args:
        writer: The writer of the event file.
        started: Wall-clock time at which training began, in seconds since the epoch.
        updates: Expected number of updates, from which it follows how many rows are left out; infinite where it is not
            known: then more are left out the further a run gets, so that there are 500 for each doubling of its length.
        epochs: Expected number of epochs; infinite where nothing limits it.
    """

    def __init__(self, writer: SummaryWriter, started: float, updates: float, epochs: float) -> None:
        self._writer, self._started = writer, started
        self.rows = LoggedRows(updates, epochs)
        """Which rows are written."""
        self._has_layout = False

    def write_new(self, history: History, to_the_end: bool = False) -> None:
        """Write the rows that came since the last call: at most 500 updates and 500 ends of epochs, if they are known.

        Args:
            history: The growing history.
            to_the_end: Write the newest row in any case; it is the last one.
        """
        if not self._has_layout and len(history):
            self._writer.add_custom_scalars(LAYOUT)
            self._has_layout = True
        scalars = [each for row in self.rows.new(history, to_the_end) for each in self._scalars_of(row)]
        add_scalars(self._writer._get_file_writer().event_writer, scalars)

    def begin_again(self, before: int) -> None:
        """Make TensorBoard discard what earlier processes of this run wrote, which is about to be written again.

        The event files may contain points after the checkpoint that is continued from, or lack the newest points. What
        others logged up to there is kept.

        Args:
            before: The update at which the run continues.
        """
        self.flush()
        kept = list(_events_of_others(Path(self._writer.get_logdir()), before))
        file_writer = self._writer._get_file_writer()
        file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=0)
        for event in kept:
            file_writer.add_event(event, step=event.step, walltime=event.wall_time)

    def _scalars_of(self, row: Mapping[str, float]) -> Iterator[Scalars]:
        """Yield what was measured in a row, once for each axis."""
        measured, at = _measured_in(row), self._started + row["seconds"]
        names, values = tuple(measured), tuple(measured.values())
        for axis, step in _steps_of(row).items():
            yield Scalars(_tags(axis, names), values, int(step), at)

    def write_hparams(
        self,
        settings: Mapping[str, Any],
        results: Mapping[str, float],
        outcome: Outcome | None = None,
        varied: Collection[str] = (),
    ) -> None:
        """Fill the HParams tab: a row of settings and final results, each result also a scalar ``final/...``.

        Args:
            settings: The settings of the run.
            results: The results of the run, as numbers.
            outcome: How it ended: TensorBoard's status, and a setting too, for only settings are shown as words.
            varied: Names of settings in which the run differs from others; these columns are shown first.
        """
        for summary in hparams_of(settings, results, outcome, varied):
            self._writer._get_file_writer().add_summary(summary)
        for name, value in results.items():
            self._writer.add_scalar(f"final/{name}", value, 0)

    def write_text(self, tag: str, text: str) -> None:
        """Show Markdown in the Text tab."""
        self._writer.add_text(tag, text, 0)

    def flush(self) -> None:
        """Flush everything to the file system."""
        self._writer.flush()


def _steps_of(row: Mapping[str, float]) -> dict[str, float]:
    """Return the whole number against which TensorBoard draws a row of a history, by axis."""
    steps = {"updates": row["update"], "samples": row["samples"], "microseconds": round(row["seconds"] * 1e6)}
    if row["epoch"] == int(row["epoch"]):
        steps["epochs"] = row["epoch"]
    return steps


def _measured_in(row: Mapping[str, float]) -> dict[str, float]:
    """Return the measurements in a row of a history, by the part of their tags after the axis."""
    return {name: value for name, value in row.items() if name not in AXES and not name.startswith("grad_")}


@functools.lru_cache(64)
def _tags(axis: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{axis}/{name}" for name in names)


def _events_of_others(directory: Path, before: int) -> Iterator[Event]:
    """Yield what other callbacks and the user's code logged in a run before an update, from all its event files."""
    for path in sorted(directory.glob(EVENTS)):
        if not path.is_file():  # reading a pipe could wait for ever
            warnings.warn(f"{path} is left out, because it is not a file", DataWarning, stacklevel=2)
            continue
        try:
            for event in LegacyEventFileLoader(str(path)).Load():  # the loader stops where a file is truncated
                foreign = [value for value in event.summary.value if not value.tag.startswith(_OWN_TAGS)]
                if foreign and event.step < before:
                    yield Event(wall_time=event.wall_time, step=event.step, summary=Summary(value=foreign))
        except Exception as error:  # a damaged file may make the loader raise anything
            warnings.warn(f"{path} is left out, because of {first_line(error)}", DataWarning, stacklevel=2)
