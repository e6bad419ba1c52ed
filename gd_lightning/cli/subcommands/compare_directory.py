"""The directory of a comparison: that of the same unfinished comparison, or a new one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gd_lightning.errors import InputError
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.atomic_writes import write_once
from gd_lightning.tracking.locks import held
from gd_lightning.tracking.run_directory import SUMMARY, claim_directory, is_taken, missing_directories, remove_empty
from gd_lightning.tracking.run_files import read_summary
from gd_lightning.tracking.yaml_and_json import ConfigError, plain_copy, read_json_file, read_own_json_lines
from gd_lightning.versions import versions

PLAN = "compare.json"  # the settings that define a comparison
# Its key for the versions of the program that began it; another version continues the same comparison.
_VERSIONS = "versions"
CLAIMS = ".claims"  # file locks of the processes that share its runs
_MADE = "made"  # a file in it: the directories created for a comparison, until one of its processes ends


@contextmanager
def own_directory(given: str | None, logs: Path, name: str, content: Mapping[str, Any]) -> Iterator[Path]:
    """Lock the directory of a comparison: that in which the same one was begun, else a new one.

    Processes that carry out the same comparison share it. A new one is removed again if the first run is refused, for
    example because the metric to monitor does not exist.

    Args:
        given: The directory given by the user, if any.
        logs: The parent of other directories.
        name: The name of other directories.
        content: The settings that define the comparison.

    Raises:
        InputError: The given directory contains something else, or another process writes something else there.
    """
    plain = plain_copy(content)
    directory, made = _chosen(given, logs, name, plain)
    note, is_ours, refused = directory / CLAIMS / _MADE, False, False
    try:
        with held(directory, together=True):
            is_new = bool(made) or _content_of(directory) is None
            _begin(directory, plain)
            if is_new:
                _note(note, made)
            is_ours = is_new
            yield directory
    except InputError:
        refused = True
        noted = _noted(note)  # the last process that is refused removes what all of them have made
        if noted is not None and not _has_results(directory, is_ours):
            with contextlib.suppress(InputError), held(directory):  # other processes may be writing there
                _take_back(directory, noted)
        raise
    finally:
        if not refused:
            note.unlink(missing_ok=True)


def _chosen(given: str | None, logs: Path, name: str, content: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Return the directory, and the directories that were created for it, the innermost first."""
    parent = logs if given is None else Path(given)
    missing = missing_directories(parent)
    if given is not None:
        _refuse_another(parent, content)
    parent.mkdir(parents=True, exist_ok=True)
    if given is not None:
        return parent, missing
    with held(logs, wait=True):  # the same command at the same moment finds the directory of this one
        for path in sorted(logs.glob(f"{name}*")):
            if _content_of(path) == content:
                return path, []
        directory = claim_directory(logs, name)
        _begin(directory, content)
    return directory, [directory, *missing]


def _begin(directory: Path, content: Mapping[str, Any]) -> None:
    """Write the settings of a comparison into its directory, unless it has the same ones already.

    Raises:
        InputError: The directory contains other files, which another process may just have written.
    """
    _refuse_another(directory, content)
    write_once(directory / PLAN, {_VERSIONS: versions(), **content})
    _refuse_another(directory, content)


def _note(note: Path, made: Sequence[Path]) -> None:
    """Note that a comparison has just been begun, and the directories that were created for it."""
    note.parent.mkdir(exist_ok=True)
    with note.open("a") as file:
        file.write(json.dumps([str(path.absolute()) for path in made]) + "\n")


def _noted(note: Path) -> list[Path] | None:
    """Return the directories that all processes have noted, the innermost first; None if none has noted anything."""
    with contextlib.suppress(OSError, ValueError, TypeError):  # another program may have written the file
        made = {Path(path) for paths in read_own_json_lines(note.read_text()) for path in paths}
        around = made.intersection(note.absolute().parents)
        return sorted(around, key=lambda path: len(path.parts), reverse=True)
    return None


def _has_results(directory: Path, is_ours: bool) -> bool:
    """Whether a run is finished, or one that this process has not begun has a checkpoint."""
    with contextlib.suppress(FileNotFoundError):  # another process may have removed the directory meanwhile
        is_kept = not is_ours and any(directory.glob("*/checkpoints/*.ckpt"))
        return is_kept or any(is_finished(path) for path in directory.iterdir())
    return False


def _take_back(directory: Path, made: Sequence[Path]) -> None:
    """Remove the contents of a directory, and those directories created for it that are empty."""
    for path in list(directory.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    remove_empty(made)


def _refuse_another(directory: Path, content: object) -> None:
    if _content_of(directory) != content and is_taken(directory):
        raise InputError(
            f"cannot compare in {directory}, because it contains something else; give another directory, or the same "
            "options as before"
        )


def _content_of(directory: Path) -> object:
    """Return the settings of the comparison in a directory, without the versions that began it; None if it has none."""
    try:
        content = read_json_file(directory / PLAN)
    except ConfigError:
        return None
    return {key: value for key, value in content.items() if key != _VERSIONS} if isinstance(content, dict) else content


def is_finished(run: Path) -> bool:
    """Whether a run reached its end, which includes divergence."""
    try:
        summary = read_summary(run / SUMMARY)
    except InputError:
        return False
    return summary is not None and summary["outcome"] != Outcome.INTERRUPTED
