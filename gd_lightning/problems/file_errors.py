"""One-line messages on files that cannot be read, whatever library raised the error."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

import pyarrow as pa

from gd_lightning.errors import InputError, first_line


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of a library that reads a file into one line.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    # zipfile has no exception class for a file that is encrypted or compressed by an unknown method;
    # NumPy parses a header as Python.
    except (ValueError, EOFError, RuntimeError, TokenError, zlib.error, zipfile.BadZipFile, csv.Error) as error:
        raise unreadable(path, first_line(error)) from error
    except pa.ArrowException as error:
        raise unreadable(path, first_line(error)) from error
    except OSError as error:
        # A disk that is full while a large table is unpacked is no error of the file; pyarrow's errors have no errno.
        if error.errno is not None and not isinstance(error, (PermissionError, IsADirectoryError)):
            raise
        raise unreadable(path, first_line(error)) from error


def unreadable(path: Path, reason: str) -> InputError:
    """Return the error for a file that does not have the format of its ending."""
    return InputError(f"cannot read the table {path} as {path.suffix}, because {reason}")
