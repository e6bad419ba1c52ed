"""The interface of files with named columns, and messages on values that are not numbers.

Letters: N rows, C columns.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError, first_line

Block = NDArray[np.float64]
Array = NDArray[Any]

EXACT = 2**53  # every whole number up to here is a float64 number
WAY_OF_TIMES = "write it as a number, such as the days since the first one"


class TableFile(ABC):
    """A file with named columns of numbers.

    Args:
        path: The file.
    """

    rows_at_once: ClassVar[int] = 65_536
    """The most rows of a block."""

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
        """Yield the rows of some columns in blocks of shape (rows, C), at most ``rows_at_once`` each."""

    @property
    def index(self) -> Sequence[str]:
        """Names of columns of which the file says that they are the index of its rows."""
        return ()

    def as_it_lies(self, names: Sequence[str], most: int) -> Array | None:
        """Map columns of a file of more than ``most`` bytes, shape (N, C); None where they have to be read."""
        return None


def no_number(name: str, path: Path, kind: object, is_time: bool) -> InputError:
    """Return what is raised where a column holds something else than numbers."""
    way = WAY_OF_TIMES if is_time else "use numbers"
    return InputError(
        f"cannot use column {name!r} of {path}, because it is of type {kind}; {way}, or choose other columns with "
        "features and targets"
    )


def check_digits(values: Array, first: int, name: str, path: Path) -> None:
    """Refuse whole and decimal numbers that are others in float64, such as identifiers of 19 digits."""
    if values.dtype.kind not in "iuO":
        return
    for row in np.flatnonzero((values > EXACT) | (values < -EXACT)):
        value = values.item(row)  # Python compares numbers of all kinds exactly
        if float(value) != value:
            raise loses_digits(name, path, f"row {first + row + 1} of the data", value)


def loses_digits(name: str, path: Path, where: str, value: object) -> InputError:
    """Return what is raised where a number cannot be held exactly."""
    return InputError(
        f"cannot use column {name!r} of {path}, because {value} in {where} has more digits than a float64 number; "
        "leave out a column of identifiers with features and targets, or subtract a constant from it"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what a library stumbles on in a file, in one line.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    # zipfile knows no class of its own for a file that is encrypted or compressed in a way that it does not know;
    # NumPy reads a header as Python.
    except (ValueError, EOFError, RuntimeError, TokenError, zlib.error, zipfile.BadZipFile, csv.Error) as error:
        raise unreadable(path, first_line(error)) from error
    except OSError as error:
        # A full disk, while a large table is unpacked, is no fault of the file; pyarrow's errors have no number.
        if error.errno is not None and not isinstance(error, (PermissionError, IsADirectoryError)):
            raise
        raise unreadable(path, first_line(error)) from error


def unreadable(path: Path, reason: str) -> InputError:
    """Return what is raised where a file is none of its kind."""
    return InputError(f"cannot read the table {path} as {path.suffix}, because {reason}")
