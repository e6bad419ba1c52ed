"""Rows of TensorBoard's HParams tab: of a run, and of the many settings of a sweep (layer 3)."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_STRING, STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from gd_lightning.records.history import Outcome
from gd_lightning.tracking.tensorboard.groups_of_runs import AGGREGATE_ENDING

_USUAL = ("batch_size", "lr", "outcome", "seed", "problem")
_SHOWN_AT_FIRST = 5  # columns that are shown at first: of more, TensorBoard takes the first in alphabetical order
RESULTS = (
    *("train_loss", "val_loss", "val_mse", "val_mae", "val_r2"),
    *("distance_to_least_squares", "updates", "samples", "seconds"),
)
MOST_SETTINGS = 500
"""TensorBoard takes seconds to read as many, and nobody reads more."""

Settings = tuple[str, Mapping[str, Any], Mapping[str, float], Outcome]


def write_settings(
    directory: Path, settings: Iterable[Settings], others: Iterable[Summary] = (), varied: Iterable[str] = ()
) -> None:
    """Write a row of the HParams tab for each setting, with its results, each also a scalar ``final/...``.

    Args:
        directory: The parent of the directories of the settings.
        settings: Name, values and results of each setting, and how its runs ended.
        others: Summaries of all settings together, such as a picture.
        varied: Names of the values that differ between the settings.
    """
    now, varied = time.time(), list(varied)
    _write(directory, now, others)
    for i, (name, values, results, outcome) in enumerate(settings):
        place = directory / re.sub(r"[^A-Za-z0-9.+-]+", "_", name)
        scalars = Summary(value=[Summary.Value(tag=f"final/{key}", simple_value=each) for key, each in results.items()])
        columns, *row = hparams_of(values, results, outcome, varied)
        summaries = [*row, scalars] if i else [columns, *row, scalars]  # TensorBoard needs the columns in one run only
        _write(place, now, summaries)


def _write(directory: Path, now: float, summaries: Iterable[Summary]) -> None:
    """Write an event file; a writer of TensorBoard's own starts a thread for each."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"events.out.tfevents.{int(now)}{AGGREGATE_ENDING}").open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            records.write(Event(wall_time=now, summary=summary).SerializeToString())
        records.flush()


def columns_of(settings: Mapping[str, Any], varied: Iterable[str]) -> Summary:
    """Return what makes the HParams tab show the settings that were varied, of several runs that are read together.

    Args:
        settings: The settings of a run, by the full names of the options.
        varied: The full names of those that differ between runs.
    """
    named, names = named_as_settings(settings), list(named_as_settings(dict.fromkeys(varied)))
    experiment, *_ = hparams_of({**dict.fromkeys([*_USUAL, *names]), **named}, {}, Outcome.COMPLETED, names)
    return experiment


def named_as_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by what they are called among the settings of a run.

    Example:
        >>> named_as_settings({"model.momentum": 0.9, "data.problem.init_args.noise": 1.0, "data.seed": 1})
        {'momentum': 0.9, 'problem.noise': 1.0, 'data_seed': 1}
    """
    return {_own_name(name): value for name, value in options.items()}


def _own_name(option: str) -> str:
    if option == "data.seed":
        return "data_seed"
    return option.removeprefix("data.").removeprefix("model.").replace(".init_args.", ".")


def hparams_of(
    settings: Mapping[str, Any],
    results: Mapping[str, float],
    outcome: Outcome | None = None,
    varied: Collection[str] = (),
) -> tuple[Summary, Summary, Summary]:
    """Return what makes a row of the HParams tab; arguments as for :meth:`HistoryWriter.write_hparams`.

    TensorBoard takes the columns of the whole tab from any one of the runs, and not always from the same. So each
    run announces those of all: also settings that it does not have itself.
    """
    plain = {
        name: value if type(value) in (int, float, str) else str(value)
        for name, value in settings.items()
        if value is not None
    }
    choices = {}
    if outcome is not None:
        plain["outcome"] = str(outcome)
        choices["outcome"] = [str(each) for each in Outcome]
    announced = {f"final/{name}": 0.0 for name in dict.fromkeys([*RESULTS, *results])}
    experiment, start, end = hparams_summaries(plain, announced, choices)
    return _with_columns(experiment, settings, varied), start, _with_status(end, outcome)


def _with_columns(experiment: Summary, settings: Collection[str], varied: Collection[str]) -> Summary:
    """Add columns of settings without a value, and mark what was varied, and what runs usually differ in.

    TensorBoard shows the marked columns first, the others on request.
    """
    metadata = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(metadata.content)
    infos = content.experiment.hparam_infos
    there = {info.name for info in infos}
    for name in dict.fromkeys([*settings, *varied]):
        if name not in there:
            infos.add(name=name, type=DATA_TYPE_STRING)
    shown = list(dict.fromkeys([*varied, *_USUAL]))[: max(_SHOWN_AT_FIRST, len(varied))]
    for info in infos:
        info.differs = info.name in shown
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
