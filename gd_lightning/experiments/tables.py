"""Helpers for the tables of comparisons and sweeps: means over seeds, formatting of numbers, CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gd_lightning.escaping import csv_text
from gd_lightning.records.groups import sample_std


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a quantity over the runs that have it.

    Args:
        mean: Mean over the runs that have the quantity; nan if none has it.
        std: Standard deviation of the sample over these runs (divided by n - 1); nan for fewer than two.
        count: Number of runs that have the quantity.
        runs: Number of runs.
    """

    mean: float
    std: float
    count: int = 0
    runs: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Compute mean and standard deviation from the values of all runs, nan if a run has none.

        Example:
            >>> print(Spread.of([1.0, 3.0]), "|", Spread.of([1.0, 3.0, math.nan]), "|", Spread.of([2.0]))
            2 ± 1.4 | 2 ± 1.4 (2 of 3 runs) | 2
        """
        every = np.array(list(values), dtype=np.float64)
        known = every[~np.isnan(every)]
        if not len(known):
            return cls(math.nan, math.nan, 0, len(every))
        if len(known) > 1 and np.ptp(known) <= 1e-12 * np.abs(known).max():  # equal, except for rounding
            return cls(float(known[0]), 0.0, len(known), len(every))
        return cls(float(known.mean()), float(sample_std(known)), len(known), len(every))

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return ""
        spread = f" ± {float(f'{self.std:.2g}'):g}" if self.std > 0 else ""
        return f"{self.mean:.5g}{spread}" + (f" ({self.count} of {self.runs} runs)" if self.count < self.runs else "")


def number(value: float, digits: int) -> str:
    """Return a number with some significant digits as text; "" for nan."""
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as plain values; None instead of nan."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def rows_as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV, with one column per name that occurs in any of them."""
    found = list(rows)
    header = list(dict.fromkeys(name for row in found for name in row))
    return csv_text([header, *([row.get(name) for name in header] for row in found)])


def without_empty_columns(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the lines of a table, the header first, without columns that are empty below the header."""
    used = [i for i in range(len(lines[0])) if i == 0 or any(line[i] for line in lines[1:])]
    return [[line[i] for i in used] for line in lines]
