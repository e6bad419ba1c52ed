"""Columns of other types than floating-point numbers: the right numbers, or refused by name."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gd_lightning import InputError, Table

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
    "identifiers": ([1, BIG + 1, 3], "int64()", f"{BIG + 1} in row 2 of the data has more digits"),
    "negative identifiers": ([1, 2, -BIG - 1], "int64()", f"{-BIG - 1} in row 3"),
    "large unsigned": ([2**64 - 1, 2, 3], "uint64()", f"{2**64 - 1} in row 1"),
    "identifiers as decimals": (
        [decimal.Decimal(BIG + 1)] * 3,
        "decimal128(38, 0)",
        "in row 1 of the data has more digits",
    ),
    "identifiers as categories": ([1, BIG + 1, 1], "dictionary(pa.int8(), pa.int64())", "in row 2"),
    "timestamps": (TIMES, "timestamp('ns')", r"of type timestamp\[ns\]; write it as a number, such as the days"),
    "timestamps with a zone": (TIMES, "timestamp('us', tz='UTC')", "write it as a number"),
    "dates": (DAYS, "date32()", "of type date32.*write it as a number"),
    "dates in milliseconds": (DAYS, "date64()", "write it as a number"),
    "times": ([datetime.time(1), datetime.time(2), datetime.time(3)], "time64('us')", "write it as a number"),
    "durations": ([datetime.timedelta(1)] * 3, "duration('s')", "write it as a number"),
    "text": (["a", "b", "c"], "string()", "of type string; use numbers"),
    "text of digits": (["1", "2", "3"], "string()", "of type string"),
    "categories of text": (["a", "b", "a"], "dictionary(pa.int8(), pa.string())", "of type dictionary"),
    "categories of dates": (TIMES, "dictionary(pa.int8(), pa.timestamp('ns'))", "write it as a number"),
    "bytes": ([b"1", b"2", b"3"], "binary()", "of type binary"),
    "lists": ([[1.0], [2.0], [3.0]], "list_(pa.float64())", "of type list"),
    "vectors": ([[1.0], [2.0], [3.0]], "list_(pa.float64(), 1)", "of type fixed_size_list"),
    "records": ([{"z": 1.0}] * 3, "struct([('z', pa.float64())])", "of type struct"),
    "nothing": ([None] * 3, "null()", "of type null"),
    "missing integers": ([1, None, 3], "int64()", "row 2 of the data is null"),
    "missing booleans": ([True, False, None], "bool_()", "row 3 of the data is null"),
    "missing floats": ([None, 1.0, 2.0], "float64()", "row 1 of the data is null"),
    "missing decimals": (
        [decimal.Decimal(1), None, decimal.Decimal(1)],
        "decimal128(9, 2)",
        "row 2 of the data is null",
    ),
    "missing categories": ([1, None, 1], "dictionary(pa.int8(), pa.int64())", "row 2 of the data is null"),
}
# In .npz and .npy.
ARRAYS: dict[str, tuple[Any, list[float] | str]] = {
    "booleans": (np.array([True, False, True]), [1, 0, 1]),
    "small integers": (np.array([1, 2, 255], np.uint8), [1, 2, 255]),
    "half precision": (np.array([1.5, 2.5, 3.5], np.float16), [1.5, 2.5, 3.5]),
    "another byte order": (np.array([1.5, 2.5, 3.5], ">f8"), [1.5, 2.5, 3.5]),
    "whole numbers up to 2**53": (np.array([BIG, -BIG, 2 * BIG]), [BIG, -BIG, 2 * BIG]),
    "identifiers": (np.array([1, BIG + 1, 3]), f"{BIG + 1} in row 2 of the data has more digits"),
    "the least of all": (np.array([-(2**63) + 1, 1, 3]), "in row 1"),
    "large unsigned": (np.array([1, 2, 2**64 - 1], np.uint64), "in row 3"),
    "dates": (np.array(DAYS, "datetime64[D]"), r"of type datetime64\[D\]; write it as a number, such as the days"),
    "timestamps": (np.array(TIMES, "datetime64[ns]"), "write it as a number"),
    "durations": (np.array([1, 2, 3], "timedelta64[s]"), "write it as a number"),
    "complex numbers": (np.array([1j, 2, 3]), "of type complex128; use numbers"),
    "text": (np.array(["1", "2", "3"]), "of type <U1; use numbers"),
    "records": (np.array([(1.0,), (2.0,), (3.0,)], [("z", "f8")]), "use numbers"),
}
CSV: dict[str, tuple[list[str], list[float] | str]] = {
    "quoted": (['"1"', " 2", '"3.5"'], [1, 2, 3.5]),
    "whole numbers up to 2**53": ([str(BIG), str(-BIG), str(2 * BIG)], [BIG, -BIG, 2 * BIG]),
    "large measurements": (["6.02214076e23", "1e300", "9007199254740993.0"], [6.02214076e23, 1e300, BIG]),
    "identifiers": (["1", str(BIG + 1), "3"], f"{BIG + 1} in line 3 has more digits"),
    "quoted identifiers": (['"1"', "2", f'"{BIG + 1}"'], "in line 4 has more digits"),
    "dates": (
        ["2024-01-01", "2024-01-02", "2024-01-03"],
        "line 2: '2024-01-01' is no number; write it as a number, such as the days",
    ),
    "German dates": (["1.2.2024", "2.2.2024", "3.2.2024"], "is no number; write it as a number"),
    "times": (["10:30", "11:30", "12:30"], "is no number; write it as a number"),
    "booleans": (["True", "False", "True"], "line 2: 'True' is no number"),
    "complex numbers": (["1j", "2", "3"], "line 2: '1j' is no number"),
    "missing": (["1", "NA", "3"], "line 3: 'NA' is no number"),
}


def _check(path: Path, name: str, expected: list[float] | str) -> None:
    if isinstance(expected, list):
        assert Table(str(path)).sample()[0][:, 0].tolist() == expected
        return
    with pytest.raises(InputError, match=f"cannot use column '{name}' of .*{expected}"):
        Table(str(path)).sample()
    features, targets = Table(str(path), ["x"], ["y"]).sample()  # as the message advises
    assert (features[:, 0].tolist(), targets[:, 0].tolist()) == ([5, 6, 7], [1, 2, 3])


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet is an extra, gd-lightning[parquet]")
    from pyarrow import parquet

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
        with pytest.raises(InputError, match=f"cannot use column '0' of .*{expected}"):
            Table(str(tmp_path / "table.npy")).sample()


@pytest.mark.parametrize("kind", CSV)
def test_csv(tmp_path: Path, kind: str) -> None:
    cells, expected = CSV[kind]
    rows = [f"{cell},{x},{y}" for cell, x, y in zip(cells, (5, 6, 7), (1, 2, 3), strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["z,x,y", *rows]) + "\n")
    _check(tmp_path / "table.csv", "z", expected)
