"""Data frames of no library, by which tests reach what they need of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class PandasLike:
    """Reads columns by their numbers, as pandas does, since labels may be of any type, and occur twice.

    Args:
        values: The columns.
        labels: Their labels.
    """

    def __init__(self, values: Mapping[str, Any], labels: Sequence[Any] | None = None) -> None:
        self._values = list(values.values())
        self.columns = list(values) if labels is None else labels

    @property
    def columns(self) -> Sequence[Any]:
        """The labels."""
        return self._labels

    @columns.setter
    def columns(self, labels: Sequence[Any]) -> None:
        self._labels = labels

    @property
    def iloc(self) -> PandasLike:
        """What is read by numbers."""
        return self

    def __getitem__(self, where: tuple[slice, int]) -> Any:
        return self._values[where[1]][where[0]]


class ArrowLike:
    """A stream of Arrow's columns, as any library of data frames gives it.

    Args:
        table: A table of Arrow.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)
