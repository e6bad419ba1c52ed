"""Values of table columns, block by block: numbers, booleans, dates, texts and missing values.

Letters: N rows of a block.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gd_lightning.float64 import EXACT
from gd_lightning.problems.csv_dialect import MISSING_WORDS

Kind = Literal["number", "boolean", "date", "text", "other"]

MISSING = pa.array(list(MISSING_WORDS))
_TRUE = {"true": "false", "yes": "no", "y": "n", "t": "f"}
TRUE_WORDS, BOOLEAN_WORDS = pa.array(list(_TRUE)), pa.array([*_TRUE, *_TRUE.values()])
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(inf|infinity|INF|Inf|Infinity)$"
_WHOLE = re.compile(r"[+-]?[0-9]+")
_DATE = r"^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?Z?$"
_LIKE_A_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}|\d\d?:\d\d")
MOST_VALUES = 1000  # maximum number of different texts of a column that are kept
_MICROSECONDS = 86_400_000_000  # microseconds of a day


@dataclass
class Values:
    """A block of a column.

    Args:
        numbers: Shape (N,); nan where there is no number. Booleans are 0 and 1, dates are days since 1970-01-01.
        missing: Whether values are missing, shape (N,).
        kind: The kind of the values.
        texts: Arrow strings, of a column of texts.
        digits: The first number (place in the block, value) that is another one in float64.
        arrow_type: The type of the block, where it is neither of numbers nor of texts.
    """

    numbers: NDArray[np.float64]
    missing: NDArray[np.bool_]
    kind: Kind = "number"
    texts: Any = None
    digits: tuple[int, object] | None = None
    arrow_type: str = ""

    @property
    def no_numbers(self) -> NDArray[np.bool_]:
        """Mask of the values that are not numbers."""
        return np.isnan(self.numbers) & ~self.missing

    def labels(self) -> list[str | None]:
        """Return each value as a text; None where it is missing."""
        if self.texts is not None:
            texts: list[str] = self.texts.to_pylist()
        elif self.kind == "boolean":
            texts = ["true" if number else "false" for number in self.numbers.tolist()]
        else:
            texts = [str(int(each)) if each.is_integer() else repr(each) for each in self.numbers.tolist()]
        return [None if missing else text for text, missing in zip(texts, self.missing.tolist(), strict=True)]


def values_of(column: Any, decimal: str | None = None) -> Values:
    """Return the values of a block.

    Args:
        column: An Arrow array.
        decimal: The decimal separator of texts that are numbers; None if texts are not numbers.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind, missing = column.type, column.is_null().to_numpy(zero_copy_only=False)
    numbers = np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        numbers[~missing] = column.drop_null().cast(pa.uint8()).to_numpy(zero_copy_only=False)
        return Values(numbers, missing, "boolean")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _of_numbers(column, missing)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        days = column.drop_null().cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        numbers[~missing] = days.to_numpy(zero_copy_only=False) / _MICROSECONDS
        return Values(numbers, missing, "date", arrow_type=str(kind))
    if pa.types.is_null(kind):
        return Values(numbers, missing)
    if not _is_text(kind):
        return Values(numbers, missing, "other", arrow_type=str(kind))
    texts = column.cast(pa.string())
    return Values(numbers, missing, "text", texts) if decimal is None else _of_cells(texts, missing, decimal)


def days_of(values: Values) -> Values:
    """Return ISO 8601 dates in texts as days since 1970-01-01; nan for other texts."""
    if values.texts is None:
        return values
    is_date = pc.match_substring_regex(values.texts, _DATE).to_numpy(zero_copy_only=False) & ~values.missing
    numbers = np.full(len(is_date), np.nan)
    try:
        texts = pc.utf8_rtrim(values.texts.take(np.flatnonzero(is_date)), "Z")
        numbers[is_date] = texts.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # a day such as 30 February, or nanoseconds
        pass
    return Values(numbers / _MICROSECONDS, values.missing, "date", values.texts)


def booleans_of(values: Values) -> Values:
    """Return words such as yes and no as 1 and 0; nan for other words."""
    if values.texts is None:
        others = ~np.isin(values.numbers, (0, 1)) & ~values.missing
        return Values(np.where(others, np.nan, values.numbers), values.missing, "boolean")
    words = pc.utf8_lower(values.texts)
    numbers = pc.is_in(words, TRUE_WORDS).to_numpy(zero_copy_only=False).astype(np.float64)
    known = pc.is_in(words, BOOLEAN_WORDS).to_numpy(zero_copy_only=False) & ~values.missing
    if values.kind == "number":  # cells that are numbers may be 0 and 1
        numbers, known = np.where(known, numbers, values.numbers), known | np.isin(values.numbers, (0, 1))
    return Values(np.where(known, numbers, np.nan), values.missing, "boolean", values.texts)


def is_boolean(words: set[str]) -> bool:
    """Whether texts are words for yes and no of one pair, in any case."""
    lower = {word.lower() for word in words}
    return any(lower <= {yes, no} for yes, no in _TRUE.items())


def looks_like_a_date(text: str) -> bool:
    """Whether a text begins as a date or a time, in any usual form."""
    return _LIKE_A_DATE.match(text) is not None


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"


def _of_numbers(column: Any, missing: NDArray[np.bool_]) -> Values:
    numbers, present = np.full(len(column), np.nan), column.drop_null()
    is_decimal = pa.types.is_decimal(column.type)
    numbers[~missing] = _parsed(present.cast(pa.string())) if is_decimal else present.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        return Values(numbers, missing | np.isnan(numbers))
    return Values(numbers, missing, digits=_first_inexact(numbers, column))


def _first_inexact(numbers: NDArray[np.float64], exact: Any) -> tuple[int, object] | None:
    """Return the first number that float64 cannot represent exactly, such as an identifier of 19 digits."""
    for row in np.flatnonzero(np.abs(numbers) >= EXACT).tolist():
        value = number = exact[row].as_py()  # Python compares numbers of all kinds exactly
        if isinstance(value, str):
            number = int(value) if _WHOLE.fullmatch(value) else numbers[row]
        if number != float(numbers[row]):
            return row, value
    return None


def _of_cells(cells: Any, missing: NDArray[np.bool_], decimal: str) -> Values:
    """Return the values of texts, as numbers if they are numbers."""
    texts = pc.utf8_trim_whitespace(cells)
    plain = texts
    if decimal != ".":
        # In a text, a point would separate thousands.
        has_point = pc.match_substring(texts, ".")
        plain = pc.if_else(has_point, pa.scalar("-", pa.string()), pc.replace_substring(texts, decimal, "."))
    try:
        numbers = plain.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    except pa.ArrowInvalid:
        is_number = pc.match_substring_regex(plain, _NUMBER).fill_null(False).to_numpy(zero_copy_only=False)
        numbers = np.full(len(cells), np.nan)
        numbers[is_number] = _parsed(plain.take(np.flatnonzero(is_number)))
    nan = np.isnan(numbers)
    if nan.any():
        missing = missing | (nan & pc.is_in(pc.utf8_lower(texts), MISSING).to_numpy(zero_copy_only=False))
    return Values(numbers, missing, "number", texts, _first_inexact(numbers, texts))


def _parsed(texts: Any) -> NDArray[np.float64]:
    """Convert texts that are known to be numbers, with correct rounding."""
    try:
        return np.asarray(texts.cast(pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:  # some versions accept no leading +, or nothing beyond the largest number
        return np.array([float(text) for text in texts.to_pylist()])


class ColumnSummary:
    """The summary of a column, computed block by block.

    Args:
        name: The name of the column.
        counts_all: Whether numbers are counted as texts are, for a column that is to become categories.
        keeps: Whether the numbers are kept, to see whether they are all different.
    """

    def __init__(self, name: str, counts_all: bool = False, keeps: bool = False) -> None:
        self.name = name
        self.rows = self.missing = self.numbers = self.texts = 0
        self.first_missing: int | None = None
        self.first_text: tuple[int, str] | None = None
        self.first_infinite: tuple[int, float] | None = None
        self.first_inexact: tuple[int, object] | None = None
        self.arrow_type = ""
        """The type of the column where it is neither of numbers nor of texts."""
        self.is_whole = True
        self.lowest, self.highest = np.inf, -np.inf
        self._counts_all, self._keeps = counts_all, keeps
        self._words: Counter[str] | None = Counter()
        # A first block of texts that are numbers; its texts are counted only if they are needed.
        self._waiting: Values | None = None
        self._kinds: set[Kind] = set()
        self._dates = 0
        self._counts = True
        self._sums = np.zeros(2)
        self._kept: list[NDArray[np.float64]] = []

    def add(self, column: Any, decimal: str | None) -> None:
        """Add a block; arguments as for :func:`values_of`."""
        values = values_of(column, decimal)
        first, self.rows = self.rows, self.rows + len(column)
        self._kinds.add(values.kind)
        self.arrow_type = values.arrow_type or self.arrow_type
        if values.kind == "date":
            self._dates += int((~values.missing).sum())
        missing = np.flatnonzero(values.missing)
        if len(missing):
            self.first_missing = first + int(missing[0]) if self.first_missing is None else self.first_missing
            self.missing += len(missing)
        if values.digits is not None and self.first_inexact is None:
            self.first_inexact = first + values.digits[0], values.digits[1]
        self._add_texts(values, first)
        self._add_numbers(values.numbers, first)

    def _add_texts(self, values: Values, first: int) -> None:
        others = np.flatnonzero(values.no_numbers)
        if values.texts is not None and len(others):
            if self.first_text is None:
                self.first_text = first + int(others[0]), values.texts[int(others[0])].as_py()
            self.texts += len(others)
            self._dates += int((~np.isnan(days_of(values).numbers)).sum())
        if not (self._counts_all or values.texts is not None):
            return
        if not (first or self._counts_all or len(others)):
            self._waiting = values
        else:
            self._settle_waiting()
            self._count_words(values)

    @property
    def words(self) -> Counter[str] | None:
        """The number of occurrences of each text; None if there are too many different ones."""
        self._settle_waiting()
        return self._words

    def _settle_waiting(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._count_words(waiting)

    def _count_words(self, values: Values) -> None:
        if self._words is None:
            return
        if values.texts is not None:
            present = values.texts.filter(pa.array(~values.missing))
            found = pc.value_counts(present)
            if len(found) <= MOST_VALUES:
                pairs = zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)
                self._words.update(dict(pairs))
            else:
                self._words = None
        # In old versions of NumPy, each nan counts as another value.
        elif len(np.unique(values.numbers)) <= 2 * MOST_VALUES:
            self._words.update(label for label in values.labels() if label is not None)
        else:
            self._words = None
        if self._words is not None and len(self._words) > MOST_VALUES:
            self._words = None

    def _add_numbers(self, numbers: NDArray[np.float64], first: int) -> None:
        """Update the facts from which it is decided whether a column numbers the rows."""
        present = numbers[~np.isnan(numbers)]
        self.numbers += len(present)
        self._kept += [present] * self._keeps
        infinite = np.flatnonzero(np.isinf(numbers))
        if len(infinite) and self.first_infinite is None:
            self.first_infinite = first + int(infinite[0]), float(numbers[infinite[0]])
        if not len(present) or len(infinite):
            self._counts = self._counts and not len(numbers)
            self.is_whole = self.is_whole and not len(infinite)
            return
        self.lowest, self.highest = min(self.lowest, present.min()), max(self.highest, present.max())
        self.is_whole = self.is_whole and bool(np.array_equal(present, np.floor(present)))
        if self.is_whole and self.highest < EXACT:
            self._sums += present.sum(), np.square(present).sum()
            start = self.lowest if first else numbers[0]
            expected = start + first + np.arange(len(numbers))
            self._counts = self._counts and bool(np.array_equal(numbers, expected))

    @property
    def kind(self) -> Kind:
        """The kind of the values of the column."""
        if "other" in self._kinds:
            return "other"
        if self.texts:
            if self._dates == self.texts and not self.numbers:
                return "date"
            is_yes_or_no = not self.numbers and self.words is not None and is_boolean(set(self.words))
            return "boolean" if is_yes_or_no else "text"
        return next((kind for kind in ("date", "boolean") if kind in self._kinds), "number")

    @property
    def counts(self) -> bool:
        """Whether it is 0, 1, 2, ... or 1, 2, 3, ... in this order."""
        return bool(self.rows and self._counts and self.is_whole and not self.texts and self.lowest in (0, 1))

    @property
    def differs(self) -> bool:
        """Whether its numbers are distinct integers, as in an index that was sorted or filtered."""
        values = np.concatenate([np.empty(0), *self._kept])
        return self.is_whole and len(np.unique(values)) == len(values) == self.rows

    @property
    def identifies(self) -> bool:
        """Whether it is 0 to N - 1, or 1 to N, in any order, as an identifier is and a measurement hardly ever."""
        n = self.rows
        if not (n > 2 and self.numbers == n and self.is_whole and self.lowest in (0, 1)):
            return False
        numbers = np.arange(n, dtype=np.float64) + self.lowest
        expected = numbers.sum(), np.square(numbers).sum()
        return self.highest == n - 1 + self.lowest and bool(np.allclose(self._sums, expected, rtol=1e-12))

    @property
    def is_constant(self) -> bool:
        """Whether all of its numbers are the same."""
        return self.numbers == self.rows > 1 and self.lowest == self.highest
