"""The findings of a comparison, sentences computed from the rows of its table.

A row is named as the first of several only where the difference to every other one is larger than seeds explain, see
:mod:`~gd_lightning.experiments.comparison.significance`, and only where all of its runs have the figure: the
results of a group's survivors say nothing of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.comparison.significance import Difference
from gd_lightning.experiments.comparison.table import Row
from gd_lightning.experiments.tables import Spread

_MOST_TOLD = 6  # values in a sentence


def findings(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    """Return the findings of a comparison.

    Args:
        comparison: The comparison, which has the target, and why runs diverged.
        found: The rows of its table.
    """
    if len(found) > 1 and not comparison.has_one_loss:
        said = ["The train losses are of different losses or data, and say nothing beside each other."]
        return [*said, *_diverged(comparison, found)]
    return [
        *_fastest(comparison, found),
        *_closest(found),
        *_smoothest(found),
        *_diverged(comparison, found),
    ]


@dataclass(frozen=True)
class _Race:
    """The rows that are first in a figure.

    Args:
        name: The figure.
        rows: All that take part; each of their runs has the figure.
        leader: The one with the smallest mean, or the largest.
        first: The leader, and those that are not told apart from it.
        differs: Whether seeds do not explain the difference between the first ones and every other row.
        are_alike: Whether the first ones come to the same.
        has_noise: Whether something is known of what seeds change, for each difference that is told.
    """

    name: str
    rows: Sequence[Row]
    leader: Row
    first: Sequence[Row]
    differs: bool
    are_alike: bool
    has_noise: bool

    @classmethod
    def of(cls, name: str, rows: Sequence[Row], best: Callable[[Sequence[float]], float] = min) -> _Race:
        """Judge a figure that all runs of the rows have."""
        means = [_mean(row, name) for row in rows]
        leader = rows[means.index(best(means))]
        near = (Difference.ALIKE, Difference.EXPLAINED)
        first = [row for row in rows if row is leader or leader.difference(row, name) in near]
        others = [row for row in rows if row not in first]
        apart = {row.difference(other, name) for row, other in itertools.product(first, others)}
        among = {row.difference(other, name) for row, other in itertools.combinations(first, 2)}
        unknown = Difference.UNKNOWN in apart | among
        return cls(name, rows, leader, first, not apart & {*near}, among <= {Difference.ALIKE}, not unknown)

    @property
    def has_winner(self) -> bool:
        """Whether the first ones can be named as such."""
        return self.differs and self.are_alike

    @property
    def doubt(self) -> str:
        """Caveat for differences between single runs."""
        if self.has_noise:
            return ""
        single = [row for row in self.rows if row.runs == 1]
        whose = "one seed each" if len(single) == len(self.rows) else f"one seed of {_and(single)}"
        return f" ({whose}: no statement about noise)"

    def tie(self, what: str, unit: str = "") -> str:
        """Return the sentence that the leader cannot be distinguished from some others."""
        leader, *others = (
            f"{row.label} ({_spread(row, self.name)}{unit})" if len(self.first) <= _MOST_TOLD else row.label
            for row in sorted(self.first, key=lambda row: row is not self.leader)
        )
        whom = f"{leader} and {'any of ' * (len(others) > 1)}{_joined(others)}"
        return f"{what}: no difference that seeds do not explain between {whom}{self.doubt}."


def _fastest(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    if len(found) < 2:
        return []
    if comparison.target is None:
        return [f"There is no target to reach: {comparison.target_reason}."] if comparison.target_reason else []
    target = f"the target of {comparison.target:.6g} ({comparison.target_reason})"
    always = [row for row in found if row.reached == row.runs]
    some = [row for row in found if 0 < row.reached < row.runs]
    there = [row for row in found if row.at_target]
    never = [row for row in found if not row.reached and not row.at_target]
    sentences = _at_target(target, found, always, bool(some))
    sentences += [f"{row.label} reached it in {row.reached} of {row.runs} runs." for row in some]
    sentences += [
        f"{row.label} was there before its first update{_in_some(row.at_target, row.runs)}, which is no reaching it."
        for row in there
    ]
    return [*sentences, *([f"{_and(never)} did not reach it."] if never and (always or some or there) else [])]


def _at_target(target: str, found: Sequence[Row], always: Sequence[Row], has_some: bool) -> list[str]:
    """Return which rows reached the target first, among those whose runs all did."""
    in_all = " in all of its runs" if any(row.runs > 1 for row in found) else ""
    if not always:
        return [f"None reached {target}{in_all if has_some else ''}."]
    if len(always) == 1:
        (row,) = always
        return [f"{row.label} alone reached {target}{in_all}, after {_way(row)}."]
    sentences: list[str] = []
    for name, fewest, what, unit in (
        ("samples_to_target", "in the fewest samples", "Fewest samples", ""),
        ("seconds_to_target", "in the least time", "Least time", " s"),
    ):
        racing = [row for row in always if row.has_all(name)]
        if len(racing) < 2:
            continue
        race, goal = _Race.of(name, racing), "it" if sentences else target
        value = _spread(race.leader, name)
        won = f"{_and(race.first)} reached {goal} {fewest}, {value}{unit}{race.doubt}."
        sentences.append(won if race.has_winner else race.tie(f"{what} to {goal}", unit))
    return sentences or [f"{_and(always)} reached {target}{in_all}."]


def _closest(found: Sequence[Row]) -> list[str]:
    whole = [row for row in found if not row.diverged and row.has_all("train_loss")]
    if len(whole) < 2:
        return []
    race = _Race.of("train_loss", whole)
    if not race.has_winner:
        return [race.tie("Lowest train loss at the end")]
    return [f"{_and(race.first)} ended lowest, at a train loss of {race.leader.train_loss}{race.doubt}."]


def _smoothest(found: Sequence[Row]) -> list[str]:
    name = "gradient_variance"
    measured = [row for row in found if row.has_all(name)]
    if len(measured) < 2:
        return []
    smooth, noisy = _Race.of(name, measured), _Race.of(name, measured, max)
    if len(smooth.first) == len(measured) and smooth.are_alike:
        return []
    named = [(race, word) for race, word in ((smooth, "smoothest"), (noisy, "noisiest")) if race.has_winner]
    if not named:
        return [smooth.tie("Smallest variance of the gradient over batches at the start")]
    verbs = ["is" if len(named[0][0].first) == 1 else "are", ""]
    who = [
        " ".join([_and(race.first), *verb.split(), "the", word])
        for (race, word), verb in zip(named, verbs, strict=False)
    ]
    by = " and ".join(str(_spread(race.leader, name)) for race, _ in named)
    return [f"{', '.join(who)}: the gradient varies over batches by {by} at the start{named[0][0].doubt}."]


def _diverged(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    sentences = []
    for group, members, row in zip(comparison.groups, comparison.runs, found, strict=True):
        if group.diverged:
            why = next(run.history.reason for run in members if run.history in group.diverged)
            sentences.append(f"{row.label} diverged{_in_some(len(group.diverged), row.runs)}: {why.rstrip('.')}.")
    return sentences


def _in_some(count: int, runs: int) -> str:
    return "" if count == runs else f" in {count} of {runs} runs"


def _way(row: Row) -> str:
    """Return what a row took to the target, as far as its runs tell."""
    units = {"samples": " samples", "seconds": " s"}
    known = [f"{row.to_target[name]}{unit}" for name, unit in units.items() if str(row.to_target[name])]
    return " and ".join(known) or f"{row.to_target['epochs']} epochs"


def _spread(row: Row, name: str) -> Spread:
    return Spread.of(row.per_run[name])


def _mean(row: Row, name: str) -> float:
    return _spread(row, name).mean


def _and(found: Sequence[Row]) -> str:
    return _joined([row.label for row in found])


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
