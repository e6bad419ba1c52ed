"""Writing many settings to TensorBoard's HParams tab, one small event file each (layer 3)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from gd_lightning.records.history import Outcome
from gd_lightning.tracking.tensorboard import hparams_of
from gd_lightning.tracking.tensorboard_groups import AGGREGATE_ENDING

MOST_SETTINGS = 500
"""TensorBoard takes seconds to read as many, and nobody reads more."""

Settings = tuple[str, Mapping[str, Any], Mapping[str, float], Outcome]


def write_settings(directory: Path, settings: Iterable[Settings]) -> None:
    """Write a row of the HParams tab for each setting, with its results, each also a scalar ``final/...``.

    Args:
        directory: Where a directory for each setting is made.
        settings: Of each its name, its values, its results, and how its runs ended.
    """
    now = time.time()
    for i, (name, values, results, outcome) in enumerate(settings):
        place = directory / re.sub(r"[^A-Za-z0-9.+-]+", "_", name)
        place.mkdir(parents=True, exist_ok=True)
        scalars = Summary(value=[Summary.Value(tag=f"final/{key}", simple_value=each) for key, each in results.items()])
        columns, *row = hparams_of(values, results, outcome)
        summaries = [*row, scalars] if i else [columns, *row, scalars]  # TensorBoard finds the columns in any one run
        # A writer of TensorBoard's own starts a thread for each file.
        with (place / f"events.out.tfevents.{int(now)}{AGGREGATE_ENDING}").open("wb") as file:
            records = RecordWriter(file)
            records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
            for summary in summaries:
                records.write(Event(wall_time=now, summary=summary).SerializeToString())
            records.flush()
