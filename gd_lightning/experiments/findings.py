"""What a comparison shows, one sentence a finding, computed from its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gd_lightning.experiments.comparison import Comparison
from gd_lightning.experiments.table import Row


def findings(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    """Return what the rows of a comparison show.

    Args:
        comparison: The comparison, for the target and for why runs diverged.
        found: Its rows.
    """
    return [
        *_fastest(comparison, found),
        *_closest(comparison, found),
        *_smoothest(found),
        *_diverged(comparison, found),
    ]


def _fastest(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    if comparison.target is None or len(found) < 2:
        return []
    target = f"the target of {comparison.target:.6g} ({comparison.target_reason})"
    # What all runs of a group do is worth more than what one of them did.
    always = [row for row in found if row.reached == row.runs]
    there = always or [row for row in found if row.reached]
    if not there:
        return [f"None reached {target}."]
    by_samples = _least(there, lambda row: row.to_target["samples"].mean)
    by_seconds = _least(there, lambda row: row.to_target["seconds"].mean)
    samples = f"{_and(by_samples)} reached {target} in the fewest samples, {by_samples[0].to_target['samples']}"
    if [row.label for row in by_samples] == [row.label for row in by_seconds]:
        sentences = [f"{samples}, and in the least time, {_seconds(by_seconds[0])}."]
    else:
        sentences = [f"{samples}; {_and(by_seconds)} in the least time, {_seconds(by_seconds[0])}."]
    some = [
        f"{row.label} reached it in {row.reached} of {row.runs} runs." for row in found if 0 < row.reached < row.runs
    ]
    never = [row for row in found if not row.reached]
    return [*sentences, *some, *([f"{_and(never)} did not reach it."] if never else [])]


def _closest(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    known = [row for row in found if not math.isnan(row.train_loss.mean)]
    whole = {group.label for group in comparison.groups if not group.diverged}
    # The mean over the runs that happened not to diverge says nothing of the others.
    sound = [row for row in known if row.label in whole] or known
    if len(sound) < 2:
        return []
    if not comparison.has_one_loss:
        return ["The train losses are of different losses or data, and say nothing beside each other."]
    best = _least(sound, lambda row: row.train_loss.mean)
    return [f"{_and(best)} ended lowest, at a train loss of {best[0].train_loss}."]


def _smoothest(found: Sequence[Row]) -> list[str]:
    measured = [row for row in found if not math.isnan(row.gradient_variance.mean)]
    values = [row.gradient_variance.mean for row in measured]
    if len(set(values)) < 2:
        return []
    smooth, noisy = _least(measured, lambda row: row.gradient_variance.mean), max(measured, key=_variance)
    return [
        f"{_and(smooth)} is the smoothest, {noisy.label} the noisiest: the gradient varies over batches by "
        f"{smooth[0].gradient_variance} and {noisy.gradient_variance} at the start."
    ]


def _diverged(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    sentences = []
    for group, members, row in zip(comparison.groups, comparison.runs, found, strict=True):
        if group.diverged:
            count = "" if len(group.diverged) == row.runs else f" in {len(group.diverged)} of {row.runs} runs"
            why = next(run.history.reason for run in members if run.history in group.diverged)
            sentences.append(f"{row.label} diverged{count}: {why.rstrip('.')}.")
    return sentences


def _least(found: Sequence[Row], key: Callable[[Row], float]) -> list[Row]:
    """Return the rows with the smallest value, several where it is the same."""
    least = min(key(row) for row in found)
    return [row for row in found if key(row) == least]


def _variance(row: Row) -> float:
    return row.gradient_variance.mean


def _and(found: Sequence[Row]) -> str:
    labels = [row.label for row in found]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _seconds(row: Row) -> str:
    return f"{row.to_target['seconds'].mean:.3g} s"
