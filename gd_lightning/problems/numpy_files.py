"""Reading tables from ``.npy`` and ``.npz`` files.

Letters: N rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.problems.named_columns import Array, Block, TableFile, check_digits, no_number, unreadable


class NpyFile(TableFile):
    """Columns of one array (N, C), which are called 0, 1, ..."""

    def _read_names(self) -> list[str]:
        # Copied on write, so that nothing can change the file, and torch may take it for its own.
        array = np.load(self.path, mmap_mode="c", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise unreadable(self.path, "it holds several arrays; rename it to end with .npz")
        _check_shape(array, "in", self.path)
        self._table: Array = array.reshape(len(array), -1)
        return [str(i) for i in range(self._table.shape[1])]

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield the rows of some columns, block by block."""
        positions = [int(name) for name in names]
        for start in range(0, len(self._table), self.rows_at_once):
            part = self._table[start : start + self.rows_at_once][:, positions]
            yield np.stack([_numbers(part[:, i], start, name, self.path) for i, name in enumerate(names)], axis=1)

    def as_it_lies(self, names: Sequence[str], most: int) -> Array | None:
        """Map columns that stand side by side, as floating-point numbers."""
        positions = [int(name) for name in names]
        side_by_side = positions == list(range(positions[0], positions[0] + len(positions)))
        if self._table.nbytes <= most or self._table.dtype not in (np.float32, np.float64) or not side_by_side:
            return None
        return self._table[:, positions[0] : positions[-1] + 1]


class NpzFile(TableFile):
    """Columns of several arrays of N rows."""

    def _read_names(self) -> list[str]:
        self._columns: dict[str, Array] = {}
        # NumPy leaves a file that it opened itself, and that is damaged, open.
        with self.path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise unreadable(self.path, "it holds a single array; rename it to end with .npy")
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise unreadable(self.path, f"what it holds as {name!r} is no array; leave it out")
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
        """Yield the rows of some columns, block by block."""
        for start in range(0, len(self._columns[names[0]]), self.rows_at_once):
            parts = ((name, self._columns[name][start : start + self.rows_at_once]) for name in names)
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
        raise no_number(name, path, column.dtype, column.dtype.kind in "mM")
    check_digits(column, first, name, path)
    return column.astype(np.float64)
