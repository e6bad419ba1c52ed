"""The configs of this package, by their names: ``--config batch`` finds ``batch.yaml``, wherever one stands.

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
    """Return where the configs are: in the package where it is installed, else beside it; None within an archive."""
    package = files("gd_lightning")
    if not isinstance(package, Path):
        return None
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def _text_in_archive(name: str) -> str | None:
    file = files("gd_lightning") / "configs" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else None


def shipped_config(given: str) -> str:
    """Return the config of this package that is meant where no file has the name: its path, or in an archive its text.

    Args:
        given: What a person gave as ``--config``.

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
    """Yield arguments of the command line with the configs of this package in the place of their names.

    Args:
        arguments: Of the command line.
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
    """Put the configs of this package in the place of their names in variables like ``PL_FIT__CONFIG``, for a while."""
    named = {name: value for name, value in os.environ.items() if _VARIABLE.fullmatch(name)}
    os.environ.update({name: shipped_config(value) for name, value in named.items()})
    try:
        yield
    finally:
        os.environ.update(named)
