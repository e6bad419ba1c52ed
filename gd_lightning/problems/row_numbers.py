"""Detection of columns that only number or name the rows of a table.

R and pandas write one as the first column of CSV files, without a name; pandas puts its index into Parquet files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gd_lightning.problems.column_values import ColumnSummary
from gd_lightning.problems.named_columns import NamedColumns

# The name is empty, or what pandas makes of an empty one.
_NAMELESS = re.compile(r"(unnamed: 0(\.\d+)*)?", re.IGNORECASE)
_USUAL = {"index", "level_0", "id", "rowid", "row_id", "rownames", "row.names", "row_names", "rownumber", "row_number"}


def nameless(name: str) -> bool:
    """Whether a column has no name."""
    return _NAMELESS.fullmatch(name) is not None


def row_numbers(table: NamedColumns, found: Mapping[str, ColumnSummary]) -> tuple[dict[str, str], list[str]]:
    """Find the columns of a table that number or name its rows.

    These are the index that pandas wrote into a Parquet file; a first column without a name that contains distinct
    whole numbers, or text; and a column with one of the usual names that counts from 0 or 1.

    Args:
        table: The columns.
        found: The summaries of the columns.

    Returns:
        The role of each of them, by name; and the columns without a name that contain other values, whose meaning is
        unknown.
    """
    unclear = []
    left_out = dict.fromkeys((name for name in found if name in table.index), "it is the index of the rows")
    for name, column in found.items():
        if name in left_out:
            continue
        if nameless(name):
            if not (name == table.header[0] or name) or not (column.texts or column.kind == "date" or column.differs):
                unclear.append(name)
            else:
                left_out[name] = "it has no name, and names the rows"
        elif name.lower() in _USUAL and column.counts:
            left_out[name] = "it counts the rows"
    return left_out, unclear
