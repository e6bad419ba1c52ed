"""Samples as arrays for compiled code, with a copy of the features one after the other where that saves time.

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.engine.chunk import Chunk
from gd_lightning.engine.fused_layout import Layout
from gd_lightning.errors import InputError, ShapeError

LARGE = 1 << 18
"""Features in a batch from which on threads take less time than one."""

_PASSES_OF_COLUMNS = 4
"""Passes over the samples from which on a copy of the features, one after the other, saves more time than it takes."""


class SampleArrays:
    """Gives the samples of chunks to compiled code.

    Args:
        kernels: The compiled code.
        layout: The network that is trained.
    """

    def __init__(self, kernels: ModuleType, layout: Layout) -> None:
        self._kernels, self._layout = kernels, layout
        self._kept: _Kept | None = None

    def of_chunk(self, chunk: Chunk, dtype: torch.dtype) -> Any:
        """Return the samples of a chunk as arrays that the compiled code, which checks nothing, can read.

        Raises:
            ShapeError: The samples do not fit the network.
            InputError: The samples have another precision, or the rows are not an order of them.
        """
        x, y, rows, samples = chunk.x, chunk.y, chunk.rows, chunk.variant.train_samples
        widths = int(self._layout.layers[0, 0]), int(self._layout.layers[-1, 1])
        if x.ndim != 2 or y.ndim != 2 or (x.shape[1], y.shape[1]) != widths or min(len(x), len(y)) < samples:
            raise ShapeError(
                f"a network from {widths[0]} features to {widths[1]} outputs cannot be trained on {samples} samples "
                f"with features of shape {tuple(x.shape)} and targets of shape {tuple(y.shape)}; they must be (N, D) "
                "and (N, K)"
            )
        if {x.dtype, y.dtype} != {dtype}:
            raise InputError(f"a network of {dtype} cannot be trained on {x.dtype} and {y.dtype}; convert the data")
        if rows is not None and len(rows) < samples * -(-chunk.stop // chunk.per_epoch):
            raise InputError(f"cannot use {len(rows)} rows as the order of {samples} samples; give each sample once")
        arrays = self.arrays(x, y, rows)
        return arrays._replace(columns=self._columns_of(chunk, arrays.x)) if self._reads_columns(chunk) else arrays

    def _reads_columns(self, chunk: Chunk) -> bool:
        """Whether the features are read one after the other, in updates or in measuring the train loss."""
        is_read = chunk.ends is not None or (chunk.rows is None and chunk.variant.batch_size > 1)
        return is_read and self._layout.is_linear and 1 < chunk.x.shape[1] < self._kernels.SHORT

    def _columns_of(self, chunk: Chunk, x: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of the features, one after the other, where that is worth it; else an empty array."""
        passes = chunk.updates * chunk.variant.batch_size / max(1, len(x))
        if chunk.variant.batch_size * x.shape[1] < LARGE:
            return x.T.ravel() if passes >= _PASSES_OF_COLUMNS else x.reshape(-1)[:0]
        # A chunk of batches this large has few updates, so the copy is kept as long as the features are the same.
        if self._kept is None or self._kept.x is not chunk.x or self._kept.version != chunk.x._version:
            self._kept = _Kept(chunk.x, chunk.x._version, x.reshape(-1)[:0])
        self._kept.passes += passes
        if not len(self._kept.columns) and self._kept.passes >= _PASSES_OF_COLUMNS:
            self._kept.columns = x.T.ravel()
        return self._kept.columns

    def arrays(self, x: Tensor, y: Tensor, rows: Tensor | None = None) -> Any:
        """Return samples for the compiled code, without a copy of the features one after the other."""
        order = np.empty(0, np.int64) if rows is None else rows.contiguous().numpy()
        features = x.contiguous().numpy()
        return self._kernels.Samples(features, y.contiguous().numpy(), order, features.reshape(-1)[:0])

    def is_large(self, chunk: Chunk) -> bool:
        """Whether several threads make an update."""
        return self._layout.is_linear and chunk.variant.batch_size * chunk.x.shape[1] >= LARGE


@dataclass
class _Kept:
    """Features x, their version when they were first read, a copy of them one after the other, and passes over them."""

    x: Tensor
    version: int
    columns: NDArray[Any]
    passes: float = 0.0
