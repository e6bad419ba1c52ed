"""Where a run leaves its files, and what they are called."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gd_lightning.variants import Variant

HISTORY, SUMMARY, CURVES, CONFIG, CHECKPOINTS = (
    "history.csv",
    "summary.json",
    "curves.png",
    "config.yaml",
    "checkpoints",
)
LAST_CHECKPOINT = f"{CHECKPOINTS}/last.ckpt"


def run_name(problem: str, variant: Variant, lr: float, seed: int) -> str:
    """Return a readable name of a run.

    Example:
        >>> run_name("SteepLine", Variant.of(16, 100), 0.04, 0)
        'SteepLine-mini-batch-b16-lr0.04-seed0'
    """
    return f"{problem}-{variant.name}-b{variant.batch_size}-lr{lr:g}-seed{seed}"


def is_taken(directory: Path) -> bool:
    """Whether a directory that was chosen for files holds others, or something else bears its name, such as a link."""
    return os.path.lexists(directory) and (not directory.is_dir() or any(directory.iterdir()))


def free_name(parent: Path, name: str, ending: str = "") -> str:
    """Return name + ending, or the first of name-2, name-3, ... that nothing in the parent directory bears yet.

    A symbolic link bears its name, too, whether or not there is something at its end.
    """
    candidate, number = name + ending, 1
    while os.path.lexists(parent / candidate):
        number += 1
        candidate = f"{name}-{number}{ending}"
    return candidate


def claim_directory(parent: Path, name: str) -> Path:
    """Make the directory with the first free name, so that no other process that runs now takes it too."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        directory = parent / free_name(parent, name)
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory


def claim_file(parent: Path, name: str, ending: str) -> Path:
    """Make an empty file with the first free name, as :func:`claim_directory` makes a directory."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = parent / free_name(parent, name, ending)
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            continue
        return file


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none: a reader, or a crash, never sees a part of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as strict JSON; numbers that are not finite, which it lacks, become strings such as "nan"."""
    write_text(path, json.dumps(_strict(values), indent=2) + "\n")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
