"""TensorBoard runs with mean and standard deviation of each group of runs (layer 3).

- ``samples/train_loss_mean``, ``..._deviation`` (of several runs as a sample: n - 1), ``..._lower`` and
  ``..._upper``, and so on for each axis and for ``val_loss``: the same tags in every group, so that groups overlay in
  every tab;
- ``groups/LABEL/samples/train_loss_mean``, ``..._lower`` and ``..._upper``: the same values again under tags of the
  group's own, because a chart of the Custom Scalars tab can pick tags but no runs.

The Custom Scalars tab shows them by a layout. TensorBoard opens Time Series first whatever is in a log directory; the
address that opens Custom Scalars ends with ``#custom_scalars``.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
    MultilineChartContent,
)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from gd_lightning.records.groups import Group, Values
from gd_lightning.tracking.run_directory import first_free, portable_name
from gd_lightning.tracking.tensorboard.scalar_records import Scalars, add_scalars
from gd_lightning.tracking.thinned_rows import POINTS

AGGREGATE = "aggregate"
AGGREGATE_ENDING = ".aggregate"
"""How the names of the event files end that summarise several runs, and are not runs themselves."""

_VIEWS = "views/"  # the family of pictures: families are shown by the alphabet, and curves are to come first
_FAMILIES = {"epochs": "epoch", "updates": "update", "samples": "samples", "microseconds": "seconds"}
_COLUMNS = ("train_loss", "val_loss")
_LONGEST_NAME = 100  # maximum number of characters of a name; file systems allow 255 bytes


@dataclass(frozen=True)
class _Series:
    """Mean and deviation of a measure against an axis, thinned, each array of shape (points,)."""

    family: str
    column: str
    steps: NDArray[np.int64]
    seconds: Values
    mean: Values
    std: Values

    @property
    def tag(self) -> str:
        return f"{self.family}/{self.column}"


def image_of(tag: str, png: bytes) -> Summary:
    """Return what makes the Images tab show a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=f"{_VIEWS}{tag}", image=image)])


def write_aggregate(directory: Path, groups: Sequence[Group], others: Sequence[Summary] = ()) -> None:
    """Write mean and deviation of each group, and a layout of the Custom Scalars tab, in the place of former ones.

    A group that has nothing to average, as where all of its runs diverged, gets no run.

    Args:
        directory: The log directory of the comparison. The layout is written here, because TensorBoard shows first the
            layout of the run whose name sorts first; the runs of the groups are ``aggregate/LABEL`` below it.
        groups: The groups that are compared.
        others: Summaries of all groups together, such as a picture.
    """
    places = directory, *(directory / AGGREGATE).glob("*")
    former = [path for place in places for path in place.glob(f"*tfevents*{AGGREGATE_ENDING}")]
    now = time.time()
    series = {group.label: list(_series_of(group)) for group in groups}
    drawn = {label: each for label, each in series.items() if each}
    for label, name in zip(drawn, _directory_names(drawn), strict=True):
        with _event_file(directory / AGGREGATE / name) as writer:
            add_scalars(writer, list(_scalars_of(label, drawn[label], now)))
    if shared := [*([_layout(drawn)] if drawn else []), *others]:
        with _event_file(directory) as writer:
            for summary in shared:
                writer.add_event(Event(wall_time=now, summary=summary))
    for path in former:  # removed last, so that at every moment there are files
        path.unlink()
        if path.parent != directory:
            with suppress(OSError):  # the directory contains another file
                path.parent.rmdir()


def _directory_names(labels: Iterable[str]) -> list[str]:
    """Return a name for each label that every file system allows and tells from the others."""
    names: list[str] = []
    for label in labels:
        plain = portable_name(label[:_LONGEST_NAME], "group")
        names.append(first_free(plain, lambda name: name.casefold() in map(str.casefold, names)))
    return names


def _series_of(group: Group) -> Iterator[_Series]:
    for column in _COLUMNS:
        seconds = group.band(column, "seconds").x
        for family, axis in _FAMILIES.items():
            band = group.band(column, axis)
            at = band.x * 1e6 if family == "microseconds" else band.x
            points = _points_at(at, whole=family == "epochs")
            if len(points):
                steps = np.round(at[points]).astype(np.int64)
                passed = np.nan_to_num(seconds[points])
                yield _Series(family, column, steps, passed, band.mean[points], band.std[points])


def _points_at(at: Values, whole: bool) -> NDArray[np.int64]:
    """Choose which points are written, at most ``POINTS`` of them, the first and the last among them.

    Args:
        at: Positions of the points on an axis, shape (n,).
        whole: Choose among those at whole numbers.
    """
    points = np.flatnonzero(np.isfinite(at) & (at == np.round(at)) if whole else np.isfinite(at))
    steps = np.round(at[points])
    # If a step is not above all earlier ones, TensorBoard drops those; mean seconds fall where a slow run ends.
    points = points[steps > np.maximum.accumulate(np.concatenate([[-1.0], steps]))[:-1]]
    chosen: NDArray[np.int64] = points[np.linspace(0, len(points) - 1, min(len(points), POINTS)).round().astype(int)]
    return chosen


def _own_tag(label: str, tag: str) -> str:
    return f"groups/{label}/{tag}"


def _scalars_of(label: str, series: Iterable[_Series], start: float) -> Iterator[Scalars]:
    for each in series:
        own = _own_tag(label, each.tag)
        for step, seconds, mean, std in zip(each.steps, each.seconds, each.mean, each.std, strict=True):
            half = 0.0 if math.isnan(std) else std  # with a single run, the band has no width
            band = {"mean": mean, "lower": mean - half, "upper": mean + half}
            values = {f"{tag}_{name}": value for tag in (each.tag, own) for name, value in band.items()}
            if not math.isnan(std):
                values[f"{each.tag}_deviation"] = std
            yield Scalars(tuple(values), tuple(values.values()), int(step), start + seconds)


@contextmanager
def _event_file(directory: Path) -> Iterator[EventFileWriter]:
    """Yield the writer of a new event file in a directory."""
    with closing(EventFileWriter(str(directory), filename_suffix=AGGREGATE_ENDING)) as writer:
        # This event makes a running TensorBoard forget what it has read from the former files.
        writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)))
        yield writer


def _layout(drawn: dict[str, list[_Series]]) -> Summary:
    """Return the layout of the Custom Scalars tab: first and open what overlays the groups, then each group alone."""
    tags = dict.fromkeys(each.tag for series in drawn.values() for each in series)
    categories: list[Category] = []
    for column in _COLUMNS:
        there = [tag for tag in tags if tag.endswith(f"/{column}")]
        charts = [*(_line_chart(tag) for tag in there), *(_band_chart(tag, tag) for tag in there)]
        if charts:
            title = f"{_words(column)}, all variants"
            categories.append(Category(title=title, chart=charts, closed=bool(categories)))
    for label, series in drawn.items():
        charts = [_band_chart(each.tag, _own_tag(label, each.tag)) for each in series]
        categories.append(Category(title=label, chart=charts, closed=True))
    content = TensorProto(
        dtype="DT_STRING", string_val=[Layout(category=categories).SerializeToString()], tensor_shape=TensorShapeProto()
    )
    about = metadata.create_summary_metadata()
    return Summary(value=[Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, tensor=content, metadata=about)])


def _line_chart(tag: str) -> Chart:
    return Chart(title=f"{_title(tag)}: mean", multiline=MultilineChartContent(tag=[f"{tag}_mean$"]))


def _band_chart(title_of: str, tag: str) -> Chart:
    series = MarginChartContent.Series(value=f"{tag}_mean", lower=f"{tag}_lower", upper=f"{tag}_upper")
    # Each chart has one series: TensorBoard shows an error for a series that only some runs have.
    return Chart(title=f"{_title(title_of)}: mean ± std", margin=MarginChartContent(series=[series]))


def _title(tag: str) -> str:
    family, _, column = tag.partition("/")
    return f"{_words(column)} against {family}"


def _words(column: str) -> str:
    return column.replace("_", " ")
