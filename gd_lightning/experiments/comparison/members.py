"""The members of a comparison: every combination of the varied options with every seed, and their names."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from gd_lightning.default_learning_rate import DEFAULT_LR
from gd_lightning.errors import InputError
from gd_lightning.memory_checks import check_fits
from gd_lightning.tracking.run_directory import first_free
from gd_lightning.variants import BatchSize

Setting = dict[str, Any]
"""What a variant sets, by the full names of the options; as text on the command line, as objects in Python."""

_Value = TypeVar("_Value")
_MINI_BATCH = 16
_OF_A_RUN = 100_000  # minimum number of bytes that the history and the module of a run take
_LONGEST = 40  # maximum number of characters of a value in the name of a directory


def combinations(
    batch_sizes: Sequence[_Value],
    lrs: Sequence[_Value] | None,
    vary: Mapping[str, Sequence[_Value]],
    best_lr: Callable[[Any], _Value],
) -> list[dict[str, _Value]]:
    """Return every combination of the varied options.

    Args:
        batch_sizes: The batch sizes; empty: the configured one for all.
        lrs: One learning rate for all, one per batch size, or best; None: the configured one for all.
        vary: Other options by their full names, each with its values.
        best_lr: Returns the best learning rate for a batch size; None stands for the configured one.

    Raises:
        InputError: The numbers of learning rates and batch sizes differ, or an option is varied twice.

    Example:
        >>> combinations(["full", 1], ["best"], {"model.momentum": [0.5]}, {"full": 0.1, 1: 0.01}.get)[1]
        {'data.batch_size': 1, 'model.lr': 0.01, 'model.momentum': 0.5}
    """
    first: list[dict[str, _Value]] = [{"data.batch_size": size} for size in batch_sizes] or [{}]
    if lrs is not None:
        if len(lrs) not in (1, len(first)):
            raise InputError(
                f"cannot give {len(lrs)} lrs to {len(first)} batch sizes; give one, one for each, or best, or vary "
                "model.lr to combine each with all"
            )
        for setting, lr in zip(first, list(lrs) * (len(first) // len(lrs)), strict=True):
            setting["model.lr"] = best_lr(setting.get("data.batch_size")) if lr == "best" else lr
    if both := sorted(first[0].keys() & vary.keys()):
        raise InputError(f"cannot vary {both[0]} twice; give its values once")
    axes = [first, *([{name: value} for value in values] for name, values in vary.items())]
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*axes)]


def with_default_lrs(
    settings: list[dict[str, _Value]], lr_of: Callable[[Any], float], as_value: Callable[[float], _Value]
) -> list[dict[str, _Value]]:
    """Return settings of batch sizes with their default learning rates; unchanged if all have the usual one.

    Args:
        settings: The settings, each with a batch size and without a learning rate.
        lr_of: Returns the default learning rate at a batch size.
        as_value: Writes a learning rate as settings hold it.
    """
    lrs = [lr_of(setting["data.batch_size"]) for setting in settings]
    if all(lr == DEFAULT_LR for lr in lrs):
        return settings
    return [{**setting, "model.lr": as_value(lr)} for setting, lr in zip(settings, lrs, strict=True)]


def check_runs(seeds: int, *values: Collection[object]) -> None:
    """Refuse a number of seeds below 1, and more runs than the memory can hold.

    Args:
        seeds: The number of seeds.
        values: The values of each option that is varied; empty: it is not.

    Raises:
        InputError: The number of seeds is below 1, or that of runs too large.
    """
    if not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"cannot compare with {seeds} seeds; use 1 or more")
    runs = seeds * math.prod(len(each) for each in values if len(each))
    check_fits(runs * _OF_A_RUN, f"compare {runs:,} runs", "fewer values or seeds")


def check_target(target: float | None) -> None:
    """Refuse a target that no train loss can have.

    Raises:
        InputError: The target is below 0, infinite or nan.
    """
    if target is not None and not (isinstance(target, (int, float)) and 0 <= target < math.inf):
        raise InputError(f"cannot use the target {target} as a train loss; use a number of 0 or more, or null")


def name_of(setting: Mapping[str, object], seed: int, taken: Collection[str] = ()) -> str:
    """Return the name of a member, and of its directory.

    Args:
        setting: The varied options and their values.
        seed: The seed of the member.
        taken: Names of other members.

    Example:
        >>> name_of({"data.batch_size": 1, "model.lr": 0.01}, 0)
        'batch_size-1-lr-0.01-seed0'
    """
    parts = "-".join(f"{option.rpartition('.')[2]}-{_plain(str(value))}" for option, value in setting.items())
    return first_free(parts, taken.__contains__, f"-seed{seed}").removeprefix("-")


def usual_batch_sizes(n: int) -> list[BatchSize]:
    """Return the default batch sizes of a comparison: batch, mini-batch and stochastic.

    Args:
        n: Number of training samples.

    Example:
        >>> usual_batch_sizes(100), usual_batch_sizes(4), usual_batch_sizes(2)
        (['full', 16, 1], ['full', 2, 1], ['full', 1])
    """
    if n > 3:
        return ["full", min(_MINI_BATCH, n // 2), 1]
    return ["full", 1] if n > 1 else ["full"]


def values_of(text: str) -> list[str]:
    """Split values at the commas that are not within brackets or quotation marks.

    Example:
        >>> values_of("0.1, 0.2"), values_of("[10],[10, 10]")
        (['0.1', '0.2'], ['[10]', '[10, 10]'])
    """
    values, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            values.append("")
            continue
        if letter in "\"'":
            quote = "" if quote == letter else quote or letter
        elif not quote:
            depth += (letter in "[{(") - (letter in "]})")
        values[-1] += letter
    return [value.strip() for value in values]


def _plain(value: str) -> str:
    """Return a value as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value.rpartition("class_path")[2]).strip("_.")[:_LONGEST] or "none"
