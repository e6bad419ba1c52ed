"""The directory of a comparison: that of the same unfinished comparison, or a new one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gd_lightning.errors import InputError
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.run_directory import (
    SUMMARY,
    claim_directory,
    held,
    is_taken,
    missing_directories,
    remove_empty,
    write_json,
)
from gd_lightning.tracking.run_files import read_summary
from gd_lightning.tracking.yaml_and_json import ConfigError, plain_copy, read_json_file

PLAN = "compare.json"  # what a comparison is made of


@contextmanager
def own_directory(given: str | None, logs: Path, name: str, content: Mapping[str, Any]) -> Iterator[Path]:
    """Have the directory of a comparison for oneself: where the same one was begun, else a new one.

    A new one is taken back where only the first run can tell that it cannot be made, such as for a metric to monitor
    that there is not.

    Args:
        given: What a person chose.
        logs: Where it is else.
        name: What it is called there.
        content: What the comparison is made of.

    Raises:
        InputError: The directory that was chosen holds something else, or another process writes there.
    """
    plain = plain_copy(content)
    parent = logs if given is None else Path(given)
    missing = missing_directories(parent)
    if given is not None:
        directory = Path(given)
        _refuse_another(directory, plain)
        directory.mkdir(parents=True, exist_ok=True)
    else:
        begun = (path for path in sorted(logs.glob(f"{name}*")) if _content_of(path) == plain)
        directory = next(begun, None) or claim_directory(logs, name)
        missing = [directory, *missing]
    with held(directory):
        _refuse_another(directory, plain)  # what another process has begun since
        is_new = _content_of(directory) != plain
        if is_new:
            write_json(directory / PLAN, plain)
        try:
            yield directory
        except Exception as error:
            if is_new and isinstance(error, InputError) and not any(is_finished(path) for path in directory.iterdir()):
                _take_back(directory, missing)
            raise


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
