"""Which runs differ in their seed alone, and what sets the others apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gd_lightning.tracking.finished_runs import FinishedRun

Settings = dict[str, Any]

_SEEDS = ("seed_everything", "data.seed", "data.problem.init_args.seed")
# What a run writes and shows, which does not change what it comes to.
_OUTPUT = ("trainer.default_root_dir", "trainer.logger", "trainer.callbacks", "trainer.enable_", "trainer.log_")
_OTHERS = ("checkpoint", "recorder", "on_divergence", "divergence_factor", "ckpt_path", "data.predict_inputs")
# An optimiser is saved beside the model and in it.
_IGNORED = (*_SEEDS, *_OUTPUT, *_OTHERS, "model.optimizer", "model.lr_scheduler", "data.micro_batch_size")
_FIRST = ("data.batch_size", "model.lr")


def grouped(runs: Sequence[FinishedRun]) -> list[tuple[str, Settings, list[FinishedRun]]]:
    """Put runs together that differ in their seed alone, in the order of their first appearance.

    Args:
        runs: The runs.

    Returns:
        Of each group its label, what sets it apart from other groups by the full names of the options, and its runs.
    """
    all_settings = [_comparable(run) for run in runs]
    names = _differing(all_settings)
    groups: dict[str, tuple[Settings, list[FinishedRun]]] = {}
    for run, settings in zip(runs, all_settings, strict=True):
        own = {name: settings.get(name) for name in names}
        groups.setdefault(json.dumps(own, default=str), (own, []))[1].append(run)
    labels = _labels([(own, members[0]) for own, members in groups.values()])
    return [(label, own, members) for label, (own, members) in zip(labels, groups.values(), strict=True)]


def _comparable(run: FinishedRun) -> Settings:
    settings = {name: value for name, value in run.settings.items() if not name.startswith(_IGNORED)}
    if run.summary is not None and run.summary.get("batch_size") is not None:
        settings["data.batch_size"] = run.summary["batch_size"]  # full is a number, too
    return settings


def _differing(all_settings: Sequence[Settings]) -> list[str]:
    """Return the options that are not alike in all runs, batch size and learning rate first."""
    names = dict.fromkeys([*_FIRST, *(name for settings in all_settings for name in settings)])
    values = {name: {json.dumps(settings.get(name), default=str) for settings in all_settings} for name in names}
    return [name for name in names if len(values[name]) > 1]


def _labels(groups: Sequence[tuple[Settings, FinishedRun]]) -> list[str]:
    """Name groups by what sets them apart, as shortly as tells them apart."""
    names = list(groups[0][0])
    for count in range(1, len(names) + 1):  # lr may follow batch_size, and need not be told
        labels = [", ".join(_phrase(name, own[name], run) for name in names[:count]) for own, run in groups]
        if len(set(labels)) == len(labels):
            return labels
    if not names:
        return [_variant(run) or run.name for _, run in groups]
    return [", ".join(f"{name} {own[name]}" for name in names) for own, _ in groups]


def _phrase(name: str, value: Any, run: FinishedRun) -> str:
    if name == "data.batch_size":
        return _variant(run) or f"batch_size {value}"
    short = name.removesuffix(".class_path").rpartition(".")[2]
    if name.endswith("class_path"):
        return str(value).rpartition(".")[2]
    return f"{short} {value:g}" if isinstance(value, float) else f"{short} {value}"


def _variant(run: FinishedRun) -> str:
    """Return the variant of a run, a mini-batch with its size; empty where it is not known."""
    variant = (run.summary or {}).get("variant")
    return f"{variant} {(run.summary or {})['batch_size']}" if variant == "mini-batch" else variant or ""
