"""Fingerprints of data, which show whether and where they differ from those that a run was trained on.

Letters: N samples, C columns (features, then targets), S sections of neighbouring rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST_SECTIONS = 64
_MOST_MARKS = 4096  # over all sections and columns: bounds the size in a checkpoint to 64 KiB
_ROUNDING = 1e-5  # relative to the mean size of the values: a hundred roundings of float32
_GOLDEN = 0.6180339887498949  # the fractional parts of its multiples differ from row to row


@dataclass(frozen=True)
class Fingerprint:
    """Marks of each column in each section of rows, computed from float64 values whatever the precision of training.

    Data read from a file have the same bits everywhere, and a mark is the beginning of a SHA-256 hash. Computed data
    may be rounded differently on another processor or with another number of threads, and a mark is a pair of sums, of
    the values weighted by their position and of their absolute values, compared up to rounding.

    Args:
        rows: N.
        marks: Hashes, int64, shape (S, C); or sums, float64, shape (S, C, 2).

    Example:
        >>> x = torch.arange(20.0)[:, None]
        >>> before, now = Fingerprint.of(x, 2 * x, True), Fingerprint.of(x, 2 * x + (x > 16), True)
        >>> now.difference(before, ["x", "y"])
        "the values of column 'y' differ from those that the run was trained on, first in row 18"
    """

    rows: int
    marks: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, exact: bool, rows_at_once: int = 8_192) -> Fingerprint:
        """Take the fingerprint of data, piece by piece.

        Args:
            x: Features, shape (N, D).
            y: Targets, shape (N, K).
            exact: Whether the values have the same bits everywhere.
            rows_at_once: The most rows of a piece.
        """
        mark = _hashes if exact else _sums
        columns = x.shape[1] + y.shape[1]
        return cls(len(x), torch.stack([mark(_pieces(x, y, each, rows_at_once), columns) for each in _sections(x, y)]))

    def difference(self, before: Fingerprint, names: Sequence[str] | None = None) -> str:
        """Describe where data differ from those that a run was trained on; "" if they do not.

        Args:
            before: The fingerprint of the data of the run.
            names: Names of the C columns; None: their numbers.
        """
        if self.rows != before.rows:
            return f"there are {self.rows} rows, and the run was trained on {before.rows}"
        columns, columns_before = self.marks.shape[1], before.marks.shape[1]
        if columns != columns_before:
            return f"there are {columns} features and targets, and the run was trained with {columns_before}"
        differs = self._differs(before)
        if differs is None or not differs.any():
            return ""
        section = int(differs.any(dim=1).nonzero()[0])
        column, others = int(differs[section].nonzero()[0]), int(differs.any(dim=0).sum()) - 1
        length = math.ceil(self.rows / len(self.marks))
        first, last = section * length + 1, min((section + 1) * length, self.rows)
        where = f"in row {first}" if first == last else f"in one of the rows {first} to {last}"
        also = f" and of {others} other{'s' * (others > 1)}" * bool(others)
        name = column if names is None else repr(names[column])
        return f"the values of column {name}{also} differ from those that the run was trained on, first {where}"

    def _differs(self, before: Fingerprint) -> Tensor | None:
        """Return which marks differ, shape (S, C); None if the two are of different kinds."""
        if self.marks.shape != before.marks.shape:
            return None
        if not self.marks.is_floating_point():
            return torch.ne(self.marks, before.marks)
        (now, size), (then, _) = self.marks.unbind(dim=2), before.marks.unbind(dim=2)
        # A value near 0 may be the difference of large numbers, with their rounding errors instead of its own.
        return (now - then).abs() > _ROUNDING * torch.maximum(size, size.mean(dim=0))

    def state_dict(self) -> dict[str, Any]:
        """Return the fingerprint as plain values and tensors."""
        return {"rows": self.rows, "marks": self.marks}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Fingerprint | None:
        """Return the fingerprint from its state; None if the state is invalid."""
        rows, marks = state.get("rows"), state.get("marks")
        if not (isinstance(rows, int) and rows > 0 and isinstance(marks, Tensor)):
            return None
        return cls(rows, marks) if (marks.ndim, marks.dtype) in _FORMS and len(marks) else None


_Pieces = Iterator[tuple[int, Tensor]]
_FORMS = ((2, torch.int64), (3, torch.float64))


def _sections(x: Tensor, y: Tensor) -> Iterator[range]:
    """Yield the sections of rows; the last one may be shorter."""
    rows, columns = len(x), x.shape[1] + y.shape[1]
    length = math.ceil(rows / max(1, min(_MOST_SECTIONS, _MOST_MARKS // columns)))
    return (range(start, min(start + length, rows)) for start in range(0, rows, length))


def _pieces(x: Tensor, y: Tensor, section: range, at_once: int) -> _Pieces:
    """Yield the first row of each piece of a section, and the piece in float64, shape (C, rows)."""
    for start in section[::at_once]:
        rows = slice(start, min(start + at_once, section.stop))
        # Adding 0 turns -0 into 0.
        yield start, torch.cat([x[rows].detach().cpu().double().T, y[rows].detach().cpu().double().T]) + 0.0


def _hashes(pieces: _Pieces, columns: int) -> Tensor:
    hashes = [hashlib.sha256() for _ in range(columns)]
    for _, piece in pieces:
        for one, column in zip(hashes, piece.contiguous().numpy(), strict=True):
            one.update(column)
    return torch.from_numpy(np.frombuffer(b"".join(one.digest()[:8] for one in hashes), np.int64).copy())


def _sums(pieces: _Pieces, columns: int) -> Tensor:
    sums = torch.zeros(columns, 2, dtype=torch.float64)
    for start, piece in pieces:
        places = torch.arange(start, start + piece.shape[1], dtype=torch.float64)
        sums += torch.stack([piece @ ((_GOLDEN * places) % 1 + 0.5), piece.abs().sum(dim=1)], dim=1)
    return sums
