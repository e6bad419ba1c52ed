"""Columns of other types than floating-point numbers: the right numbers, or refused by name."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from gd_lightning import InputError, Table, fit

BIG = 2**53
ONE, LONG = decimal.Decimal("1.10"), decimal.Decimal(BIG + 1)
DAYS = [datetime.date(2024, 1, day) for day in (1, 2, 3)]
TIMES = [datetime.datetime(2024, 1, day, 12) for day in (1, 2, 3)]
# In Parquet: values, their type, and what they are as numbers, or what the message says of them.
PARQUET: dict[str, tuple[list[Any], str, list[float] | str]] = {
    "booleans": ([True, False, True], "bool_()", [1, 0, 1]),
    "small integers": ([1, 2, 3], "int8()", [1, 2, 3]),
    "unsigned": ([1, 2, 3], "uint64()", [1, 2, 3]),
    "half precision": ([1.5, 2.5, 3.5], "float16()", [1.5, 2.5, 3.5]),
    "decimals": (
        [decimal.Decimal("1.10"), decimal.Decimal("2.20"), decimal.Decimal("-3.30")],
        "decimal128(9, 2)",
        [1.1, 2.2, -3.3],
    ),
    "categories of numbers": ([10, 20, 10], "dictionary(pa.int8(), pa.int64())", [10, 20, 10]),
    "whole numbers up to 2**53": ([BIG, -BIG, 2 * BIG], "int64()", [BIG, -BIG, 2 * BIG]),
    "identifiers": ([1, BIG + 1, 3], "int64()", f"{BIG + 1} in row 2 of the data.* has more digits"),
    "negative identifiers": ([1, 2, -BIG - 1], "int64()", f"{-BIG - 1} in row 3"),
    "large unsigned": ([2**64 - 1, 2, 3], "uint64()", f"{2**64 - 1} in row 1"),
    "identifiers as decimals": (
        [decimal.Decimal(BIG + 1)] * 3,
        "decimal128(38, 0)",
        "in row 1 of the data has more digits",
    ),
    "identifiers as categories": ([1, BIG + 1, 1], "dictionary(pa.int8(), pa.int64())", "in row 2"),
    "timestamps": (TIMES, "timestamp('ns')", r"of type timestamp\[ns\].*--data.problem.dates"),
    "timestamps with a zone": (TIMES, "timestamp('us', tz='UTC')", "of type .*--data.problem.dates"),
    "dates": (DAYS, "date32()", "of type date32.*--data.problem.dates"),
    "dates in milliseconds": (DAYS, "date64()", "of type .*--data.problem.dates"),
    "times": ([datetime.time(1), datetime.time(2), datetime.time(3)], "time64('us')", "of type time64"),
    "durations": ([datetime.timedelta(1)] * 3, "duration('s')", "of type duration"),
    "text": (["a", "b", "c"], "string()", "text of 3 values, such as 'a' in row 1 of the data"),
    "text of digits": (["1", "2", "3"], "string()", "text of 3 values"),
    "categories of text": (["a", "b", "a"], "dictionary(pa.int8(), pa.string())", "text of 2 values"),
    "categories of dates": (TIMES, "dictionary(pa.int8(), pa.timestamp('ns'))", "of type .*--data.problem.dates"),
    "bytes": ([b"1", b"2", b"3"], "binary()", "of type binary"),
    "lists": ([[1.0], [2.0], [3.0]], "list_(pa.float64())", "of type list"),
    "vectors": ([[1.0], [2.0], [3.0]], "list_(pa.float64(), 1)", "of type fixed_size_list"),
    "records": ([{"z": 1.0}] * 3, "struct([('z', pa.float64())])", "of type struct"),
    "nothing": ([None] * 3, "null()", "it has no value"),
    "missing integers": ([1, None, 3], "int64()", "a missing value in row 2 of the data"),
    "missing booleans": ([True, False, None], "bool_()", "a missing value in row 3 of the data"),
    "missing floats": ([None, 1.0, 2.0], "float64()", "a missing value in row 1 of the data"),
    "missing decimals": (
        [decimal.Decimal(1), None, decimal.Decimal(1)],
        "decimal128(9, 2)",
        "a missing value in row 2 of the data",
    ),
    "missing categories": ([1, None, 1], "dictionary(pa.int8(), pa.int64())", "a missing value in row 2 of the data"),
}
# In .npz and .npy.
ARRAYS: dict[str, tuple[Any, list[float] | str]] = {
    "booleans": (np.array([True, False, True]), [1, 0, 1]),
    "small integers": (np.array([1, 2, 255], np.uint8), [1, 2, 255]),
    "half precision": (np.array([1.5, 2.5, 3.5], np.float16), [1.5, 2.5, 3.5]),
    "another byte order": (np.array([1.5, 2.5, 3.5], ">f8"), [1.5, 2.5, 3.5]),
    "whole numbers up to 2**53": (np.array([BIG, -BIG, 2 * BIG]), [BIG, -BIG, 2 * BIG]),
    "identifiers": (np.array([1, BIG + 1, 3]), f"{BIG + 1} in row 2 of the data.* has more digits"),
    "the least of all": (np.array([-(2**63) + 1, 1, 3]), "in row 1"),
    "large unsigned": (np.array([1, 2, 2**64 - 1], np.uint64), "in row 3"),
    "dates": (np.array(DAYS, "datetime64[D]"), "of type date32.*--data.problem.dates"),
    "timestamps": (np.array(TIMES, "datetime64[ns]"), "of type timestamp.*--data.problem.dates"),
    "durations": (np.array([1, 2, 3], "timedelta64[s]"), "of type duration"),
    "complex numbers": (np.array([1j, 2, 3]), "of type .*complex128"),
    "text": (np.array(["1", "2", "3"]), "text of 3 values, such as '1'"),
    "records": (np.array([(1.0,), (2.0,), (3.0,)], [("z", "f8")]), "of type "),
}
CSV: dict[str, tuple[list[str], list[float] | str]] = {
    "quoted": (['"1"', " 2", '"3.5"'], [1, 2, 3.5]),
    "whole numbers up to 2**53": ([str(BIG), str(-BIG), str(2 * BIG)], [BIG, -BIG, 2 * BIG]),
    "large measurements": (["6.02214076e23", "1e300", "9007199254740993.0"], [6.02214076e23, 1e300, BIG]),
    "identifiers": (["1", str(BIG + 1), "3"], f"{BIG + 1} in line 3 has more digits"),
    "quoted identifiers": (['"1"', "2", f'"{BIG + 1}"'], "in line 4 has more digits"),
    "dates": (
        ["2024-01-01", "2024-01-02", "2024-01-03"],
        "dates, such as '2024-01-01' in line 2.*--data.problem.dates",
    ),
    "German dates": (
        ["1.2.2024", "2.2.2024", "3.2.2024"],
        "'1.2.2024' in line 2, which is not a date as in 2024-01-31",
    ),
    "times": (["10:30", "11:30", "12:30"], "'10:30' in line 2, which is not a date"),
    "booleans": (["True", "False", "True"], [1, 0, 1]),
    "complex numbers": (["1j", "2", "3"], "'1j' in line 2, which is not a number"),
    "missing": (["1", "NA", "3"], "a missing value in line 3"),
}


def _check(path: Path, name: str, expected: list[float] | str) -> None:
    if isinstance(expected, list):
        assert Table(str(path)).sample()[0][:, 0].tolist() == expected
        return
    with pytest.raises(InputError, match=f"cannot use column '{name}' of .* because .*{expected}"):
        Table(str(path)).sample()
    features, targets = Table(str(path), ["x"], ["y"]).sample()  # as the message advises
    assert (features[:, 0].tolist(), targets[:, 0].tolist()) == ([5, 6, 7], [1, 2, 3])


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet(tmp_path: Path, kind: str) -> None:
    values, form, expected = PARQUET[kind]
    kind_of_values = eval(f"pa.{form}", {"pa": pa})
    if form.startswith("dictionary"):
        column = pa.array(values, kind_of_values.value_type).dictionary_encode().cast(kind_of_values)
    elif form.startswith("float16"):
        column = pa.array(np.array(values, np.float16))
    else:
        column = pa.array(values, kind_of_values)
    table = pa.table({"z": column, "x": [5.0, 6.0, 7.0], "y": [1.0, 2.0, 3.0]})
    parquet.write_table(table, tmp_path / "table.parquet")
    _check(tmp_path / "table.parquet", "z", expected)


@pytest.mark.parametrize("kind", ARRAYS)
def test_npz(tmp_path: Path, kind: str) -> None:
    array, expected = ARRAYS[kind]
    np.savez(tmp_path / "table.npz", z=array, x=np.array([5.0, 6.0, 7.0]), y=np.array([1.0, 2.0, 3.0]))
    _check(tmp_path / "table.npz", "z", expected)


@pytest.mark.parametrize("kind", ARRAYS)
def test_npy(tmp_path: Path, kind: str) -> None:
    array, expected = ARRAYS[kind]
    np.save(tmp_path / "table.npy", np.stack([array, array], axis=1))
    if isinstance(expected, list):
        assert Table(str(tmp_path / "table.npy")).sample()[0][:, 0].tolist() == expected
    else:
        with pytest.raises(InputError, match=f"cannot use 2 of the columns of .* because '0' .*{expected}"):
            Table(str(tmp_path / "table.npy")).sample()


@pytest.mark.parametrize("kind", CSV)
def test_csv(tmp_path: Path, kind: str) -> None:
    cells, expected = CSV[kind]
    rows = [f"{cell},{x},{y}" for cell, x, y in zip(cells, (5, 6, 7), (1, 2, 3), strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["z,x,y", *rows]) + "\n")
    _check(tmp_path / "table.csv", "z", expected)


# What a column may be taken for: options of the training, and blocks that are of this form and of others.
FORMS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "numbers": ({}, ["numbers", "whole", "booleans"], ["dates", "times", "bytes", "text", "texts of dates"]),
    "booleans": ({}, ["booleans", "zeros"], ["numbers", "dates", "times", "bytes", "text", "texts of dates"]),
    "dates": (
        {"dates": ["x"]},
        ["dates", "texts of dates"],
        ["numbers", "whole", "booleans", "times", "bytes", "text"],
    ),
    "text": ({"categories": ["x"]}, ["text"], ["numbers", "booleans", "dates", "times", "bytes"]),
}
BLOCKS: dict[str, list[Any]] = {
    "numbers": [0.25, 0.5, 1.5],
    "whole": [1, 5, 2],
    "zeros": [0, 1, 0],
    "booleans": [True, False, True],
    "dates": DAYS,
    "times": [datetime.time(1)] * 3,
    "bytes": [b"1"] * 3,
    "text": ["a", "b", "c"],
    "texts of dates": [day.isoformat() for day in DAYS],
}


@pytest.mark.parametrize("form", FORMS)
def test_new_rows_of_another_kind_are_refused(form: str) -> None:
    """Dates are days and booleans 0 and 1, so that a column of another kind would pass for numbers unseen."""
    options, same, others = FORMS[form]
    run = fit(pa.table({"x": BLOCKS[form], "y": [0.0, 1.0, 2.5]}), targets="y", epochs=1, standardize=True, **options)
    for block in same:
        new = run.predict(pa.table({"x": BLOCKS[block]}))
        assert len(np.unique(new)) == len(set(BLOCKS[block]))
        if form != "text":
            numbers = [_as_number(value) for value in BLOCKS[block]]
            assert new.tolist() == run.predict(np.array(numbers)[:, None]).tolist()
    for block in others:
        with pytest.raises(InputError, match=r"cannot use column 'x' of .*, because .*(; give|; correct|; leave)"):
            run.predict(pa.table({"x": BLOCKS[block]}))


def _as_number(value: Any) -> float:
    day = datetime.date.fromisoformat(value) if isinstance(value, str) else value
    return (day - datetime.date(1970, 1, 1)).days if isinstance(day, datetime.date) else float(day)
