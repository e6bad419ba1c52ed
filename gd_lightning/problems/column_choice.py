"""Choosing the columns of a table that become features and targets; all unusable columns are named at once.

Letters: N rows.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gd_lightning.errors import InputError
from gd_lightning.problems.column_values import ColumnSummary, looks_like_a_date
from gd_lightning.problems.decorated_numbers import plain_numbers_of, separates_thousands
from gd_lightning.problems.named_columns import NamedColumns
from gd_lightning.problems.row_numbers import nameless, row_numbers
from gd_lightning.problems.table_columns import Column, Form, Missing, TableColumns, inexact

Names = str | int | Sequence[str | int] | None
_FEW = 50  # maximum number of different values of a text column that becomes categories without being named
_SHOWN = 8  # maximum number of columns in a sentence
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.]*")
# Words that YAML does not read as text.
_NOT_TEXT = {"yes", "no", "true", "false", "on", "off", "null", "none", "nan", "inf"}


@dataclass(frozen=True)
class ColumnOptions:
    """The user's options for the columns of a table.

    Args:
        features: Columns to predict from, by name or number; None: all usable columns that are not targets.
        targets: Columns to predict; None: the last one.
        exclude: Columns to leave out.
        categories: Columns whose values become indicators, or ``auto``: each text of few values.
        dates: Columns of dates that become days since 1970-01-01, or ``auto``.
        missing: The treatment of rows with a missing value; None: they are refused.
    """

    features: Names = None
    targets: Names = None
    exclude: Names = None
    categories: Names = None
    dates: Names = None
    missing: Missing | None = None


@dataclass(frozen=True)
class ChosenColumns:
    """Features and targets, with notes for the user.

    Args:
        columns: How columns become features and targets.
        rows: N.
        left_out: The reasons why columns are left out without being excluded by the user, by name.
        notes: Notes on the columns that are used.
    """

    columns: TableColumns
    rows: int
    left_out: Mapping[str, str]
    notes: Sequence[str]


def listed(given: Names) -> list[str | int]:
    """Return one name or several as a list."""
    return [] if given is None else [given] if isinstance(given, (str, int)) else list(given)


def as_option(name: str, values: Iterable[str], in_python: bool = False) -> str:
    """Return an option that names columns, as it is typed on the command line or in Python."""
    if in_python:
        return f"{name}={list(values)!r}"
    texts = [
        each if _PLAIN_NAME.fullmatch(each) and each.lower() not in _NOT_TEXT else json.dumps(each, ensure_ascii=False)
        for each in values
    ]
    return f"--data.problem.{name} " + shlex.quote(f"[{','.join(texts)}]")


class _Choice:
    """The choice of columns of one table."""

    def __init__(self, table: NamedColumns, options: ColumnOptions, with_row_numbers: bool) -> None:
        self.table, self.options = table, options
        named = {
            part: [table.find(each) for each in listed(getattr(options, part))] for part in ("features", "targets")
        }
        self.features, self.targets = named["features"], named["targets"]
        self.exclude = {table.find(each) for each in listed(options.exclude)}
        self._words = {
            part: set() if given == "auto" else {table.find(each) for each in listed(given)}
            for part, given in (("categories", options.categories), ("dates", options.dates))
        }
        self._refuse_contradictions()
        all_named = bool(self.features and self.targets)
        asked = set(self.features) | set(self.targets)
        candidates = [name for name in table.header if name in asked or not (all_named or name in self.exclude)]
        readable = list(dict.fromkeys(name for name in candidates if name not in table.repeated))
        self.found = _summaries(table, readable, self._words["categories"])
        self.rows = next((each.rows for each in self.found.values()), 0)
        left_out, unclear = ({}, []) if all_named or with_row_numbers else row_numbers(table, self.found)
        self.left_out = {name: why for name, why in left_out.items() if name not in asked}
        names = [name for name in candidates if name not in self.left_out]
        chosen = set(self.features)
        self.targets = self.targets or [name for name in names if name not in chosen][-1:]
        chosen = set(self.targets)
        self.features = self.features or [name for name in names if name not in chosen]
        self._refuse_none()
        self._refuse_unnamed(unclear, asked)

    @property
    def used(self) -> list[str]:
        """Names of all columns that are features or targets."""
        return [*self.features, *self.targets]

    def _refuse_contradictions(self) -> None:
        asked, label = [*self.features, *self.targets], self.table.label
        if twice := sorted(name for name, count in Counter(asked).items() if count > 1):
            raise InputError(f"cannot use column {twice[0]!r} of {label} twice; name it once, in features or targets")
        if both := [name for name in asked if name in self.exclude]:
            raise InputError(
                f"cannot use column {both[0]!r} of {label} and leave it out; name it in exclude, or in features or "
                "targets"
            )

    def _refuse_none(self) -> None:
        if not self.features or not self.targets:
            reasons = [f"column {name!r} ({why})" for name, why in self.left_out.items()]
            besides = f" besides {', '.join(reasons)}" if reasons else ""
            if len(self.table.header) == 1:
                raise InputError(
                    f"cannot train on {self.table.label}, because it has a single column; use a table with features "
                    "and a target: in a text file with commas between cells, in a workbook on the first sheet"
                )
            raise InputError(
                f"cannot train on {self.table.label}, because no column is left for features or targets{besides}; name "
                "them with features and targets"
            )
        for name in self.used:
            self.table.find(name)  # raises an error if several columns have this name

    def _refuse_unnamed(self, unclear: Sequence[str], asked: set[str]) -> None:
        if unnamed := [name for name in self.used if name in unclear and name not in asked]:
            raise InputError(
                f"cannot use column {self.table.header.index(unnamed[0]) + 1} of {self.table.label}, because it has no "
                "name, and does not number the rows; name it, or choose columns with features and targets"
            )

    def form(self, name: str) -> Form | None:
        """Return the form in which a column is used; None if it cannot be used."""
        found = self.found[name]
        if name in self._words["categories"]:
            return "categories" if found.words and found.kind != "other" else None
        if name in self._words["dates"]:
            return "date" if found.kind == "date" else None
        if found.kind == "date":
            return "date" if self.options.dates == "auto" else None
        if found.kind == "text":
            return "categories" if self.options.categories == "auto" and self._is_few(found) else None
        return None if found.kind == "other" or found.missing == found.rows else found.kind

    @staticmethod
    def _is_few(found: ColumnSummary) -> bool:
        return bool(found.words) and len(found.words or ()) <= min(_FEW, max(2, found.rows // 2))

    def trouble(self, name: str) -> str:
        """Return the reason why a column cannot be used; "" if it can be."""
        found, form = self.found[name], self.form(name)
        if found.missing == found.rows:
            return "has no value"
        if form is None:
            return self._trouble_of_kind(found)
        if form == "number" and found.first_infinite is not None:
            row, value = found.first_infinite
            return f"is {value} in {self.table.place(row)}"
        if form == "number" and found.first_inexact is not None:
            row, number = found.first_inexact
            return f"has {number} in {self.table.place(row)}, which has more digits than a float64 number"
        if found.missing and self.options.missing is None and found.first_missing is not None:
            count = "a missing value" if found.missing == 1 else f"{found.missing} missing values, the first"
            return f"has {count} in {self.table.place(found.first_missing)}"
        return ""

    def _trouble_of_kind(self, found: ColumnSummary) -> str:
        if found.kind == "other" or found.arrow_type:
            return f"is of type {found.arrow_type}"
        if found.first_text is None:
            return "holds numbers, and no dates" if found.name in self._words["dates"] else "has too many values"
        row, text = found.first_text
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        where = f"{shown!r} in {self.table.place(row)}"
        if found.kind == "date":
            return f"holds dates, such as {where}"
        if looks_like_a_date(text):
            return f"has {where}, which is not a date as in 2024-01-31"
        if found.texts <= found.numbers:
            return f"has {where}, which is not a number"
        few = f" of {len(found.words)} values" if found.words else " of many values"
        return f"is text{few}, such as {where}"

    def refuse_unusable(self) -> None:
        """Refuse columns that cannot be used, all of them at once, with options that make the table usable."""
        troubles = {name: trouble for name in self.used if (trouble := self.trouble(name))}
        if not troubles:
            return
        label, names = self.table.label, list(troubles)
        if len(names) == 1:
            found = self.found[names[0]]
            if self.form(names[0]) is not None and found.first_inexact is not None and "digits" in troubles[names[0]]:
                raise inexact(names[0], self.table, *found.first_inexact)
            what = f"column {names[0]!r} of {label}, because it {troubles[names[0]]}"
        else:
            what = f"{len(names)} of the columns of {label}, because " + ", ".join(
                f"{name!r} {trouble}" for name, trouble in troubles.items()
            )
        raise InputError(f"cannot use {what}; {self._remedies(names)}")

    def _remedies(self, names: list[str]) -> str:
        found, between = self.found, ", " if self.table.in_python else " "
        texts = [name for name in names if found[name].kind == "text" and self._is_few(found[name])]
        texts = [name for name in texts if found[name].texts > found[name].numbers]
        dates = [name for name in names if found[name].kind == "date" and name not in self._words["categories"]]
        treated = {*texts, *dates}
        gaps = [name for name in (*names, *self.used) if (found[name].missing and self.form(name)) or name in treated]
        is_gap = any(found[name].missing for name in gaps) and self.options.missing is None
        others = [name for name in names if name not in treated and not (is_gap and self._is_gap(name))]
        options = [self._option("categories", sorted({*texts, *self._words["categories"]}))] if texts else []
        options += [self._option("dates", sorted({*dates, *self._words["dates"]}))] if dates else []
        options += ["missing='drop'" if self.table.in_python else "--data.problem.missing drop"] if is_gap else []
        if others and options and not self.options.features:
            options += [self._option("exclude", [*self.exclude, *others])]
        ways = [between.join(options)] if options and not (others and self.options.features) else []
        usable = [name for name in self.used if name not in names]
        features = [name for name in usable if name not in self.targets]
        targets = [name for name in usable if name in self.targets] or features[-1:]
        features = [name for name in features if name not in targets]
        if features and targets:
            ways.append(between.join([self._option("features", features), self._option("targets", targets)]))
        plain = self._written_plainly(others)
        removed = self._line_to_remove(names)
        if not ways:
            return removed or plain or "correct the cells, or use numbers"
        filled = " (or mean, to fill them)" if is_gap and not any(found[t].missing for t in self.targets) else ""
        return ", or ".join(filter(None, [f"use {ways[0]}{filled}", *ways[1:], removed, plain]))

    def _written_plainly(self, names: list[str]) -> str:
        """Suggest how cells are written that are text for their form: dates, and numbers with a sign of the text."""
        texts = [found.first_text[1] for name in names if (found := self.found[name]).first_text is not None]
        dates = [text for text in texts if looks_like_a_date(text)]
        ways = ["dates as in 2024-01-31"] if any(not text[1:3].count(":") for text in dates) else []
        numbers = ((text, plain_numbers_of(text)) for text in texts if text not in dates)
        text, readings = next(((text, readings) for text, readings in numbers if readings), ("", []))
        if text and readings == [text]:
            ways.append(f"numbers such as {text!r} as numbers, not as text")
        elif readings:
            rest = ", and all others with that separator accordingly" if separates_thousands(text) else ""
            if self.table.decimal is not None:  # all columns of a file have one decimal sign
                readings = [each.replace(".", self.table.decimal) for each in readings]
            ways.append(f"cells such as {text!r} as {', or as '.join(readings)}{rest}")
        return f"write {' and '.join(ways)}" if ways else ""

    def _line_to_remove(self, names: list[str]) -> str:
        """Suggest to remove what is no row of the data, such as units, a sum, or the names once more."""
        found = [self.found[name] for name in names]
        if not all(each.numbers > 1 for each in found):
            return ""
        texts = [each.first_text for each in found if each.first_text is not None]
        rows = {row for row, _ in texts}
        gaps = {each.first_missing for each in found if each.missing and each.first_text is None}
        if len(rows) == 1 and gaps <= rows and all(max(each.texts, each.missing) == 1 for each in found):
            return f"correct or remove {self.table.place(rows.pop())}"
        is_repeated = len(texts) == len(names) and all(
            each.first_text is not None and each.first_text[1] == each.name for each in found
        )
        return "remove the lines that repeat the names" if is_repeated else ""

    def _option(self, name: str, values: Iterable[str]) -> str:
        return as_option(name, values, self.table.in_python)

    def _is_gap(self, name: str) -> bool:
        """Whether a column is unusable only because of missing values."""
        return self.form(name) is not None and "missing value" in self.trouble(name)

    def column(self, name: str) -> Column:
        """Return the description of a usable column."""
        form = self.form(name)
        assert form is not None
        words = self.found[name].words if form == "categories" else None
        return Column(name, form, tuple(sorted(words, key=_in_order)) if words else ())

    def chosen(self) -> ChosenColumns:
        """Return features and targets."""
        columns = TableColumns(
            tuple(map(self.column, self.features)), tuple(map(self.column, self.targets)), self.options.missing
        )
        if self.options.missing == "mean":
            columns = columns.with_means(self.table)
        constant = [name for name in self.features if self.found[name].is_constant]
        identifiers = [name for name in self.features if self.found[name].identifies]
        notes = [f"{_some(constant)} {'is' if len(constant) == 1 else 'are'} constant"] if constant else []
        if identifiers:
            verb = "counts" if len(identifiers) == 1 else "count"
            notes.append(f"{_some(identifiers)} {verb} the rows, as an identifier does")
        filled = [name for name in self.features if self.found[name].missing and self.options.missing == "mean"]
        notes += [f"missing values of {_some(filled)} are filled with the mean"] if filled else []
        return ChosenColumns(columns, self.rows, self.left_out, notes)


def choose(table: NamedColumns, options: ColumnOptions, with_row_numbers: bool = False) -> ChosenColumns:
    """Choose the columns of a table that become features and targets; all of its rows are read.

    Args:
        table: The columns.
        options: The user's options for them.
        with_row_numbers: Whether columns that only number the rows are features, too, as they were in earlier versions.

    Raises:
        InputError: A column is missing, or cannot be used; the message names all columns that cannot be used.
    """
    if not table.header:
        raise InputError(f"cannot read the table {table.label}, because it has no rows")
    choice = _Choice(table, options, with_row_numbers)
    if not choice.rows:
        raise InputError(f"cannot read the table {table.label}, because it has no rows")
    choice.refuse_unusable()
    return choice.chosen()


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _summaries(table: NamedColumns, names: list[str], counted: set[str]) -> dict[str, ColumnSummary]:
    found = {name: ColumnSummary(name, name in counted, keeps=nameless(name)) for name in names}
    for arrays in table.blocks(names) if names else ():
        for name, array in zip(names, arrays, strict=True):
            found[name].add(array, table.decimal)
    return found


def _in_order(text: str) -> tuple[float, str]:
    """Sort numbers by their values, before texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
