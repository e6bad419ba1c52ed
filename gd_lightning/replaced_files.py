"""Files that are written beside the ones that they replace: no reader sees a part of one, and no crash leaves one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of another file in the same directory, which takes the place of this one unless the context fails.

    Args:
        path: The file, which need not exist yet.
    """
    # Beside the target: only within a file system is a file renamed in one step.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
