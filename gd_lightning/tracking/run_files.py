"""Reading and validating ``summary.json`` and ``config.yaml`` of a run (layer 3)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from gd_lightning.errors import InputError
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


def read_summary(path: Path) -> dict[str, Any] | None:
    """Read the results of a run.

    Args:
        path: Its ``summary.json``.

    Returns:
        Its content; None where there is no such file.

    Raises:
        InputError: It is damaged, or a later version of this package has written it.
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
            f"cannot read how a run ended from {path}, because it is damaged: {error}; mend it, or delete it to go on "
            "without"
        ) from error
    assert isinstance(summary, dict)
    return summary


def with_header(config: str) -> str:
    """Return a config, as text, that says in comments which versions of a run's files and of the program it is of."""
    written_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{_HEADER}{VERSION}\n# written by {written_by}\n{config}"


def check_header(path: Path) -> None:
    """Refuse a config that a later version of this package has written.

    Raises:
        InputError: It is one.
        ConfigError: It cannot be read.
    """
    found = re.match(rf"{_HEADER}(\d{{1,9}})$", read_text(path), re.M)
    refuse_later(None if found is None else int(found[1]), f"read {path}")


def _strict_number(value: Any, where: str) -> None:
    """Expect a number as JSON has it, which has no words for those that are not finite."""
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
