"""Whole numbers of any length are read exactly, or refused in the same words, from every kind of file."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from gd_lightning import InputError, Table

EXACTLY = [2**53, 2**62 + 2**10, 2**63, -(2**63), 2**64, 3 * 2**80, 10**22, -(2**200)]
ROUNDED = [2**53 + 1, 2**63 - 1, 2**63 + 1, -(2**63) - 1, 2**64 + 1, 10**23 + 1, 12345678901234567890123, 10**60 + 1]
OTHERS: dict[str, list[float | None]] = {
    "whole numbers": [1, 2, 3],
    "fractions": [0.5, 1e-7, 2.0],
    "gaps": [None, 4, 5],
}


def _files(value: int, others: list[float | None]) -> list[str]:
    """Write the value and others in all formats, as text; return the names of the files."""
    column = [value, *others]
    Path("a.jsonl").write_text("".join(json.dumps({"x": x, "y": i}) + "\n" for i, x in enumerate(column)))
    Path("b.jsonl").write_text("\n\n".join(f'{{"x":{json.dumps(x)},"y":{i}}}' for i, x in enumerate(column)))
    cells = "".join(f"{'' if x is None else x},{i}\n" for i, x in enumerate(column))
    Path("a.csv").write_text(f"x,y\n{cells}")
    return ["a.jsonl", "b.jsonl", "a.csv"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="reads JSON lines")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_float64_holds_is_read(kind: str) -> None:
    for value in EXACTLY:
        for file in _files(value, OTHERS[kind]):
            x, _ = Table(file, missing="drop").sample()
            assert Decimal(x[0].item()) == value, file


@pytest.mark.parametrize("kind", OTHERS)
def test_what_float64_would_round_is_refused(kind: str) -> None:
    for value in ROUNDED:
        for file in _files(value, OTHERS[kind]):
            with pytest.raises(InputError, match=rf"column 'x' of {file}, because {value} in .* has more digits"):
                Table(file, missing="drop").sample()


def test_a_column_that_is_left_out_may_have_any_digits() -> None:
    for value in ROUNDED:
        for file in _files(value, OTHERS["whole numbers"])[:2]:
            text = Path(file).read_text().replace('"y"', '"z": {"a": [{"b": 2}]}, "w": 1.5, "y"')
            Path(file).write_text(text)
            x, y = Table(file, exclude=["x", "z"]).sample()
            assert (x[:, 0].tolist(), y[:, 0].tolist()) == ([1.5] * 4, [0.0, 1.0, 2.0, 3.0])


def test_more_digits_than_any_type_has_are_refused() -> None:
    for file in _files(10**90 + 1, [1, 2, 3])[:2]:
        with pytest.raises(InputError, match=f"cannot read the table {file} as .jsonl, because a number of column"):
            Table(file).sample()


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_digits_in_texts_are_refused_whatever_type_of_text_it_is(kind: str) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for text in ("9007199254740993", "0.5", "1,5"):
        texts = pa.array([text, "1", "2"])
        column = texts.dictionary_encode() if kind == "dictionary" else texts.cast(getattr(pa, kind)())
        parquet.write_table(pa.table({"x": column, "y": [1.0, 2.0, 3.0]}), "a.parquet")
        with pytest.raises(InputError, match=f"column 'x' of a.parquet, because it is text of 3 values, .*'{text}'"):
            Table("a.parquet").sample()
