"""Reading columns of numbers from CSV, Parquet, ``.npy`` and ``.npz`` files, of any size.

Files are read block by block. A small table ends in memory. A large one stays in its file (``.npy``), or goes block by
block into a temporary file, and is mapped: the system reads a page when it is used, and takes its memory back when it
needs it. Errors name file, column and line.

Letters: N rows, C columns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.problems.csv_file import CsvFile
from gd_lightning.problems.named_columns import Array, Block, TableFile, explained
from gd_lightning.problems.numpy_files import NpyFile, NpzFile
from gd_lightning.problems.parquet_file import ParquetFile

MAP_ABOVE = 16 * 2**20  # bytes

_FORMATS: dict[str, type[TableFile]] = {".csv": CsvFile, ".parquet": ParquetFile, ".npy": NpyFile, ".npz": NpzFile}


def open_table(path: str | Path) -> TableFile:
    """Open a table; the ending of the file tells its format.

    A CSV file has a header line; ``.npy`` holds an array (N, columns) whose columns are called 0, 1, ...; in ``.npz``
    each array (N,) is a column, and an array ``x`` of shape (N, D) gives the columns x0, x1, ...

    Raises:
        InputError: The file is missing, or not readable as what its ending says.
    """
    path = Path(path)
    table = _FORMATS.get(path.suffix.lower())
    if table is None:
        raise InputError(f"cannot read the table {path}, because its ending is none of {', '.join(_FORMATS)}")
    if "\0" in str(path) or not path.is_file():
        raise InputError(f"cannot read the table {path}, because there is no such file; check the path")
    with explained(path):
        return table(path)


def read_columns(table: TableFile, names: Sequence[str], most: int = MAP_ABOVE) -> Array:
    """Read some columns of finite numbers, into memory where they are few, else mapped.

    Args:
        table: An open table.
        names: Names of the columns, in the order wanted.
        most: The most bytes that are read into memory.

    Returns:
        Shape (N, C), float64, or float32 where a mapped file has it.

    Raises:
        InputError: A column is missing, not numeric, empty, or has a value that is no finite number.
    """
    if repeated := [name for name in names if name in table.repeated]:
        raise InputError(
            f"cannot use column {repeated[0]!r} of {table.path}, because several columns have that name; give each its "
            "own, or choose other columns with features and targets"
        )
    there = set(table.names)
    if missing := [name for name in names if name not in there]:
        shown = ", ".join(table.names[:20]) + (", ..." if len(table.names) > 20 else "")
        raise InputError(
            f"cannot find column {missing[0]!r} in {table.path}, because it has the columns {shown}; correct the name, "
            "or the table"
        )
    with explained(table.path):
        as_it_lies = table.as_it_lies(names, most)
        if as_it_lies is not None:
            for start in range(0, len(as_it_lies), table.rows_at_once):
                _check_finite(as_it_lies[start : start + table.rows_at_once], start, table, names)
            return as_it_lies
        columns = _collect(table, names, most)
    if not len(columns):
        raise InputError(f"cannot read the table {table.path}, because it has no rows")
    return columns


def _collect(table: TableFile, names: Sequence[str], most: int) -> Array:
    """Concatenate the blocks of a table, in memory, or in a temporary file if there are many."""
    waiting: list[Block] = []
    rows, nbytes = 0, 0
    with ExitStack() as stack:
        file = None
        for block in table.blocks(names):
            _check_finite(block, rows, table, names)
            waiting.append(block)
            rows, nbytes = rows + len(block), nbytes + block.nbytes
            if nbytes > most:
                file = file or stack.enter_context(tempfile.TemporaryFile())
                file.write(b"".join(block.tobytes() for block in waiting))
                waiting = []
        if file is None:
            return np.concatenate(waiting) if waiting else np.empty((0, len(names)))
        file.flush()
        # The map holds the file, which has no name any more and is gone with the map.
        return np.memmap(file, np.float64, mode="c", shape=(rows, len(names)))


def _check_finite(block: Array, first: int, table: TableFile, names: Sequence[str]) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"cannot use column {names[column]!r} of {table.path}, because row {first + row + 1} of the data is "
            f"{block[row, column]}; remove or fill the rows that are no finite numbers"
        )
