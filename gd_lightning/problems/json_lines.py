"""Reading tables from files with a JSON object in each line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from gd_lightning.errors import first_line
from gd_lightning.problems.compressed_files import open_binary
from gd_lightning.problems.file_errors import unreadable
from gd_lightning.problems.named_columns import ArrowColumns, NamedColumns

_LONG = re.compile(rb"[:\s]-?[0-9]{16,}[\s,}]")  # a whole number that may be beyond float64
_NEXT = re.compile(r"\S")  # where an object begins
_DIGITS = 76  # maximum number of digits of a decimal number of Arrow


def json_lines(path: Path) -> NamedColumns:
    """Return the columns of a file with a JSON object in each line; it is read into memory.

    Raises:
        InputError: A line is no such object, or a column has values of two kinds.
    """
    from pyarrow import json as reader

    with open_binary(path) as file:
        content = file.read()
    try:
        table = reader.read_json(pa.BufferReader(content))
    except pa.ArrowInvalid:
        # pyarrow counts rows from 0 in each block, so the file is read as one block.
        whole = reader.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**31 - 1))
        try:
            table = reader.read_json(pa.BufferReader(content), whole)
        except pa.ArrowInvalid as error:
            said = re.sub(r"in row (\d+)", lambda found: f"in row {int(found[1]) + 1}", first_line(error))
            raise unreadable(path, said) from error
    if any(pa.types.is_floating(field.type) for field in table.schema) and _LONG.search(content):
        table = _with_whole_numbers(path, table, content)
    return ArrowColumns(str(path), table)


def _with_whole_numbers(path: Path, table: pa.Table, content: bytes) -> pa.Table:
    """Return a table with decimal numbers where pyarrow has rounded whole numbers.

    That happens beyond 63 bits, and if other numbers of the column are fractions.

    Raises:
        InputError: A number has more digits than a decimal number of Arrow.
    """
    try:
        rows = list(_objects(content.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise unreadable(path, first_line(error)) from error
    for at, field in enumerate(table.schema):
        values = [row.get(field.name) for row in rows] if pa.types.is_floating(field.type) else []
        if not any(map(_is_rounded, values)):
            continue
        for row, value in enumerate(values):
            if value is not None and value.adjusted() >= _DIGITS:
                raise unreadable(path, f"a number of column {field.name!r} has over {_DIGITS} digits in row {row + 1}")
        # Fractions beside such a number are of no use.
        whole = [None if value is None else Decimal(int(value)) for value in values]
        table = table.set_column(at, field.name, pa.array(whole, pa.decimal256(_DIGITS, 0)))
    return table


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a text, whose numbers are decimal ones."""
    numbers: dict[str, Any] = {"parse_int": Decimal, "parse_float": Decimal, "parse_constant": lambda _: None}
    decoder, at = json.JSONDecoder(**numbers, strict=False), 0
    while begins := _NEXT.search(text, at):
        found, at = decoder.raw_decode(text, begins.start())
        yield found


def _is_rounded(value: object) -> bool:
    """Whether a number is written as a whole one, and float64 has another one beside it."""
    if not isinstance(value, Decimal) or value.as_tuple().exponent != 0:
        return False
    return math.isfinite(float(value)) and value != Decimal(float(value))
