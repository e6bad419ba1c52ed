"""Numbers with thousands separators, currencies and per cent in tables: refused, with how they are written plainly."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gd_lightning import InputError, Table
from gd_lightning.problems.decorated_numbers import plain_numbers_of

NUMBERS = [1234.0, 2345.0, 99000.0]
FORMS = ["{:,.0f}", "{:,.2f}", "${:,.0f}", "{:,.0f} €", "USD {:.0f}", "{:.1f}%", "{:.0f} km", "CHF {:_.2f}"]


@pytest.mark.parametrize("form", FORMS)
def test_a_column_is_refused_and_read_where_it_is_written_as_advised(tmp_path: Path, form: str) -> None:
    cells = [form.format(number).replace("_", "'") for number in NUMBERS]
    path = tmp_path / "table.csv"
    path.write_text("a;price\n" + "".join(f"{i};{cell}\n" for i, cell in enumerate(cells, start=1)))
    with pytest.raises(InputError) as refused:
        Table(str(path)).sample()
    said = re.search(r"; write cells such as (.+?) as ([\d.]+)", str(refused.value))
    assert said is not None, refused.value
    plain = [plain_numbers_of(cell)[0] for cell in cells]
    assert said.groups() == (repr(cells[0]), plain[0])
    path.write_text("a;price\n" + "".join(f"{i};{cell}\n" for i, cell in enumerate(plain, start=1)))
    np.testing.assert_array_equal(Table(str(path)).sample()[1][:, 0], NUMBERS)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1,234", ["1234", "1.234"]),
        ("1.234", ["1234", "1.234"]),
        ("-1.234.567,8", ["-1234567.8"]),
        ("$-5", ["-5"]),
        ("-$5", ["-5"]),
        (".5 %", ["0.5", "0.005"]),
        ("12,5", ["12.5"]),
        ("1 234 567", ["1234567"]),
        ("(1,234.5)", ["-1234.5"]),
        ("($5)", ["-5"]),
        ("1.5-", ["-1.5"]),
        ("\u22121.5", ["-1.5"]),
        ("\uff11\uff12", ["12"]),
        ("\u0661\u0662.5", ["12.5"]),
        *(
            (text, [])
            for text in (
                "",
                "$",
                "A12",
                "12b",
                "2024-01-31",
                "12:30",
                "red",
                "1/2",
                "1e5e",
                "12 34 rooms more",
                "(a)",
                "()",
                "-",
                "(-5)",
                "a-",
            )
        ),
    ],
)
def test_each_way_in_which_a_number_can_be_meant(text: str, plain: list[str]) -> None:
    assert plain_numbers_of(text) == plain


def test_a_separator_that_stands_twice_is_one_in_all_cells(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a;price\n1;1.234\n2;2.345.678\n")
    with pytest.raises(
        InputError, match=r"write cells such as '2.345.678' as 2345678, and all others with that separator"
    ):
        Table(str(path)).sample()
