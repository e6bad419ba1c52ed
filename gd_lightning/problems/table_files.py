"""Reading columns of numbers from files of any size, by the ending of their names.

Files are read block by block. A small table ends in memory. A large one stays in its file (``.npy``), or goes block by
block into a temporary file, and is mapped: the system reads a page when it is used, and takes its memory back when it
needs it. Errors name file, column and line.

Letters: N rows, C columns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.problems.arrow_files import FeatherFile, OrcFile, ParquetFile, ParquetFolder
from gd_lightning.problems.compressed_files import COMPRESSIONS
from gd_lightning.problems.csv_file import CsvFile
from gd_lightning.problems.excel_file import excel_sheet
from gd_lightning.problems.file_errors import explained
from gd_lightning.problems.json_lines import json_lines
from gd_lightning.problems.named_columns import Array, Block, NamedColumns
from gd_lightning.problems.numpy_files import NpyFile, NpzFile
from gd_lightning.problems.table_columns import TableColumns

_TEXTS = (".csv", ".tsv", ".txt", ".data")
_FORMATS: dict[str, Callable[[Path], NamedColumns]] = {
    **dict.fromkeys(_TEXTS, CsvFile),
    ".parquet": ParquetFile,
    ".pq": ParquetFile,
    ".feather": FeatherFile,
    ".arrow": FeatherFile,
    ".orc": OrcFile,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".xlsx": excel_sheet,
    ".npy": NpyFile,
    ".npz": NpzFile,
}


def open_table(path: str | Path, header: bool | None = None) -> NamedColumns:
    """Open a table; the ending of the file tells its format, and a folder holds Parquet files.

    A text file may have a line of names; without one its columns are called 0, 1, ..., as are those of ``.npy``; in
    ``.npz`` each array (N,) is a column, and an array ``x`` of shape (N, D) gives the columns x0, x1, ...

    Args:
        path: The file.
        header: Whether the first line of a text file has the names of columns; None: this is detected.

    Raises:
        InputError: The file is missing, or not readable as what its ending says.
    """
    path = Path(path)
    is_compressed = path.suffix.lower() in COMPRESSIONS
    ending = Path(path.stem).suffix.lower() if is_compressed else path.suffix.lower()
    form = _FORMATS.get(ending) if ending in (*_TEXTS, ".jsonl", ".ndjson") or not is_compressed else None
    is_there = "\0" not in str(path) and path.exists()
    if is_there and path.is_dir():
        form = ParquetFolder
    if form is None:
        raise InputError(
            f"cannot read the table {path}, because its ending is neither one of {', '.join(_FORMATS)}, nor "
            f"that of a text file followed by one of {', '.join(COMPRESSIONS)}; rename it"
        )
    if not is_there:
        raise InputError(f"cannot read the table {path}, because there is no such file; check the path")
    with explained(path):
        return CsvFile(path, header) if form is CsvFile else form(path)


def read_table(table: NamedColumns, columns: TableColumns, most: int) -> tuple[Array, Array]:
    """Read features and targets, into memory where they are few, else mapped.

    Args:
        table: An open table.
        columns: The features and targets of the table.
        most: The most bytes that are read into memory.

    Returns:
        Features and targets, shape (N, C), float64, or float32 where a mapped file has it; and which rows of the table
        they are, shape (rows,), bool.

    Raises:
        InputError: A column is missing, or has a value that cannot be used.
    """
    names = [table.find(column.name) for column in (*columns.features, *columns.targets)]
    if isinstance(table, NpyFile) and columns.is_plain:
        mapped = table.mapped(names, most)
        if mapped is not None:
            _check_finite(mapped, table, names)
            return mapped, np.ones(len(mapped), dtype=bool)
    found, kept = _collect(table, columns, most)
    if not len(found):
        rows = "has no rows" if not len(kept) else "has a missing value in each row; fill them, or leave out columns"
        raise InputError(f"cannot read the table {table.label}, because it {rows}")
    return found, kept


def _collect(table: NamedColumns, columns: TableColumns, most: int) -> tuple[Array, Array]:
    """Concatenate the blocks of a table, in memory, or in a temporary file if there are many."""
    waiting: list[Block] = []
    kept: list[Array] = [np.empty(0, dtype=bool)]
    rows, nbytes, width = 0, 0, len(columns.feature_names) + len(columns.target_names)
    with ExitStack() as stack:
        file = None
        for block, of_block in columns.encode(table):
            kept.append(of_block)
            waiting.append(block)
            rows, nbytes = rows + len(block), nbytes + block.nbytes
            if nbytes > most:
                file = file or stack.enter_context(tempfile.TemporaryFile())
                file.write(b"".join(block.tobytes() for block in waiting))
                waiting = []
        if file is None:
            return np.concatenate([np.empty((0, width)), *waiting]), np.concatenate(kept)
        file.flush()
        # The temporary file has no name any more, so it is removed when the map is closed.
        return np.memmap(file, np.float64, mode="c", shape=(rows, width)), np.concatenate(kept)


def _check_finite(block: Array, table: NamedColumns, names: list[str]) -> None:
    for start in range(0, len(block), table.rows_at_once):
        finite = np.isfinite(block[start : start + table.rows_at_once])
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise InputError(
                f"cannot use column {names[column]!r} of {table.label}, because {table.place(start + int(row))} is "
                f"{block[start + row, column]}; remove or fill the rows that are not finite numbers"
            )
