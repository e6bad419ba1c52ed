"""The common form of plans: a table with one row per batch size, notes on its columns, and advice."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from gd_lightning.tracking.summary import aligned
from gd_lightning.variants import Variant


class _Row(Protocol):
    @property
    def variant(self) -> Variant: ...

    @property
    def verdict(self) -> object: ...


Row = TypeVar("Row", bound=_Row)


class PlanForm(ABC, Generic[Row]):
    """What is said of a run, and of its neighbours with other batch sizes; one row a batch size."""

    variant: Variant
    rows: list[Row]

    @property
    def configured(self) -> Row:
        """The row of the options as they are."""
        return next(row for row in self.rows if row.variant.batch_size == self.variant.batch_size)

    @property
    @abstractmethod
    def headline(self) -> str:
        """What is said of the training set."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of the table between the updates of an epoch and the verdict, with a cell for each row."""

    @property
    @abstractmethod
    def explanations(self) -> list[str]:
        """What the columns mean, and what the statements hold for, in lines."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a program may read, without the rows and the advice."""

    @abstractmethod
    def facts_of(self, row: Row) -> dict[str, Any]:
        """Return what a program may read of a row."""

    @abstractmethod
    def advice(self) -> str:
        """Return one sentence that says what to do."""

    def as_json(self, map_file: Path | None = None) -> str:
        """Return the plan as JSON for programs; null stands for infinity, and for no file with the map."""
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
        file = None if map_file is None else str(map_file)
        content = {**_finite(self.facts), "rows": rows, "advice": self.advice(), "map": file}
        return json.dumps(content, indent=2, allow_nan=False)

    def table(self, title: str) -> str:
        """Return the plan as a table for a terminal."""
        columns = self.columns
        cells = [["", "batch_size", "updates an epoch", *columns, "verdict"]]
        for row, *shown in zip(self.rows, *columns.values(), strict=True):
            mark, variant = "> " if row is self.configured else "", row.variant
            numbers = [str(variant.batch_size), str(variant.updates_per_epoch)]
            cells.append([f"{mark}{variant.name}", *numbers, *shown, str(row.verdict)])
        lines = [f"{title}: {self.headline}", "", aligned(cells), "", *self.explanations, "", self.advice()]
        return "\n".join(lines)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value in (math.inf, -math.inf) else value for name, value in values.items()}
