"""The common form of plans: a table with one row per batch size, notes on its columns, and advice."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from matplotlib.figure import Figure

from gd_lightning.escaping import in_one_line
from gd_lightning.experiments.html_report import as_html
from gd_lightning.tracking.summary import aligned
from gd_lightning.variants import Variant


class _Row(Protocol):
    @property
    def variant(self) -> Variant: ...

    @property
    def verdict(self) -> object: ...


Row = TypeVar("Row", bound=_Row)


class PlanForm(ABC, Generic[Row]):
    """A plan for a run and for the same run with other batch sizes, one row per batch size.

    Printing it shows the table and the advice; a notebook also shows the map of outcomes, if there is one.
    """

    title: str
    variant: Variant
    rows: list[Row]

    @property
    def configured(self) -> Row:
        """The row of the configured batch size."""
        return next(row for row in self.rows if row.variant.batch_size == self.variant.batch_size)

    @property
    @abstractmethod
    def headline(self) -> str:
        """One line that describes the training set."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of the table between the updates per epoch and the verdict, with one cell per row."""

    @property
    @abstractmethod
    def explanations(self) -> list[str]:
        """The meaning of the columns, and the conditions of the statements, as lines."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The values of the plan for programs, without the rows and the advice."""

    @abstractmethod
    def facts_of(self, row: Row) -> dict[str, Any]:
        """Return the values of a row for programs."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """One sentence that says what to do."""

    @property
    @abstractmethod
    def why_no_map(self) -> str:
        """The reason why there is no map of outcomes; "" if there is one."""

    @abstractmethod
    def plot(self) -> Figure:
        """Draw the map of outcomes with the configured run on it.

        Raises:
            InputError: There is no map.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as the plain values that ``plan --json`` prints; None stands for infinity."""
        rows = [
            {
                "variant": row.variant.name,
                "batch_size": row.variant.batch_size,
                "configured": row is self.configured,
                "updates_per_epoch": row.variant.updates_per_epoch,
                **_finite(self.facts_of(row)),
                "verdict": str(row.verdict),
            }
            for row in self.rows
        ]
        return {**_finite(self.facts), "rows": rows, "advice": self.advice}

    def as_json(self, map_file: Path | None = None) -> str:
        """Return the plan as JSON for programs; null stands for infinity, and for a map that was not drawn."""
        content = {**self.to_dict(), "map": None if map_file is None else str(map_file)}
        return json.dumps(content, indent=2, allow_nan=False)

    def __str__(self) -> str:
        lines = [f"{in_one_line(self.title)}: {self.headline}", "", aligned(self._cells()), "", *self.explanations]
        return "\n".join([*lines, "", self.advice])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.title}: {self.advice}>"

    def _repr_html_(self) -> str:
        """Return table, advice and map for a notebook."""
        figure = None if self.why_no_map else self.plot()
        return as_html(f"{self.title}: {self.headline}", self._cells(), [self.advice, *self.explanations], figure)

    def _cells(self) -> list[list[str]]:
        columns = self.columns
        cells = [["", "batch_size", "updates per epoch", *columns, "verdict"]]
        for row, *shown in zip(self.rows, *columns.values(), strict=True):
            mark, variant = "> " if row is self.configured else "", row.variant
            numbers = [str(variant.batch_size), str(variant.updates_per_epoch)]
            cells.append([f"{mark}{variant.name}", *numbers, *shown, str(row.verdict)])
        return cells


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value in (math.inf, -math.inf) else value for name, value in values.items()}
