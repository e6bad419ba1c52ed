"""Memory for the results of compiled updates, and their working memory.

Letters: P parameters.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.engine.chunk import SaveAt
from gd_lightning.engine.fused_layout import Layout

_PIECE = 1 << 24
"""Bytes of a piece of memory that losses are saved in. For large pieces NumPy asks for large pages; to get as much in
small ones can take longer than the updates."""


class Memory:
    """Memory that several chunks share.

    Args:
        kernels: The compiled code.
        layout: The network that is trained.
    """

    def __init__(self, kernels: ModuleType, layout: Layout) -> None:
        self._kernels, self._size = kernels, len(layout.places)
        self._units = 0 if layout.is_linear else layout.units
        self._free = np.empty(0)
        self._scratch: Any = None

    def results(self, save_at: SaveAt, count: int, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Return memory for the results of ``count`` updates, and working memory."""
        size = self._size
        saved = self._kernels.Saved(
            self._losses(count, dtype),
            np.empty((count if save_at.parameters else 0, size), dtype),
            np.empty((count if save_at.gradients else 0, size), dtype),
        )
        if self._scratch is None or self._scratch.gradient.dtype != dtype:
            self._scratch = self._kernels.new_scratch(size, self._units, dtype)
        return saved, self._scratch

    def _losses(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the next slice of a shared buffer, which is freed with its last slice."""
        if count > len(self._free) or self._free.dtype != dtype:
            self._free = np.empty(max(count, min(64 * count, _PIECE // dtype.itemsize)), dtype)
        taken, self._free = self._free[:count], self._free[count:]
        return taken
