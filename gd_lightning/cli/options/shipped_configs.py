"""The configs of this package by name: ``--config batch`` finds ``batch.yaml`` from any directory.

A name is one wherever a config is given: as an argument, in the environment, and as ``config`` in another config.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

_NAME = re.compile(r"(?:configs/)?([\w-]+(?:/[\w-]+)?)(?:\.yaml)?")
_VARIABLE = re.compile(r"PL_(?:[A-Z]+__)?CONFIG")


def _shipped() -> Path | None:
    """Return the directory of the configs, in an installed package or beside it in a checkout; None in an archive."""
    package = files("gd_lightning")
    if not isinstance(package, Path):
        return None
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def _text_in_archive(name: str) -> str | None:
    file = files("gd_lightning") / "configs" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else None


def shipped_config(given: str) -> str:
    """Return the config of this package with a name that no file has: its path, or its text if it is in an archive.

    Args:
        given: The value of ``--config``.

    Returns:
        What was given, where it is a file, or names no config of this package.
    """
    named = _NAME.fullmatch(given)
    if named is None or Path(given).exists():
        return given
    if (folder := _shipped()) is None:
        return _text_in_archive(named[1]) or given
    path = folder / f"{named[1]}.yaml"
    return str(path) if path.is_file() else given


def with_shipped_configs(arguments: Sequence[str]) -> Iterator[str]:
    """Yield arguments of the command line, in which names of the package's configs are replaced by their paths.

    Args:
        arguments: The arguments of the command line.
    """
    before = ""
    for argument in arguments:
        name, is_one, value = argument.partition("=")
        if before in ("--config", "-c"):
            yield shipped_config(argument)
        elif is_one and name in ("--config", "-c"):
            yield f"{name}={shipped_config(value)}"
        else:
            yield argument
        before = argument


@contextmanager
def shipped_configs_in_environment() -> Iterator[None]:
    """Replace names of the package's configs by their paths in variables like ``PL_FIT__CONFIG``, in this context."""
    named = {name: value for name, value in os.environ.items() if _VARIABLE.fullmatch(name)}
    os.environ.update({name: shipped_config(value) for name, value in named.items()})
    try:
        yield
    finally:
        os.environ.update(named)
