"""Detection of columns that only number or name the rows of a table.

R and pandas write one in front of every CSV file, without a name; pandas puts its index into Parquet files.
"""

from __future__ import annotations

import re

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.problems.named_columns import TableFile

_NAMELESS = re.compile(r"(unnamed: 0(\.\d+)*)?", re.IGNORECASE)  # as written, and as pandas calls it when it reads it
_USUAL = {"index", "level_0", "id", "rowid", "row_id", "rownames", "row.names", "row_names", "rownumber", "row_number"}


def row_numbers(table: TableFile) -> tuple[dict[str, str], list[str]]:
    """Find the columns of a table that number or name its rows.

    These are the index that pandas wrote into a Parquet file, whatever it is; a first column without a name that holds
    different whole numbers, or text; and a column with one of the usual names that counts from 0 or 1.

    Args:
        table: An open table.

    Returns:
        What each of them is, by name; and the columns without a name that hold other values, so that nobody can tell
        what they are.
    """
    unclear, index = [], set(table.index)
    found = dict.fromkeys((name for name in table.names if name in index), "it is the index of the rows")
    for position, name in enumerate(table.names):
        if name in found:
            continue
        if _NAMELESS.fullmatch(name):
            if not (position == 0 or name) or not _names_rows(table, name):
                unclear.append(name)
            else:
                found[name] = "it has no name, and names the rows"
        elif name.lower() in _USUAL and _counts(table, name):
            found[name] = "it counts the rows"
    return found, unclear


def _counts(table: TableFile, name: str) -> bool:
    """Whether a column is 0, 1, 2, ... or 1, 2, 3, ..."""
    rows, first = 0, None
    try:
        for block in table.blocks([name]):
            first = block[0, 0] if first is None else first
            if first not in (0, 1) or not np.array_equal(block[:, 0], first + rows + np.arange(len(block))):
                return False
            rows += len(block)
    except InputError:
        return False
    return rows > 0


def _names_rows(table: TableFile, name: str) -> bool:
    """Whether a column holds different whole numbers, as an index does that was sorted or filtered, or text."""
    try:
        values = np.concatenate([np.empty(0), *(block[:, 0] for block in table.blocks([name]))])
    except InputError:
        return True
    return bool(np.array_equal(values, np.floor(values))) and len(np.unique(values)) == len(values)
