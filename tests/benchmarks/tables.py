"""Tables of the document, and what they say of where this package is behind.

Letters: N samples, D features, B batch.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks import competitors
from tests.benchmarks.cases import Case, Side
from tests.benchmarks.measure import Comparison
from tests.benchmarks.ours import AUTO, FUSED, FUSED_NOT_RECORDED, can_be_fused
from tests.benchmarks.trainer import seconds_of_empty_fit

# What is asked for: as fast as the best of these, and as JAX, but for the loops of linear networks, which XLA makes as
# well: nine tenths of that.
_OTHERS = (competitors.PLAIN_PYTORCH, competitors.KERAS_FIT, competitors.SGD_REGRESSOR)
_OF_JAX = (competitors.JAX_SCAN, competitors.JAX_ONE_THREAD, competitors.OPTAX, competitors.OPTAX_ONE_THREAD)

_NOT_RECORDED = {AUTO: FUSED_NOT_RECORDED, FUSED: FUSED_NOT_RECORDED}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pairs(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows of two sides as Markdown, the ratio last."""
    return markdown(
        ["what", "against", "seconds", "seconds of the other", "ratio"],
        [[a, b, f"{ours:.3g}", f"{theirs:.3g}", f"{ours / theirs:.2f}"] for a, b, ours, theirs in rows],
    )


def updates_table(comparisons: Sequence[Comparison], sides: Sequence[Side]) -> str:
    """Return a table of the microseconds of an update; in brackets, how many times the first side's they are."""
    first = sides[0]
    there = [side for side in sides if any(side in comparison for comparison in comparisons)]

    def cell(comparison: Comparison, side: Side) -> str:
        if side not in comparison:
            return "-"
        microseconds = f"{comparison.microseconds(side):.3g}"
        if side is first or first not in comparison:
            return microseconds
        return f"{microseconds} ({comparison.ratio(side, first):.2g})"

    return markdown(
        ["model", "N", "B", *(side.name for side in there), "differ by"],
        [
            [
                comparison.case.name,
                f"{comparison.case.n_samples:,}",
                batch_name(comparison.case),
                *(cell(comparison, side) for side in there),
                f"{comparison.difference:.1g}",
            ]
            for comparison in comparisons
        ],
    )


def batch_name(case: Case) -> str:
    """Return B as tables have it."""
    return "full" if case.batch_size == case.n_samples else f"{case.batch_size:,}"


def table_and_text(comparisons: Sequence[Comparison], sides: Sequence[Side], ours: Sequence[Side]) -> str:
    """Return the table, and below it where this package is behind, and why."""
    lines = [line for comparison in comparisons if (line := where_behind(comparison, ours))]
    text = "\n".join(["Behind:", "", *lines]) if lines else "Nowhere behind."
    return updates_table(comparisons, sides) + "\n\n" + text


def where_behind(comparison: Comparison, ours: Sequence[Side]) -> str:
    """Return a line on a case in which the first of our sides is slower than another by more than is asked for.

    Args:
        comparison: What was measured.
        ours: Those that may be the first of ours, in this order; one that cannot train the case is passed over.

    Returns:
        The line; "" if it is as fast as asked for.
    """
    side = next((side for side in ours if side in comparison), None)
    if side is None:
        return ""
    case, behind = comparison.case, []
    for others, share in ((_OTHERS, 1.0), (_OF_JAX, 1.0 if case.hidden else 0.9)):
        times = {other.name: comparison.ratio(side, other) for other in others if other in comparison}
        if times and (worst := max(times.items(), key=lambda item: item[1]))[1] * share > 1:
            behind.append((worst[1] * share, worst[0], worst[1]))
    if not behind:
        return ""
    named = " and ".join(f"{times:.2g} times that of {name}" for _, name, times in behind)
    cell = f"{case.name}, N = {case.n_samples:,}, B = {batch_name(case)}"
    return f"- {cell}: {named}; {_why(comparison, side, *max(behind)[:2])}."


def _why(comparison: Comparison, side: Side, times: float, other: str) -> str:
    """Say which part of the time comes once in a fit, which is that of recording, and whether that is the reason.

    Args:
        comparison: What was measured.
        side: Ours.
        times: How many times as long as asked for it takes.
        other: What it is behind.
    """
    if not can_be_fused(comparison.case):
        return "autograd makes each update, as the fused engine does not have its optimiser"
    updates = comparison.updates[side.name]
    # Of one update, auto is another engine.
    once = seconds_once(comparison.case, FUSED if side == AUTO else side)
    of_run = 1e-6 * comparison.microseconds(side) * updates
    shares = [min(1.0, once / of_run), 0.0]
    reasons = [f"{100 * shares[0]:.0f} % of it comes once in a fit, however long it is: {_once(once)}"]
    if side in _NOT_RECORDED:
        alone = _median_seconds(_NOT_RECORDED[side], comparison.case.first(updates))
        shares[1] = max(0.0, 1 - alone / of_run)
        reasons.append(f"to record every update takes {100 * shares[1]:.0f} % of it")
    if times * (1 - sum(shares)) > 1:
        what = (
            "the matrix products themselves take"
            if comparison.case.hidden
            else "the loop over the samples itself takes"
        )
        reasons.insert(0, f"{what} longer than in {other}")
    return "; ".join(reasons)


def _once(seconds: float) -> str:
    return f"{1e3 * seconds:.2g} ms, of which Lightning's own loop takes {1e3 * seconds_of_empty_fit():.2g} ms"


def _median_seconds(side: Side, case: Case, repeats: int = 5) -> float:
    prepared = side.prepare(case)
    prepared()
    return statistics.median(prepared().seconds for _ in range(repeats))


def seconds_once(case: Case, side: Side, repeats: int = 5) -> float:
    """Return the median seconds of a fit of one update: what comes once, however many updates follow."""
    return _median_seconds(side, case.first(1), repeats)
