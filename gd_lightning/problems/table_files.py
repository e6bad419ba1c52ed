"""Reading columns of numbers from CSV, Parquet, ``.npy`` and ``.npz`` files, of any size.

Files are read block by block. A small table ends in memory. A large one stays in its file (``.npy``), or goes block by
block into a temporary file, and is mapped: the system reads a page when it is used, and takes its memory back when it
needs it. Errors name file, column and line.

Letters: N rows, C columns.
"""

from __future__ import annotations

import csv
import re
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError, first_line
from gd_lightning.texts import from_cell

Block = NDArray[np.float64]
Array = NDArray[Any]

ROWS_AT_ONCE = 65_536
_EXACT = 2**53  # every whole number up to here is a float64 number
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}|\d\d?:\d\d")
_WAY_OF_TIMES = "write it as a number, such as the days since the first one"
_WHOLE = re.compile(r"[+-]?[0-9]+")
IN_MEMORY = 16 * 2**20  # bytes; a larger table is mapped


class TableFile(ABC):
    """A file with named columns of numbers.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = self._read_names()
        """The names of all columns, in their order."""
        self.repeated = {name for name, count in Counter(self.header).items() if count > 1}
        """Those that stand several times, so that nobody can tell which column is meant."""
        self.names = [name for name in self.header if name not in self.repeated]
        """Those by which a column can be read."""

    @abstractmethod
    def _read_names(self) -> list[str]:
        """Return the names of all columns."""

    @abstractmethod
    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield the rows of some columns in blocks of shape (rows, C), at most 65,536 rows each."""

    @property
    def index(self) -> Sequence[str]:
        """Names of columns of which the file says that they are the index of its rows."""
        return ()

    def as_it_lies(self, names: Sequence[str]) -> Array | None:
        """Map columns of a large file, shape (N, C); None where they have to be read."""
        return None


class _Csv(TableFile):
    def _read_names(self) -> list[str]:
        with self.path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            header = [from_cell(name.strip()) for name in next(reader, [])]
            self._lines_of_header = reader.line_num
        if header and all(_is_number(name) for name in header):
            raise InputError(
                f"cannot read the table {self.path}, because its first line is numbers; begin it with column names"
            )
        self._width = len(header)
        self._positions = [i for i in range(len(header)) if i not in self._blank(header)]
        return [header[i] for i in self._positions]

    def _blank(self, header: Sequence[str]) -> set[int]:
        """Return which columns have neither a name nor a value, such as those of commas at the end of each line."""
        blank = {i for i, name in enumerate(header) if not name}
        for _, row in self._rows() if blank else ():
            cells = _cells(row)
            blank = {i for i in blank if not "".join(cells[i : i + 1]).strip()}
            if not blank:
                break
        return blank

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        place = dict(zip(self.header, self._positions, strict=True))
        positions, rows = [place[name] for name in names], self._rows()
        while block := list(islice(rows, ROWS_AT_ONCE)):
            yield self._parse(block, names, positions)

    def _rows(self) -> Iterator[tuple[int, str]]:
        """Yield the text of each row that is not empty, with the number of its first line.

        A cell in quotes may go on over several lines.

        Raises:
            InputError: Such a cell has no end.
        """
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            lines = enumerate(file, start=1)
            for _ in range(self._lines_of_header):
                next(lines)
            for number, line in lines:
                row = _whole_row(line, (following for _, following in lines)) if '"' in line else line
                if row is None:
                    raise InputError(
                        f"cannot read the table {self.path}, because the quotes that open in line {number} are never "
                        "closed; close them, or remove them"
                    )
                if row.strip():
                    yield number, row

    def _parse(self, lines: list[tuple[int, str]], names: Sequence[str], positions: Sequence[int]) -> Block:
        self._check_widths(lines)
        try:
            # NumPy parses in C, but its message for a bad cell names no column.
            block = np.loadtxt(
                [line for _, line in lines], delimiter=",", quotechar='"', comments=None, usecols=positions, ndmin=2
            )
        except ValueError:
            block = np.array([self._parse_row(number, line, names, positions) for number, line in lines])
        for row, column in np.argwhere(np.abs(block) >= _EXACT):
            number, line = lines[row]
            cell = _cells(line)[positions[column]].strip()
            if _WHOLE.fullmatch(cell) and int(cell) != float(block[row, column]):
                raise _loses_digits(names[column], self.path, f"line {number}", cell)
        return block

    def _check_widths(self, lines: list[tuple[int, str]]) -> None:
        """Refuse rows that would be read as other numbers than those that are meant."""
        width = self._width
        for number, line in lines:
            if line.count(",") >= width and (cells := len(_cells(line))) > width:
                raise InputError(
                    f"cannot read the table {self.path}, because line {number} has {cells} cells and the header "
                    f"{width}; use a point in decimals and commas between cells"
                )

    def _parse_row(self, number: int, line: str, names: Sequence[str], positions: Sequence[int]) -> list[float]:
        cells, values = _cells(line), []
        for name, position in zip(names, positions, strict=True):
            cell = cells[position].strip() if position < len(cells) else ""
            try:
                values.append(float(cell))
            except ValueError:
                what = f"{cell!r} is no number" if cell else "the cell is empty"
                way = _WAY_OF_TIMES if _DATE.match(cell) else "correct the cell"
                raise InputError(
                    f"cannot use column {name!r} of {self.path}, because of line {number}: {what}; {way}, or choose "
                    "other columns with features and targets"
                ) from None
        return values


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]))


def _whole_row(line: str, following: Iterator[str]) -> str | None:
    """Return a line with those that follow it within quotes; None where these are never closed."""
    taken = [line]

    def lines() -> Iterator[str]:
        yield line
        for another in following:
            taken.append(another)
            yield another

    next(csv.reader(lines()))
    # Where quotes are still open, whatever follows is a part of the same row.
    return "".join(taken) if len(list(csv.reader([*taken, "0"]))) > 1 else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Parquet(TableFile):
    def _read_names(self) -> list[str]:
        try:
            from pyarrow import parquet, types
        except ImportError:
            raise InputError(
                f"cannot read {self.path} without pyarrow; install it with: pip install 'gd-lightning[parquet]'"
            ) from None
        # Columns are decoded as they are asked for; a buffer would hold whole row groups beside them.
        self._file, self._types = parquet.ParquetFile(self.path, memory_map=True, pre_buffer=False), types
        return list(self._file.schema_arrow.names)

    @property
    def index(self) -> Sequence[str]:
        """The index of the data frame that pandas wrote."""
        columns = (self._file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        return [name for name in columns if isinstance(name, str)]

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        # By their places: a schema that is asked for each name takes time with the square of the columns.
        schema = self._file.schema_arrow
        kinds = dict(zip(schema.names, schema.types, strict=True))
        for name in names:
            self._check_type(name, kinds[name])
        rows = 0
        for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=list(names), use_threads=False):
            block = np.empty((batch.num_rows, len(names)))
            place = {name: i for i, name in enumerate(batch.schema.names)}
            for i, name in enumerate(names):
                column = batch.column(place[name])
                if self._types.is_dictionary(column.type):
                    column = column.dictionary_decode()
                if column.null_count:
                    row = rows + column.is_null().to_pylist().index(True) + 1
                    raise InputError(
                        f"cannot use column {name!r} of {self.path}, because row {row} of the data is null; remove or "
                        "fill the rows without a value"
                    )
                values = column.to_numpy(zero_copy_only=False)
                _check_digits(values, rows, name, self.path)
                block[:, i] = values
            rows += len(block)
            yield block

    def _check_type(self, name: str, kind: Any) -> None:
        types = self._types
        values = kind.value_type if types.is_dictionary(kind) else kind
        tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        if not any(test(values) for test in tests):
            raise _no_number(name, self.path, kind, types.is_temporal(values))


class _Npy(TableFile):
    def _read_names(self) -> list[str]:
        # Copied on write, so that nothing can change the file, and torch may take it for its own.
        array = np.load(self.path, mmap_mode="c", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise _unreadable(self.path, "it holds several arrays; rename it to end with .npz")
        _check_shape(array, "in", self.path)
        self._table: Array = array.reshape(len(array), -1)
        return [str(i) for i in range(self._table.shape[1])]

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        positions = [int(name) for name in names]
        for start in range(0, len(self._table), ROWS_AT_ONCE):
            part = self._table[start : start + ROWS_AT_ONCE][:, positions]
            yield np.stack([_numbers(part[:, i], start, name, self.path) for i, name in enumerate(names)], axis=1)

    def as_it_lies(self, names: Sequence[str]) -> Array | None:
        positions = [int(name) for name in names]
        side_by_side = positions == list(range(positions[0], positions[0] + len(positions)))
        if self._table.nbytes <= IN_MEMORY or self._table.dtype not in (np.float32, np.float64) or not side_by_side:
            return None
        return self._table[:, positions[0] : positions[-1] + 1]


class _Npz(TableFile):
    def _read_names(self) -> list[str]:
        self._columns: dict[str, Array] = {}
        # NumPy leaves a file that it opened itself, and that is damaged, open.
        with self.path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise _unreadable(self.path, "it holds a single array; rename it to end with .npy")
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise _unreadable(self.path, f"what it holds as {name!r} is no array; leave it out")
                _check_shape(array, name, self.path)
                columns = {name: array}
                if array.ndim == 2:
                    columns = {f"{name}{i}": array[:, i] for i in range(array.shape[1])}
                if both := sorted(set(columns) & set(self._columns)):
                    raise InputError(
                        f"cannot read the table {self.path}, because two of its arrays give the column {both[0]!r}; "
                        "rename one of them"
                    )
                self._columns |= columns
        lengths = {len(column) for column in self._columns.values()}
        if len(lengths) > 1:
            raise InputError(
                f"cannot read the table {self.path}, because its columns have different lengths: {sorted(lengths)}"
            )
        return list(self._columns)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        for start in range(0, len(self._columns[names[0]]), ROWS_AT_ONCE):
            parts = ((name, self._columns[name][start : start + ROWS_AT_ONCE]) for name in names)
            yield np.stack([_numbers(part, start, name, self.path) for name, part in parts], axis=1)


def _check_shape(array: Array, name: str, path: Path) -> None:
    if array.ndim not in (1, 2):
        raise InputError(
            f"cannot use the array {name} {path}, because it is of shape {array.shape}; use one of shape (N,) or "
            "(N, columns)"
        )


def _numbers(column: Array, first: int, name: str, path: Path) -> Block:
    """Return the values of a column in float64, shape (rows,), of which the first stands in row ``first`` (from 0)."""
    if column.dtype.kind not in "fiub":
        raise _no_number(name, path, column.dtype, column.dtype.kind in "mM")
    _check_digits(column, first, name, path)
    return column.astype(np.float64)


def _no_number(name: str, path: Path, kind: object, is_time: bool) -> InputError:
    way = _WAY_OF_TIMES if is_time else "use numbers"
    return InputError(
        f"cannot use column {name!r} of {path}, because it is of type {kind}; {way}, or choose other columns with "
        "features and targets"
    )


def _check_digits(values: Array, first: int, name: str, path: Path) -> None:
    """Refuse whole and decimal numbers that are others in float64, such as identifiers of 19 digits."""
    if values.dtype.kind not in "iuO":
        return
    for row in np.flatnonzero((values > _EXACT) | (values < -_EXACT)):
        value = values.item(row)  # Python compares numbers of all kinds exactly
        if float(value) != value:
            raise _loses_digits(name, path, f"row {first + row + 1} of the data", value)


def _loses_digits(name: str, path: Path, where: str, value: object) -> InputError:
    return InputError(
        f"cannot use column {name!r} of {path}, because {value} in {where} has more digits than a float64 number; "
        "leave out a column of identifiers with features and targets, or subtract a constant from it"
    )


_FORMATS: dict[str, type[TableFile]] = {".csv": _Csv, ".parquet": _Parquet, ".npy": _Npy, ".npz": _Npz}


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
    with _explained(path):
        return table(path)


def read_columns(table: TableFile, names: Sequence[str]) -> Array:
    """Read some columns of finite numbers, into memory where they are few, else mapped.

    Args:
        table: An open table.
        names: Names of the columns, in the order wanted.

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
    with _explained(table.path):
        as_it_lies = table.as_it_lies(names)
        if as_it_lies is not None:
            for start in range(0, len(as_it_lies), ROWS_AT_ONCE):
                _check_finite(as_it_lies[start : start + ROWS_AT_ONCE], start, table, names)
            return as_it_lies
        columns = _collect(table, names)
    if not len(columns):
        raise InputError(f"cannot read the table {table.path}, because it has no rows")
    return columns


def _collect(table: TableFile, names: Sequence[str]) -> Array:
    """Put the blocks of a table one behind the other: in memory, or in a temporary file once they are many."""
    waiting: list[Block] = []
    rows, nbytes = 0, 0
    with ExitStack() as stack:
        file = None
        for block in table.blocks(names):
            _check_finite(block, rows, table, names)
            waiting.append(block)
            rows, nbytes = rows + len(block), nbytes + block.nbytes
            if nbytes > IN_MEMORY:
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


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what a library stumbles on in a file, in one line.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    # zipfile knows no class of its own for a file that is encrypted or compressed in a way that it does not know.
    except (ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, csv.Error) as error:
        raise _unreadable(path, first_line(error)) from error
    except OSError as error:
        # A full disk, while a large table is unpacked, is no fault of the file; pyarrow's errors have no number.
        if error.errno is not None and not isinstance(error, (PermissionError, IsADirectoryError)):
            raise
        raise _unreadable(path, first_line(error)) from error


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"cannot read the table {path} as {path.suffix}, because {reason}")
