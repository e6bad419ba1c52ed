"""The members of a comparison: all combinations of what is varied, each with every seed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gd_lightning.errors import InputError
from gd_lightning.variants import BatchSize

_MINI_BATCH = 16
_LONGEST = 40  # characters of a value in the name of a directory


@dataclass(frozen=True)
class Member:
    """A run that is to be made.

    Args:
        name: Of its directory.
        options: What is set, by the full names of the options, as text.
    """

    name: str
    options: Mapping[str, str]


def members(axes: Sequence[Sequence[Mapping[str, str]]], seeds: Sequence[Mapping[str, str]]) -> list[Member]:
    """Return every combination of one setting of each axis, with every seed.

    Args:
        axes: Of each axis its settings, each of which may set several options.
        seeds: The options that each seed sets.

    Raises:
        InputError: Two axes set one option.

    Example:
        >>> sizes = [{"data.batch_size": "full"}, {"data.batch_size": "1", "model.lr": "0.01"}]
        >>> [member.name for member in members([sizes], [{"seed_everything": "0"}])]
        ['batch_size-full-seed0', 'batch_size-1-lr-0.01-seed0']
    """
    names = [{name for setting in axis for name in setting} for axis in axes]
    for one, other in itertools.combinations(names, 2):
        if both := sorted(one & other):
            raise InputError(f"cannot vary {both[0]} twice; give its values once")
    found: list[Member] = []
    for settings in itertools.product(*axes):
        options = {name: value for setting in settings for name, value in setting.items()}
        for i, seed in enumerate(seeds):
            found.append(Member(_name(options, i, {member.name for member in found}), {**options, **seed}))
    return found


def usual_batch_sizes(n: int) -> list[BatchSize]:
    """Return the variants that are compared where none are asked for: batch, mini-batch and stochastic.

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
    return list(_split(text))


def _split(text: str) -> Iterator[str]:
    value, depth, quote = "", 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            yield value.strip()
            value = ""
            continue
        if letter in "\"'":
            quote = "" if quote == letter else quote or letter
        elif not quote:
            depth += (letter in "[{(") - (letter in "]})")
        value += letter
    yield value.strip()


def _name(options: Mapping[str, str], seed: int, taken: set[str]) -> str:
    parts = [f"{option.rpartition('.')[2]}-{_plain(value)}" for option, value in options.items()]
    name = "-".join([*parts, f"seed{seed}"])
    number = 1
    while name in taken:
        number += 1
        name = "-".join([*parts, str(number), f"seed{seed}"])
    return name


def _plain(value: str) -> str:
    """Return a value as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value.rpartition("class_path")[2]).strip("_.")[:_LONGEST] or "none"
