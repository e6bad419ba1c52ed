"""The user's own data, in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.problems.problem import Problem
from gd_lightning.problems.table_files import Columns, read_columns


class Table(Problem):
    """Columns of a CSV, Parquet, ``.npy`` or ``.npz`` file.

    Args:
        path: The file. A CSV file begins with a line of column names; the columns of ``.npy`` are called 0, 1, ...;
            in ``.npz`` each one-dimensional array is a column, and a two-dimensional array x gives x0, x1, ...
        features: Names of the columns to predict from; null: all that are no targets.
        targets: Names of the columns to predict; null: the last column.

    Raises:
        InputError: A column is named twice.
    """

    def __init__(self, path: str, features: list[str] | None = None, targets: list[str] | None = None) -> None:
        self.path = str(path)
        self.features = features
        self.targets = targets
        named = [*(features or []), *(targets or [])]
        if duplicates := sorted({name for name in named if named.count(name) > 1}):
            raise InputError(
                f"cannot use column {duplicates[0]!r} of {path} twice; name it once, in features or targets"
            )
        if features == [] or targets == []:
            raise InputError(f"cannot train on {path} without features and targets; name at least one column of each")
        self._names: tuple[list[str], list[str]] | None = None

    def sample(self) -> tuple[Tensor, Tensor]:
        """Read x of shape (N, D) and y of shape (N, K), float64."""
        columns = read_columns(self.path, [*self.features, *self.targets] if self.features and self.targets else None)
        names = list(columns)
        targets = self.targets or [name for name in names if name not in (self.features or [])][-1:]
        features = self.features or [name for name in names if name not in targets]
        if missing := [name for name in (*features, *targets) if name not in columns]:
            raise InputError(f"cannot find column {missing[0]!r} in {self.path}; it has the columns {', '.join(names)}")
        if not features or not targets:
            raise InputError(f"cannot train on {self.path}, because no column is left for features or targets")
        self._names = (features, targets)
        return _stack(columns, features), _stack(columns, targets)

    def _resolved_names(self) -> tuple[list[str], list[str]]:
        if self._names is None:
            self.sample()
        assert self._names is not None
        return self._names

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns to predict from."""
        return self._resolved_names()[0]

    @property
    def target_names(self) -> list[str]:
        """Names of the columns to predict."""
        return self._resolved_names()[1]

    def read_inputs(self, path: str | Path) -> Tensor:
        """Read the feature columns, shape (N, D), float64, from another file; it needs no targets."""
        return _stack(read_columns(path, self.feature_names), self.feature_names)


def _stack(columns: Columns, names: list[str]) -> Tensor:
    return torch.from_numpy(np.stack([columns[name] for name in names], axis=1))
