"""The interface of tables with named columns: files, and frames in memory.

Letters: N rows, C columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gd_lightning.errors import InputError

Block = NDArray[np.float64]
Array = NDArray[Any]


class NamedColumns(ABC):
    """Columns with names, which are read in blocks of rows.

    Args:
        label: The name of the table in messages, such as the path of a file.
        header: The names of all columns, in their order.
        index: Names of columns that are said to be the index of the rows.
        decimal: The decimal separator of texts that are numbers, as in CSV; None if texts are not numbers.
    """

    rows_at_once: ClassVar[int] = 65_536
    """The most rows of a block."""
    in_python: ClassVar[bool] = False
    """Whether messages advise options as Python takes them."""

    def __init__(
        self, label: str, header: Sequence[str], index: Sequence[str] = (), decimal: str | None = None
    ) -> None:
        self.label, self.header, self.index, self.decimal = label, list(header), set(index), decimal
        self._known = set(header)
        self.repeated = {name for name, count in Counter(header).items() if count > 1}
        """Names that occur several times, which are ambiguous."""
        self.names = [name for name in header if name not in self.repeated]
        """Those by which a column can be read."""

    @abstractmethod
    def columns(self, positions: Sequence[int]) -> Iterator[list[Any]]:
        """Yield blocks of some columns as Arrow arrays, with as many rows as are available at once.

        Args:
            positions: Numbers of the columns to read, from 0.
        """

    def blocks(self, names: Sequence[str]) -> Iterator[list[Any]]:
        """Yield blocks of some columns as Arrow arrays, at most ``rows_at_once`` rows each.

        Args:
            names: Names of the columns, none of them repeated.
        """
        places = {name: i for i, name in enumerate(self.header)}
        for arrays in self.columns([places[name] for name in names]):
            for start in range(0, len(arrays[0]) if arrays else 0, self.rows_at_once):
                yield [array.slice(start, self.rows_at_once) for array in arrays]

    def place(self, row: int) -> str:
        """Say where a row is, for messages.

        Args:
            row: The row, counted from 0.
        """
        return f"row {row + 1} of the data"

    def rows(self) -> Iterator[Sequence[object]]:
        """Yield all rows as they were given."""
        for arrays in self.columns(range(len(self.header))):
            yield from zip(*(array.to_pylist() for array in arrays), strict=True)

    def find(self, given: str | int) -> str:
        """Return the name of a column that is given by name, or by number from 0 (from the end, if negative).

        Raises:
            InputError: There is no such column, or several have that name.
        """
        name = str(given)
        if name not in self._known:
            try:
                name = self.header[int(name)]
            except (ValueError, IndexError):
                shown = ", ".join(self.names[:20]) + (", ..." if len(self.names) > 20 else "")
                raise InputError(
                    f"cannot find column {name!r} in {self.label}, because it has the columns {shown}; correct the "
                    "name, or the table"
                ) from None
        if name in self.repeated:
            raise InputError(
                f"cannot use column {name!r} of {self.label}, because several columns have that name; give each its "
                "own, or choose other columns with features and targets"
            )
        return name


class ArrowColumns(NamedColumns):
    """The columns of an Arrow table in memory, such as one made of a frame of pandas or polars.

    Args:
        label: The name of the table in messages.
        table: A ``pyarrow.Table``.
        decimal: The decimal separator of texts that are numbers; None if texts are not numbers.
    """

    def __init__(self, label: str, table: pa.Table, decimal: str | None = None) -> None:
        super().__init__(label, table.schema.names, index_of(table.schema), decimal)
        self._table = table

    def columns(self, positions: Sequence[int]) -> Iterator[list[Any]]:
        """Yield blocks of some columns as Arrow arrays."""
        for batch in self._table.select(list(positions)).to_batches(self.rows_at_once):
            yield batch.columns


class FrameColumns(ArrowColumns):
    """The columns of a data frame that is given in Python."""

    in_python = True


def index_of(schema: pa.Schema) -> list[str]:
    """Return the names of the columns that were the index of a frame written by pandas."""
    return [name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
