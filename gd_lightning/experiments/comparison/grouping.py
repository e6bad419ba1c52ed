"""Grouping of runs that differ only in their seed, and labels of the groups."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from gd_lightning.escaping import in_one_line
from gd_lightning.experiments.comparison.comparable_settings import (
    CALLBACKS,
    Settings,
    class_name,
    comparable,
    specs_of,
)
from gd_lightning.tracking.run_reader import FinishedRun

# Options that choose classes, with their values if none is chosen.
_CHOSEN = {"optimizer": "SGD", "lr_scheduler": "no lr_scheduler", CALLBACKS: "no callbacks"}
_FIRST = ("data.batch_size", "optimizer", "model.lr")


def grouped(runs: Sequence[FinishedRun], apart: Collection[str] = ()) -> list[tuple[str, Settings, list[FinishedRun]]]:
    """Group runs that differ only in their seed, in the order of their first appearance.

    Args:
        runs: The runs.
        apart: Seeds that are varied on purpose, and so distinguish groups, by the full names of their options.

    Returns:
        For each group: its label, the options that distinguish it from other groups by full name, and its runs.
    """
    names = {name.replace(".init_args.", ".") for name in apart}
    all_settings = [comparable(run, names) for run in runs]
    differing = _differing(all_settings)
    groups: dict[str, tuple[Settings, list[FinishedRun]]] = {}
    for run, settings in zip(runs, all_settings, strict=True):
        own = {name: settings.get(name) for name in differing}
        groups.setdefault(json.dumps(own, default=str), (own, []))[1].append(run)
    labels = _labels([(own, members[0]) for own, members in groups.values()])
    return [(in_one_line(label), own, members) for label, (own, members) in zip(labels, groups.values(), strict=True)]


def _differing(all_settings: Sequence[Settings]) -> list[str]:
    """Return the options that differ between runs, batch size and learning rate first."""
    names = dict.fromkeys([*_FIRST, *(name for settings in all_settings for name in settings)])
    values = {name: {json.dumps(settings.get(name), default=str) for settings in all_settings} for name in names}
    return [name for name in names if len(values[name]) > 1]


def _labels(groups: Sequence[tuple[Settings, FinishedRun]]) -> list[str]:
    """Return the shortest labels that distinguish the groups."""
    names = list(groups[0][0])
    values = {name: [own[name] for own, _ in groups] for name in names}
    # A setting that follows from others, as lr from batch_size, need not be named.
    for count in range(1, len(names) + 1):
        labels = [
            ", ".join(_phrase(name, own[name], run, values[name]) for name in names[:count]) for own, run in groups
        ]
        if len(set(labels)) == len(labels):
            return labels
    if not names:
        return [_variant(run) or run.name for _, run in groups]
    return [", ".join(f"{name} {own[name]}" for name in names) for own, _ in groups]


def _phrase(name: str, value: Any, run: FinishedRun, values: Sequence[Any]) -> str:
    """Return a setting in words; ``values`` are the values that all groups have for it."""
    if name == "data.batch_size":
        return _variant(run) or f"batch_size {value}"
    if name in _CHOSEN:
        return " and ".join(_class_in_words(spec, values) for spec in specs_of(value)) or _CHOSEN[name]
    short = name.removesuffix(".class_path").rpartition(".")[2]
    if name.endswith("class_path"):
        return str(value).rpartition(".")[2]
    return f"{short} {_plain(value)}"


def _class_in_words(spec: dict[str, Any], values: Sequence[Any]) -> str:
    """Return the name of a class, with the arguments by which it differs from other choices of the same class."""
    name, own = class_name(spec), spec.get("init_args") or {}
    alike = [other for value in values for other in specs_of(value) if class_name(other) == name]
    all_arguments = [other.get("init_args") or {} for other in alike]
    told = [key for key in own if len({json.dumps(each.get(key), default=str) for each in all_arguments}) > 1]
    return " ".join([name, *(f"{key} {_plain(own[key])}" for key in told)])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _variant(run: FinishedRun) -> str:
    """Return the variant of a run, with the size of a mini-batch; empty where it is not known."""
    variant = (run.summary or {}).get("variant")
    return f"{variant} {(run.summary or {})['batch_size']}" if variant == "mini-batch" else variant or ""
