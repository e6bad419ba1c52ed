"""Finding the run that a person means by ``--ckpt_path``, and what it was made with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gd_lightning.errors import InputError
from gd_lightning.tracking.run_directory import CHECKPOINTS, CONFIG, LAST_CHECKPOINT

LOGS = "lightning_logs"


@dataclass(frozen=True)
class FinishedRun:
    """A run to judge, to use or to continue.

    Args:
        checkpoint: Its checkpoint file.
        directory: Its directory; None for a checkpoint that stands alone.
        settings: The ``model``, ``data``, ``seed_everything`` and ``trainer.precision`` that it was made with.
    """

    checkpoint: Path
    directory: Path | None
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """What a person calls it."""
        return str(self.directory or self.checkpoint)


def find_run(given: str, logs: Path) -> FinishedRun:
    """Find a run by its directory, a checkpoint file, or ``last``, the newest run.

    Args:
        given: What a person gave as ``--ckpt_path``.
        logs: Where runs are.

    Raises:
        InputError: There is no such run, or its checkpoint is damaged or holds more than plain values.
    """
    if given == "last" and not Path(given).exists():
        checkpoints = sorted(logs.glob(f"*/{LAST_CHECKPOINT}"), key=lambda file: file.stat().st_mtime)
        if not checkpoints:
            raise InputError(
                f"cannot find the last run, because {logs} holds no finished one; train first, or give its path"
            )
        path = checkpoints[-1]
    else:
        path = Path(given)
        if path.is_dir():
            path = path / LAST_CHECKPOINT
        if not path.is_file():
            raise InputError(
                f"cannot find a checkpoint at {path}; give the directory of a run, such as {LOGS}/NAME, a checkpoint "
                "file, or last"
            )
    directory = path.parent.parent if path.parent.name == CHECKPOINTS else None
    checkpoint = load_checkpoint(path)
    config = None if directory is None else directory / CONFIG
    settings = _from_checkpoint(checkpoint) if config is None or not config.is_file() else _from_config(config)
    return FinishedRun(path, directory, settings)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint as plain values and tensors only: no code of whoever wrote it runs.

    Raises:
        InputError: It is damaged, or holds more.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(checkpoint, dict) and {"state_dict", "hyper_parameters"} <= set(checkpoint):
            return checkpoint
    except Exception as error:  # whatever a damaged file makes the reader stumble on
        raise InputError(
            f"cannot load the checkpoint {path}, because it is damaged or holds more than plain values and tensors; "
            "train again, or give another one"
        ) from error
    raise InputError(f"cannot load {path}, because it is no checkpoint of gd_lightning; give another one")


def _from_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        kept = {
            key: config[key]
            for key in ("seed_everything", "model", "data", "optimizer", "lr_scheduler")
            if key in config
        }
        return {**kept, "trainer": {"precision": config["trainer"]["precision"]}}
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"cannot read how the run was made from {path}, because it is damaged; mend or delete it"
        ) from error


def _from_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    model = {key: value for key, value in checkpoint["hyper_parameters"].items() if value is not None}
    return {"model": model, "data": checkpoint.get("datamodule_hyper_parameters", {})}


def differences(given: dict[str, Any], made_with: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return (option, given, made with) for each option whose given value is not the one a run was made with."""
    found = []
    for name, value in given.items():
        before = made_with.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            found += differences(value, before, f"{prefix}{name}.")
        elif value != before:
            found.append((f"{prefix}{name}".replace(".init_args.", "."), value, before))
    return found
