"""The problem for the user's own data in a table file."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.errors import DataWarning, InputError
from gd_lightning.problems.mapped_file import MappedFile
from gd_lightning.problems.named_columns import TableFile
from gd_lightning.problems.problem import Problem
from gd_lightning.problems.row_numbers import row_numbers
from gd_lightning.problems.table_files import MAP_ABOVE, open_table, read_columns


class Table(Problem):
    """Columns of a CSV, Parquet, ``.npy`` or ``.npz`` file.

    A large file is mapped: ``.npy`` as it lies, the others from a temporary file that they are unpacked into, in the
    directory that TMPDIR names. Its samples are loaded where half of the free memory is enough for them.

    Args:
        path: The file. A CSV file begins with a line of column names; the columns of ``.npy`` are called 0, 1, ...;
            in ``.npz`` each one-dimensional array is a column, and a two-dimensional array x gives x0, x1, ...
        features: Names of the columns to predict from; null: all that are no targets and do not number the rows.
        targets: Names of the columns to predict; null: the last column.

    Raises:
        InputError: A column is named twice.
    """

    map_above: int = MAP_ABOVE
    """A table of more bytes than these is mapped."""

    def __init__(self, path: str, features: list[str] | None = None, targets: list[str] | None = None) -> None:
        self.path = str(path)
        self.features = features
        self.targets = targets
        named = Counter([*(features or []), *(targets or [])])
        if duplicates := sorted(name for name, count in named.items() if count > 1):
            raise InputError(
                f"cannot use column {duplicates[0]!r} of {path} twice; name it once, in features or targets"
            )
        if features == [] or targets == []:
            raise InputError(f"cannot train on {path} without features and targets; name at least one column of each")
        self._names: tuple[list[str], list[str]] | None = None
        self._takes_all = False
        self._mapped = False
        self._file: MappedFile | None = None

    def check_source(self) -> None:
        """See whether a large file is still what was mapped.

        Raises:
            OSError: It is not.
        """
        if self._file is not None:
            self._file.check()

    def sample(self) -> tuple[Tensor, Tensor]:
        """Read x of shape (N, D) and y of shape (N, K), float64, or float32 where a mapped file has it."""
        path = Path(self.path)
        before = path.stat() if path.is_file() else None
        table = open_table(self.path)
        features, targets = self._names or self._choose(table)
        columns = read_columns(table, [*features, *targets], self.map_above)
        self._mapped = isinstance(columns, np.memmap)
        # What is unpacked is mapped from a file that has no name, which nobody else changes.
        self._file = None
        if isinstance(columns, np.memmap) and columns.filename is not None and before is not None:
            self._file = MappedFile(path, columns, before)
        return self._tensor(columns[:, : len(features)]), self._tensor(columns[:, len(features) :])

    @property
    def mapped(self) -> bool:
        """Whether the file is mapped because it is large; known once it is read."""
        return self._mapped

    @property
    def is_read(self) -> bool:
        """True."""
        return True

    @property
    def label(self) -> str:
        """The name of the data in messages."""
        return f"the table {self.path}"

    def by_names(self, features: Sequence[str], targets: Sequence[str]) -> Table:
        """Return the table with the columns that a run was trained on, selected by name, in the run's order."""
        names = (list(features), list(targets))
        if names == self._names:
            return self
        table = copy.copy(self)
        table._names = names
        return table

    def with_row_numbers(self) -> Table:
        """Return the table with the columns that number its rows, as runs had it before these were left out."""
        table = copy.copy(self)
        table._names, table._takes_all = None, True
        return table

    def _tensor(self, columns: NDArray[Any]) -> Tensor:
        return torch.from_numpy(columns if self._mapped else np.ascontiguousarray(columns))

    def _choose(self, table: TableFile) -> tuple[list[str], list[str]]:
        """Return the names of features and targets."""
        if not table.header:
            raise InputError(f"cannot read the table {self.path}, because it has no rows")
        named = {*(self.features or []), *(self.targets or [])}
        all_named = self._takes_all or (self.features and self.targets)
        left_out, unclear = ({}, []) if all_named else row_numbers(table)
        names = [name for name in table.header if name in named or name not in left_out]
        chosen = set(self.features or [])
        targets = self.targets or [name for name in names if name not in chosen][-1:]
        chosen = set(targets)
        features = self.features or [name for name in names if name not in chosen]
        if unnamed := [name for name in [*features, *targets] if name in unclear and name not in named]:
            raise InputError(
                f"cannot use column {table.header.index(unnamed[0]) + 1} of {self.path}, because it has no name, and "
                "does not number the rows; name it, or choose columns with features and targets"
            )
        reasons = [f"column {name!r} ({why})" for name, why in left_out.items() if name not in named]
        if not features or not targets:
            besides = f" besides {', '.join(reasons)}" if reasons else ""
            raise InputError(
                f"cannot train on {self.path}, because no column is left for features or targets{besides}; name them "
                "with features and targets"
            )
        if reasons:
            warnings.warn(
                f"{self.path} is used without {', '.join(reasons)}; name it in features to use it",
                DataWarning,
                stacklevel=2,
            )
        self._names = (features, targets)
        return self._names

    def _resolved_names(self) -> tuple[list[str], list[str]]:
        return self._names or self._choose(open_table(self.path))

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns to predict from."""
        return self._resolved_names()[0]

    @property
    def target_names(self) -> list[str]:
        """Names of the columns to predict."""
        return self._resolved_names()[1]

    def read_inputs(self, path: str | Path) -> Tensor:
        """Read the feature columns, shape (N, D), from another file; it needs no targets."""
        return torch.from_numpy(np.ascontiguousarray(read_columns(open_table(path), self.feature_names)))
