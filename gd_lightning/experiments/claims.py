"""What somebody claims of a comparison, beside what is found: agrees, or does not, with the figures."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from gd_lightning.errors import InputError
from gd_lightning.experiments.table import Row

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


def judged(claims: Mapping[str, str], found: Sequence[Row]) -> list[str]:
    """Return each claim with what the figures say of it, in one sentence.

    Args:
        claims: Of each claim, in words, what it expects: a figure, a colon, and labels of groups or numbers with signs
            between them, such as ``epochs_to_target: lr 0.1 < lr 0.01``. What is not reached, or diverged, counts as
            larger than everything else. The figure ``outcome`` takes a label and an outcome, as in
            ``outcome: lr 1 = diverged``.
        found: The rows of the comparison.

    Raises:
        InputError: An expectation cannot be read.

    Example:
        >>> judged({"Nothing is nothing": "train_loss: 0 = 0"}, [])
        ['"Nothing is nothing": agrees (train_loss: 0 = 0)']
    """
    return [_judged(claim, expectation, found) for claim, expectation in claims.items()]


def _judged(claim: str, expectation: str, found: Sequence[Row]) -> str:
    figure, _, rest = expectation.partition(":")
    terms = [term.strip() for term in re.split(r"(<=|>=|<|>|=)", rest)]
    if len(terms) < 3 or "" in terms:
        raise InputError(
            f"cannot read {expectation!r}; write a figure, a colon, and labels with signs between them, such as "
            "train_loss: batch < stochastic"
        )
    rows = {row.label: row for row in found}
    if figure.strip() == "outcome":
        agrees, said = _of_outcome(terms, rows)
    else:
        values = [_value(figure.strip(), term, rows) for term in terms[::2]]
        pairs = zip(values, terms[1::2], values[1:], strict=False)
        agrees = all(_SIGNS[sign](one, other) for one, sign, other in pairs)
        shown = [f"{value:.4g}" if math.isfinite(value) else "not reached" for value in values]
        said = " ".join(part for pair in zip(shown, [*terms[1::2], ""], strict=True) for part in pair).strip()
        if not agrees:
            said = re.sub(" (<=|>=|<|>|=) ", " and ", said)
    return f'"{claim}": {"agrees" if agrees else "does not agree"} ({figure.strip()}: {said})'


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
