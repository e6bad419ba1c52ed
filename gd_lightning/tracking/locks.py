"""Locks of directories and files, for which processes that write at the same time wait, or are refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from gd_lightning.errors import InputError

if sys.platform != "win32":
    import fcntl

_EMPTY_FILE = os.O_RDWR | os.O_CREAT  # flags to open a file that is only locked


@contextmanager
def held(directory: Path, together: bool = False, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing into a directory in this context; a killed process leaves no lock.

    Args:
        directory: The directory, which is created if necessary.
        together: Whether processes that also set this may write there at the same time.
        wait: Whether to wait until the others have ended.

    Raises:
        InputError: Another process is writing there, and it is not waited for.
    """
    with _locked(directory, os.O_RDONLY, together, wait) as ours:
        if not ours:
            raise InputError(
                f"cannot write into {directory}, because another process is writing there; wait until it has ended, "
                "or use another directory"
            )
        yield


def in_turn(file: Path) -> AbstractContextManager[object]:
    """Wait until no other process is in this context for the same empty file, which is created with its directory.

    Who is in it may remove the file and the directory.
    """
    return _locked(file, _EMPTY_FILE, together=False, wait=True)


def claimed(file: Path) -> AbstractContextManager[bool]:
    """Claim an empty file, if no other process has; a killed process gives up its claims.

    Network file systems lock only files that can be written to, and so no directories.

    Args:
        file: The file, which is created with its directory if necessary.

    Returns:
        A context that yields whether this process has the claim now.
    """
    return _locked(file, _EMPTY_FILE, together=False, wait=False)


@contextmanager
def _locked(path: Path, access: int, together: bool, wait: bool) -> Iterator[bool]:
    """Lock a file or directory in this context, or until the process is killed; yield whether that succeeded.

    If the system or the file system has no locks, every process may continue.
    """
    if sys.platform == "win32":  # Windows has no locks of this kind
        yield True
        return
    kind = fcntl.LOCK_SH if together else fcntl.LOCK_EX
    while True:
        handle, ours = _opened(path, access), True
        try:
            try:
                fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                ours = False
            except OSError:  # the file system has no locks
                pass
            if not ours or _is_still_there(handle, path):
                yield ours
                return
        finally:
            os.close(handle)


def _opened(path: Path, access: int) -> int:
    while True:
        if access == _EMPTY_FILE:
            path.parent.mkdir(exist_ok=True)
        else:
            path.mkdir(parents=True, exist_ok=True)
        # Another process that has finished, or has failed, may remove the directory meanwhile.
        with suppress(FileNotFoundError):
            return os.open(path, access, 0o666)


def _is_still_there(handle: int, path: Path) -> bool:
    """Whether a name still is that of an open file: who had the lock before may have removed it, and others made it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
