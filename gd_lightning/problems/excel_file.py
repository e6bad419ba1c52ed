"""The columns of an Excel workbook."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa

from gd_lightning.errors import InputError
from gd_lightning.problems.csv_dialect import names_of
from gd_lightning.problems.named_columns import ArrowColumns, NamedColumns


def excel_sheet(path: Path) -> NamedColumns:
    """Return the columns of the first sheet of an Excel workbook; it is read into memory.

    Raises:
        InputError: openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise InputError(
            f"cannot read {path} without openpyxl; install it with: pip install 'gd-lightning[xlsx]'"
        ) from None
    book = load_workbook(path, read_only=True, data_only=True)
    try:
        rows = [[_cell(value) for value in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    finally:
        book.close()
    rows = [row for row in rows if any(row)]
    width = max((i + 1 for row in rows for i, cell in enumerate(row) if cell), default=0)
    rows = [[*row, *[""] * width][:width] for row in rows]
    names = names_of(rows, str(path), None, is_bare=False) if rows else []
    table = rows if names is None else rows[1:]
    header = [str(i) for i in range(width)] if names is None else names
    columns = [pa.array([row[i] for row in table], pa.string()) for i in range(width)]
    return ArrowColumns(str(path), pa.table(columns, header), decimal=".")


def _cell(value: object) -> str:
    """Return a cell as text, as in a CSV file."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    return "" if value is None else str(value)
