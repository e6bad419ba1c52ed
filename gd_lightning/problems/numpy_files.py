"""Reading tables from ``.npy`` and ``.npz`` files.

Letters: N rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from gd_lightning.errors import InputError
from gd_lightning.problems.file_errors import unreadable
from gd_lightning.problems.named_columns import Array, NamedColumns


class NumpyColumns(NamedColumns):
    """Columns of arrays.

    Args:
        path: The file.
        arrays: Arrays of shape (N,), by name.
    """

    def __init__(self, path: Path, arrays: dict[str, Array]) -> None:
        super().__init__(str(path), list(arrays))
        self._arrays = arrays

    def columns(self, positions: Sequence[int]) -> Iterator[list[Any]]:
        """Yield blocks of some columns as Arrow arrays."""
        arrays = [self._arrays[self.header[i]] for i in positions]
        for start in range(0, len(arrays[0]) if arrays else 0, self.rows_at_once):
            yield [_as_arrow(array[start : start + self.rows_at_once]) for array in arrays]


class NpyFile(NumpyColumns):
    """Columns of one array (N, C), which are called 0, 1, ..."""

    def __init__(self, path: Path) -> None:
        # Copied on write, so that nothing can change the file, and torch can use the memory.
        with _objects_refused(path, lambda: path.open("rb")):
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise unreadable(path, "it contains several arrays; rename it to end with .npz")
        _check_shape(array, "in", path)
        self._table: Array = (
            array.reshape(len(array), -1) if array.size else array.reshape(0, max(array.shape[1:], default=1))
        )
        super().__init__(path, {str(i): self._table[:, i] for i in range(self._table.shape[1])})

    def mapped(self, names: Sequence[str], most: int) -> Array | None:
        """Map adjacent columns of floating-point numbers in a file of more than ``most`` bytes.

        Returns:
            Shape (N, C), of the file; None where they have to be read.
        """
        positions = [int(name) for name in names]
        side_by_side = positions == list(range(positions[0], positions[0] + len(positions)))
        if self._table.nbytes <= most or self._table.dtype not in (np.float32, np.float64) or not side_by_side:
            return None
        return self._table[:, positions[0] : positions[-1] + 1]


class NpzFile(NumpyColumns):
    """Columns of several arrays of N rows; a two-dimensional array x gives x0, x1, ..."""

    def __init__(self, path: Path) -> None:
        found: dict[str, Array] = {}
        # NumPy would not close a damaged file that it has opened itself.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise unreadable(path, "it contains a single array; rename it to end with .npy")
            for name in arrays.files:
                with _objects_refused(path, partial(arrays.zip.open, f"{name}.npy")):
                    array = arrays[name]
                if not isinstance(array, np.ndarray):
                    raise unreadable(path, f"its entry {name!r} is not an array; leave it out")
                _check_shape(array, name, path)
                columns = {name: array}
                if array.ndim == 2:
                    columns = {f"{name}{i}": array[:, i] for i in range(array.shape[1])}
                if both := sorted(set(columns) & set(found)):
                    raise InputError(
                        f"cannot read the table {path}, because two of its arrays have the column {both[0]!r}; rename "
                        "one of them"
                    )
                found |= columns
        lengths = {len(column) for column in found.values()}
        if len(lengths) > 1:
            raise InputError(
                f"cannot read the table {path}, because its columns have different lengths: {sorted(lengths)}"
            )
        super().__init__(path, found)


@contextmanager
def _objects_refused(path: Path, opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> Iterator[None]:
    """Say of an array whose reading NumPy refuses that it holds objects, if it does.

    Args:
        path: The table.
        opened: Opens the array again.

    Raises:
        InputError: The file contains Python objects.
    """
    try:
        yield
    except ValueError as error:
        if _holds_objects(opened):
            raise unreadable(path, "it contains Python objects; save an array of numbers") from error
        raise


def _holds_objects(opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> bool:
    with suppress(Exception), opened() as file:  # NumPy reports any other damage
        is_old = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_old else np.lib.format.read_array_header_2_0
        return bool(read(file)[2].hasobject)
    return False


def _check_shape(array: Array, name: str, path: Path) -> None:
    if array.ndim not in (1, 2):
        raise InputError(
            f"cannot use the array {name} {path}, because it is of shape {array.shape}; use one of shape (N,) or "
            "(N, columns)"
        )


def _as_arrow(column: Array) -> Any:
    """Return a column as an Arrow array; of what Arrow does not have, one of structs that are named by its type."""
    if column.dtype.kind in "iuf":
        wanted = np.dtype(np.float64) if column.dtype.itemsize > 8 else column.dtype.newbyteorder("=")
        column = np.ascontiguousarray(column, dtype=wanted)
    try:
        if column.dtype.kind not in "cV":
            return pa.array(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        pass
    return pa.array([{str(column.dtype): None}] * len(column))
