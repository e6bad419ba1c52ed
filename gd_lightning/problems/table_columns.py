"""How columns of a table become features and targets: numbers, booleans, dates, indicators of categories.

A pure function of named columns, whether they are read from a file or are in a frame. Its state are plain values that
a checkpoint holds, so that new rows become features as the rows of the training did.

Letters: N rows, C features and targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.problems.column_values import Values, booleans_of, days_of, values_of
from gd_lightning.problems.named_columns import Block, NamedColumns

Form = Literal["number", "boolean", "date", "categories"]
Missing = Literal["drop", "mean"]


@dataclass(frozen=True)
class Column:
    """How a column becomes features or targets.

    Args:
        name: The name of the column.
        form: The form in which the column is used.
        categories: The values of a column of categories, sorted; each but the first becomes an indicator column.
        means: The value of each feature that replaces missing ones; empty if they are not replaced.
    """

    name: str
    form: Form = "number"
    categories: tuple[str, ...] = ()
    means: tuple[float, ...] = ()

    @property
    def outputs(self) -> list[str]:
        """Names of the features or targets that it gives."""
        return [f"{self.name}={value}" for value in self.categories[1:]] if self.form == "categories" else [self.name]


@dataclass(frozen=True)
class TableColumns:
    """Features and targets of a table.

    Args:
        features: The columns that give the features.
        targets: The columns that give the targets.
        missing: The treatment of rows with a missing value: left out, or filled with means; None: they are refused.
    """

    features: tuple[Column, ...]
    targets: tuple[Column, ...]
    missing: Missing | None = None

    @property
    def feature_names(self) -> list[str]:
        """Names of the D features."""
        return [name for column in self.features for name in column.outputs]

    @property
    def target_names(self) -> list[str]:
        """Names of the K targets."""
        return [name for column in self.targets for name in column.outputs]

    @property
    def is_plain(self) -> bool:
        """Whether each column is taken as the numbers that it holds, and none is missing."""
        return self.missing is None and all(column.form == "number" for column in (*self.features, *self.targets))

    @property
    def inputs(self) -> TableColumns:
        """The features alone."""
        return replace(self, targets=())

    def encode(self, table: NamedColumns) -> Iterator[tuple[Block, NDArray[np.bool_]]]:
        """Yield blocks of features and targets, float64, shape (rows, C), and which rows of the table they are.

        Args:
            table: Columns of these names, among others.

        Raises:
            InputError: A column is not there, or has a value that cannot be used.
        """
        columns = [*self.features, *self.targets]
        names = [table.find(column.name) for column in columns]
        first = 0
        for arrays in table.blocks(names):
            parts, kept = [], np.ones(len(arrays[0]), dtype=bool)
            for i, (column, array) in enumerate(zip(columns, arrays, strict=True)):
                part, missing = _encoded(column, values_of(array, table.decimal), table, first)
                if missing.any():
                    is_target = i >= len(self.features)
                    place = table.place(first + int(np.flatnonzero(missing)[0]))
                    part = self._filled(column, part, missing, is_target, place, table)
                    kept &= ~missing if self.missing == "drop" else True
                parts.append(part)
            first += len(kept)
            block = np.concatenate(parts, axis=1)
            yield (block if kept.all() else block[kept]), kept

    def _filled(
        self, column: Column, part: Block, missing: NDArray[np.bool_], is_target: bool, place: str, table: NamedColumns
    ) -> Block:
        """Return a part of a block with its missing values filled; where rows are dropped, they stay as they are."""
        if self.missing == "drop":
            return part
        if self.missing is None or is_target or not column.means:
            raise InputError(
                f"cannot use column {column.name!r} of {table.label}, because it has no value in {place}; fill it, or "
                "leave the row out"
            )
        part[missing] = column.means
        return part

    def with_means(self, table: NamedColumns) -> TableColumns:
        """Return the columns with the mean of each feature over the rows of a table that have a value."""
        unfilled = replace(self, missing="drop")
        means: list[Column] = []
        for column in self.features:
            sums, count = np.zeros(len(column.outputs)), 0
            for block, _ in replace(unfilled, features=(column,), targets=()).encode(table):
                sums, count = sums + block.sum(axis=0), count + len(block)
            means.append(replace(column, means=tuple((sums / max(count, 1)).tolist())))
        return replace(self, features=tuple(means))

    def state(self) -> dict[str, Any]:
        """Return plain values, which a checkpoint holds."""
        return {
            "missing": self.missing,
            **{
                part: [
                    {
                        "name": column.name,
                        "form": column.form,
                        "categories": list(column.categories),
                        "means": list(column.means),
                    }
                    for column in columns
                ]
                for part, columns in (("features", self.features), ("targets", self.targets))
            },
        }

    @classmethod
    def from_state(cls, state: object) -> TableColumns | None:
        """Return the columns of a state; None if it is none."""
        if not isinstance(state, Mapping):
            return None
        features, targets = (_columns_from(state.get(part)) for part in ("features", "targets"))
        missing = state.get("missing")
        if not features or not targets or missing not in (None, *get_args(Missing)):
            return None
        return cls(features, targets, missing)

    @classmethod
    def of_numbers(cls, features: Sequence[str], targets: Sequence[str]) -> TableColumns:
        """Return columns that are taken as the numbers that they hold."""
        return cls(tuple(map(Column, features)), tuple(map(Column, targets)))


def _columns_from(state: object) -> tuple[Column, ...]:
    """Return the columns of a part of a state; none where it is damaged."""
    found = []
    for each in state if isinstance(state, list) else []:
        if not isinstance(each, Mapping):
            return ()
        name, form, categories, means = (each.get(key) for key in ("name", "form", "categories", "means"))
        if not (isinstance(name, str) and form in get_args(Form)):
            return ()
        if not (_are(categories, str) and _are(means, float)):
            return ()
        found.append(Column(name, cast(Form, form), tuple(categories or ()), tuple(means or ())))
    return tuple(found)


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _encoded(column: Column, values: Values, table: NamedColumns, first: int) -> tuple[Block, NDArray[np.bool_]]:
    """Return the features of a block of a column, shape (rows, outputs), and where they are missing.

    Raises:
        InputError: The column has a value that cannot be used.
    """
    if _is_of_another_kind(column.form, values):
        kinds = {"number": "numbers", "boolean": "yes and no", "date": "dates", "categories": "texts or numbers"}
        raise InputError(
            f"cannot use column {column.name!r} of {table.label}, because it is of "
            f"{f'type {values.arrow_type}' if values.arrow_type else 'numbers'}; give one of {kinds[column.form]}"
        )
    if column.form == "categories":
        return _indicators(column, values, table, first), values.missing
    given = values
    if column.form == "boolean":
        values = booleans_of(values)
    elif column.form == "date":
        values = days_of(values)
    wrong = np.flatnonzero(values.no_numbers)
    if len(wrong):
        row = int(wrong[0])
        _refuse_text(column, given.labels()[row] or "", table, first + row)
    infinite = np.flatnonzero(np.isinf(values.numbers))
    if len(infinite):
        row = int(infinite[0])
        raise InputError(
            f"cannot use column {column.name!r} of {table.label}, because {table.place(first + row)} is "
            f"{values.numbers[row]}; remove or fill the rows that are not finite numbers"
        )
    if values.digits is not None:
        raise inexact(column.name, table, first + values.digits[0], values.digits[1])
    return values.numbers[:, None], values.missing


def _is_of_another_kind(form: Form, values: Values) -> bool:
    """Whether the values of a block would be taken for something that they are not, such as a date for a number."""
    if values.kind == "other":
        return True
    if form == "date":
        return values.kind != "date" and values.texts is None and not values.missing.all()
    return form in ("number", "boolean") and values.kind == "date"


def _refuse_text(column: Column, text: str, table: NamedColumns, row: int) -> None:
    known = {"boolean": "neither yes nor no", "date": "not a date as in 2024-01-31"}.get(column.form, "not a number")
    raise InputError(
        f"cannot use column {column.name!r} of {table.label}, because of {table.place(row)}: {text!r} is {known}; "
        "correct the cell, or leave the row out"
    )


def inexact(name: str, table: NamedColumns, row: int, value: object) -> InputError:
    """Return the exception for a number that float64 cannot hold exactly."""
    return InputError(
        f"cannot use column {name!r} of {table.label}, because {value} in {table.place(row)} has more digits than a "
        "float64 number; leave out a column of identifiers with exclude, or subtract a constant from it"
    )


def _indicators(column: Column, values: Values, table: NamedColumns, first: int) -> Block:
    """Return a column of 0 and 1 for each category but the first."""
    places = {value: i for i, value in enumerate(column.categories)}
    block = np.zeros((len(values.missing), len(column.categories)))
    for row, label in enumerate(values.labels()):
        if label is None:
            continue
        if label not in places:
            shown = ", ".join(column.categories[:10]) + (", ..." if len(column.categories) > 10 else "")
            raise InputError(
                f"cannot use column {column.name!r} of {table.label}, because {label!r} in {table.place(first + row)} "
                f"is not one of its categories in training ({shown}); leave the row out, or train on a table with it"
            )
        block[row, places[label]] = 1
    return block[:, 1:]
