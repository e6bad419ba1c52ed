"""The directory of a comparison: that of the same unfinished comparison, or a new one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gd_lightning.errors import InputError
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.atomic_writes import write_once
from gd_lightning.tracking.locks import held, in_turn
from gd_lightning.tracking.run_directory import SUMMARY, claim_directory, is_taken, missing_directories, remove_empty
from gd_lightning.tracking.run_files import read_summary
from gd_lightning.tracking.yaml_and_json import ConfigError, plain_copy, read_json_file

PLAN = "compare.json"  # what a comparison is made of
CLAIMS = ".claims"  # of processes that share its members


@contextmanager
def own_directory(given: str | None, logs: Path, name: str, content: Mapping[str, Any]) -> Iterator[Path]:
    """Have the directory of a comparison: where the same one was begun, else a new one.

    Processes that carry out the same comparison have it together. A new one is taken back where only the first run can
    tell that it cannot be made, such as for a metric to monitor that there is not.

    Args:
        given: What a person chose.
        logs: Where it is else.
        name: What it is called there.
        content: What the comparison is made of.

    Raises:
        InputError: The directory that was chosen holds something else, or another process writes something else there.
    """
    plain = plain_copy(content)
    directory, made = _chosen(given, logs, name, plain)
    is_ours = False
    try:
        with held(directory, together=True):
            is_new = bool(made) or _content_of(directory) is None
            _begin(directory, plain)
            is_ours = is_new
            yield directory
    except InputError:
        if is_ours and not any(is_finished(path) for path in directory.iterdir()):
            with contextlib.suppress(InputError), held(directory):  # others may be at work there
                _take_back(directory, made)
        raise


def _chosen(given: str | None, logs: Path, name: str, content: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Return the directory, and what was made for it, the innermost first."""
    parent = logs if given is None else Path(given)
    missing = missing_directories(parent)
    if given is not None:
        _refuse_another(parent, content)
    parent.mkdir(parents=True, exist_ok=True)
    if given is not None:
        return parent, missing
    with in_turn(logs):  # the same command at the same moment finds the directory of this one
        for path in sorted(logs.glob(f"{name}*")):
            if _content_of(path) == content:
                return path, []
        directory = claim_directory(logs, name)
        _begin(directory, content)
    return directory, [directory, *missing]


def _begin(directory: Path, content: Mapping[str, Any]) -> None:
    """Note what a comparison is made of, unless the same is noted there.

    Raises:
        InputError: Something else is there, also where another process has begun it at the same moment.
    """
    _refuse_another(directory, content)
    write_once(directory / PLAN, content)
    _refuse_another(directory, content)


def _take_back(directory: Path, made: Sequence[Path]) -> None:
    """Remove what is in a directory, and of those that were made for it what others have put nothing into."""
    for path in list(directory.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    remove_empty(made)


def _refuse_another(directory: Path, content: object) -> None:
    if _content_of(directory) != content and is_taken(directory):
        raise InputError(
            f"cannot compare in {directory}, because something else is there; give another directory, or the same "
            "options as before"
        )


def _content_of(directory: Path) -> object:
    try:
        return read_json_file(directory / PLAN)
    except ConfigError:
        return None


def is_finished(run: Path) -> bool:
    """Whether a run reached its end, also where it diverged."""
    try:
        summary = read_summary(run / SUMMARY)
    except InputError:
        return False
    return summary is not None and summary["outcome"] != Outcome.INTERRUPTED
