"""Checks of memory-mapped files (layer 1): reading a file that was truncated would kill the process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np


class MappedFile:
    """Checks whether the file of a mapped array has changed since it was mapped.

    The system ends a process that reads a page beyond the end of a file. A file that is deleted, or replaced by another
    one of the same name, is unchanged for processes that have mapped it.

    Args:
        path: The file.
        array: The mapped array.
        before: The state of the file before it was mapped.
    """

    def __init__(self, path: Path, array: np.memmap[Any, Any], before: os.stat_result) -> None:
        self._path, self._before = path, before
        # A map remains the file that was opened, even if that is renamed or removed.
        self._map: Any = vars(array).get("_mmap")

    def __deepcopy__(self, memo: dict[int, Any]) -> MappedFile:
        return self  # copies of the samples share the map

    def check(self) -> None:
        """Check that it can still be read.

        Raises:
            OSError: The file was truncated, or written to.
        """
        if (self._map is not None and self._map.size() < self._before.st_size) or self._is_written():
            raise OSError(errno.EIO, "a change of the table while it was read", str(self._path))

    def _is_written(self) -> bool:
        try:
            now = self._path.stat()
        except OSError:  # the file has been renamed or removed
            return False
        is_same = (now.st_dev, now.st_ino) == (self._before.st_dev, self._before.st_ino)
        return is_same and now.st_mtime_ns != self._before.st_mtime_ns
