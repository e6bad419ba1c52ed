"""Checkpoint plugins for Lightning, and checks of the saved states of callbacks and optimisers (layer 4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.optim import Optimizer

from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.models import standardized_before
from gd_lightning.tracking.checkpoint_file import certainly_loads, read_checkpoint, way_out, write_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint, check_state, with_schema
from gd_lightning.tracking.schema import is_plain, kind_of

# Options that may change when a run is continued.
_FREE = {"in_features", "out_features", "micro_batch_size", "predict_inputs", "engine"}

# Entries in the states of optimisers and schedulers that change during training.
_CHANGING = {
    *("lr", "initial_lr", "momentum", "betas", "last_epoch", "best", "num_bad_epochs", "cooldown_counter"),
    *("T_cur", "T_i"),
}


class CheckedCheckpoints(TorchCheckpointIO):
    """Checkpoint plugin that marks the format of each checkpoint, and checks what it reads before it is used."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        super().save_checkpoint(with_schema(checkpoint), path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, by default as plain values and tensors only.

        Raises:
            InputError: The checkpoint cannot be read, or a required entry is missing or invalid.
        """
        if weights_only is False:
            checkpoint = super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only)
        else:
            checkpoint = read_checkpoint(Path(path))
        check_checkpoint(checkpoint, Path(path))
        assert isinstance(checkpoint, dict)
        return checkpoint


class WholeCheckpoints(CheckedCheckpoints):
    """Writes checkpoints atomically: a kill or a full disk leaves the previous checkpoint intact."""

    last_certainly_loads = False
    """Whether the last checkpoint that was written is known to be of plain values and tensors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint to a local file."""
        written = with_schema(checkpoint)
        write_checkpoint(written, Path(path))
        self.last_certainly_loads = certainly_loads(written)


def check_read_checkpoints(trainer: Trainer) -> None:
    """Make a Trainer check the checkpoints that it reads, unless it has another checkpoint plugin."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CheckedCheckpoints()


def checkpoint_path(trainer: Trainer | None) -> Path:
    """Return the checkpoint that a Trainer reads, for messages."""
    return Path(str(None if trainer is None else trainer.ckpt_path))


def drop_functions(checkpoint: dict[str, Any]) -> None:
    """Remove functions from the states of schedulers, in place.

    Schedulers recreate their functions, which are not plain values; SWALR has one in torch 2.6.
    """
    of_callbacks = [state for state in checkpoint.get("callbacks", {}).values() if isinstance(state, dict)]
    for state in (*checkpoint.get("lr_schedulers", []), *(each.get("scheduler_state") for each in of_callbacks)):
        for name in [name for name, value in (state or {}).items() if callable(value)]:
            del state[name]


def sizes_in(checkpoint: Mapping[str, Any]) -> dict[str, int | None]:
    """Return ``in_features`` and ``out_features`` of a checkpoint.

    Raises:
        InputError: A value is not a positive integer.
    """
    sizes = {name: checkpoint["hyper_parameters"].get(name) for name in ("in_features", "out_features")}
    for name, size in sizes.items():
        if not (size is None or (type(size) is int and size > 0)):
            raise InputError(
                f"cannot load this checkpoint, because its {name} is {kind_of(size)}; give another one, or train again"
            )
    return sizes


def refuse_other_options(checkpoint: Mapping[str, Any], *options: Mapping[str, Any]) -> None:
    """Refuse to continue a run with another algorithm: Lightning would use the old lr with the new batches.

    Args:
        checkpoint: The checkpoint of the run.
        options: The current options of the module and of the data module.

    Raises:
        InputError: An option has changed, or cannot be compared.
    """
    for given, key in zip(options, ("hyper_parameters", "datamodule_hyper_parameters"), strict=True):
        before = dict(checkpoint.get(key, {}))
        if "standardize" in before:
            before["standardize"] = standardized_before(before["standardize"])
        for name in sorted(set(given) & set(before) - _FREE):
            # Tensors, which a damaged checkpoint may hold, are not options.
            if not (is_plain(before[name]) and given[name] == before[name]):
                raise InputError(
                    f"cannot continue with {name} {given[name]}, because the run was made with {before[name]}; "
                    "leave it as it was, or start a new run without the checkpoint"
                )


def check_callbacks(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Check the states of callbacks before they are loaded.

    Raises:
        InputError: The structure of a state differs from that of its callback.
    """
    states = checkpoint.get("callbacks") or {}
    for callback in callbacks_of(trainer, Callback):
        if (key := callback.state_key) in states and (new := callback.state_dict()):
            check_state(states[key], new, f"callbacks.{key}", checkpoint_path(trainer))


def check_optimizers(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Check the states of optimisers and schedulers before they are loaded into the existing ones.

    Raises:
        InputError: The number of states differs from the run's, or the structure of a state does.
    """
    path, schedulers = checkpoint_path(trainer), [config.scheduler for config in trainer.lr_scheduler_configs]
    averages = callbacks_of(trainer, StochasticWeightAveraging)
    states: dict[str, list[Any]] = {"optimizer_states": trainer.optimizers, "lr_schedulers": schedulers}
    for name, made in states.items():
        saved = checkpoint[name]
        if len(saved) != len(made) and not (name == "lr_schedulers" and averages):
            raise InputError(
                f"cannot continue from the checkpoint {path}, because it has {len(saved)} {name}, and the run has "
                f"{len(made)}; {way_out(path)}"
            )
        for i, (state, new) in enumerate(zip(saved, made, strict=False)):
            place, own = f"{name}[{i}]", new.state_dict()
            if name == "lr_schedulers":
                check_state(_with_constants(state, own), own, place, path)
                continue
            for group, of_run in zip(state["param_groups"], own["param_groups"], strict=False):
                del of_run["params"]
                check_state(_with_constants(group, of_run), of_run, f"{place}.param_groups", path)
            usual = _state_after_an_update(new)
            if usual and not state["state"] and checkpoint.get("global_step"):
                raise InputError(
                    f"cannot continue from the checkpoint {path}, because its {place}.state is empty; {way_out(path)}"
                )
            for number in set(usual) & set(state["state"]):
                check_state(state["state"][number], usual[number], f"{place}.state.{number}", path)


def _state_after_an_update(optimizer: Optimizer) -> dict[int, Any]:
    """Return the per-parameter state of an optimiser after a trial update of a copy; {} if that is impossible."""
    try:
        trial = copy.deepcopy(optimizer)
        for group in trial.param_groups:
            if "max_iter" in group:  # the state of LBFGS grows with each step within an update
                group["max_iter"] = 1
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        # A scheduler has replaced the method by a function.
        type(trial).step(trial, lambda: 0.0)
        state: dict[int, Any] = trial.state_dict()["state"]
    except Exception:  # some optimisers cannot be copied
        return {}
    return state


def _with_constants(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state, completed by settings that an older version of torch did not have when it was written."""
    return {**{name: value for name, value in own.items() if name not in _CHANGING}, **state}
