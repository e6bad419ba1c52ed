"""Reading tables from text files: CSV in its many dialects.

Files are read by pyarrow, block by block. Files that it cannot read (with comments, blanks as separators, or rows of
different lengths) are read by Python, more slowly, with the same result.

Letters: N rows, C columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from gd_lightning.errors import InputError
from gd_lightning.problems.compressed_files import COMPRESSIONS, open_binary
from gd_lightning.problems.csv_dialect import Dialect, dialect_of, records
from gd_lightning.problems.named_columns import NamedColumns

_BLOCK, _BLOCK_PER_COLUMN, _LARGEST_BLOCK = 2**20, 2**14, 2**26  # bytes; a block has thousands of rows if it can
_KEPT = 2**25  # maximum number of bytes of a table that is kept in memory
_END = "\x1a"  # the cells of a row that is appended; the row is missing if quotes stay open


class CsvFile(NamedColumns):
    """Columns of a text file.

    Args:
        path: The file.
        header: Whether its first line holds the names of columns; None: as it looks.
    """

    def __init__(self, path: Path, header: bool | None = None) -> None:
        self._open = partial(open_binary, path)
        ending = next((each for each in reversed(path.suffixes) if each.lower() not in COMPRESSIONS), "").lower()
        self._dialect: Dialect = dialect_of(self._open, str(path), header, ending)
        self._width, self._is_regular = len(self._dialect.header), self._dialect.is_regular
        self._line_numbers: list[int] = []
        self._whole: dict[int, Any] = {}
        """Columns of a small file, by their places in it, which are asked for again when they are chosen."""
        super().__init__(str(path), self._dialect.header, decimal=self._dialect.decimal)
        self._positions = list(range(self._width))
        blank = self._blank()
        self._positions = [i for i in self._positions if i not in blank]
        super().__init__(str(path), [self._dialect.header[i] for i in self._positions], decimal=self.decimal)

    def _blank(self) -> set[int]:
        """Return the columns that have neither a name nor a value, such as those of trailing commas."""
        nameless = [i for i, name in enumerate(self._dialect.header) if not name]
        blank = set(nameless)
        for arrays in self.columns(nameless) if nameless else ():
            for i, array in zip(nameless, arrays, strict=True):
                if pc.any(pc.not_equal(pc.utf8_trim_whitespace(array), "")).as_py():
                    blank.discard(i)
            if not blank:
                break
        return blank

    def columns(self, positions: Sequence[int]) -> Iterator[list[Any]]:
        """Yield blocks of some columns as Arrow arrays of texts."""
        places, done = [self._positions[i] for i in positions], 0
        if places and self._whole.keys() >= set(places):
            yield [self._whole[place] for place in places]
            return
        if self._is_regular:
            blocks = 0
            for arrays in self._fast(places):
                yield arrays
                done, blocks = done + len(arrays[0]), blocks + 1
        if self._is_regular:
            if blocks == 1 and sum(array.nbytes for array in arrays) <= _KEPT:
                self._whole = dict(zip(places, arrays, strict=True))
            return
        rows = islice((cells for _, cells in self._records()), done, None)
        while block := list(islice(rows, self.rows_at_once)):
            yield [pa.array([cells[i] for cells in block], pa.string()) for i in places]

    def _fast(self, places: Sequence[int]) -> Iterator[list[Any]]:
        """Yield blocks that pyarrow reads, until it raises an error."""
        names, dialect = [str(i) for i in range(self._width)], self._dialect
        wanted = [str(i) for i in places]
        with self._open() as file:
            try:
                reader = csv.open_csv(
                    _WithEnd(file, f"\n{dialect.separator.join([_END] * self._width)}\n".encode(dialect.encoding)),
                    csv.ReadOptions(
                        use_threads=False,
                        block_size=min(max(_BLOCK, self._width * _BLOCK_PER_COLUMN), _LARGEST_BLOCK),
                        skip_rows=dialect.first_line - 1,
                        column_names=names,
                        encoding=dialect.encoding.replace("utf-8-sig", "utf8"),
                    ),
                    csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
                    csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        include_columns=wanted,
                        strings_can_be_null=False,
                    ),
                )
                ended = False
                for batch in reader:
                    arrays = batch.columns
                    if len(batch) and arrays[0][-1].as_py() == _END:
                        ended, arrays = True, [array[:-1] for array in arrays]
                    if len(arrays[0]):
                        yield arrays
                self._is_regular = ended
            except pa.ArrowInvalid:  # rows of different lengths, or longer than a block
                self._is_regular = False

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of the first line of each row, and its cells, one per column.

        Raises:
            InputError: A row has more.
        """
        dialect, begin = self._dialect, self._dialect.first_line
        with self._open() as file, io.TextIOWrapper(file, dialect.encoding, newline="") as lines:
            rows = records(islice(lines, begin - 1, None), dialect.separator, self.label, begin)
            for number, cells in rows:
                if len(cells) > self._width and any(cell.strip() for cell in cells[self._width :]):
                    raise InputError(
                        f"cannot read the table {self.label}, because line {number} has {len(cells)} cells "
                        f"and the first line {self._width}; correct that line, or all: use a point in decimals and "
                        "commas between cells"
                    )
                yield number, [*cells[: self._width], *[""] * (self._width - len(cells))]

    def place(self, row: int) -> str:
        """Return a phrase with the line in which a row begins."""
        for number, _ in islice(self._records(), len(self._line_numbers), row + 1):
            self._line_numbers.append(number)
        return f"line {self._line_numbers[row]}"

    def rows(self) -> Iterator[Sequence[object]]:
        """Yield all rows as they were given."""
        return ([cells[i] for i in self._positions] for _, cells in self._records())


class _WithEnd(io.RawIOBase):
    """A file with some bytes appended to it."""

    def __init__(self, file: BinaryIO, end: bytes) -> None:
        self._file, self._end = file, end

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if not data:
            data, self._end = self._end, b""
        return data
