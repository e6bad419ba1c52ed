"""What somebody claims of a comparison, beside what is found: agrees, or does not, with the figures."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from gd_lightning.errors import InputError
from gd_lightning.experiments.table import Row, as_values

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


def check(claims: Mapping[str, str]) -> None:
    """Refuse what cannot be read as an expectation, before there is anything to be judged.

    Raises:
        InputError: An expectation is no figure, colon, and terms with signs between them.
    """
    for expectation in claims.values():
        _read(expectation)


def judged(claims: Mapping[str, str], found: Sequence[Row]) -> list[str]:
    """Return each claim with what the figures say of it, in one sentence.

    Args:
        claims: Of each claim, in words, what it expects: a figure, a colon, and labels of groups or numbers with signs
            between them, such as ``epochs_to_target: lr 0.1 < lr 0.01``. What is not reached, or diverged, counts as
            larger than everything else. The figure ``outcome`` takes a label and an outcome, as in ``outcome: lr 1 =
            diverged``. Of values that are nearer to each other than the runs of a group, that is said. A label or a
            figure that is missing is said in the sentence: behind runs that took hours, it is no reason to lose the
            table.
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
        figure, terms = _read(expectation)
        try:
            agrees, said = _of_outcome(terms, rows) if figure == "outcome" else _of_values(figure, terms, rows)
        except InputError as error:
            sentences.append(f'"{claim}": cannot be judged, because {error}')
        else:
            sentences.append(f'"{claim}": {"agrees" if agrees else "does not agree"} ({figure}: {said})')
    return sentences


def _read(expectation: str) -> tuple[str, list[str]]:
    """Return the figure of an expectation, and its terms with the signs between them."""
    figure, _, rest = expectation.partition(":")
    terms = [term.strip() for term in re.split(r"(<=|>=|<|>|=)", rest)]
    if len(terms) < 3 or "" in terms:
        raise InputError(
            f"cannot read {expectation!r}; write a figure, a colon, and labels with signs between them, such as "
            "train_loss: batch < stochastic"
        )
    return figure.strip(), terms


def _of_values(figure: str, terms: Sequence[str], rows: Mapping[str, Row]) -> tuple[bool, str]:
    values = [_value(figure, term, rows) for term in terms[::2]]
    pairs = zip(values, terms[1::2], values[1:], strict=False)
    agrees = all(_SIGNS[sign](one, other) for one, sign, other in pairs)
    shown = [f"{value:.4g}" if math.isfinite(value) else "not reached" for value in values]
    said = " ".join(part for pair in zip(shown, [*terms[1::2], ""], strict=True) for part in pair).strip()
    said = said if agrees else re.sub(" (<=|>=|<|>|=) ", " and ", said)
    deviations = [_deviation(figure, term, rows) for term in terms[::2]]
    near = any(
        0 < abs(one - other) <= max(pair)
        for one, other, pair in zip(values, values[1:], itertools.pairwise(deviations), strict=False)
    )
    return agrees, f"{said}; seeds differ by more" if near else said


def _deviation(figure: str, term: str, rows: Mapping[str, Row]) -> float:
    """Return by how much a figure varies over seeds; 0 where that is not known."""
    flat = as_values([rows[term]])[0] if term in rows else {}
    return flat.get(f"{figure}_deviation") or 0.0


def _of_outcome(terms: Sequence[str], rows: Mapping[str, Row]) -> tuple[bool, str]:
    label, wanted = terms[0], terms[2]
    return wanted in _row(label, rows).outcome, f"{label} {_row(label, rows).outcome}"


def _value(figure: str, term: str, rows: Mapping[str, Row]) -> float:
    try:
        return float(term)
    except ValueError:
        value = _row(term, rows).figure(figure)
    return math.inf if math.isnan(value) else value


def _row(label: str, rows: Mapping[str, Row]) -> Row:
    if label not in rows:
        raise InputError(f"there is no {label!r} in this comparison; there are {', '.join(rows)}")
    return rows[label]
