"""Writing and reading columns of numbers as CSV (layer 0)."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.escaping import csv_text, from_cell
from gd_lightning.records.columns import Column
from gd_lightning.records.decimal_texts import WIDTH, cells

_CELLS_AT_ONCE = 32768  # whose arrays stay in the cache of a processor


def to_csv(columns: Mapping[str, Column], rows: int, at_once: int) -> Iterator[str]:
    """Yield columns as CSV, in pieces: a header, then one line per row; a missing value is an empty cell.

    Args:
        columns: The columns by their names.
        rows: Number of rows.
        at_once: Number of rows that are turned into text at a time.
    """
    yield csv_text([list(columns)])
    at_once = max(1, min(at_once, _CELLS_AT_ONCE // max(1, len(columns))))
    for start in range(0, rows, at_once):
        numbers = np.arange(start, min(start + at_once, rows))
        found = [column.find(numbers) for column in columns.values()]
        places = [rows_of_column * len(columns) + i for i, (rows_of_column, _) in enumerate(found)]
        texts = np.zeros((len(numbers) * len(columns), WIDTH + 1), np.uint8)
        texts[np.concatenate(places), :WIDTH] = cells(np.concatenate([values for _, values in found]))
        texts[:, WIDTH] = ord(",")
        texts[len(columns) - 1 :: len(columns), WIDTH] = ord("\n")
        yield texts.tobytes().translate(None, b"\0").decode("ascii")


def read_csv(path: Path, needed: Collection[str]) -> tuple[dict[str, Column], int]:
    """Read columns written by :func:`to_csv`; return them by their names, and the number of rows.

    Args:
        path: The file.
        needed: The columns that have a value in every row.

    Raises:
        InputError: The file is not such a table.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        header, *rows = [row for row in csv.reader(lines) if row] or [[]]
    names = list(map(from_cell, header))
    of_columns = itertools.zip_longest(*rows, fillvalue="") if rows else ((),) * len(names)
    try:
        columns = {name: _column(cells) for name, cells in zip(names, of_columns, strict=True)}
        if rows and any(name not in columns or len(columns[name]) < len(rows) for name in needed):
            raise ValueError
    except ValueError:
        # Lines may be shorter than the header, but not all of them.
        number, reason = next(_unreadable(names, rows, needed), (1, "it names more columns than any line has cells"))
        raise InputError(f"cannot read a history from {path}, because of line {number}: {reason}") from None
    return columns, len(rows)


def _column(cells: Sequence[str]) -> Column:
    """Read a column; an empty cell has no value."""
    rows = np.flatnonzero([bool(cell) for cell in cells])
    return Column(rows, np.array([float(cell) for cell in cells if cell]))


def _unreadable(
    names: Sequence[str], rows: Sequence[Sequence[str]], needed: Iterable[str]
) -> Iterator[tuple[int, str]]:
    """Yield the lines of a table that cannot be read, each with the reason."""
    for number, row in enumerate(rows, start=2):
        if len(row) > len(names):
            yield number, "it has more cells than there are columns"
        given = {name: cell for name, cell in zip(names, row, strict=False) if cell}
        for cell in given.values():
            try:
                float(cell)
            except ValueError as error:
                yield number, str(error)
        yield from ((number, f"{name} is missing") for name in needed if name not in given)
