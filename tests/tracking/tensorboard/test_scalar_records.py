"""Scalars that are written at once are, byte for byte, the events that TensorBoard's own writer makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from gd_lightning.tracking.tensorboard import scalar_records
from gd_lightning.tracking.tensorboard.scalar_records import Scalars, add_scalars
from tests.selection import every

EDGES = [0, 1, 127, 128, 16_383, 16_384, 2**21, 2**28 - 1, 2**35, 2**62]  # where a step takes one byte more
VALUES = [0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 0.1, float(np.float32(1) / 3)]


def _drawn(seed: int) -> Iterator[Scalars]:
    """Yield scalars of few and of many tags, of any length and letters, at steps and times of any size."""
    generator = np.random.default_rng(seed)
    sets = [
        tuple(f"{letters}/{'x' * int(generator.integers(1, 300))}" for letters in ("updates", "säule", "列")[:tags])
        for tags in (1, 2, 3)
    ]
    sets.append(tuple(f"epochs/weight_{i}" for i in range(200)))
    for _ in range(150):
        tags = sets[generator.integers(len(sets))]
        step = int(generator.choice(EDGES)) + int(generator.integers(2))
        values = generator.choice(VALUES, len(tags)).tolist()
        yield Scalars(tags, values, step, float(generator.uniform(1e-3, 4e9)))


def _events(path: Path) -> bytes:
    """Return an event file without its first event, which has the time at which it was made."""
    content = path.read_bytes()
    return content[12 + int.from_bytes(content[:8], "little") + 4 :]


def _by_tensorboard(directory: Path, scalars: list[Scalars]) -> bytes:
    with closing(EventFileWriter(str(directory))) as writer:
        for each in scalars:
            values = [Summary.Value(tag=tag, simple_value=v) for tag, v in zip(each.tags, each.values, strict=True)]
            writer.add_event(Event(wall_time=each.wall_time, step=each.step, summary=Summary(value=values)))
    (path,) = directory.iterdir()
    return _events(path)


@pytest.mark.parametrize("at_once", [1, 5_000, 2**18])
@pytest.mark.parametrize("seed", every(3, range(3)))
def test_the_bytes_are_those_of_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, at_once: int
) -> None:
    monkeypatch.setattr(scalar_records, "_AT_ONCE", at_once)
    scalars = list(_drawn(seed))
    with closing(EventFileWriter(str(tmp_path / "ours"))) as writer:
        add_scalars(writer, scalars)
        add_scalars(writer, [])
    (path,) = (tmp_path / "ours").iterdir()
    assert _events(path) == _by_tensorboard(tmp_path / "theirs", scalars)


def test_they_stand_between_the_events_that_were_added_before_and_later(tmp_path: Path) -> None:
    first, second, third = ([Scalars((f"{name}/loss",), [1.0], step, 1.0) for step in range(30)] for name in "abc")
    with closing(EventFileWriter(str(tmp_path / "ours"))) as writer:
        for scalars in (first, third):
            for each in scalars:
                values = [Summary.Value(tag=each.tags[0], simple_value=1.0)]
                writer.add_event(Event(wall_time=1.0, step=each.step, summary=Summary(value=values)))
            if scalars is first:
                add_scalars(writer, second)
    (path,) = (tmp_path / "ours").iterdir()
    assert _events(path) == _by_tensorboard(tmp_path / "theirs", [*first, *second, *third])
