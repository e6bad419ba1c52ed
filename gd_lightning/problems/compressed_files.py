"""Compressed text files, by their endings."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from gd_lightning.errors import InputError


def _open_zip(path: Path) -> BinaryIO:
    with zipfile.ZipFile(path) as archive:
        files = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
        if len(files) != 1:
            raise InputError(
                f"cannot read the table {path}, because it contains {len(files)} files; use one with a single file"
            )
        return cast(BinaryIO, archive.open(files[0]))


COMPRESSIONS: dict[str, Callable[[Path], BinaryIO]] = {
    ".gz": lambda path: cast(BinaryIO, gzip.GzipFile(path)),
    ".bz2": lambda path: cast(BinaryIO, bz2.BZ2File(path)),
    ".zst": lambda path: cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression="zstd"))),
    ".zip": _open_zip,
}


def open_binary(path: Path) -> BinaryIO:
    """Open a file to be read; what is compressed is decompressed as it is read."""
    opener = COMPRESSIONS.get(path.suffix.lower())
    return path.open("rb") if opener is None else opener(path)
