"""Tests whether claims about a comparison agree with the measured numbers."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison.significance import Difference, difference
from gd_lightning.experiments.comparison.table import Row

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
TIMED = "a time, which may differ in the next run"
_DOUBTS = {Difference.EXPLAINED: "seeds differ by more", Difference.UNKNOWN: "one seed each"}


def check(claims: Mapping[str, str]) -> None:
    """Refuse malformed expectations before anything is trained.

    Raises:
        InputError: An expectation is not a quantity, a colon, and terms with signs between them.
    """
    for expectation in claims.values():
        _read(expectation)


def judged(claims: Mapping[str, str], found: Sequence[Row]) -> list[str]:
    """Return for each claim one sentence that says whether the measured values agree with it.

    Args:
        claims: Each claim in words, with its expectation: a quantity, a colon, and labels of groups or numbers with
            signs between them, such as ``epochs_to_target: lr 0.1 < lr 0.01``. A group of which a run diverged or did
            not reach the target counts as larger than every number. The quantity ``outcome`` takes a label and an
            outcome, as in ``outcome: lr 1 = diverged``. The sentence says so if seeds explain a difference (see
            :mod:`~gd_lightning.experiments.comparison.significance`), or if it is one between single runs. A missing
            label or quantity is stated in the sentence and raises no error, which would lose the results of long runs.
        found: The rows of the comparison.

    Raises:
        InputError: An expectation cannot be read.

    Example:
        >>> judged({"Nothing is nothing": "train_loss: 0 = 0"}, [])
        ['"Nothing is nothing": agrees (train_loss: 0 = 0)']
    """
    rows = {row.label: row for row in found}
    sentences = []
    for claim, expectation in claims.items():
        column, terms = _read(expectation)
        try:
            agrees, said = _of_outcome(terms, rows) if column == "outcome" else _of_values(column, terms, rows)
        except InputError as error:
            sentences.append(f'"{claim}": cannot be judged, because {error}')
        else:
            sentences.append(f'"{claim}": {"agrees" if agrees else "does not agree"} ({column}: {said})')
    return sentences


def _read(expectation: str) -> tuple[str, list[str]]:
    """Return the quantity of an expectation, and its terms with the signs between them."""
    column, _, rest = expectation.partition(":")
    terms = [term.strip() for term in re.split(r"(<=|>=|<|>|=)", rest)]
    if len(terms) < 3 or "" in terms:
        raise InputError(
            f"cannot read {expectation!r}; write a quantity, a colon, and labels with signs between them, such as "
            "train_loss: batch < stochastic"
        )
    return column.strip(), terms


def _of_values(column: str, terms: Sequence[str], rows: Mapping[str, Row]) -> tuple[bool, str]:
    values = [_value(column, term, rows) for term in terms[::2]]
    signs = zip(values, terms[1::2], values[1:], strict=False)
    agrees = all(_SIGNS[sign](one, other) for one, sign, other in signs)
    shown = [f"{value:.4g}" if math.isfinite(value) else "not reached" for value in values]
    said = " ".join(part for pair in zip(shown, [*terms[1::2], ""], strict=True) for part in pair).strip()
    said = said if agrees else re.sub(" (<=|>=|<|>|=) ", " and ", said)
    pairs = zip(itertools.pairwise(terms[::2]), itertools.pairwise(values), strict=True)
    found = {_difference(column, *of, rows) for of, (one, other) in pairs if one != other}
    doubts = [words for kind, words in _DOUBTS.items() if kind in found]
    if column.startswith("seconds"):
        doubts.append(TIMED)
    return agrees, "; ".join([said, *doubts])


def _difference(column: str, term: str, other: str, rows: Mapping[str, Row]) -> Difference:
    """Judge two terms by the values of single runs; a quantity of a whole group, such as a std, is exact."""
    both = [rows.get(each) for each in (term, other)]
    known = [row for row in both if row is not None]
    if not known or not all(row.has_all(column) for row in known):
        return Difference.CLEAR
    one, *others = known
    if others:
        return one.difference(others[0], column)
    number = float(other if both[0] is not None else term)
    runs = one.per_run[column]
    return difference(runs, [number] * len(runs), paired=True)


def _of_outcome(terms: Sequence[str], rows: Mapping[str, Row]) -> tuple[bool, str]:
    label, wanted = terms[0], terms[2]
    return wanted in _row(label, rows).outcome, f"{label} {_row(label, rows).outcome}"


def _value(column: str, term: str, rows: Mapping[str, Row]) -> float:
    """Return a number, or the quantity of a row; infinity where one of its runs has none."""
    try:
        return float(term)
    except ValueError:
        row = _row(term, rows)
    value = row.value(column)
    if math.isnan(value) and column.endswith("_deviation"):
        raise InputError(f"{row.label} has fewer than two runs with a {column.removesuffix('_deviation')}")
    is_of_all = column not in row.per_run or row.has_all(column)
    return value if is_of_all and not math.isnan(value) else math.inf


def _row(label: str, rows: Mapping[str, Row]) -> Row:
    if label not in rows:
        raise InputError(f"there is no {label!r} in this comparison; there are {', '.join(rows)}")
    return rows[label]
