"""Dialects of text files with columns: encoding, separator, decimal sign, and whether a line of names comes first.

Letters: N rows, C columns.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from gd_lightning.errors import InputError
from gd_lightning.escaping import from_cell, is_number

# What pandas takes for a missing value, in any case, and what statistics programs write for one.
MISSING_WORDS = (
    *("", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "null", "none", "?", "."),
    *(f"{sign}1.#{word}" for sign in ("", "-") for word in ("ind", "qnan")),
)
BLANKS = " "
_SEPARATORS = ("\t", ";", ",", "|", BLANKS)
_SAMPLE = 2**18  # bytes from which separator, decimal sign and names are determined
_ROWS = 100
_LINES_ABOVE = 3  # maximum number of lines of a title or of notes above the names
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Bytes without a character; all other bytes are as in Latin-1, without its control characters.
_NOT_IN_WINDOWS = b"\x81\x8d\x8f\x90\x9d"
_COMMENT = re.compile(rb"(?:^|[\r\n])[ \t]*#")
_EXCEL = re.compile("sep=.")  # a first line that names the separator
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+")
_NO_NAMES = {*MISSING_WORDS, "inf", "infinity", "-inf", "+inf"}  # words that are values, and neither names nor numbers


@dataclass(frozen=True)
class Dialect:
    """The dialect of a text file.

    Args:
        encoding: The name of the encoding in Python.
        separator: The separator of cells; a blank for any number of blanks and tabs.
        decimal: The decimal sign.
        header: The names of the columns.
        first_line: The line, counted from 1, in which the rows begin.
        is_regular: Whether only rows follow, without comments.
    """

    encoding: str
    separator: str
    decimal: str
    header: list[str]
    first_line: int
    is_regular: bool


def records(lines: Iterable[str], separator: str, label: str, begin: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row, and the number of its first line; blank lines and comments are not rows.

    Neither is the line ``sep=;`` that Excel reads first. A cell in quotes may go on over several lines.

    Args:
        lines: The lines, with their ends.
        separator: The separator between cells.
        label: The name of the table in messages.
        begin: The number of the first of the lines.

    Raises:
        InputError: Quotes are never closed.
    """
    first, at_start = 0, True

    def source() -> Iterator[str]:
        nonlocal first, at_start
        for number, line in enumerate(lines, start=begin):
            if at_start:
                start = line.strip()
                if not start or start.startswith("#") or (number == 1 and _EXCEL.fullmatch(start)):
                    continue
                first, at_start = number, False
                line = line.lstrip(" ") if separator == BLANKS else line
            yield f"{line.rstrip()}\n".replace("\t", BLANKS) if separator == BLANKS else line
        if not at_start:
            raise InputError(
                f"cannot read the table {label}, because the quotes that open in line {first} are never closed; close "
                "them, or remove them"
            )

    for cells in csv.reader(source(), delimiter=separator, skipinitialspace=separator == BLANKS):
        at_start = True
        yield first, cells


def dialect_of(open_file: Callable[[], BinaryIO], label: str, header: bool | None, ending: str) -> Dialect:
    """Detect the dialect of a text file.

    Args:
        open_file: Opens the file.
        label: The name of the table in messages.
        header: Whether the first line holds the names of columns; None: as it looks.
        ending: The ending of its name.

    Raises:
        InputError: It is ambiguous whether the first line contains names.
    """
    with open_file() as file:
        encoding, has_comments = _encoding(file)
    with open_file() as file:
        text = codecs.getincrementaldecoder(encoding)().decode(file.read(_SAMPLE))
    if "\0" in text:
        raise InputError(
            f"cannot read the table {label}, because it has zero bytes, as UTF-16 without a byte order mark has; save "
            "it as UTF-8"
        )
    if len(text) * 4 > _SAMPLE and "\n" in text:
        text = text[: text.rindex("\n") + 1]  # the last line may be incomplete
    lines = text.splitlines(keepends=True)
    samples = {separator: _sample(lines, separator, label) for separator in _SEPARATORS}
    separator = _separator(samples)
    _refuse_lines_above(samples, separator, label)
    numbers, rows = [number for number, _ in samples[separator]], [cells for _, cells in samples[separator]]
    if not rows:
        return Dialect(encoding, separator, ".", [], 1, False)
    names = names_of(rows, label, header, is_bare=ending == ".data")
    first_line = numbers[0]
    if names is None:
        width = len(rows[0])
        names = _names_in_comment(lines[: first_line - 1], separator, width, label) or [str(i) for i in range(width)]
    else:
        first_line = numbers[1] if len(numbers) > 1 else _behind(lines, separator, label)
        names = _with_row_names(names, rows[1:], separator, lines[first_line - 1 :])
    is_regular = separator != BLANKS and not encoding.startswith("utf-16") and not has_comments
    return Dialect(encoding, separator, _decimal(rows), names, first_line, is_regular)


def _encoding(file: BinaryIO) -> tuple[str, bool]:
    """Return the encoding of a whole file, and whether a line may be a comment."""
    decoder, encoding, has_comments, begin = codecs.getincrementaldecoder("utf-8")(), "utf-8", False, True
    while chunk := file.read(2**20):
        if begin:
            if marked := next((name for mark, name in _MARKS if chunk.startswith(mark)), None):
                encoding = marked
            begin = False
            # Comments above the first row are skipped together with the names.
            rows = re.search(rb"(?:^|[\r\n])[ \t]*[^#\s]", chunk)
            has_comments = b"#" in chunk and _COMMENT.search(chunk, rows.start() if rows else 0) is not None
        else:
            has_comments = has_comments or (b"#" in chunk and _COMMENT.search(chunk) is not None)
        if encoding == "utf-8":
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                encoding = "cp1252"
        if encoding == "cp1252" and any(byte in chunk for byte in _NOT_IN_WINDOWS):
            encoding = "latin-1"
    return encoding, has_comments


def _behind(lines: Sequence[str], separator: str, label: str) -> int:
    """Return the number of the line after the first row; where only that row is complete, quotes may be open there."""
    taken: list[str] = []

    def source() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    next(records(source(), separator, label))
    return len(taken) + 1


def _sample(lines: Sequence[str], separator: str, label: str) -> list[tuple[int, list[str]]]:
    """Return the first rows, split by a separator."""
    found: list[tuple[int, list[str]]] = []
    try:
        for record in records(lines, separator, label):
            found.append(record)
            if len(found) > _ROWS:
                break
    except InputError:  # a check of the whole file reports the error later
        pass
    return found


def _separator(samples: dict[str, list[tuple[int, list[str]]]]) -> str:
    """Return the separator that splits the first line, and all others into as many cells if there is one."""
    best, consistent = ",", False
    for separator, sample in samples.items():
        widths = [len(cells) for _, cells in sample]
        if not widths or (widths[0] < 2 and max(widths) < 3):
            continue
        wanted = {widths[0]} if len(widths) == 1 else {widths[0], widths[0] + 1} if separator == BLANKS else {widths[0]}
        is_consistent = set(widths) <= wanted and widths[0] > 1 and (len(set(widths[1:])) <= 1)
        if is_consistent and not consistent:
            best, consistent = separator, True
        elif not consistent and widths[0] > 1 and best == ",":
            best = best if len(samples[","][0][1]) > 1 else separator
    return best


def _refuse_lines_above(samples: dict[str, list[tuple[int, list[str]]]], separator: str, label: str) -> None:
    """Refuse lines of a title or of notes above the names.

    Raises:
        InputError: The lines after the first one to three have as many cells each, at least two more than the first.
    """
    if len(widths := {len(cells) for _, cells in samples[separator]}) == 1 and max(widths) > 1:
        return
    for each in (sep for sep in _SEPARATORS if sep != BLANKS):
        counts = [len(cells) for _, cells in samples[each]]
        for above in range(1, min(_LINES_ABOVE, len(counts) - 2) + 1):
            if len(set(counts[above:])) == 1 and max(counts[:above]) < counts[-1] - 1:
                number = samples[each][above - 1][0]
                raise InputError(
                    f"cannot read the table {label}, because line {number} has fewer cells ({counts[above - 1]}) than "
                    f"those below it ({counts[-1]}); remove what stands above the names, or put # before it"
                )


def names_of(rows: Sequence[Sequence[str]], label: str, header: bool | None, is_bare: bool) -> list[str] | None:
    """Return the names in the first row; None if it is a row of values.

    Args:
        rows: The first rows.
        label: The name of the table in messages.
        header: Whether the first row holds names; None: as it looks.
        is_bare: Whether files of this kind usually have no names.

    Raises:
        InputError: It is ambiguous whether the first line contains names.
    """
    cells = [from_cell(cell.strip()) for cell in rows[0]]
    numbers = [cell for cell in cells if _is_number(cell)]
    if header is None:
        is_count = [cell for cell in cells if cell] == [str(i) for i in range(len([c for c in cells if c]))]
        if not numbers or (is_count and len(numbers) > 1 and all(cells[1:])):
            header = True
        elif len(numbers) == len([cell for cell in cells if cell.lower() not in _NO_NAMES]):
            header = False
        else:
            header = _differs_from_rows(cells, rows[1:]) or (False if is_bare else None)
    if header is None:
        raise InputError(
            f"cannot tell whether the first line of {label} contains names, because it contains {numbers[0]} beside "
            "texts, as other lines do; use --data.problem.header true or false"
        )
    return cells if header else None


def _differs_from_rows(cells: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has a text above a column of numbers."""
    for i, cell in enumerate(cells):
        below = [row[i].strip() for row in rows if i < len(row) and row[i].strip()]
        if not _is_number(cell) and cell.lower() not in _NO_NAMES:
            values = [each for each in below if each.lower() not in _NO_NAMES]
            if values and all(_is_number(each) for each in values):
                return True
    return False


def _is_number(cell: str) -> bool:
    return cell.lower() not in _NO_NAMES and "_" not in cell and is_number(cell.replace(",", ".", 1))


def _names_in_comment(lines: Sequence[str], separator: str, width: int, label: str) -> list[str] | None:
    """Return the names in the last comment above rows without names, as ``numpy.savetxt`` writes them."""
    comments = [line.strip().lstrip("#") for line in lines if line.strip()]
    if not comments:
        return None
    for each in (separator, BLANKS):
        found = next((cells for _, cells in records([comments[-1]], each, label)), [])
        names = [from_cell(cell.strip()) for cell in found]
        if len(names) == width and not any(_is_number(name) for name in names):
            return names
    return None


def _with_row_names(names: list[str], rows: Sequence[Sequence[str]], separator: str, lines: Sequence[str]) -> list[str]:
    """Return names, completed by one for a first column without a name, in which R writes the names of rows.

    With commas, a decimal comma would look like it; so the first cells have to be texts.
    """
    is_longer = bool(rows) and all(len(row) == len(names) + 1 for row in rows)
    is_text = all(line.startswith('"') for line in lines if line.strip()) or not any(_is_number(row[0]) for row in rows)
    has_end = is_longer and not any(row[-1].strip() for row in rows)
    return ["", *names] if is_longer and not has_end and (separator != "," or is_text) else names


def _decimal(rows: Sequence[Sequence[str]]) -> str:
    """Return the decimal sign: a comma if there are commas that do not separate thousands, and no points."""
    cells = {cell.strip() for row in rows for cell in row}
    commas = {cell for cell in cells if _DECIMAL_COMMA.fullmatch(cell)}
    has_points = any("." in cell and is_number(cell) for cell in cells)
    return "," if not has_points and any(not _THOUSANDS.fullmatch(cell) for cell in commas) else "."
