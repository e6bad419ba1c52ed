"""Checkpoint files: atomic writes, and loading of plain values and tensors only."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.replaced_files import replacing

_PART = ".part"
_PLAIN = (type(None), bool, float, str)
# Values of a checkpoint that are checked, and bits of whole numbers that are read.
_MOST_LOOKED_AT, _INTEGER_BITS = 100_000, 64
_ABANDONED = 3600.0  # seconds after which a temporary file counts as abandoned


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically: at any moment the file is the previous or the new one.

    Args:
        checkpoint: The checkpoint.
        path: The file, whose directory is created if necessary.

    Raises:
        OSError: The file cannot be written; a previous file is not changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        content = _ForTorch(file)
        torch.save(checkpoint, content)  # type: ignore[arg-type]  # it writes to whatever has these methods
        if content.error is not None:
            raise content.error
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)


class _ForTorch:
    """A file for torch's writer, which ends the process where a file raises an error; this one keeps it for later.

    So a checkpoint is not in memory a second time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes | memoryview) -> int:
        """Write, unless that has failed before; returns how much was, or would have been, written."""
        if self.error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        """Do nothing: the file is flushed after everything is written."""


def _sync_directory(directory: Path) -> None:
    """Sync a directory, so that a renaming survives a power loss."""
    if os.name == "posix":  # on Windows, a directory cannot be opened
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def clear_parts(directory: Path) -> None:
    """Remove temporary files of a process that was killed while writing."""
    for part in directory.glob(f".*{_PART}"):
        process = part.name.split(".")[-2]
        if not (process.isdigit() and _may_write(int(process), part)):
            part.unlink(missing_ok=True)


def _may_write(process: int, part: Path) -> bool:
    """Whether a process may be writing a file: it runs, as Linux tells; elsewhere, the file is of the last hour."""
    if platform.system() == "Linux":
        return Path(f"/proc/{process}").exists()
    with contextlib.suppress(OSError):
        return time.time() - part.stat().st_mtime < _ABANDONED
    return False


def read_checkpoint(path: Path) -> Any:
    """Read a checkpoint as plain values and tensors only, so that no code in it can run.

    Raises:
        InputError: The file cannot be read, is damaged, or contains more.
    """
    try:
        return _load(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the checkpoint {path}, because of {reason}; {way_out(path)}") from error
    except Exception as error:  # a damaged file may make the loader raise anything
        raise InputError(
            f"cannot load the checkpoint {path}, because it is damaged or contains more than plain values and tensors; "
            f"{way_out(path)}"
        ) from error


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def certainly_loads(checkpoint: object) -> bool:
    """Whether a checkpoint has nothing but values that :func:`read_checkpoint` reads; False where that is not certain.

    To read one takes longer than to train a short run.

    Args:
        checkpoint: The checkpoint, before it is written.
    """
    pending: list[Any] = [checkpoint]
    seen = 0
    while pending:
        item = pending.pop()
        seen += 1
        kind = type(item)
        if seen > _MOST_LOOKED_AT:  # the checkpoint is too large, or contains itself
            return False
        if kind in (dict, OrderedDict):
            pending += [*item, *item.values()]
        elif kind in (list, tuple):
            pending += item
        elif kind is Tensor:
            if item.layout != torch.strided or item.is_quantized or vars(item):
                return False
        elif kind is int:
            if item.bit_length() > _INTEGER_BITS:
                return False
        elif kind not in _PLAIN:  # not all subclasses, such as NumPy's float64, can be read
            return False
    return True


def is_checkpoint(content: object) -> bool:
    """Whether an object read from a file is a checkpoint of a module."""
    return isinstance(content, dict) and {"state_dict", "hyper_parameters"} <= set(content)


def way_out(path: Path) -> str:
    """Return advice for a damaged checkpoint: name the newest valid one in its directory, if any."""
    others = (other for other in path.parent.glob("*.ckpt") if other != path and other.is_file())
    for other in sorted(others, key=lambda other: other.stat().st_mtime, reverse=True):
        with contextlib.suppress(Exception):  # another checkpoint may be damaged, too
            if is_checkpoint(_load(other)):
                return f"give another one, such as {other}"
    return "give another one, or train again"
