"""Escaping of untrusted names and texts for terminal and CSV (layer 0)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

# What a terminal obeys or hides instead of showing it: control characters except tabs and line ends, and those that
# turn the direction of the text that follows. Characters that join emoji or letters are kept.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# What a spreadsheet program takes for a formula, and what a cell with such a beginning is written as.
_FORMULA, _QUOTED = re.compile(r"'*[=+\-@\t\r]"), re.compile(r"'+[=+\-@\t\r]")


def visible(text: str) -> str:
    r"""Return a text with the characters that a terminal would obey or hide written out.

    Example:
        >>> print(visible("red: \x1b[31m, bell: \a, smile: \U0001f600"))
        red: \x1b[31m, bell: \x07, smile: 😀
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_one_line(text: str) -> str:
    r"""Return a text as :func:`visible` does, with its line ends and tabs written out, too.

    Example:
        >>> print(in_one_line("height\nin cm"))
        height\nin cm
    """
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))


def is_unicode(text: str) -> bool:
    r"""Whether a text can be written as UTF-8: it has no half of a pair of surrogates.

    A name of a file that is no UTF-8 becomes such a text, and so does what JSON, YAML and pickles can write.

    Example:
        >>> is_unicode("\U0001f600"), is_unicode("\udcff")
        (True, False)
    """
    return not _SURROGATE.search(text)


def as_cell(value: object) -> object:
    """Return a value for a cell of a CSV file, so that no spreadsheet program runs it.

    Text that begins like a formula gets an apostrophe in front, as in a spreadsheet; a number stays a number.
    Source: https://owasp.org/www-community/attacks/CSV_Injection.

    Example:
        >>> [as_cell(value) for value in ("=1+1", "-1.5", -1.5, "'=1", "height")]
        ["'=1+1", '-1.5', -1.5, "''=1", 'height']
    """
    if not (isinstance(value, str) and _FORMULA.match(value)) or is_number(value):
        return value
    return f"'{value}"


def from_cell(text: str) -> str:
    """Return the value that :func:`as_cell` was given.

    Example:
        >>> [from_cell(text) for text in ("'=1+1", "-1.5", "''=1", "'quoted'")]
        ['=1+1', '-1.5', "'=1", "'quoted'"]
    """
    return text[1:] if _QUOTED.match(text) else text


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as the text of a CSV file; None is an empty cell."""
    out = io.StringIO()
    # Where lines end with a line feed, the writer leaves a carriage return in a cell without quotes.
    usual, quoting = (csv.writer(out, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in rows:
        cells = [as_cell(value) for value in row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if has_return else usual).writerow(cells)
    return out.getvalue()


def is_number(text: str) -> bool:
    """Whether a text can be read as a number, nan and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return True
