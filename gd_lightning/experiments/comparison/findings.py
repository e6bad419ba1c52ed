"""The findings of a comparison, sentences computed from the rows of its table.

A row is named as the best only if it differs from every other one by more than seeds explain (see
:mod:`~gd_lightning.experiments.comparison.significance`), and only if all of its runs have the quantity: the runs of a
group that did not diverge say nothing about the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.comparison.significance import MOST_SEEDS, Difference
from gd_lightning.experiments.comparison.table import Row
from gd_lightning.experiments.tables import Spread

_MOST_SHOWN = 6  # largest number of values in a sentence


def findings(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    """Return the findings of a comparison.

    Args:
        comparison: The comparison, which has the target and the reasons why runs diverged.
        found: The rows of its table.
    """
    if len(found) > 1 and not comparison.has_one_loss:
        said = ["These groups have different losses or data, so their train losses cannot be compared."]
        return [*said, *_diverged(comparison, found)]
    return [*_fastest(comparison, found), *_closest(found), *_smoothest(found), *_diverged(comparison, found)]


@dataclass(frozen=True)
class _Ranking:
    """The ranking of rows by a quantity.

    Args:
        name: The quantity.
        rows: The ranked rows; each of their runs has the quantity.
        leader: The row with the smallest mean, or the largest.
        first: The leader, and the rows that do not differ from it by more than seeds explain.
        differs: Whether each of the first rows differs from every other row by more than seeds explain.
        are_alike: Whether the first rows have the same value, except for rounding.
        has_noise: Whether the effect of the seed is known for each of these differences.
    """

    name: str
    rows: Sequence[Row]
    leader: Row
    first: Sequence[Row]
    differs: bool
    are_alike: bool
    has_noise: bool

    @classmethod
    def of(cls, name: str, rows: Sequence[Row], best: Callable[[Sequence[float]], float] = min) -> _Ranking:
        """Rank rows by a quantity that all of their runs have."""
        means = [_spread(row, name).mean for row in rows]
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
        """Whether the first rows can be named as the best."""
        return self.differs and self.are_alike

    @property
    def doubt(self) -> str:
        """Caveat for differences between single runs."""
        if self.has_noise:
            return ""
        single = [row for row in self.rows if row.runs == 1]
        whose = "one seed each" if len(single) == len(self.rows) else f"one seed of {_and(single)}"
        return f" ({whose}, so the effect of the seed is unknown)"

    def tie(self, what: str, unit: str = "") -> str:
        """Return the sentence that the seeds do not tell the leader from some others, and how many would."""
        leader, *others = (
            f"{row.label} ({_spread(row, self.name)}{unit})" if len(self.first) <= _MOST_SHOWN else row.label
            for row in sorted(self.first, key=lambda row: row is not self.leader)
        )
        runs = {row.runs for row in self.first}
        seeds = f"{max(runs)} seeds are" if len(runs) == 1 and runs != {1} else "these seeds are"
        whom = f"{'each of ' * (len(others) > 1)}{_joined(others)}"
        return f"{what}: {seeds} too few to tell {leader} from {whom}{self.doubt}{self._enough}."

    @property
    def _enough(self) -> str:
        """How many seeds would distinguish the leader from the others, as the end of a sentence."""
        others = [row for row in self.first if row is not self.leader]
        near = [row for row in others if self.leader.difference(row, self.name) is Difference.EXPLAINED]
        needed = max((self.leader.seeds_to_tell(row, self.name) for row in near), default=0)
        if needed > MOST_SEEDS:
            return f"; more than {MOST_SEEDS:,} would be needed"
        is_more = needed > max(row.runs for row in self.first)  # otherwise the difference is one of rounding
        return f"; about {needed:.0f} would suffice if means and standard deviations stay the same" if is_more else ""


def _fastest(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    if len(found) < 2:
        return []
    if comparison.target is None:
        return [f"There is no target to reach: {comparison.target_reason}."] if comparison.target_reason else []
    target = f"the target of {comparison.target:.6g} ({comparison.target_reason})"
    always = [row for row in found if row.reached == row.runs]
    some = [row for row in found if 0 < row.reached < row.runs]
    below = [row for row in found if row.at_target]
    never = [row for row in found if not row.reached and not row.at_target]
    sentences = _at_target(target, found, always, bool(some))
    sentences += [f"{row.label} reached it in {row.reached} of {row.runs} runs." for row in some]
    sentences += [
        f"{row.label} was already at or below it before the first update{_in_some(row.at_target, row.runs)}, "
        "which does not count as reaching it."
        for row in below
    ]
    return [*sentences, *([f"{_and(never)} did not reach it."] if never and (always or some or below) else [])]


def _at_target(target: str, found: Sequence[Row], always: Sequence[Row], has_some: bool) -> list[str]:
    """Return which row reached the target first, among those whose runs all reached it."""
    in_all = " in all of its runs" if any(row.runs > 1 for row in found) else ""
    if not always:
        return [f"None reached {target}{in_all if has_some else ''}."]
    if len(always) == 1:
        (row,) = always
        return [f"{row.label} alone reached {target}{in_all}, after {_effort_to_target(row)}."]
    sentences: list[str] = []
    for name, fewest, what, unit in (
        ("samples_to_target", "in the fewest samples", "Fewest samples", ""),
        ("seconds_to_target", "in the least time", "Least time", " s"),
    ):
        ranked = [row for row in always if row.has_all(name)]
        if len(ranked) < 2:
            continue
        ranking, goal = _Ranking.of(name, ranked), "it" if sentences else target
        value = _spread(ranking.leader, name)
        won = f"{_and(ranking.first)} reached {goal} {fewest}, {value}{unit}{ranking.doubt}."
        sentences.append(won if ranking.has_winner else ranking.tie(f"{what} to {goal}", unit))
    return sentences or [f"{_and(always)} reached {target}{in_all}."]


def _closest(found: Sequence[Row]) -> list[str]:
    whole = [row for row in found if not row.diverged and row.has_all("train_loss")]
    if len(whole) < 2:
        return []
    ranking = _Ranking.of("train_loss", whole)
    if not ranking.has_winner:
        return [ranking.tie("Lowest final train loss")]
    return [f"{_and(ranking.first)} had the lowest final train loss, {ranking.leader.train_loss}{ranking.doubt}."]


def _smoothest(found: Sequence[Row]) -> list[str]:
    name = "gradient_variance"
    measured = [row for row in found if row.has_all(name)]
    if len(measured) < 2:
        return []
    smooth, noisy = _Ranking.of(name, measured), _Ranking.of(name, measured, max)
    if len(smooth.first) == len(measured) and smooth.are_alike:
        return []
    named = [(ranking, word) for ranking, word in ((smooth, "smoothest"), (noisy, "noisiest")) if ranking.has_winner]
    if not named:
        return [smooth.tie("Smallest gradient variance over batches at the start")]
    verbs = ["is" if len(named[0][0].first) == 1 else "are", ""]
    who = [
        " ".join([_and(ranking.first), *verb.split(), "the", word])
        for (ranking, word), verb in zip(named, verbs, strict=False)
    ]
    by = " and ".join(str(_spread(ranking.leader, name)) for ranking, _ in named)
    return [f"{', '.join(who)}: the gradient variance over batches at the start is {by}{named[0][0].doubt}."]


def _diverged(comparison: Comparison, found: Sequence[Row]) -> list[str]:
    sentences = []
    for group, members, row in zip(comparison.groups, comparison.runs, found, strict=True):
        if group.diverged:
            why = next(run.history.reason for run in members if run.history in group.diverged)
            sentences.append(f"{row.label} diverged{_in_some(len(group.diverged), row.runs)}: {why.rstrip('.')}.")
    return sentences


def _in_some(count: int, runs: int) -> str:
    return "" if count == runs else f" in {count} of {runs} runs"


def _effort_to_target(row: Row) -> str:
    """Return the samples and seconds that a row took to the target, or the epochs if neither is known."""
    units = {"samples": " samples", "seconds": " s"}
    known = [f"{row.to_target[name]}{unit}" for name, unit in units.items() if str(row.to_target[name])]
    return " and ".join(known) or f"{row.to_target['epochs']} epochs"


def _spread(row: Row, name: str) -> Spread:
    return Spread.of(row.per_run[name])


def _and(found: Sequence[Row]) -> str:
    return _joined([row.label for row in found])


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
