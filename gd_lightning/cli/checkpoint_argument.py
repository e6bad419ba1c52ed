"""Resolving ``--ckpt_path`` to a checkpoint, and reading the options of its run."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gd_lightning.cli.options.config_text import read
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.models import standardized_before
from gd_lightning.module import saved_limits
from gd_lightning.problems import Arrays, Frame
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.checkpoint_file import is_checkpoint, read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint, check_continuable, check_options_in
from gd_lightning.tracking.run_by_name import checkpoint_of, no_checkpoint
from gd_lightning.tracking.run_directory import CONFIG, LAST_CHECKPOINT, SUMMARY
from gd_lightning.tracking.run_files import check_header, read_summary
from gd_lightning.tracking.yaml_and_json import ConfigError, read_text


@dataclass(frozen=True)
class EarlierRun:
    """A run to evaluate, to predict with or to continue.

    Args:
        checkpoint: The checkpoint file of the run; None if it was ended before it wrote one.
        directory: The directory of the run; None for a checkpoint outside the directory of a run.
        settings: The options of the run, as far as they are known.
        data: The state of its data module, if in its checkpoint: the names of columns, and a fingerprint.
        epochs: The number of completed epochs, if it is read from the checkpoint; else 0.
        saved_at: The time at which its checkpoint was saved, in nanoseconds; 0 without one.
    """

    checkpoint: Path | None
    directory: Path | None
    settings: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    saved_at: int = 0

    @property
    def name(self) -> str:
        """The name of the run in messages: its directory or its checkpoint."""
        return str(self.directory or self.checkpoint)

    def has_other_table(self, path: str | None) -> bool:
        """Whether the run was trained on a table that is not at this path."""
        problem = self.settings.get("data", {}).get("problem")
        arguments = problem.get("init_args") if isinstance(problem, dict) else None
        own = arguments.get("path") if isinstance(arguments, dict) else None
        return path is not None and own is not None and path != own

    @property
    def goes_on_in_place(self) -> bool:
        """Whether a continuation adds to the run's directory, as it does from the last checkpoint only."""
        return self.directory is not None and self.checkpoint in (None, self.directory / LAST_CHECKPOINT)

    @property
    def has_gone_on(self) -> bool:
        """Whether another process has continued it since it was found."""
        last = (self.directory or Path()) / LAST_CHECKPOINT
        return self.directory is not None and (last.stat().st_mtime_ns if last.exists() else 0) != self.saved_at

    @property
    def divergence(self) -> str:
        """The reason why the run diverged; "" if it did not, or if that is not known."""
        with contextlib.suppress(InputError):
            summary = None if self.directory is None else read_summary(self.directory / SUMMARY)
            return str(summary["reason"]) if summary is not None and summary["outcome"] == Outcome.DIVERGED else ""
        return ""


def find_run(given: str, logs: Path, to_continue: bool) -> EarlierRun:
    """Find a run by its directory, a checkpoint file, or ``last``, the newest run.

    ``best`` is the best checkpoint of the newest run, and ``RUN/best`` that of another one.

    Args:
        given: The value of ``--ckpt_path``.
        logs: The directory of the runs.
        to_continue: Whether the run will be continued, for which its checkpoint must contain more.

    Raises:
        InputError: There is no such run, or its checkpoint is damaged or holds more than plain values.
    """
    path, directory = checkpoint_of(given, logs)
    if directory == Path(given) and not path.exists() and os.path.lexists(directory / CONFIG):
        return EarlierRun(None, directory, _from_config(directory / CONFIG))
    if not path.is_file():
        raise no_checkpoint(path)
    saved_at = path.stat().st_mtime_ns
    checkpoint = read_checkpoint(path)
    if not is_checkpoint(checkpoint):
        raise InputError(f"cannot load {path}, because it is not a checkpoint of gd_lightning; give another one")
    check_checkpoint(checkpoint, path)
    if to_continue:
        check_continuable(checkpoint, path)
    config = None if directory is None or not os.path.lexists(directory / CONFIG) else directory / CONFIG
    settings = _from_checkpoint(checkpoint, path) if config is None else _from_config(config)
    _refuse_arrays(settings, path)
    data = checkpoint.get(RegressionDataModule.__qualname__, {})
    epochs = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]) if to_continue else 0
    return EarlierRun(path, directory, settings, data, epochs, saved_at)


def _refuse_arrays(settings: dict[str, Any], path: Path) -> None:
    """Refuse a run whose data were given in Python.

    Raises:
        InputError: The data of the run were arrays or a data frame.
    """
    problem = (settings.get("data") or {}).get("problem")
    named = problem.get("class_path") if isinstance(problem, dict) and not problem.get("init_args") else None
    if named in [f"{kind.__module__}.{kind.__qualname__}" for kind in (Arrays, Frame)]:
        raise InputError(
            f"cannot use {path} on the command line, because checkpoints do not contain the arrays that a run was "
            "trained on; use fit(..., ckpt_path=...) or load(...).predict in Python"
        )


def _from_config(path: Path) -> dict[str, Any]:
    try:
        check_header(path)
        config = read(read_text(path))
        kept = {key: value for key, value in config.items() if key != "ckpt_path"}
        if not all(isinstance(kept[name], dict) for name in ("model", "data", "trainer")):
            raise TypeError
        return kept
    except (ConfigError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"cannot read the options of the run from {path}, because it is damaged; repair it, or delete it to use "
            "those of the checkpoint"
        ) from error


def _from_checkpoint(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    check_options_in(checkpoint, path)
    given, data = checkpoint["hyper_parameters"], dict(checkpoint.get("datamodule_hyper_parameters", {}))
    if "standardize" in data:
        data["standardize"] = standardized_before(data["standardize"])
    model = {key: value for key, value in given.items() if value is not None}
    # The model has copies of options that the command line has as sections of their own.
    chosen = {name: model.pop(name) for name in ("optimizer", "lr_scheduler") if name in model}
    return {"model": model, "data": data, "trainer": saved_limits(checkpoint), **chosen}


def differences(given: dict[str, Any], made_with: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return (option, given value, value of the run) for each option whose given value differs from that of a run."""
    found = []
    for name, value in given.items():
        before = made_with.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            found += differences(value, before, f"{prefix}{name}.")
        elif value != before:
            found.append((f"{prefix}{name}".replace(".init_args.", "."), value, before))
    return found
