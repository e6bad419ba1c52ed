"""The problem for the user's own data in a table file."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from gd_lightning.errors import DataWarning, InputError
from gd_lightning.problems.mapped_file import MappedFile
from gd_lightning.problems.problem import Problem

if TYPE_CHECKING:  # pyarrow takes 0.2 s of the start of every command, and only tables need it
    from gd_lightning.problems.column_choice import ChosenColumns
    from gd_lightning.problems.named_columns import NamedColumns
    from gd_lightning.problems.table_columns import Column, TableColumns

Names = Sequence[str | int] | str | int | None
_SHOWN = 8  # columns in a description


class Table(Problem):
    """Columns of a table in a file: CSV and its kin, Parquet, Feather, ORC, JSON lines, Excel, NumPy.

    A large file is mapped: ``.npy`` directly, the others from a temporary file that they are unpacked into, in the
    directory that TMPDIR names. Its samples are loaded where half of the free memory is enough for them.

    Args:
        path: The file: ``.csv``, ``.tsv``, ``.txt`` or ``.data`` (each also ``.gz``, ``.bz2``, ``.zst``, ``.zip``),
            ``.parquet``, ``.feather``, ``.arrow``, ``.orc``, ``.jsonl``, ``.xlsx``, ``.npy``, ``.npz``, or a folder of
            Parquet files. Columns without names are called 0, 1, ...; in ``.npz`` each one-dimensional array is a
            column, and a two-dimensional array x gives x0, x1, ...
        features: Names or numbers of the columns to predict from; null: all that are not targets and do not number the
            rows.
        targets: Names or numbers of the columns to predict; null: the last column.
        exclude: Names or numbers of columns to leave out.
        categories: Columns whose values become indicator columns, one for each but the first; auto: each text of few
            values.
        dates: Columns of dates that become days since 1970-01-01; auto: all of them.
        missing: The treatment of rows with a missing value: drop leaves them out, mean fills them with the mean of the
            column; null: they are refused.
        header: Whether the first line of a text file holds the names of the columns; null: as it looks.

    Raises:
        InputError: There are no features or no targets, or ``missing`` is unknown.
    """

    map_above: int = 16 * 2**20
    """A table of more bytes than these is mapped."""

    is_read = True

    def __init__(
        self,
        path: str,
        features: Names = None,
        targets: Names = None,
        exclude: Names = None,
        categories: Names = None,
        dates: Names = None,
        missing: Literal["drop", "mean"] | None = None,
        header: bool | None = None,
    ) -> None:
        self.path = str(path)
        self.features, self.targets, self.exclude = features, targets, exclude
        self.categories, self.dates, self.missing, self.header = categories, dates, missing, header
        if features == [] or targets == []:
            raise InputError(f"cannot train on {path} without features and targets; name at least one column of each")
        if missing not in (None, "drop", "mean"):
            raise InputError(f"missing {missing!r} is unknown; use drop, mean or null")
        self._columns: TableColumns | None = None
        self._chosen: ChosenColumns | None = None
        self._rows = 0
        self._takes_all = False
        self._mapped = False
        self._file: MappedFile | None = None

    def check_source(self) -> None:
        """See whether a large file is still what was mapped.

        Raises:
            OSError: The file has changed.
        """
        if self._file is not None:
            self._file.check()

    def sample(self) -> tuple[Tensor, Tensor]:
        """Read x of shape (N, D) and y of shape (N, K), float64, or float32 where a mapped file has it."""
        from gd_lightning.problems.file_errors import explained
        from gd_lightning.problems.table_files import read_table

        path = Path(self.path)
        before = path.stat() if path.is_file() else None
        with explained(path):
            table = self._open()
            columns = self._columns or self._choose(table)
            found, _ = read_table(table, columns, self.map_above)
        self._mapped, self._rows = isinstance(found, np.memmap), len(found)
        # Unpacked data are mapped from a file without a name, which no other program can change.
        self._file = None
        if isinstance(found, np.memmap) and found.filename is not None and before is not None:
            self._file = MappedFile(path, found, before)
        n_features = len(columns.feature_names)
        x, y = found[:, :n_features], found[:, n_features:]
        if not self._mapped:
            x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        return torch.from_numpy(x), torch.from_numpy(y)

    @property
    def mapped(self) -> bool:
        """Whether the file is mapped because it is large; known once it is read."""
        return self._mapped

    @property
    def label(self) -> str:
        """The name of the data in messages."""
        return f"the table {self.path}"

    @property
    def description(self) -> str:
        """What was read, in one line: rows, columns and what they are taken for; "" before that."""
        columns, chosen = self._columns, self._chosen  # of a checkpoint's columns, nothing was found out
        if columns is None or not self._rows:
            return ""
        targets, features = (_with_forms(part) for part in (columns.targets, columns.features))
        of = "" if chosen is None or chosen.rows == self._rows else f" of {chosen.rows}"
        parts = [f"{self._rows}{of} rows of {self.path}: {targets} from {features}"]
        parts += [] if chosen is None else chosen.notes
        return "; ".join([*parts, *(["rows with a missing value are left out"] if of else [])])

    def by_names(self, features: Sequence[str], targets: Sequence[str]) -> Table:
        """Return the table with the columns that a run was trained on, selected by name, in the run's order."""
        from gd_lightning.problems.table_columns import TableColumns

        if self._columns is not None and (list(features), list(targets)) == (self.feature_names, self.target_names):
            return self
        return self._with_columns(TableColumns.of_numbers(features, targets))

    def with_row_numbers(self) -> Table:
        """Return the table with the columns that number its rows, as runs had it before these were left out."""
        table = copy.copy(self)
        table._columns, table._chosen, table._takes_all = None, None, True
        return table

    def columns_state(self) -> dict[str, Any]:
        """Return how columns become features and targets, as plain values for a checkpoint; {} before they are read."""
        return {} if self._columns is None else self._columns.state()

    def with_columns_state(self, state: Any) -> Table:
        """Return the table with the columns of a checkpoint; the same table if there are none."""
        from gd_lightning.problems.table_columns import TableColumns

        columns = TableColumns.from_state(state)
        return self if columns is None or columns == self._columns else self._with_columns(columns)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the constructor arguments by name; those that tables had later only where they are given.

        So data are the same as those of an earlier version's run, if they are.
        """
        first = ("path", "features", "targets")
        return {name: value for name, value in super().hyperparameters().items() if name in first or value is not None}

    def _with_columns(self, columns: TableColumns) -> Table:
        table = copy.copy(self)
        table._columns, table._chosen = columns, None
        return table

    def _open(self) -> NamedColumns:
        from gd_lightning.problems.table_files import open_table

        return open_table(self.path, self.header)

    def _choose(self, table: NamedColumns) -> TableColumns:
        """Choose features and targets, and say what is left out."""
        from gd_lightning.problems.column_choice import ColumnOptions, choose

        options = ColumnOptions(self.features, self.targets, self.exclude, self.categories, self.dates, self.missing)
        self._chosen = chosen = choose(table, options, self._takes_all)
        self._columns = chosen.columns
        if chosen.left_out:
            reasons = ", ".join(f"column {name!r} ({why})" for name, why in chosen.left_out.items())
            warnings.warn(
                f"{self.path} is used without {reasons}; name it in features to use it", DataWarning, stacklevel=2
            )
        return chosen.columns

    def _resolved(self) -> TableColumns:
        if self._columns is None:
            from gd_lightning.problems.file_errors import explained

            with explained(Path(self.path)):
                return self._choose(self._open())
        return self._columns

    @property
    def feature_names(self) -> list[str]:
        """Names of the features: of columns, and of indicators such as ``color=red``."""
        return self._resolved().feature_names

    @property
    def target_names(self) -> list[str]:
        """Names of the columns to predict."""
        return self._resolved().target_names

    def read_inputs(self, path: str | Path) -> Tensor:
        """Read the features, shape (N, D), from another file; it needs no targets."""
        from gd_lightning.problems.file_errors import explained
        from gd_lightning.problems.table_files import open_table, read_table

        with explained(Path(path)):
            found, _ = read_table(open_table(path, self.header), self._resolved().inputs, self.map_above)
        return torch.from_numpy(np.ascontiguousarray(found))

    def rows_as_given(self, path: str | Path | None = None) -> Iterator[tuple[Sequence[object], bool]]:
        """Yield the names of all columns, then each row with its cells as they were given, and whether it is used.

        Args:
            path: Another table with the columns of the features; None: this one.
        """
        from gd_lightning.problems.file_errors import explained
        from gd_lightning.problems.table_files import open_table

        columns = self._resolved()
        with explained(Path(path or self.path)):
            table = self._open() if path is None else open_table(path, self.header)
            yield table.header, True
            kept = (
                is_kept for _, block in (columns if path is None else columns.inputs).encode(table) for is_kept in block
            )
            yield from zip(table.rows(), map(bool, kept), strict=True)


def _with_forms(columns: Sequence[Column]) -> str:
    """Return the names of columns, with what they are taken for."""
    words = {"boolean": " (no and yes as 0 and 1)", "date": " (days since 1970-01-01)", "number": ""}
    texts = []
    for column in columns[:_SHOWN]:
        form = f" ({len(column.categories)} categories, reference {column.categories[0]})" if column.categories else ""
        texts.append(f"{column.name}{form or words.get(column.form, '')}")
    return ", ".join(texts) + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")
