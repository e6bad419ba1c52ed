"""Files of every kind that people have: read to the numbers they were written from, or refused in a line that helps."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import io
import re
import shlex
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pytest
import yaml
from pyarrow import feather, orc, parquet
from sklearn.linear_model import LinearRegression

from gd_lightning import InputError, Table
from gd_lightning.linear_least_squares import least_squares

N = 14
_draw = np.random.default_rng(0)
A, B = _draw.normal(size=N), _draw.integers(-50, 50, N).astype(float)
YES = np.arange(N) % 3 == 1
Y = 2 + 3 * A - 0.1 * B + 0.01 * _draw.normal(size=N)
COLOURS = np.array(["blue", "green", "red"])[np.arange(N) % 3]
DAYS = [datetime.date(2024, 1, 31) + datetime.timedelta(int(i)) for i in _draw.permutation(N)]
SINCE_1970 = np.array([(day - datetime.date(1970, 1, 1)).days for day in DAYS], float)
NUMBERS = {"a": A, "b": B, "y": Y}


def _text(
    columns: dict[str, Any] = NUMBERS,
    separator: str = ",",
    header: bool = True,
    comma: bool = False,
    quote: str = "",
    end: str = "\n",
    fill: dict[tuple[int, int], str] | None = None,
) -> str:
    """Return columns as text; whole numbers without a point, and ``fill`` in some cells (row, column)."""
    rows = [[_cell(column[i], comma) for column in columns.values()] for i in range(N)]
    for (row, column), cell in (fill or {}).items():
        rows[row][column] = cell
    lines = [list(columns)] * header + rows
    return "".join(separator.join(f"{quote}{cell}{quote}" for cell in line) + end for line in lines)


def _cell(value: Any, comma: bool = False) -> str:
    if isinstance(value, float):
        text = str(int(value)) if value.is_integer() else repr(float(value))
        return text.replace(".", ",") if comma else text
    return str(value)


def _zip(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


def _zst(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


def _arrow(**columns: Any) -> pa.Table:
    return pa.table(
        {name: value if isinstance(value, pa.Array) else pa.array(value) for name, value in columns.items()}
    )


def _written(write: Callable[[pa.Table, Any], object], **columns: Any) -> bytes:
    out = io.BytesIO()
    write(_arrow(**{**NUMBERS, **columns}), out)
    return out.getvalue()


def _part(begin: int, end: int) -> bytes:
    return _written(lambda table, out: parquet.write_table(table.slice(begin, end - begin), out))


def _stream(table: pa.Table, out: Any) -> None:
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


def _json(rows: dict[str, Any] = NUMBERS) -> bytes:
    import json

    return "".join(
        json.dumps({name: column[i].item() for name, column in rows.items()}) + "\n" for i in range(N)
    ).encode()


def _excel(columns: dict[str, Any], header: bool = True) -> bytes:
    book = openpyxl.Workbook()
    for line in [list(columns)] * header + [[column[i] for column in columns.values()] for i in range(N)]:
        book.active.append(line)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@dataclass
class Kind:
    """A file, and the columns that it is read to.

    Args:
        name: Its name.
        content: What stands in it: text in UTF-8, or bytes; files of a folder by name.
        expected: The features and, last, the target.
        options: Options that it is read with.
        refused: A part of the line that it is refused with before, where it is; it is read with the options that the
            line names, besides those given.
    """

    name: str
    content: str | bytes | dict[str, bytes]
    expected: dict[str, Any] = field(default_factory=lambda: NUMBERS)
    options: dict[str, Any] = field(default_factory=dict)
    refused: str = ""


GAP = {(3, 1): ""}
FILLED, KEPT = B.copy(), np.arange(N) != 3
FILLED[3] = B[KEPT].mean()
WITH_COLOUR = {"colour": COLOURS, **NUMBERS}
INDICATORS = {"colour=green": (COLOURS == "green") * 1.0, "colour=red": (COLOURS == "red") * 1.0, **NUMBERS}
COUNTED = {str(i): column for i, column in enumerate(NUMBERS.values())}
KINDS = {
    "comma": Kind("t.csv", _text()),
    "semicolon": Kind("t.csv", _text(separator=";")),
    "tab": Kind("t.tsv", _text(separator="\t")),
    "pipe": Kind("t.txt", _text(separator="|")),
    "blanks": Kind("t.txt", _text(separator="   ")),
    "blanks in front": Kind("t.data", "  " + _text(separator="  ", end="  \n  ").rstrip(" ")),
    "tab in a text": Kind("t.txt", _text(separator="\t")),
    "decimal comma": Kind("t.csv", _text(separator=";", comma=True)),
    "decimal comma, tab": Kind("t.tsv", _text(separator="\t", comma=True)),
    "carriage returns": Kind("t.csv", _text(end="\r\n")),
    "old Macintosh": Kind("t.csv", _text(end="\r")),
    "quoted": Kind("t.csv", _text(quote='"')),
    "blanks behind commas": Kind("t.csv", _text(separator=", ")),
    "commas at the end": Kind("t.csv", _text(end=",\n")),
    "blank lines": Kind("t.csv", "\n" + _text(end="\n  \n")),
    "comments": Kind("t.csv", "# of 2024\n# in cm\n" + _text(end="\n# a, b\n")),
    "names in a comment": Kind("t.txt", "# " + _text(separator=" ")),
    "names in a comment, comma": Kind("t.csv", "#" + _text()),
    "UTF-8 with a mark": Kind(
        "t.csv", b"\xef\xbb\xbf" + _text({"größe": A, "b": B, "y": Y}).encode(), {"größe": A, "b": B, "y": Y}
    ),
    "Latin-1": Kind("t.csv", _text({"größe": A, "b": B, "y": Y}).encode("latin-1"), {"größe": A, "b": B, "y": Y}),
    "UTF-16": Kind("t.csv", _text({"größe": A, "b": B, "y": Y}).encode("utf-16"), {"größe": A, "b": B, "y": Y}),
    "UTF-16, big end first, tab": Kind("t.txt", b"\xfe\xff" + _text(separator="\t").encode("utf-16-be")),
    "Windows-1252": Kind("t.csv", _text({"“a”": A, "€": B, "y": Y}).encode("cp1252"), {"“a”": A, "€": B, "y": Y}),
    "Excel's separator": Kind("t.csv", "sep=;\r\n" + _text(separator=";")),
    "Excel's separator, with a mark": Kind("t.csv", b"\xef\xbb\xbfsep=,\n" + _text().encode()),
    "no names": Kind("t.csv", _text(header=False), COUNTED),
    "no names, blanks": Kind("t.data", _text(separator=" ", header=False), COUNTED),
    "numbers as names": Kind("t.csv", _text(COUNTED), COUNTED),
    "years as names": Kind(
        "t.csv",
        _text({"where": COLOURS, "1990": A, "1991": B, "y": Y}),
        {"1990": A, "1991": B, "y": Y},
        {"exclude": "where"},
    ),
    "names or values": Kind(
        "t.csv",
        _text({"a": A, "c": COLOURS, "y": Y}, header=False),
        {"0": A, "2": Y},
        {"exclude": 1, "header": False},
        "contains names",
    ),
    "values, as UCI has them": Kind(
        "t.data", _text({"a": A, "b": B, "y": Y, "c": COLOURS}, header=False), COUNTED, {"exclude": [3]}
    ),
    "row names of R": Kind(
        "t.txt", "a b y\n" + "".join(f'"row {i}" {float(A[i])} {B[i]} {float(Y[i])}\n' for i in range(N))
    ),
    "index of pandas": Kind("t.csv", _text({"": np.arange(N), **NUMBERS})),
    "gzip": Kind("t.csv.gz", gzip.compress(_text().encode())),
    "bzip2": Kind("t.tsv.bz2", bz2.compress(_text(separator="\t").encode())),
    "zstd": Kind("t.csv.zst", _zst(_text().encode())),
    "zip": Kind("t.txt.zip", _zip("t.txt", _text(separator=";").encode())),
    "Parquet": Kind("t.parquet", _written(parquet.write_table)),
    "Parquet, brotli": Kind("t.pq", _written(lambda t, out: parquet.write_table(t, out, compression="gzip"))),
    "a Parquet folder": Kind(
        "folder",
        {
            "part-0.parquet": _part(0, 5),
            "part-1.parquet": _part(5, N),
            "_SUCCESS": b"",
        },
    ),
    "a Parquet folder of folders": Kind(
        "folder",
        {f"year={year}/part.parquet": _part(*rows) for year, rows in ((2023, (0, 5)), (2024, (5, N)))},
        {"a": A, "b": B, "year": np.where(np.arange(N) < 5, 2023.0, 2024.0), "y": Y},
        {"features": ["a", "b", "year"], "targets": "y"},
    ),
    "Feather": Kind("t.feather", _written(feather.write_feather)),
    "Arrow stream": Kind("t.arrow", _written(_stream)),
    "ORC": Kind("t.orc", _written(orc.write_table)),
    "JSON lines": Kind("t.jsonl", _json()),
    "ndjson": Kind("t.ndjson", _json()),
    "ndjson, gzip": Kind("t.ndjson.gz", gzip.compress(_json())),
    "JSON lines, gzip": Kind("t.jsonl.gz", gzip.compress(_json())),
    "Excel": Kind("t.xlsx", _excel(NUMBERS)),
    "Excel with dates": Kind(
        "t.xlsx", _excel({"when": DAYS, **NUMBERS}), {"when": SINCE_1970, **NUMBERS}, {"dates": ["when"]}
    ),
    "integers of all kinds": Kind(
        "t.parquet", _written(parquet.write_table, b=pa.array(B.astype(int)).cast(pa.int8()))
    ),
    "decimals": Kind(
        "t.parquet",
        _written(parquet.write_table, b=pa.array([decimal.Decimal(int(b)) / 10 for b in B])),
        {"a": A, "b": np.array([int(b) / 10 for b in B]), "y": Y},
    ),
    "dictionaries": Kind("t.feather", _written(feather.write_feather, b=pa.array(B).dictionary_encode())),
    "booleans": Kind("t.parquet", _written(parquet.write_table, b=YES), {"a": A, "b": YES * 1.0, "y": Y}),
    "yes and no": Kind("t.csv", _text({"ok": np.where(YES, "Yes", "no"), **NUMBERS}), {"ok": YES * 1.0, **NUMBERS}),
    "TRUE and FALSE": Kind(
        "t.csv", _text({"ok": np.where(YES, "TRUE", "FALSE"), **NUMBERS}), {"ok": YES * 1.0, **NUMBERS}
    ),
    "texts": Kind("t.csv", _text(WITH_COLOUR), INDICATORS, {}, "'colour' of .* text of 3 values, such as 'blue'"),
    "texts, by name": Kind("t.csv", _text(WITH_COLOUR), INDICATORS, {"categories": "colour"}),
    "texts, auto": Kind(
        "t.parquet",
        _written(parquet.write_table, colour=COLOURS),
        {"a": A, "b": B, "colour=green": INDICATORS["colour=green"], "colour=red": INDICATORS["colour=red"], "y": Y},
        {"categories": "auto", "targets": "y"},
    ),
    "numbers as categories": Kind(
        "t.csv",
        _text({"k": np.arange(N) % 2 * 4.0, **NUMBERS}),
        {"k=4": np.arange(N) % 2 * 1.0, **NUMBERS},
        {"categories": ["k"]},
    ),
    "dates": Kind("t.csv", _text({"when": DAYS, **NUMBERS}), {"when": SINCE_1970, **NUMBERS}, {}, "'when' .* dates"),
    "dates in Parquet": Kind(
        "t.parquet",
        _written(parquet.write_table, b=pa.array(DAYS)),
        {"a": A, "b": SINCE_1970, "y": Y},
        {},
        "'b' of .* type date32",
    ),
    "free texts": Kind(
        "t.csv",
        _text({"note": [f"note {i}" for i in range(N)], **NUMBERS}),
        NUMBERS,
        {},
        "'note' of .* text of 14 values",
    ),
    **{
        f"missing as {word or 'nothing'}": Kind(
            "t.csv",
            _text(fill={(3, 1): word}),
            {name: column[KEPT] for name, column in NUMBERS.items()},
            {},
            "'b' of .* a missing value in line 5; use --data.problem.missing drop",
        )
        for word in ("", "NA", "?", "nan", "null", "N/A")
    },
    "missing, filled": Kind("t.csv", _text(fill=GAP), {"a": A, "b": FILLED, "y": Y}, {"missing": "mean"}),
    "missing in Parquet": Kind(
        "t.parquet",
        _written(parquet.write_table, b=pa.array([None, *B[1:]])),
        {name: column[1:] for name, column in NUMBERS.items()},
        {},
        "value in row 1 of the data",
    ),
    "three at once": Kind(
        "t.csv",
        _text({**WITH_COLOUR, "note": [f"note {i}" for i in range(N)], "z": Y}, fill={(2, 1): "NA"}),
        {
            "colour=green": INDICATORS["colour=green"][np.arange(N) != 2],
            "colour=red": INDICATORS["colour=red"][np.arange(N) != 2],
            **{name: column[np.arange(N) != 2] for name, column in {**NUMBERS, "z": Y}.items()},
        },
        {},
        "cannot use 3 of the columns of .*'colour' is text .*'a' has a missing value.*'note' is text",
    ),
    "a column number": Kind("t.csv", _text(), {"a": A, "b": B, "y": Y}, {"targets": -1}),
    "a word among numbers": Kind("t.csv", _text(fill={(2, 0): "1.5 cm"}), {"b": B, "y": Y}, {}, "'1.5 cm' in line 4"),
}


def _write(kind: Kind, folder: Path) -> Path:
    path = folder / kind.name
    contents = kind.content if isinstance(kind.content, dict) else {"": kind.content}
    for name, content in contents.items():
        file = path / name if name else path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def advised(message: str) -> dict[str, Any]:
    """Return the options that a message names in the first of its ways, as they are typed."""
    words = shlex.split(re.split(r",? [(]?or ", message.rpartition("; use ")[2])[0])
    options = {name.removeprefix("--data.problem."): value for name, value in zip(words[::2], words[1::2], strict=True)}
    return {name: yaml.safe_load(value) for name, value in options.items()}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_read_as_it_was_written_or_refused_with_what_helps(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    path, options = str(_write(kind, tmp_path)), kind.options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that number the rows: tests/problems/test_row_numbers.py
        if kind.refused:
            with pytest.raises(InputError, match=kind.refused) as caught:
                Table(path).sample()
            assert len(str(caught.value).splitlines()) == 1
            options = {**advised(str(caught.value)), **options}
        table = Table(path, **options)
        x, y = table.sample()
    assert [*table.feature_names, *table.target_names] == list(kind.expected)
    matrix = np.stack([np.asarray(column, float) for column in kind.expected.values()], axis=1)
    if name.startswith(("Excel", "missing, filled")):  # openpyxl writes 16 digits
        np.testing.assert_allclose(np.hstack([x, y]), matrix, rtol=1e-15)
    else:
        assert np.array_equal(np.hstack([x, y]), matrix)
    assert re.match(rf"{len(matrix)}( of {N})? rows of ", table.description)
    fitted, reference = least_squares(x, y)[0], LinearRegression().fit(matrix[:, :-1], matrix[:, -1])
    assert fitted.bias is not None
    if name != "dates in Parquet":
        np.testing.assert_allclose(fitted.weight.numpy()[0], reference.coef_, atol=1e-6)
        np.testing.assert_allclose(fitted.bias.numpy(), reference.intercept_, atol=1e-6)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("above", ["Report", "Report 2024 of us", "% MATLAB", "// note\n// another", "by\n! b\nc"])
def test_lines_above_the_names_are_refused_and_left_out_as_comments(tmp_path: Path, separator: str, above: str) -> None:
    path, text = tmp_path / "t.csv", _text(separator=separator)
    lines = above.splitlines()
    path.write_text("\n".join(lines) + f"\n{text}")
    with pytest.raises(InputError, match="remove what stands above the names, or put # before it"):
        Table(str(path)).sample()
    for kept in ("", "".join(f"# {line}\n" for line in lines)):
        path.write_text(kept + text)
        table = Table(str(path))
        np.testing.assert_array_equal(table.sample()[0], np.stack([A, B], axis=1))
        assert table.feature_names == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.csv", _text().replace(",", "^")), ("t.txt", _text({"y": Y})), ("t.xlsx", _excel({"y": Y}))],
)
def test_a_single_column_is_refused(tmp_path: Path, name: str, content: str | bytes) -> None:
    path = _write(Kind(name, content), tmp_path)
    with pytest.raises(InputError, match="because it has a single column; use a table with features and a target"):
        Table(str(path)).sample()


@pytest.mark.parametrize("day", ["{}.01.2024", "1/{}/2024", "{}/2/24", "2024-1-{}"])
def test_dates_of_other_forms_are_refused_with_the_form_that_is_read(tmp_path: Path, day: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(_text({"when": [day.format(i + 1) for i in range(N)], **NUMBERS}))
    with pytest.raises(InputError, match=", or write dates as in 2024-01-31"):
        Table(str(path)).sample()


def test_there_are_sixty_kinds() -> None:
    assert len(KINDS) >= 60


@pytest.mark.parametrize("row", [1, 2, 41_234], ids=str)  # the last one is beyond what is read at once
@pytest.mark.parametrize("wrong", ['{"x": what, "y": 2}', '{"x": "text", "y": 2}'], ids=["no JSON", "another kind"])
def test_a_wrong_row_of_json_lines_is_counted_as_a_person_counts(tmp_path: Path, row: int, wrong: str) -> None:
    path = tmp_path / "table.jsonl"
    lines = ['{"x": 1.5, "y": 2, "note": "' + 30 * "." + '"}'] * (row + 2)
    lines[row - 1] = wrong
    path.write_text("\n".join(lines))
    # Where the first value is of another kind, it is the second that differs from it.
    expected = 2 if row == 1 and "text" in wrong else row
    with pytest.raises(InputError, match=rf"\.jsonl, because .* in row {expected}$"):
        Table(str(path)).sample()
