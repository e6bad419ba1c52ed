"""Every sentence of a comparison follows from its runs: generated tables, judged by SciPy and by what the runs hold."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from gd_lightning.experiments import Comparison
from gd_lightning.experiments.comparison.findings import findings
from gd_lightning.experiments.comparison.significance import Difference, difference, rounding_of, two_sided
from gd_lightning.experiments.comparison.table import rows
from gd_lightning.records.groups import Values
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_reader import FinishedRun
from tests.selection import every

EPOCHS = 4


@dataclass
class Run:
    """A run as it is drawn, for the oracle."""

    seed: int | None
    losses: list[float]
    pace: float
    variance: float
    diverged: bool = False

    def finished(self, label: float, least: float | None) -> FinishedRun:
        """Return the run in the form that a comparison reads."""
        history = History()
        for i, loss in enumerate(self.losses):
            history.append(update=i, epoch=i, samples=8 * i, seconds=self.pace * i, train_loss=loss)
        history.add_to_last_row({"gradient_variance": self.variance})
        history.outcome = Outcome.DIVERGED if self.diverged else Outcome.COMPLETED
        history.reason = "too much"
        seeds = {} if self.seed is None else {"seed_everything": self.seed, "data.seed": self.seed}
        summary = {"variant": "batch", "batch_size": 8, "least_squares_loss": least, "engine": "fused"}
        summary["train_loss_first"] = self.losses[0]
        return FinishedRun(f"{label}-{self.seed}", history, "history.csv", summary, {"model.lr": label, **seeds})

    def steps_to(self, target: float) -> float:
        """Return how many epochs it took to get to a target from above it; nan where it did not."""
        if self.diverged or self.losses[0] <= target:
            return math.nan
        return next((float(i) for i, loss in enumerate(self.losses) if loss <= target), math.nan)


Table = dict[str, list[Run]]


def _table(random: np.random.Generator) -> Table:
    table: Table = {}
    n_runs, common = int(random.integers(1, 6)), random.normal(size=5)
    share, has_seeds = random.choice([0.0, 0.05, 0.4]), random.random() < 0.8
    for i in range(int(random.integers(2, 6))):
        count = n_runs if random.random() < 0.8 else int(random.integers(1, 6))
        first = 0 if random.random() < 0.8 else 1
        end, noise = random.choice([0.5, 0.5, 0.53, 0.8, 2.0]), random.choice([0.0, 1e-9, 0.01, 0.2])
        start, pace = random.choice([8.0, 8.0, 8.0, 1.0]), random.choice([0.1, 0.1, 0.3])
        shape = np.array([1, 0.4, 0.1, 0])
        table[f"lr 0.{i + 1}"] = [
            Run(
                seed=run + first if has_seeds else None,
                losses=(
                    abs(end * math.exp(noise * random.normal() + share * common[run])) + (start - end) * shape
                ).tolist(),
                pace=pace * math.exp(0.3 * noise * random.normal()),
                variance=max(0.0, random.choice([0.0, 1.0, 5.0]) * (1 + noise * random.normal())),
            )
            for run in range(count)
        ]
        for run in table[f"lr 0.{i + 1}"]:
            if random.random() < 0.06:
                run.losses, run.diverged = [*run.losses[:2], 1e9, math.inf], True
    return table


class Oracle:
    """What may be said of a table.

    Args:
        table: The runs.
        target: The target of the comparison.
    """

    def __init__(self, table: Table, target: float | None) -> None:
        self.table = table
        goal = -math.inf if target is None else target
        of: dict[str, Callable[[Run], float]] = {
            "loss": lambda run: math.nan if run.diverged else run.losses[-1],
            "samples": lambda run: 8 * run.steps_to(goal),
            "seconds": lambda run: run.pace * run.steps_to(goal),
            "variance": lambda run: run.variance,
        }
        self.values = {
            name: {label: np.array([figure(run) for run in runs]) for label, runs in table.items()}
            for name, figure in of.items()
        }
        self._judged: dict[tuple[str, str, str], bool | None] = {}
        self.at_start = {label: sum(run.losses[0] <= goal for run in runs) for label, runs in table.items()}

    def whole(self, name: str) -> list[str]:
        """Labels of which all runs have a figure."""
        return [label for label, values in self.values[name].items() if np.isfinite(values).all()]

    def differ(self, name: str, one: str, other: str) -> bool | None:
        """Whether two groups differ by more than seeds explain; None where single runs cannot say."""
        if (name, one, other) not in self._judged:
            self._judged[name, one, other] = self._differ(name, one, other)
        return self._judged[name, one, other]

    def _differ(self, name: str, one: str, other: str) -> bool | None:
        a, b = self.values[name][one], self.values[name][other]
        if max(a.max(), b.max()) - min(a.min(), b.min()) <= 1e-5 * max(abs(a).max(), abs(b).max()):
            return False
        seeds = [[run.seed for run in self.table[label]] for label in (one, other)]
        paired = None not in seeds[0] and seeds[0] == seeds[1]
        if paired and abs(a - b).max() <= 1e-5 * max(abs(a).max(), abs(b).max()):
            return False
        if min(len(a), len(b)) < 2:
            return None
        ends = [self.values["loss"][label] for label in (one, other)]
        if name in ("samples", "seconds") and any(np.ptp(each) > 1e-5 * each.max() for each in ends):
            paces = [8.0 if name == "samples" else np.median([r.pace for r in self.table[k]]) for k in (one, other)]
            return self._differ_by_steps(a, b, paired, max(paces))
        if abs(a.mean() - b.mean()) <= 1e-5 * max(abs(a).max(), abs(b).max()):
            return False
        spread = np.std(a - b) if paired else max(np.std(a), np.std(b))
        if spread <= 1e-12 * max(abs(a).max(), abs(b).max()):
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that of runs that come to the same
            test = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
        return bool(test.pvalue < 0.05)

    @staticmethod
    def _differ_by_steps(a: Values, b: Values, paired: bool, step: float) -> bool:
        """Judge values that are known to a step, by the formulas of Student and Welch."""
        if abs(a.mean() - b.mean()) <= 1e-5 * max(a.max(), b.max()):
            return False
        if paired:
            error, freedom = math.sqrt(max((a - b).var(ddof=1), step**2 / 6) / len(a)), len(a) - 1.0
        else:
            parts = [max(each.var(ddof=1), step**2 / 12) / len(each) for each in (a, b)]
            error = math.sqrt(sum(parts))
            freedom = error**4 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (a, b), strict=True))
        return bool(abs(a.mean() - b.mean()) > stats.t.ppf(0.975, freedom) * error)

    def shown(self, name: str, label: str) -> str:
        """Write mean and deviation."""
        values = self.values[name][label]
        deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
        if deviation <= 1e-12 * abs(values).max():
            return f"{values[0]:.5g}"
        return f"{values.mean():.5g} ± {float(f'{deviation:.2g}'):g}"

    def check_winner(self, name: str, labels: Sequence[str], value: str, doubt: str | None, sign: int = 1) -> None:
        """Judge that some are the first of all that have the figure in all runs."""
        racing = self.whole(name)
        assert set(labels) <= set(racing)
        assert value.removesuffix(" s") in {self.shown(name, label) for label in labels}
        found = set()
        for label in labels:
            for other in set(racing) - set(labels):
                assert sign * self.values[name][label].mean() < sign * self.values[name][other].mean()
                found.add(self.differ(name, label, other))
            assert all(self.differ(name, label, other) is False for other in labels)
        assert False not in found
        if doubt is not None:
            assert any(len(self.table[label]) == 1 for label in racing)
        else:
            assert None not in found

    def check_tie(self, name: str, told: str) -> None:
        """Judge that the first one does not differ from some, and from no others."""
        told, _, doubt = told.partition(" (one seed ")
        labels = re.findall(r"lr 0\.\d", told)
        racing, leader = self.whole(name), labels[0]
        assert bool(doubt) == any(self.differ(name, label, other) is None for label in labels for other in racing)
        lowest = min(self.values[name][label].mean() for label in racing)
        assert self.values[name][leader].mean() == pytest.approx(lowest, rel=1e-12)
        assert all(self.differ(name, leader, label) is False for label in labels[1:])
        assert all(self.differ(name, leader, label) is not False for label in set(racing) - set(labels))
        assert len(labels) > 1
        for label in labels:
            assert f"{label} ({self.shown(name, label)}" in told


LABELS = r"((?:lr 0\.\d(?:, | and )?)+)"
VALUE = r"([-\d.e+]+(?: ± [-\d.e+]+)?(?: s)?)"
TARGET = r"(?:it|the target of [-\d.e+]+ \([^)]*\))"
DOUBT = r"( \(one seed (?:each|of [^)]*), so the effect of the seed is unknown\))?"
TIE = r"((?:\d+|these) seeds are too few to tell .* from .*)\."
BELOW = "was already at or below it before the first update"
VARIES = "the gradient variance over batches at the start is"
WINNERS = {
    "loss": rf"{LABELS} had the lowest final train loss, {VALUE}{DOUBT}\.",
    "samples": rf"{LABELS} reached {TARGET} in the fewest samples, {VALUE}{DOUBT}\.",
    "seconds": rf"{LABELS} reached {TARGET} in the least time, {VALUE}{DOUBT}\.",
}
TIES = {
    "loss": f"Lowest final train loss: {TIE}",
    "samples": f"Fewest samples to {TARGET}: {TIE}",
    "seconds": f"Least time to {TARGET}: {TIE}",
    "variance": f"Smallest gradient variance over batches at the start: {TIE}",
}
SMOOTHEST = rf"{LABELS} (?:is|are) the smoothest(?:, {LABELS} the noisiest)?"
VARIANCES = rf"{SMOOTHEST}: {VARIES} {VALUE}(?: and {VALUE})?{DOUBT}\."
NOISIEST = rf"{LABELS} (?:is|are) the noisiest: {VARIES} {VALUE}{DOUBT}\."


def _names(text: str) -> list[str]:
    return re.findall(r"lr 0\.\d", text)


def _check(sentence: str, oracle: Oracle) -> str:
    """Judge a sentence; returns of what it tells."""
    for name, pattern in WINNERS.items():
        if found := re.fullmatch(pattern, sentence):
            oracle.check_winner(name, _names(found[1]), found[2], found[3])
            return name
    for name, pattern in TIES.items():
        if found := re.fullmatch(pattern, sentence):
            oracle.check_tie(name, found[1])
            return name
    if found := re.fullmatch(VARIANCES, sentence):
        oracle.check_winner("variance", _names(found[1]), found[3], found[5])
        if found[2]:
            oracle.check_winner("variance", _names(found[2]), found[4], found[5], -1)
        return "variance"
    if found := re.fullmatch(NOISIEST, sentence):
        oracle.check_winner("variance", _names(found[1]), found[2], found[3], -1)
        return "variance"
    return _check_count(sentence, oracle)


def _check_count(sentence: str, oracle: Oracle) -> str:
    """Judge a sentence that says in how many runs something was."""
    reached = {label: np.isfinite(values) for label, values in oracle.values["samples"].items()}
    all_runs = f"{TARGET}(?: in all of its runs)?, after"
    if found := re.fullmatch(rf"{LABELS} alone reached {all_runs} {VALUE} samples and {VALUE}\.", sentence):
        assert oracle.whole("samples") == _names(found[1])
        return "alone"
    if found := re.fullmatch(rf"None reached {TARGET}( in all of its runs)?\.", sentence):
        assert not oracle.whole("samples")
        assert bool(found[1]) == any(each.any() for each in reached.values())
        return "none"
    if found := re.fullmatch(r"(lr 0\.\d) reached it in (\d) of (\d) runs\.", sentence):
        assert (reached[found[1]].sum(), len(reached[found[1]])) == (int(found[2]), int(found[3]))
        assert found[1] not in oracle.whole("samples")
        return "some"
    if found := re.fullmatch(rf"(lr 0\.\d) {BELOW}(?: in (\d) of \d runs)?, .*\.", sentence):
        assert oracle.at_start[found[1]] == int(found[2] or len(oracle.table[found[1]]))
        assert found[1] not in oracle.whole("samples")
        return "start"
    if found := re.fullmatch(rf"{LABELS} did not reach it\.", sentence):
        assert not any(reached[label].any() or oracle.at_start[label] for label in _names(found[1]))
        return "never"
    if found := re.fullmatch(r"(lr 0\.\d) diverged(?: in (\d) of \d runs)?: too much\.", sentence):
        assert sum(run.diverged for run in oracle.table[found[1]]) == int(found[2] or len(oracle.table[found[1]]))
        return "diverged"
    assert re.fullmatch(r"There is no target to reach: .*\.", sentence)
    return "no target"


def _said(table: Table, target: float | None, least: float | None) -> tuple[list[str], Oracle]:
    runs = [run.finished(float(label[3:]), least) for label, group in table.items() for run in group]
    comparison = Comparison.of(runs, target)
    return findings(comparison, rows(comparison)), Oracle(table, comparison.target)


@pytest.mark.parametrize(
    "seeds", [range(80), pytest.param(range(80, 2000), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_every_sentence_follows_from_the_runs(seeds: range) -> None:
    seen: dict[str, int] = {}
    for seed in seeds:
        random = np.random.default_rng(seed)
        table = _table(random)
        said, oracle = _said(table, (None, None, 0.6, 1.0)[seed % 4], (None, 0.5)[seed // 4 % 2])
        kinds = [_check(sentence, oracle) for sentence in said]
        for kind in kinds:
            seen[kind] = seen.get(kind, 0) + 1
        assert kinds.count("loss") == (len(oracle.whole("loss")) > 1)
        at_target = {"samples", "alone", "none", "no target"} & set(kinds)
        assert len(at_target) == 1
        assert ("seconds" in kinds) == ("samples" in kinds)
        assert kinds.count("start") == sum(map(bool, oracle.at_start.values()))
        assert kinds.count("diverged") == sum(any(run.diverged for run in runs) for runs in table.values())
        for name, kind in (("loss", "loss"), ("samples", "samples"), ("variance", "variance")):
            _check_that_a_clear_first_is_named(oracle, name, [s for s, k in zip(said, kinds, strict=True) if k == kind])
    kinds_of_sentences = "loss samples seconds alone none some start never variance diverged"
    assert all(seen[kind] > 2 for kind in kinds_of_sentences.split()), seen


def _check_that_a_clear_first_is_named(oracle: Oracle, name: str, sentences: Sequence[str]) -> None:
    racing = oracle.whole(name)
    for label in racing:
        others = [other for other in racing if other != label]
        below = all(oracle.values[name][label].mean() < oracle.values[name][other].mean() for other in others)
        if others and below and all(oracle.differ(name, label, other) for other in others):
            assert any(sentence.startswith(f"{label} ") for sentence in sentences)


def _runs(ends: Sequence[float], start: float = 8.0, pace: float = 1.0, seeds: bool = True) -> list[Run]:
    """Return runs that halve their way, by their ends."""
    return [
        Run(i if seeds else None, [start, (start + end) / 2, end, end], pace * (1 + 0.1 * i), 1.0)
        for i, end in enumerate(ends)
    ]


def test_what_seeds_explain_makes_no_winner_and_what_they_do_not_does() -> None:
    noisy = {"lr 0.1": _runs([0.21, 0.28, 0.16]), "lr 0.2": _runs([0.24, 0.19, 0.23])}
    (loss,) = (s for s in _said(noisy, None, None)[0] if "Lowest final train loss" in s)
    assert loss == (
        "Lowest final train loss: 3 seeds are too few to tell lr 0.1 (0.21667 ± 0.06) from lr 0.2 (0.22 ± 0.026); "
        "more than 1,000 would be needed."
    )
    # Seed by seed it is always lower, by far less than seeds differ.
    paired = {"lr 0.1": _runs([0.30, 0.50, 0.90]), "lr 0.2": _runs([0.31, 0.511, 0.9105])}
    assert any(s.startswith("lr 0.1 had the lowest final train loss") for s in _said(paired, None, None)[0])
    apart = {"lr 0.1": paired["lr 0.1"], "lr 0.2": _runs([0.31, 0.511, 0.9105], seeds=False)}
    assert not any("had the lowest" in s for s in _said(apart, None, None)[0])


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("has_seeds", [True, False], ids=["paired", "apart"])
@pytest.mark.parametrize("gap", every(3, [0.1, 0.02, 0.4]))
def test_as_many_seeds_as_a_tie_asks_for_tell(runs: int, has_seeds: bool, gap: float) -> None:
    """With the same means and deviations in more runs, so many name a winner, and one fewer does not."""

    def ends(count: int, mean: float, sign: int) -> list[float]:
        drawn = np.random.default_rng(count).normal(size=count)
        return list(mean + sign * 0.1 * (drawn - drawn.mean()) / drawn.std(ddof=1))

    def said(count: int) -> str:
        table = {
            "lr 0.1": _runs(ends(count, 1.0, 1), seeds=has_seeds),
            "lr 0.2": _runs(ends(count, 1.0 + gap, -1), seeds=has_seeds),
        }
        return next(each for each in _said(table, None, None)[0] if "owest final train loss" in each)

    if not said(runs).startswith("Lowest"):
        assert gap == 0.4
        return
    assert said(runs).startswith(f"Lowest final train loss: {runs} seeds are too few to tell lr 0.1 (1 ± 0.1) from")
    (enough,) = (int(each) for each in re.findall(r"about (\d+) would suffice", said(runs)))
    assert said(enough).startswith("lr 0.1 had the lowest final train loss")
    assert f"{enough - 1} seeds are too few" in said(enough - 1)


def test_values_that_are_alike_because_they_are_coarse_are_no_sign_of_certainty() -> None:
    """Two seeds that need 1 and 2 epochs, and 2 and 3 with another rate, could as well have come out the other way."""
    early = [Run(0, [8, 1, 0.31, 0.3], 1.0, 1.0), Run(1, [8, 4, 1, 0.35], 1.0, 1.0)]
    late = [Run(0, [8, 3, 1, 0.32], 1.0, 1.0), Run(1, [8, 4, 2, 0.9], 1.0, 1.0)]
    said = _said({"lr 0.1": early, "lr 0.2": late}, 1.0, None)[0]
    assert said[0] == (
        "Fewest samples to the target of 1 (as asked for): 2 seeds are too few to tell lr 0.1 (12 ± 5.7) from lr 0.2 "
        "(20 ± 5.7); about 4 would suffice if means and standard deviations stay the same."
    )


@pytest.mark.parametrize("gap", [1e-8, 1e-7, 1e-6])
def test_rounding_makes_no_winner(gap: float) -> None:
    table = {"lr 0.1": _runs([0.5, 0.5]), "lr 0.2": _runs([0.5 * (1 + gap), 0.5 * (1 + gap)])}
    assert any(s == "lr 0.1 and lr 0.2 had the lowest final train loss, 0.5." for s in _said(table, None, None)[0])
    exact = {"lr 0.1": _runs([1e-14, 1e-14]), "lr 0.2": _runs([4e-12, 4e-12])}  # residuals of 1e-7 and 2e-6, of 3
    assert any(s.startswith("lr 0.1 and lr 0.2 had the lowest final train loss") for s in _said(exact, None, None)[0])


def test_survivors_are_no_winners() -> None:
    """Neither the lowest loss nor the fastest way to the target is that of a group of which some runs are missing."""
    fast = _runs([0.1, 0.1, 0.1], pace=0.01)
    fast[1].losses, fast[1].diverged = [8, 1e9, math.inf, math.inf], True
    late = _runs([0.2, 0.2, 0.9], pace=0.01)
    table = {"lr 0.1": fast, "lr 0.2": late, "lr 0.3": _runs([0.4, 0.4, 0.4]), "lr 0.4": _runs([0.5, 0.5, 0.5])}
    said = _said(table, 0.6, None)[0]
    assert said[0].startswith("lr 0.3 and lr 0.4 reached the target of 0.6 (as asked for) in the fewest samples, 16.")
    assert "lr 0.1 reached it in 2 of 3 runs." in said
    assert "lr 0.2 reached it in 2 of 3 runs." in said
    assert not any(s.startswith(("lr 0.1 ended", "lr 0.1 and")) for s in said)


def test_a_target_that_holds_at_the_start_is_none() -> None:
    low = {"lr 0.1": _runs([0.4, 0.4]), "lr 0.2": _runs([0.7, 0.7], start=0.5), "lr 0.3": _runs([0.3, 0.3])}
    said, _ = _said(low, 0.6, None)
    assert "lr 0.2 was already at or below it before the first update, which does not count as reaching it." in said
    assert said[0] == "lr 0.1 and lr 0.3 reached the target of 0.6 (as asked for) in the fewest samples, 16."
    # Left alone, the target lies below every start, so that all have a way to go.
    comparison = Comparison.of([run.finished(float(k[3:]), None) for k, group in low.items() for run in group])
    assert comparison.target == pytest.approx(0.4)
    assert "below every initial loss" in comparison.target_reason
    assert [row.reached for row in rows(comparison)] == [2, 0, 2]
    upward = {"lr 0.1": _runs([0.6, 0.6], start=0.5), "lr 0.2": _runs([0.7, 0.7], start=0.5)}
    assert (
        _said(upward, None, None)[0][0]
        == "There is no target to reach: every variant ends above the initial loss of some run."
    )


def test_single_runs_say_nothing_of_noise() -> None:
    said = _said({"lr 0.1": _runs([0.4]), "lr 0.2": _runs([0.5]), "lr 0.3": _runs([0.7])}, None, None)[0]
    assert "lr 0.1 had the lowest final train loss, 0.4 (one seed each, so the effect of the seed is unknown)." in said
    said = _said({"lr 0.1": _runs([0.4, 0.41]), "lr 0.2": _runs([0.5])}, None, None)[0]
    assert (
        "lr 0.1 had the lowest final train loss, 0.405 ± 0.0071 (one seed of lr 0.2, so the effect of the seed is "
        "unknown)." in said
    )


def test_different_losses_are_not_ranked() -> None:
    runs = [run.finished(0.1, None) for run in _runs([0.4, 0.5])]
    others = [run.finished(0.1, None) for run in _runs([0.7, 0.8])]
    both = [FinishedRun(r.name, r.history, r.source, r.summary, {**r.settings, "model.loss": loss})
            for loss, group in (("mse", runs), ("mae", others)) for r in group]  # fmt: skip
    for target in (None, 0.6):
        comparison = Comparison.of(both, target)
        assert findings(comparison, rows(comparison)) == [
            "These groups have different losses or data, so their train losses cannot be compared."
        ]


def test_students_t_is_scipys() -> None:
    for freedom in (1, 1.7, 2, 4, 9.5, 60, 2000):
        for t in (0.0, 0.3, -2.0, 4.3, 12.7, 80.0):
            assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-6)
    random = np.random.default_rng(0)
    wrong = dict.fromkeys((True, False), 0)
    for _ in range(1000):
        one, other = random.normal(size=(2, 4))
        for paired in wrong:
            wrong[paired] += difference(one, other, paired=paired) is Difference.CLEAR
    assert all(20 < count < 80 for count in wrong.values())  # of groups that do not differ, one in twenty


def test_rounding_is_that_of_float32() -> None:
    y = np.linspace(300.0, 303.0, 50)
    exact = np.float32(y).astype(np.float64)  # residuals that are nothing but rounding
    loss = float(((exact - y) ** 2).mean())
    assert 0 < loss <= rounding_of([loss], float((y**2).mean()))
    assert rounding_of([0.5, 0.4]) == pytest.approx(5e-6)
