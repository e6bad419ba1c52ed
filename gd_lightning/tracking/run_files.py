"""Reading and validating ``summary.json`` and ``config.yaml`` of a run (layer 3)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from gd_lightning.errors import InputError
from gd_lightning.models import standardized_before
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.schema import (
    VERSION,
    Check,
    MismatchError,
    fields,
    listed,
    named,
    number,
    optional,
    refuse,
    refuse_later,
    text,
    whole,
)
from gd_lightning.tracking.yaml_and_json import ConfigError, read_json_file, read_text
from gd_lightning.versions import versions

_HEADER = "# gd_lightning schema "
_SUMMARY_VERSION = "schema"
_SPEAKS_OF_FEATURES = 1  # the last version in which the option standardize is true or false


def read_summary(path: Path) -> dict[str, Any] | None:
    """Read the results of a run.

    Args:
        path: The path of its ``summary.json``.

    Returns:
        The content; None if there is no such file.

    Raises:
        InputError: The file is damaged, or a later version of this package wrote it.
    """
    if not path.exists():
        return None
    try:
        summary = read_json_file(path)
        version = summary.get(_SUMMARY_VERSION) if isinstance(summary, dict) else None
        refuse_later(version, f"read {path}")
        _SUMMARY(summary, "")
    except (ConfigError, MismatchError) as error:
        raise InputError(
            f"cannot read how a run ended from {path}, because it is damaged: {error}; repair it, or delete it to "
            "continue without it"
        ) from error
    assert isinstance(summary, dict)
    return summary


def with_header(config: str) -> str:
    """Return a config, as text, that says in comments which versions of a run's files and of the program it is of."""
    written_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{_HEADER}{VERSION}\n# written by {written_by}\n{config}"


def check_header(path: Path) -> None:
    """Refuse a config written by a later version of this package.

    Raises:
        InputError: A later version wrote it.
        ConfigError: The header cannot be read.
    """
    refuse_later(_version_of(read_text(path)), f"read {path}")


def _version_of(text: str) -> int | None:
    """Return which version of a run's files a config, as text, is of; None where it does not say so."""
    found = re.match(rf"{_HEADER}(\d{{1,9}})$", text, re.M)
    return None if found is None else int(found[1])


def with_present_options(config: Any, text: str) -> Any:
    """Return the config of a run with options that meant something else in earlier versions as they are meant now.

    Args:
        config: The options that were read from the config.
        text: The same as text, with its header.
    """
    version, data = _version_of(text), config.get("data") if isinstance(config, dict) else None
    if version is None or version > _SPEAKS_OF_FEATURES or not isinstance(data, dict) or "standardize" not in data:
        return config
    return {**config, "data": {**data, "standardize": standardized_before(data["standardize"])}}


def _strict_number(value: Any, where: str) -> None:
    """Expect a number in strict JSON, where numbers that are not finite are text."""
    if value not in ("nan", "inf", "-inf"):
        number(value, where)
        if not math.isfinite(value):
            refuse(value, where, "a number")


def _outcome(value: Any, where: str) -> None:
    if value not in map(str, Outcome):
        refuse(value, where, f"one of {', '.join(map(str, Outcome))}")


_PARAMETERS = optional(named(_strict_number))
_NUMBERS = (
    *("epochs", "seconds", "train_loss_first", "train_loss_last", "least_squares_loss", "constant_loss"),
    *("irreducible_loss", "largest_stable_lr", "predicted_floor", "train_loss_predicted"),
    "averaged_loss_predicted",
)
_OTHERS: dict[str, Check] = {
    **{name: optional(_strict_number) for name in _NUMBERS},
    **{name: optional(whole) for name in ("batch_size", "train_samples", "updates", "samples")},
    **{name: optional(text) for name in ("variant", "engine", "engine_reason", "description", "prediction", "weights")},
    **dict.fromkeys(("parameters", "least_squares", "truth", "measures"), _PARAMETERS),
    "measured_at": optional(named(whole)),
    **dict.fromkeys(("undetermined", "features", "targets"), optional(listed(text))),
    _SUMMARY_VERSION: whole,
}
_SUMMARY = fields({"outcome": _outcome, "reason": text}, _OTHERS)
