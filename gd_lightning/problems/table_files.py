"""Reading columns of numbers from CSV, Parquet, ``.npy`` and ``.npz`` files; errors name file, column and line."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError, first_line

Columns = dict[str, NDArray[np.float64]]


def read_columns(path: str | Path, wanted: Sequence[str] | None = None) -> Columns:
    """Read columns of finite numbers by name.

    A CSV file has a header line; ``.npy`` holds an array (N, columns) whose columns are called 0, 1, ...; in ``.npz``
    each array (N,) is a column, and an array ``x`` of shape (N, D) gives the columns x0, x1, ...

    Args:
        path: The file; its ending tells the format.
        wanted: Names of the columns to read; None for all.

    Returns:
        Float64 arrays of shape (N,), all of the same length, in the order wanted (or of the file).

    Raises:
        InputError: The file is missing, not readable as what its ending says, lacks a column, or has a value that
            is no finite number.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"cannot read the table {path}, because its ending is none of {', '.join(_READERS)}")
    if not path.is_file():
        raise InputError(f"cannot read the table {path}, because there is no such file; check the path")
    try:
        columns = reader(path, wanted)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise InputError(f"cannot read the table {path} as {path.suffix}, because {first_line(error)}") from error
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise InputError(f"cannot read the table {path}, because its columns have different lengths: {sorted(lengths)}")
    if not lengths or lengths == {0}:
        raise InputError(f"cannot read the table {path}, because it has no rows")
    for name, column in columns.items():
        if not np.isfinite(column).all():
            row = int(np.flatnonzero(~np.isfinite(column))[0])
            raise InputError(
                f"cannot use column {name!r} of {path}, because row {row + 1} of the data is {column[row]}; "
                "remove or fill the rows that are no finite numbers"
            )
    return columns


def _select(available: Sequence[str], wanted: Sequence[str] | None, path: Path) -> Sequence[str]:
    if wanted is None:
        return available
    if missing := [name for name in wanted if name not in available]:
        shown = ", ".join(available[:20]) + (", ..." if len(available) > 20 else "")
        raise InputError(f"cannot find column {missing[0]!r} in {path}; it has the columns {shown}")
    return wanted


def _read_csv(path: Path, wanted: Sequence[str] | None) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        header = [name.strip() for name in next(csv.reader(lines), [])]
        if duplicates := {name for name in header if header.count(name) > 1}:
            raise InputError(f"cannot read the table {path}, because its header names {sorted(duplicates)[0]!r} twice")
        _check_shape_of_csv(path, header)
        names = _select(header, wanted, path)
        positions = [header.index(name) for name in names]
        try:
            # The fast path: NumPy parses in C, but its message for a bad cell names no column.
            table = np.loadtxt(lines, delimiter=",", quotechar='"', comments=None, usecols=positions, ndmin=2)
        except ValueError:
            table = None
    if table is None:
        table = _read_csv_slowly(path, names, positions)
    return dict(zip(names, table.T, strict=True)) if table.size else {}


def _check_shape_of_csv(path: Path, header: list[str]) -> None:
    """Refuse what would be read as other numbers than those that are meant."""
    if header and all(_is_number(name) for name in header):
        raise InputError(f"cannot read the table {path}, because its first line is numbers; begin it with column names")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        for row in reader:
            if len(row) > len(header):
                raise InputError(
                    f"cannot read the table {path}, because line {reader.line_num} has {len(row)} cells and the header "
                    f"{len(header)}; use a point in decimals and commas between cells"
                )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_csv_slowly(path: Path, names: Sequence[str], positions: Sequence[int]) -> NDArray[np.float64]:
    """Parse cell by cell, so that the first bad one can be named."""
    table = []
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        next(reader)
        for row in reader:
            if not row:
                continue
            values = []
            for name, position in zip(names, positions, strict=True):
                cell = row[position].strip() if position < len(row) else ""
                try:
                    values.append(float(cell))
                except ValueError:
                    what = f"{cell!r} is no number" if cell else "the cell is empty"
                    raise InputError(
                        f"cannot use column {name!r} of {path}, because of line {reader.line_num}: {what}; "
                        "correct the cell, or choose other columns with features and targets"
                    ) from None
            table.append(values)
    return np.array(table)


def _read_parquet(path: Path, wanted: Sequence[str] | None) -> Columns:
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"cannot read {path} without pyarrow; install it with: pip install 'gd-lightning[parquet]'"
        ) from None
    names = _select(parquet.ParquetFile(path).schema_arrow.names, wanted, path)
    table = parquet.read_table(path, columns=list(names))
    columns = {}
    for name in names:
        try:
            columns[name] = np.asarray(table.column(name).to_numpy(), dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"cannot use column {name!r} of {path}, because it is not numeric") from None
    return columns


def _read_npy(path: Path, wanted: Sequence[str] | None) -> Columns:
    array = np.load(path, allow_pickle=False)
    return _named_columns({"": array}, wanted, path)


def _read_npz(path: Path, wanted: Sequence[str] | None) -> Columns:
    with np.load(path, allow_pickle=False) as arrays:
        return _named_columns(dict(arrays), wanted, path)


def _named_columns(arrays: dict[str, NDArray[np.generic]], wanted: Sequence[str] | None, path: Path) -> Columns:
    columns: Columns = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
            what = f"of type {array.dtype} and shape {array.shape}"
            raise InputError(
                f"cannot use the array {name or 'in'} {path}, because it is {what}; use numbers (N, columns)"
            )
        if array.ndim == 1 and name:
            columns[name] = array.astype(np.float64)
        else:
            table = array.reshape(len(array), -1)
            columns.update({f"{name}{i}": table[:, i].astype(np.float64) for i in range(table.shape[1])})
    return {name: columns[name] for name in _select(list(columns), wanted, path)}


_READERS: dict[str, Callable[[Path, Sequence[str] | None], Columns]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
