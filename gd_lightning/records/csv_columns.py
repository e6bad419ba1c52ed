"""Writing and reading columns of numbers as CSV (layer 0)."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.escaping import csv_text, from_cell
from gd_lightning.records.columns import Column


def to_csv(columns: Mapping[str, Column], rows: int, at_once: int) -> Iterator[str]:
    """Yield columns as CSV, in pieces: a header, then one line per row; a missing value is an empty cell.

    Args:
        columns: The columns by their names.
        rows: Number of rows.
        at_once: Number of rows that are turned into text at a time.
    """
    yield csv_text([list(columns)])
    for start in range(0, rows, at_once):
        numbers = np.arange(start, min(start + at_once, rows))
        cells = [_cells(*column.find(numbers), len(numbers)) for column in columns.values()]
        yield "\n".join([*map(",".join, zip(*cells, strict=True)), ""])


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


def _cells(places: NDArray[np.int64], values: NDArray[np.float64], rows: int) -> list[str]:
    """Write a column of some rows; empty where there is no value."""
    texts = _texts(values)
    if len(texts) == rows:
        return texts
    cells = [""] * rows
    for place, text in zip(places.tolist(), texts, strict=True):
        cells[place] = text
    return cells


def _texts(values: NDArray[np.float64]) -> list[str]:
    """Write numbers, whole ones without a point."""
    is_whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 1e15)
    whole = list(map(str, values[is_whole].astype(np.int64).tolist()))
    if len(whole) == len(values):
        return whole
    if (values == values[0]).all():  # such as a learning rate
        return [repr(float(values[0]))] * len(values)
    texts = list(map(repr, values.tolist()))
    for i, text in zip(np.flatnonzero(is_whole).tolist(), whole, strict=True):
        texts[i] = text
    return texts
