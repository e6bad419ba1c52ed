"""Run directories: their names and files, and exclusive creation."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gd_lightning.errors import InputError
from gd_lightning.variants import Variant

HISTORY, SUMMARY, CURVES, CONFIG, CHECKPOINTS = (
    "history.csv",
    "summary.json",
    "curves.png",
    "config.yaml",
    "checkpoints",
)
LAST_CHECKPOINT = f"{CHECKPOINTS}/last.ckpt"
EVENTS = "*tfevents*"
"""The pattern of the names of TensorBoard's event files."""
LOGS = "lightning_logs"
"""The directory of runs, within the root directory of a Trainer."""

SWEEPS = "lightning_sweeps"
"""Where the files of TensorBoard of sweeps are, beside those of runs."""


_TAKEN = ".gd_lightning"  # a file that marks the directory of a run which a logger has made
_LONGEST_NAME = 200  # maximum bytes of a name; file systems take 255, and endings such as -2 or .part are added
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|[A-Za-z]+::")  # a single letter and a colon are a drive of Windows
_RESERVED = re.compile(r'[<>:"/\\|?*]+')  # characters that Windows does not allow in names
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])")


def run_name(problem: str, variant: Variant, lr: float, seed: int) -> str:
    """Return a readable name of a run.

    Example:
        >>> run_name("SteepLine", Variant.of(16, 100), 0.04, 0)
        'SteepLine-mini-batch-b16-lr0.04-seed0'
    """
    return f"{problem}-{variant.name}-b{variant.batch_size}-lr{lr:g}-seed{seed}"


def is_taken(directory: Path) -> bool:
    """Whether a directory that was chosen for files contains others, or is something else, such as a link."""
    return os.path.lexists(directory) and (not directory.is_dir() or any(directory.iterdir()))


def free_name(parent: Path, name: str, ending: str = "") -> str:
    """Return name + ending, or the first of name-2, name-3, ... that is not used in the parent directory.

    The name of a symbolic link is used even if its target does not exist.
    """
    return first_free(name, lambda candidate: os.path.lexists(parent / candidate), ending)


def first_free(name: str, is_taken: Callable[[str], bool], ending: str = "") -> str:
    """Return name + ending, or the first of name-2, name-3, ... that is not taken.

    Args:
        name: The name.
        is_taken: Whether a name with its ending is already used.
        ending: The part after the number.

    Example:
        >>> first_free("loss", {"loss", "loss-2"}.__contains__)
        'loss-3'
    """
    candidate, number = name + ending, 1
    while is_taken(candidate):
        number += 1
        candidate = f"{name}-{number}{ending}"
    return candidate


def claim_directory(parent: Path, name: str) -> Path:
    """Create the directory with the first free name, exclusively among all running processes."""
    return _claim(parent, name, "", Path.mkdir)


def claim_file(parent: Path, name: str, ending: str) -> Path:
    """Create an empty file with the first free name, like :func:`claim_directory`."""
    return _claim(parent, name, ending, lambda file: file.touch(exist_ok=False))


@contextmanager
def new_file(parent: Path, name: str, ending: str) -> Iterator[Path]:
    """Claim a file like :func:`claim_file`, to be written in this context; if that fails, it is removed again."""
    path = claim_file(parent, name, ending)
    try:
        yield path
    except BaseException:
        path.unlink()
        raise


def _claim(parent: Path, name: str, ending: str, make: Callable[[Path], None]) -> Path:
    name = portable_name(name)
    while True:
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / free_name(parent, name, ending)
        try:
            make(path)
        except (FileExistsError, FileNotFoundError):  # the name is taken, or the parent has been removed
            continue
        return path


def missing_directories(path: Path) -> list[Path]:
    """Return the directories that must be created for a path to exist, the innermost first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def remove_empty(directories: Iterable[Path]) -> None:
    """Remove empty directories, the innermost first."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def claim_within(parent: Path, name: str) -> Path:
    """Claim a directory, which a logger may have created already, for the files of one run.

    Returns:
        The directory, or a new one beside it if it has, or is about to get, the files of another run.
    """
    directory = parent / name
    directory.mkdir(parents=True, exist_ok=True)
    if not any(os.path.lexists(directory / file) for file in (HISTORY, SUMMARY, LAST_CHECKPOINT)):
        try:
            (directory / _TAKEN).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            return directory
    return claim_directory(parent, name)


def portable_name(name: str, otherwise: str = "run") -> str:
    r"""Return a name of a file or directory that Windows has, too, where it is one at all.

    Windows reserves characters and the names of devices, whatever ending these have, and drops spaces and full stops at
    the end. What is too long for a file system is cut.

    Args:
        name: Any text, without an ending that is added to it.
        otherwise: The name of what has none.

    Source:
        https://learn.microsoft.com/windows/win32/fileio/naming-a-file

    Example:
        >>> portable_name("lr 0.1: a/b?"), portable_name("aux.csv"), portable_name("...")
        ('lr 0.1- a-b-', '_aux.csv', 'run')
    """
    plain = "".join(letter if letter.isprintable() else "-" for letter in _RESERVED.sub("-", name))
    short = plain.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore").lstrip().rstrip(" .")
    return f"_{short}" if _DEVICES.fullmatch(short.partition(".")[0].rstrip()) else short or otherwise


def inside(parent: Path, name: str) -> Path:
    r"""Return the directory of a name, which may contain any characters, within a parent.

    It is split at slashes, without parts that would lead out of the parent; see :func:`portable_name` for the rest.

    Example:
        >>> inside(Path("logs"), "/../a:1/./b").as_posix()
        'logs/a-1/b'
    """
    return parent.joinpath(*(portable_name(part) for part in name.split("/") if part.strip() not in ("", ".", "..")))


def is_name_of_a_directory(name: str) -> bool:
    """Whether a name that a person gives, in which slashes part it, can be that of a directory within another one."""
    parts = ("".join(letter for letter in part if letter.isprintable()) for part in name.split("/"))
    short = (part.encode("utf-8")[:_LONGEST_NAME].decode("utf-8", "ignore") for part in parts)
    is_one = Path(*(part for part in short if part not in ("", ".", ".."))) == Path(name)
    return is_one and (os.name != "nt" or inside(Path(), name) == Path(name))


def as_path(given: object) -> Path:
    """Return a value as a path of this machine.

    Raises:
        InputError: The value is neither text nor a path.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise _no_path(given, "it is not text")
    path = Path(given)
    if "\0" in str(path):
        raise _no_path(given, "it contains a NUL")
    if _ADDRESS.match(str(given)):
        raise _no_path(given, "it is the address of another place than this machine")
    try:
        path.exists()
    except OSError as error:  # the path is too long, or has symbolic links that point to each other
        raise _no_path(given, f"of {str(error.strerror).lower()}") from error
    return path


def as_directory(given: object) -> Path:
    """Return what was given as a path where a directory is, or can be made.

    Raises:
        InputError: The path is invalid, or a file of this name exists.
    """
    path = as_path(given)
    nearest = next((each for each in (path, *path.parents) if each.exists() or each.is_symlink()), path)
    if not nearest.is_dir() and (nearest.exists() or nearest.is_symlink()):
        raise _no_path(given, f"{nearest} is not a directory")
    return path


def _no_path(given: object, reason: str) -> InputError:
    return InputError(f"cannot use {str(given)[:50]!r} as a path, because {reason}; give the name of a directory")
