"""Texts of others: shown where a terminal would obey them, quoted where a spreadsheet would run them, and kept."""

from __future__ import annotations

import csv
import io
import random
import unicodedata
from pathlib import Path

import pytest

from gd_lightning.escaping import as_cell, csv_text, from_cell, in_one_line, visible
from gd_lightning.problems import Table
from gd_lightning.records.history import History

PRINTABLE = [
    "abc äß ²",
    "日本語 \u3000 中",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # of several emoji, joined
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",  # a flag
    "é\u0301",
    "שלום",
    "a\u00a0b",
]
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''-a", "=", "-", "+1a", "-0x"]
PLAIN = ["height", "a,b", 'a"b', "a\nb", "'quoted'", "1=2", "a-b", "'", "", "-1.5", "+2e3", "-inf", "nan"]


@pytest.mark.parametrize("text", PRINTABLE)
def test_what_can_be_printed_stays(text: str) -> None:
    assert visible(text) == in_one_line(text) == text


def test_no_character_that_a_terminal_obeys_is_left() -> None:
    for code in range(0x110000):
        letter = chr(code)
        is_control = unicodedata.category(letter) in ("Cc", "Zl", "Zp") and letter not in "\n\t"
        turns = unicodedata.bidirectional(letter) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        if is_control or turns:
            assert visible(letter).isascii()
            assert visible(letter).isprintable()
            assert visible(letter).startswith("\\")
    assert visible("a\nb\tc") == "a\nb\tc"
    assert in_one_line("a\nb\tc\r\n") == "a\\nb\\tc\\r\\n"


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_a_cell_is_read_as_it_was_written(text: str) -> None:
    cell = as_cell(text)
    assert from_cell(str(cell)) == text
    assert (cell == text) == (text in PLAIN)


def test_random_cells_begin_no_formula_and_are_read_back() -> None:
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choices("'=+-@\t\r\n a1.,\"", k=draw.randrange(6)))
        ((cell,),) = csv.reader(io.StringIO(csv_text([[text]]), newline=""))
        assert from_cell(cell) == text
        if cell and cell[0] in "=+-@\t\r":
            float(cell)


def test_numbers_stay_numbers() -> None:
    assert csv_text([["=a", None], [-1.5, float("-inf")], [3, "-7"]]) == "'=a,\n-1.5,-inf\n3,-7\n"


def test_a_history_has_its_columns_again(tmp_path: Path) -> None:
    history = History()
    names = [name for name in (*FORMULAS, *PLAIN) if name]
    for update in range(2):
        axes = {"update": update, "epoch": update, "samples": update, "seconds": update, "train_loss": 1.0}
        history.append(**axes, **{name: float(i - update) for i, name in enumerate(names)})
    (tmp_path / "history.csv").write_text(history.to_csv(), newline="")
    again = History.from_csv(tmp_path / "history.csv")
    assert again.columns == history.columns
    assert all(again[name].tolist() == history[name].tolist() for name in names)


def test_a_table_has_its_columns_again(tmp_path: Path) -> None:
    names = [name for name in (*FORMULAS, *PLAIN) if name == name.strip() and name]
    (tmp_path / "t.csv").write_text(csv_text([names, *([i - j for i in range(len(names))] for j in range(3))]))
    problem = Table(str(tmp_path / "t.csv"))
    x = problem.sample()[0]
    assert [*problem.feature_names, *problem.target_names] == names
    assert x[1].tolist() == [float(i - 1) for i in range(len(names) - 1)]
