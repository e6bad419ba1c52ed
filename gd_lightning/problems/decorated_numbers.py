"""Converting numbers with signs around or within them, such as 1,234 or $5 or 12%, to plain ones."""

from __future__ import annotations

import re
import unicodedata

_CURRENCY = r"[$€£¥₹]|[A-Z]{3}"
_DECORATED = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:{_CURRENCY})?\s*(?P<sign_behind>[-+]?)(?P<digits>\d[\d.,'\u2019_\s]*|[.,]\d+)"
    rf"(?P<behind>\s*(?:%|{_CURRENCY})|\s+[^\W\d_][^\s\d]{{0,7}})?"
)
_MINUS_BEHIND = re.compile(r"\((?P<in_brackets>[^-+()]+)\)|(?P<before>[^-+()\s]+)\s*-")
_QUOTED = re.compile(r"(['\"`\u2018\u201c])(.*)['\"`\u2019\u201d]")
_AMBIGUOUS = re.compile(r"\d{1,3}[.,]\d{3}")


def plain_numbers_of(text: str) -> list[str]:
    """Return a number with signs around or within it as plain text, once for each possible meaning.

    Args:
        text: A cell.

    Returns:
        Decimal numbers with a point; none where the text is not such a number.

    Example:
        >>> plain_numbers_of("$1,234.50"), plain_numbers_of("1,234"), plain_numbers_of("12%"), plain_numbers_of("A12")
        (['1234.50'], ['1234', '1.234'], ['12', '0.12'], [])
    """
    unquoted = _QUOTED.sub(r"\2", text.strip())
    found = _DECORATED.fullmatch(_with_usual_signs(unquoted))
    if found is None:
        return []
    sign, digits = (found["sign"] or found["sign_behind"]).strip("+"), re.sub(r"['\u2019_\s]", "", found["digits"])
    readings = [sign + each for each in _readings(digits)]
    if (found["behind"] or "").strip() == "%":
        readings += [f"{float(each) / 100:.12g}" for each in readings]
    return readings


def _with_usual_signs(text: str) -> str:
    """Return a text with ASCII digits and minus signs, and a minus of accounting moved before its number.

    Example:
        >>> _with_usual_signs("(1.5)"), _with_usual_signs("1.5-"), _with_usual_signs("\u2212\uff11")
        ('-1.5', '-1.5', '-1')
    """
    usual = "".join(str(unicodedata.decimal(sign, sign)) for sign in text.replace("\u2212", "-"))
    behind = _MINUS_BEHIND.fullmatch(usual)
    return usual if behind is None else f"-{behind['in_brackets'] or behind['before']}"


def separates_thousands(text: str) -> bool:
    """Whether a text has a point or a comma more than once, so that it is not a decimal sign there.

    Other cells of the column may have it once, where it would be taken for one.
    """
    return any(text.count(sign) > 1 for sign in ".,")


def _readings(digits: str) -> list[str]:
    """Return digits with points and commas as decimal numbers."""
    separators = [sign for sign in digits if sign in ".,"]
    if not separators:
        return [digits]
    last = separators[-1]
    whole, _, rest = digits.rpartition(last)
    without, with_point = re.sub("[.,]", "", digits), f"{re.sub('[.,]', '', whole) or '0'}.{rest or '0'}"
    if len(separators) > 1:
        return [without if len(set(separators)) == 1 else with_point]
    return [without, with_point] if _AMBIGUOUS.fullmatch(digits) else [with_point]
