"""Scalars of many steps as records of an event file at once (layer 3).

For each event, TensorBoard's own writer makes a message, a checksum in a loop over its bytes and a write that opens the
file, in a thread that the training waits for. A history has thousands of events. Here the events of many steps are rows
of one array, and their checksums are sums over its columns.
"""

from __future__ import annotations

import functools
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

_Bytes = NDArray[np.uint8]
_Checksums = NDArray[np.uint32]

_AT_ONCE = 2**18  # bytes at a time, for whose checksums twelve times the memory is needed
# Bytes of a record before its data (length, checksum of the length), and after them (checksum).
_HEADER, _FOOTER = (12, 4)
_TIME = slice(1, 9)  # position of the wall time in an event
_BEHIND_TIME = 10  # position of the step in an event, if it is not 0


class Scalars(NamedTuple):
    """Values at one step.

    Args:
        tags: The tags.
        values: A value for each tag.
        step: The step, 0 or above.
        wall_time: Seconds since the epoch.
    """

    tags: tuple[str, ...]
    values: Sequence[float]
    step: int
    wall_time: float


def add_scalars(writer: EventFileWriter, scalars: Sequence[Scalars]) -> None:
    """Write scalars after the events that have been added to an event file.

    Args:
        writer: The writer of the event file.
        scalars: The scalars to write, in this order.
    """
    asynchronous = writer._async_writer
    with asynchronous._lock:
        asynchronous._byte_queue.join()
        asynchronous._check_worker_status()
        for records in _records(scalars):
            asynchronous._writer._writer.write(records)


def _records(scalars: Sequence[Scalars]) -> Iterator[bytes]:
    """Yield records, each the length of an ``Event``, its bytes and checksums, in pieces of some memory."""
    layouts = [_layout(each.tags, _varint_bytes(each.step)) for each in scalars]
    longest = max((len(layout.template) for layout in layouts), default=1)
    at_once = max(1, _AT_ONCE // longest)
    for start in range(0, len(scalars), at_once):
        piece = slice(start, start + at_once)
        yield _records_of(scalars[piece], layouts[piece])


class _Layout(NamedTuple):
    """The bytes of an event with some tags, with zeros for what differs between steps.

    Args:
        template: The bytes, shape (bytes,).
        step_bytes: Number of bytes of the step; 0 of step 0, which an event leaves out.
        values: Positions of the values, shape (tags, 4).
        header: The bytes of a record before these.
    """

    template: _Bytes
    step_bytes: int
    values: NDArray[np.int64]
    header: _Bytes


@functools.lru_cache(256)
def _layout(tags: tuple[str, ...], step_bytes: int) -> _Layout:
    values = [Summary.Value(tag=tag, simple_value=0.0) for tag in tags]
    step = 2 ** (7 * (step_bytes - 1)) if step_bytes else 0
    event = Event(wall_time=1.0, step=step, summary=Summary(value=values)).SerializeToString()
    sizes = [Summary(value=[value]).ByteSize() for value in values]
    # The value of a tag is the last part of its summary.
    ends = len(event) - sum(sizes) + np.cumsum(sizes, dtype=np.int64)
    length = struct.pack("<Q", len(event))
    header = _as_bytes(length + struct.pack("<I", int(_masked(_checksums(_as_bytes(length)[None]))[0])))
    return _Layout(_as_bytes(event), step_bytes, ends[:, None] + np.arange(-4, 0), header)


def _as_bytes(content: bytes) -> _Bytes:
    return np.frombuffer(content, np.uint8)


def _varint_bytes(number: int) -> int:
    """Return how many bytes a number takes, of which each holds seven bits."""
    return (number.bit_length() + 6) // 7


def _records_of(scalars: Sequence[Scalars], layouts: Sequence[_Layout]) -> bytes:
    of_layouts: dict[int, list[int]] = defaultdict(list)
    for i, layout in enumerate(layouts):
        of_layouts[id(layout)].append(i)
    width = _HEADER + max(len(layout.template) for layout in layouts)
    # Records are aligned to the right: checksums ignore leading zeros.
    records = np.zeros((len(scalars), width), np.uint8)
    starts = np.empty(len(scalars), np.int64)
    checksums = np.empty(len(scalars), np.uint32)
    for numbers in of_layouts.values():
        layout = layouts[numbers[0]]
        data = _filled(layout, [scalars[i] for i in numbers])
        start = width - data.shape[1]
        records[numbers, start:] = data
        records[numbers, start - _HEADER : start] = layout.header
        checksums[numbers] = _checksums(data)
        starts[numbers] = start - _HEADER
    footers = _masked(checksums).astype("<u4")[:, None].view(np.uint8)
    is_record = np.arange(width + _FOOTER) >= starts[:, None]
    return np.hstack([records, footers])[is_record].tobytes()


def _filled(layout: _Layout, scalars: Sequence[Scalars]) -> _Bytes:
    """Return the bytes of events of a layout, shape (events, bytes)."""
    events = np.tile(layout.template, (len(scalars), 1))
    events[:, _TIME] = np.array([each.wall_time for each in scalars], "<f8")[:, None].view(np.uint8)
    steps = np.array([each.step for each in scalars], np.int64)
    for i in range(layout.step_bytes):
        goes_on = 0x80 if i + 1 < layout.step_bytes else 0
        events[:, _BEHIND_TIME + i] = steps >> 7 * i & 0x7F | goes_on
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite
        values = np.array([each.values for each in scalars], np.float64).astype("<f4")
    events[:, layout.values] = values.view(np.uint8).reshape(*values.shape, 4)
    return events


def _masked(checksums: _Checksums) -> _Checksums:
    """Return checksums as records keep them: https://www.tensorflow.org/tutorials/load_data/tfrecord."""
    masked: _Checksums = (checksums >> 15 | checksums << 17) + np.uint32(0xA282EAD8)
    return masked


def _checksums(data: _Bytes) -> _Checksums:
    """Return the CRC-32C of rows of bytes, shape (rows,).

    That of a row is a sum modulo 2, to which each byte adds what follows from its value and from the number of bytes
    behind it, with the first four bytes and the sum inverted.

    Args:
        data: Shape (rows, bytes), of at least four bytes.
    """
    length = data.shape[1]
    table = _table(2 ** (length - 1).bit_length())[:length]
    inverted = data ^ np.where(np.arange(length) < 4, 0xFF, 0).astype(np.uint8)
    parts = table[np.arange(length - 1, -1, -1), inverted]
    checksums: _Checksums = ~np.bitwise_xor.reduce(parts, axis=1)
    return checksums


@functools.lru_cache(2)
def _table(length: int) -> NDArray[np.uint32]:
    """Return the share of a byte in a checksum, by the number of bytes after it, shape (length, 256)."""
    of_last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        of_last = of_last >> 1 ^ np.where(of_last & 1, np.uint32(0x82F63B78), np.uint32(0))
    table = np.empty((length, 256), np.uint32)
    table[0] = of_last
    for i in range(1, length):
        table[i] = of_last[table[i - 1] & 0xFF] ^ table[i - 1] >> 8
    return table
