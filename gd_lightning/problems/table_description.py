"""The line that says what was read of a table, and as what."""

from __future__ import annotations

from collections.abc import Sequence

from gd_lightning.problems.column_choice import ChosenColumns
from gd_lightning.problems.table_columns import Column, TableColumns

_SHOWN = 8  # columns


def described(columns: TableColumns, chosen: ChosenColumns | None, label: str, rows: int) -> str:
    """Say in one line what was read of a table, and as what.

    Args:
        columns: Its features and targets.
        chosen: What was found out when they were chosen; None where a checkpoint says which they are.
        label: What it is called.
        rows: How many of its rows are used.
    """
    targets, features = (_with_forms(part) for part in (columns.targets, columns.features))
    of = "" if chosen is None or chosen.rows == rows else f" of {chosen.rows}"
    parts = [f"{rows}{of} rows of {label}: {targets} from {features}", *(() if chosen is None else chosen.notes)]
    if of:
        parts.append("rows with a missing value are left out")
    return "; ".join(parts)


def _with_forms(columns: Sequence[Column]) -> str:
    words = {"boolean": " (no and yes as 0 and 1)", "date": " (days since 1970-01-01)", "number": ""}
    texts = []
    for column in columns[:_SHOWN]:
        form = f" ({len(column.categories)} categories, against {column.categories[0]})" if column.categories else ""
        texts.append(f"{column.name}{form or words.get(column.form, '')}")
    return ", ".join(texts) + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")
