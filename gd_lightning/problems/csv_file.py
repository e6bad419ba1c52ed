"""Reading tables from CSV files, strictly: ambiguous cells are refused, with the number of their line.

Letters: N rows, C columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.escaping import from_cell, is_number
from gd_lightning.problems.named_columns import EXACT, WAY_OF_TIMES, Block, TableFile, loses_digits

_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}|\d\d?:\d\d")
_WHOLE = re.compile(r"[+-]?[0-9]+")


class CsvFile(TableFile):
    """Columns of text with a line of names."""

    def _read_names(self) -> list[str]:
        with self.path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            header = [from_cell(name.strip()) for name in next(reader, [])]
            self._lines_of_header = reader.line_num
        if header and all(is_number(name) for name in header):
            raise InputError(
                f"cannot read the table {self.path}, because its first line is numbers; begin it with column names"
            )
        self._width = len(header)
        blank = self._blank(header)
        self._positions = [i for i in range(len(header)) if i not in blank]
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
        """Yield the rows of some columns, block by block."""
        place = dict(zip(self.header, self._positions, strict=True))
        positions, rows = [place[name] for name in names], self._rows()
        while block := list(islice(rows, self.rows_at_once)):
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
        for row, column in np.argwhere(np.abs(block) >= EXACT):
            number, line = lines[row]
            cell = _cells(line)[positions[column]].strip()
            if _WHOLE.fullmatch(cell) and int(cell) != float(block[row, column]):
                raise loses_digits(names[column], self.path, f"line {number}", cell)
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
                way = WAY_OF_TIMES if _DATE.match(cell) else "correct the cell"
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
