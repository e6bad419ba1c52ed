"""Validation of checkpoints, for any use and for continuing a run (layer 3).

A checkpoint file can be damaged, edited, or come from an untrusted source. All entries that Lightning and this package
read are checked before anything is made from them. Checkpoints of this package also contain the structure of the parts
that only a continued run reads, and the options as text, so that an entry that is missing or changed is noticed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.records.axes import AXES
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.checkpoint_file import way_out
from gd_lightning.tracking.schema import (
    VERSION,
    Check,
    MismatchError,
    build_of,
    duration,
    fields,
    first_difference,
    flag,
    is_generator_state,
    is_plain,
    kind_of,
    like,
    listed,
    named,
    number,
    optional,
    plain,
    position,
    positive,
    refuse,
    refuse_later,
    tensor,
    text,
    values,
    whole,
)
from gd_lightning.versions import versions

_KEY = "gd_lightning_schema"  # a key of checkpoints
_RECORD, _POSITION = "gd_lightning_record", "gd_lightning_position"
_COUNTS, _FORECAST = "gd_lightning_no_progress", "gd_lightning_forecast"
_CONTINUED = (*("loops", "optimizer_states", "lr_schedulers", "callbacks"), *(_RECORD, _POSITION, _COUNTS, _FORECAST))
_OPTIONS = ("hyper_parameters", "datamodule_hyper_parameters")
_SHOWN, _LONG = 80, 200  # maximum number of characters of an option in messages, and in checkpoints


def with_schema(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with the version of the schema, the structure of its parts, and its options as text."""
    parts = {name: build_of(checkpoint[name]) for name in _CONTINUED if name in checkpoint}
    options = {
        name: {option: _written(value) for option, value in checkpoint[name].items() if is_plain(value)}
        for name in _OPTIONS
        if isinstance(checkpoint.get(name), Mapping)
    }
    return {**checkpoint, _KEY: {"version": VERSION, "parts": parts, "options": options, "versions": versions()}}


def check_checkpoint(checkpoint: Any, path: Path) -> None:
    """Check the entries that every use of a checkpoint needs.

    Args:
        checkpoint: The checkpoint as read from its file.
        path: The file, for messages.

    Raises:
        InputError: An entry is missing or of another type, an option is not that of the run, or a later version of this
            package wrote the file.
    """
    said = checkpoint.get(_KEY) if isinstance(checkpoint, Mapping) else None
    version = said.get("version") if isinstance(said, Mapping) else None
    refuse_later(version, f"use the checkpoint {path}", f", or {way_out(path)}")
    with damage_told(path):
        _FOR_ANY_USE(checkpoint, "")
        for name, options in checkpoint.get(_KEY, {}).get("options", {}).items():
            _check_options(checkpoint.get(name, {}), options, name)


def _check_options(now: Mapping[str, Any], before: Mapping[str, str], where: str) -> None:
    """Expect the options of the run: in place of a lost one its default would be used, such as no validation data."""
    for name, value in before.items():
        if name not in now:
            raise MismatchError(f"{where}.{name} is missing, and was {value[:_SHOWN]}")
        written = _written(now[name]) if is_plain(now[name]) else kind_of(now[name])
        if written != value:
            raise MismatchError(f"{where}.{name} is {written[:_SHOWN]}, and was {value[:_SHOWN]}")


def _written(option: Any) -> str:
    """Return the value of an option as text, in which nan is itself and true is not 1; a long one ends in a hash."""
    written = repr(option)
    return f"{written[:_SHOWN]} {hashlib.sha256(written.encode()).hexdigest()}" if len(written) > _LONG else written


def check_continuable(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Check the entries that only a continued run needs, in addition to :func:`check_checkpoint`.

    Raises:
        InputError: An entry is missing or of another type.
    """
    with damage_told(path):
        _TO_CONTINUE(checkpoint, "")
        said = checkpoint.get(_KEY)
        # A later version of Lightning migrates a checkpoint, whose parts then differ from those that were saved.
        if said is not None and "legacy_pytorch-lightning_version" not in checkpoint:
            now = {name: build_of(checkpoint[name]) for name in _CONTINUED if name in checkpoint}
            for name, before in said["parts"].items():
                if name not in now:
                    raise MismatchError(f"{name} is missing")
                if difference := first_difference(now[name], before, name):
                    raise MismatchError(difference)


def check_options_in(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Check that a checkpoint's options are plain values, as they could be given on the command line.

    Raises:
        InputError: An option is a tensor, or a limit of the run is no number.
    """
    with damage_told(path):
        for name in _OPTIONS:
            plain(checkpoint.get(name, {}), name)
        _LIMITS(checkpoint, "")


def check_state(state: Any, new: Any, where: str, path: Path) -> None:
    """Check a state in a checkpoint against the state of a new object of the same class."""
    with damage_told(path):
        like(state, new, where)


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn a mismatch into an error that names the checkpoint, and what to do."""
    try:
        yield
    except MismatchError as error:
        raise InputError(
            f"cannot use the checkpoint {path}, because it was damaged or edited: {error}; {way_out(path)}"
        ) from error


def _weights(state: Any, where: str) -> None:
    named(lambda value, place: None if place.endswith("_extra_state") else tensor(value, place))(state, where)


def _lightning(version: Any, where: str) -> None:
    text(version, where)
    found = re.match(r"(\d+)(\.\d+)*((a|b|rc)\d+)?(\.?(post|dev)\d+)?(\+[a-z0-9.]+)?$", version)
    if found is None or int(found[1]) < 2:
        refuse(version, where, "the version of Lightning 2 or later")


def _rows(column: Any, where: str) -> None:
    listed(tensor)(column, where)
    if len(column) != 2:
        raise MismatchError(f"{where} has {len(column)} tensors instead of 2")
    rows, cells = column
    is_pair = rows.ndim == cells.ndim == 1 and rows.shape == cells.shape
    if not (is_pair and rows.dtype is torch.int64 and cells.dtype is torch.float64 and bool((rows.diff() > 0).all())):
        raise MismatchError(f"{where} is not a column of a history")


def _history(history: Any, where: str) -> None:
    outcomes = [None, *map(str, Outcome)]
    known = {"columns": named(_rows), "length": positive, "outcome": optional(text), "reason": text}
    fields(known)(history, where)
    if history["outcome"] not in outcomes:
        refuse(history["outcome"], f"{where}.outcome", "an outcome")
    columns, length = history["columns"], history["length"]
    for name in AXES:
        if name not in columns or len(columns[name][0]) != length or bool(columns[name][1].isnan().any()):
            raise MismatchError(f"{where}.columns.{name} does not have {length} values")
    for name, (rows, _) in columns.items():
        if len(rows) and not 0 <= int(rows[0]) <= int(rows[-1]) < length:
            raise MismatchError(f"{where}.columns.{name} has rows that do not exist")


def _columns(columns: Any, where: str) -> None:
    listed(listed(text))(columns, where)
    if len(columns) != 2:
        raise MismatchError(f"{where} are not those of features and targets")


def _in_order(counts: Any, where: str) -> None:
    """Expect the counters ready, started, processed and completed, which must not increase in this order."""
    _FOUR(counts, where)
    if not counts["ready"] >= counts["started"] >= counts["processed"] >= counts["completed"]:
        raise MismatchError(f"{where} counts more as completed than as started")


def _generator_states(state: Any, where: str) -> None:
    if where.endswith(".cpu"):
        is_generator_state(state, where)
    else:
        tensor(state, where)
        if state.ndim != 2 or state.dtype is not torch.uint8:
            raise MismatchError(f"{where} has no states of random generators")


def _loader(state: Any, where: str) -> None:
    """Expect the state of a loader, of this package or of another one."""
    values(state, where)
    if isinstance(state, Mapping) and "samples" in state:
        whole(state["samples"], f"{where}.samples")


def _metric(value: Any, where: str) -> None:
    if not (isinstance(value, Tensor) and value.ndim == 0):
        number(value, where)


def _said(said: Any, where: str) -> None:
    known: dict[str, Check] = {
        "prediction": text,
        "largest_stable_lr": optional(number),
        "predicted_floor": optional(number),
        "averaged_loss_predicted": optional(number),
    }
    fields({}, known)(said, where)
    if others := set(said) - set(known):
        raise MismatchError(f"{where} has {sorted(map(str, others))[0]}, which is unknown")


def _progress(tracker: Any, **others: Any) -> Any:
    return fields({"total": tracker, "current": tracker, **others})


_TWO = fields({"ready": whole, "completed": whole})
_THREE = fields({"ready": whole, "completed": whole, "started": whole})
_FOUR = fields({"ready": whole, "completed": whole, "started": whole, "processed": whole})
_ANY_MAPPING = named(values)
_PROBLEM = fields({"class_path": text}, {"init_args": named(plain)})

_OF_JUDGES = {
    f"{name}_loop": fields({"state_dict": _ANY_MAPPING, "batch_progress": _progress(_FOUR, is_last_batch=flag)})
    for name in ("validate", "test")
} | {"predict_loop": fields({"state_dict": _ANY_MAPPING, "batch_progress": _progress(_FOUR)})}

_OPTIMIZER_PROGRESS = fields({"optimizer": fields({"step": _progress(_TWO), "zero_grad": _progress(_THREE)})})

_FIT_LOOP = fields(
    {
        "state_dict": fields({}, {"combined_loader": listed(_loader)}),
        "epoch_loop.state_dict": fields({"_batches_that_stepped": whole}),
        "epoch_loop.batch_progress": _progress(_in_order, is_last_batch=flag),
        "epoch_loop.scheduler_progress": _progress(_TWO),
        "epoch_loop.automatic_optimization.state_dict": _ANY_MAPPING,
        "epoch_loop.automatic_optimization.optim_progress": _OPTIMIZER_PROGRESS,
        "epoch_loop.manual_optimization.state_dict": _ANY_MAPPING,
        "epoch_loop.manual_optimization.optim_step_progress": _progress(_TWO),
        "epoch_loop.val_loop.state_dict": _ANY_MAPPING,
        "epoch_loop.val_loop.batch_progress": _progress(_FOUR, is_last_batch=flag),
        "epoch_progress": _progress(_in_order),
    }
)

_FOR_ANY_USE = fields(
    {"pytorch-lightning_version": _lightning, "state_dict": _weights, "hyper_parameters": named(values)},
    {
        "epoch": whole,
        "global_step": whole,
        "loops": optional(fields(_OF_JUDGES)),
        "callbacks": optional(named(_ANY_MAPPING)),
        "datamodule_hyper_parameters": fields({}, {"problem": _PROBLEM}),
        "hparams_name": optional(text),
        "datamodule_hparams_name": optional(text),
        "hparams_type": optional(text),
        "hparams": named(values),
        "module_arguments": named(values),
        "MixedPrecision": named(values),
        "current_model_state": _weights,
        "averaging_state": _ANY_MAPPING,
        "given_network": optional(text),
        "gd_lightning_columns": optional(_columns),
        "RegressionDataModule": values,  # any other value than a fingerprint of data is ignored
        _KEY: fields(
            {"version": positive, "parts": named(values)}, {"versions": named(text), "options": named(named(text))}
        ),
    },
)

_OPTIMIZER = fields(
    {"state": named(named(values), key=whole), "param_groups": listed(fields({"params": listed(whole)}))}
)

_LIMITED = {"limits": named(optional(position))}
_LIMITS = fields({}, {_POSITION: fields({}, _LIMITED)})  # limits of the Trainer, whose options are in no config

_TO_CONTINUE = fields(
    {
        "loops": fields({"fit_loop": _FIT_LOOP}),
        "optimizer_states": listed(_OPTIMIZER),
        "lr_schedulers": listed(_ANY_MAPPING),
        "callbacks": named(_ANY_MAPPING),
    },
    {
        "epoch": whole,
        "global_step": whole,
        _RECORD: fields(
            {
                "history": _history,
                "seconds": duration,
                "every": positive,
                "validated_at": position,
                "measured_at": position,
                "stop_measures": listed(text),
            },
            {"thins": flag, "averaged": text},
        ),
        _POSITION: fields({}, {"callback_metrics": named(_metric), "generators": named(_generator_states), **_LIMITED}),
        _COUNTS: named(fields({"until": number, "lowest": number, "waited": number})),
        _FORECAST: fields({"start": tensor, "said": _said}),
    },
)
