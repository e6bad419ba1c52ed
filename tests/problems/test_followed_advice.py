"""Tables as offices and instruments write them: followed to the letter, the advice makes them readable."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gd_lightning import Frame, InputError, Table

N = 12
_draw = np.random.default_rng(5)
MONEY = _draw.integers(100_000, 99_999_999, N) / 100
PRICE = _draw.integers(10, 999, N) / 10
DAYS = [datetime.date(2023, 1, 18) + datetime.timedelta(int(i)) for i in _draw.permutation(60)[:N]]
SINCE_1970 = np.array([(day - datetime.date(1970, 1, 1)).days for day in DAYS], float)


def _german(value: float) -> str:
    return f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


MONEYS: dict[str, Callable[[float], str]] = {
    "thousands with points": _german,
    "a currency behind": lambda value: f"{_german(value)} €",
    "a currency before": lambda value: f"EUR {_german(value)}",
    "an apostrophe": lambda value: f"{value:,.2f}".replace(",", "'").replace(".", ","),
    "accounting": lambda value: f"({_german(value)})",
    "quotes within quotes": lambda value: f"'{_german(value)}'",
}


@pytest.mark.parametrize("money", [*MONEYS])
def test_dates_and_thousands_of_a_file_with_decimal_commas(tmp_path: Path, money: str) -> None:
    cells, sign = [MONEYS[money](value) for value in MONEY], -1 if money == "accounting" else 1
    path, prices = tmp_path / "umsatz.csv", [f"{price:.1f}".replace(".", ",") for price in PRICE]

    def write(days: list[str], moneys: list[str]) -> None:
        rows = [";".join(row) for row in zip(days, moneys, prices, strict=True)]
        path.write_text("\r\n".join(["Datum;Umsatz;Preis", *rows]) + "\r\n", "utf-8-sig")

    write([f"{day:%d.%m.%Y}" for day in DAYS], cells)
    with pytest.raises(InputError) as refused:
        Table(str(path)).sample()
    said = re.search(r"write dates as in 2024-01-31 and cells such as (.+) as ([\d.,-]+)$", str(refused.value))
    assert said is not None, refused.value
    assert said[1] == repr(cells[0])
    plain = [f"{sign * value:.2f}".replace(".", ",") for value in MONEY]
    assert said[2] == plain[0]
    write([day.isoformat() for day in DAYS], plain)
    with pytest.raises(InputError, match=r"use --data.problem.dates '\[Datum\]'"):
        Table(str(path)).sample()
    x, y = Table(str(path), dates="Datum").sample()
    np.testing.assert_array_equal(x.numpy(), np.column_stack([SINCE_1970, sign * MONEY]))
    np.testing.assert_array_equal(y[:, 0], PRICE)


NOT_ROWS = {
    "units": (0, "[kg],[m],[EUR]"),
    "units without brackets": (0, "kg,m,EUR"),
    "a rule": (0, "---,---,---"),
    "the names once more": (7, "a,b,y"),
    "a sum": (N, "Total,,99.0"),
    "the end of a file of DOS": (N, "\x1a"),
    "a remark": (3, "pause"),
    "one cell": (5, "1,-,3"),
}


@pytest.mark.parametrize("kind", [*NOT_ROWS])
def test_a_line_that_is_no_row_is_named_and_can_be_removed(tmp_path: Path, kind: str) -> None:
    path, (at, line) = tmp_path / "table.csv", NOT_ROWS[kind]
    lines = [f"{a},{b},{2 * a}" for a, b in zip(MONEY, PRICE, strict=True)]
    path.write_text("\n".join(["a,b,y", *lines[:at], line, *lines[at:]]) + "\n")
    with pytest.raises(InputError) as refused:
        Table(str(path)).sample()
    said = re.search(r"correct or remove line (\d+)$", str(refused.value))
    assert said is not None, refused.value
    written = path.read_text().splitlines()
    assert written.pop(int(said[1]) - 1) == line
    path.write_text("\n".join(written) + "\n")
    x, _ = Table(str(path)).sample()
    np.testing.assert_array_equal(x.numpy(), np.column_stack([MONEY, PRICE]))


def test_names_that_stand_in_a_file_several_times_can_be_removed(tmp_path: Path) -> None:
    path, rows = tmp_path / "joined.csv", [f"{a},{2 * a}" for a in MONEY]
    path.write_text("\n".join(["a,y", *rows[:3], "a,y", *rows[3:7], "a,y", *rows[7:]]) + "\n")
    with pytest.raises(InputError, match=r"; remove the lines that repeat the names$"):
        Table(str(path)).sample()
    path.write_text("\n".join(["a,y", *(line for line in path.read_text().splitlines() if line != "a,y")]) + "\n")
    np.testing.assert_array_equal(Table(str(path)).sample()[0][:, 0], MONEY)


def test_numbers_that_are_texts_are_to_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps({"a": str(a), "b": a, "y": 2 * a}) + "\n" for a in MONEY))
    with pytest.raises(InputError, match=r"or write numbers such as '.*' as numbers, not as text$"):
        Table(str(path)).sample()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "a": float(row["a"])}) + "\n" for row in rows))
    np.testing.assert_array_equal(Table(str(path)).sample()[0][:, 0], MONEY)
    with pytest.raises(InputError, match=r"or write numbers such as '.*' as numbers, not as text$"):
        Frame({"a": [str(a) for a in MONEY], "b": MONEY, "y": MONEY}).sample()


def test_a_cell_too_many_can_be_corrected_in_its_line(tmp_path: Path) -> None:
    path, rows = tmp_path / "table.csv", [f"{a},{2 * a}" for a in MONEY]
    path.write_text("\n".join(["a,y", *rows[:4], f"{rows[4]},9", *rows[5:]]) + "\n")
    with pytest.raises(InputError, match="because line 6 has 3 cells and the first line 2; correct that line"):
        Table(str(path)).sample()
    path.write_text("\n".join(["a,y", *rows]) + "\n")
    np.testing.assert_array_equal(Table(str(path)).sample()[0][:, 0], MONEY)
