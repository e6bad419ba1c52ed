from __future__ import annotations

import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from gd_lightning.errors import InputError
from gd_lightning.problems import Table
from gd_lightning.problems.csv_dialect import MISSING_WORDS, names_of
from gd_lightning.problems.named_columns import Array, NamedColumns
from gd_lightning.problems.table_columns import TableColumns
from gd_lightning.problems.table_files import open_table, read_table

X = np.arange(12.0).reshape(4, 3)


def _write(path: Path) -> Path:
    if path.suffix == ".csv":
        path.write_text("a, b ,c\n" + "\n".join(",".join(map(str, row)) for row in X) + "\n")
    elif path.suffix == ".npy":
        np.save(path, X)
    elif path.suffix == ".npz":
        np.savez(path, x=X[:, :2], y=X[:, 2])
    else:
        parquet.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}), path)
    return path


def _read(path: Path, most: int = 2**24) -> Array:
    table = open_table(path)
    return read_table(table, TableColumns.of_numbers(table.names, []), most)[0]


@pytest.mark.parametrize(
    ("ending", "names"),
    [(".csv", ["a", "b", "c"]), (".npy", ["0", "1", "2"]), (".npz", ["x0", "x1", "y"]), (".parquet", ["a", "b", "c"])],
)
def test_every_format_gives_the_same_columns(tmp_path: Path, ending: str, names: list[str]) -> None:
    path = _write(tmp_path / f"table{ending}")
    table = Table(str(path))
    x, y = table.sample()
    assert np.array_equal(x.numpy(), X[:, :2])
    assert np.array_equal(y.numpy(), X[:, 2:])
    assert [*table.feature_names, *table.target_names] == names
    chosen = Table(str(path), features=[names[2]], targets=[names[1], names[0]])
    assert np.array_equal(chosen.sample()[0].numpy(), X[:, 2:])
    assert np.array_equal(chosen.sample()[1].numpy(), X[:, [1, 0]])
    assert np.array_equal(chosen.read_inputs(path).numpy(), X[:, 2:])


@pytest.mark.parametrize("ending", [".csv", ".npy", ".npz", ".parquet"])
def test_a_large_file_is_mapped_and_gives_the_same_columns(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / f"table{ending}")
    small = Table(str(path)).sample()
    monkeypatch.setattr(NamedColumns, "rows_at_once", 3)
    monkeypatch.setattr(Table, "map_above", 10)
    table = Table(str(path))
    x, y = table.sample()
    assert table.mapped
    assert np.array_equal(x, small[0])
    assert np.array_equal(y, small[1])
    names = [*table.feature_names, *table.target_names]
    chosen = Table(str(path), features=[names[2]], targets=[names[1], names[0]]).sample()
    assert np.array_equal(chosen[1], X[:, [1, 0]])
    x[0] = 7.0  # of this process alone
    assert np.array_equal(_read(path), X)


def test_a_value_that_is_no_number_is_found_in_later_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NamedColumns, "rows_at_once", 2)
    (tmp_path / "text.csv").write_text("a,b\n1,2\n\n3,4\n5,6\n7,eight\n")
    with pytest.raises(InputError, match=r"column 'b' .*of line 6: 'eight' is not a number"):
        _read(tmp_path / "text.csv")
    for in_memory in (10**6, 10):
        np.save(tmp_path / "nan.npy", np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]]))
        with pytest.raises(InputError, match=r"column '1' of .*nan.npy, because .*row 3 of the data"):
            _read(tmp_path / "nan.npy", in_memory)


def test_a_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbf"a","b, with comma"\r\n"1",2e-1\r\n\r\n3,"-4.5"\r\n')
    table = open_table(path)
    assert table.names == ["a", "b, with comma"]
    assert _read(path).tolist() == [[1, 0.2], [3, -4.5]]


BAD = {
    "missing cell": ("a,b\n1,2\n3,\n", "column 'b' .*a missing value in line 3"),
    "short row": ("a,b\n1,2\n3\n", "column 'b' .*a missing value in line 3"),
    "text": ("a,b\n1,2\n3,four\n", "column 'b' .*'four' in line 3, which is not a number"),
    "nan": ("a,b\n1,2\n3,nan\n", "column 'b' .*a missing value in line 3"),
    "infinity": ("a,b\ninf,2\n", "column 'a' .*is inf in line 2"),
    "no rows": ("a,b\n", "no rows"),
    "empty": ("", "no rows"),
    "decimal commas": ("a,b\n1,5,2,5\n", "line 2 has 4 cells and the first line 2"),
    "twice": ("a,a,b\n1,2,3\n", "column 'a' .*several columns have that name"),
    "no names at all": (",,\n1,2,3\n", "no column is left"),
    "UTF-16 without a mark": ("a\0,\0y\0\n\0", "zero bytes, as UTF-16"),
    "target twice": ("b,a,a\n1,2,3\n", "column 'a' .*several columns have that name"),
    "no name twice": ("a,,,b\n1,2,3,4\n", "column '' .*several columns have that name"),
    "quotes that stay open": ('a,b,n\n1,2,"x\n3,4,y\n', "quotes that open in line 2 are never closed"),
    "text behind quotes over lines": (
        'a,b,"n\nm"\n1,2,"3\n"\n\n3,four,5\n',
        "column 'b' .*'four' in line 6, which is not a number",
    ),
    "missing cell behind quotes over lines": ('a,n,b\n1,"2\n\n",2\n3,"4"\n', "column 'b' .*a missing value in line 5"),
    "long row behind quotes over lines": ('a,b\n1,"2\n"\n3,4,5\n', "line 4 has 3 cells and the first line 2"),
    "long row of quotes over lines": ('a,b\n1,2\n3,"4\n",5\n', "line 3 has 3 cells and the first line 2"),
}

READ: dict[str, tuple[str, list[list[float]]]] = {
    "a cell over two lines": ('a,y,note\n1,2,"two lines\n3,4 and more"\n5,6,d\n', [[1, 2], [5, 6]]),
    "cells over two lines": ('a,y,note\n1,2,"two\n1,1"\n3,4,"again\r\n2,2"\n', [[1, 2], [3, 4]]),
    "two quotes within quotes": ('a,y,note\n1,2,"a ""b"" \n ""c"""\n3,4,""\n', [[1, 2], [3, 4]]),
    "quotes within a cell": ('a,y,note\n1,2,5" wide\n3,4,6" wide\n', [[1, 2], [3, 4]]),
    "a name over two lines": ('a,y,"no\nte"\n1,2,x\n', [[1, 2]]),
    "a name that is not used twice": ("a,n,n,y\n1,q,r,2\n3,s,t,4\n", [[1, 2], [3, 4]]),
    "columns without a name": ("a,,,y\n1,p,7,2\n3,q,7,4\n", [[1, 2], [3, 4]]),
}


@pytest.mark.parametrize("case", READ)
def test_columns_are_read_beside_whatever_others_hold(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, rows = READ[case]
    (tmp_path / "table.csv").write_text(text, newline="")
    for at_once in (NamedColumns.rows_at_once, 1):
        monkeypatch.setattr(NamedColumns, "rows_at_once", at_once)
        x, y = Table(str(tmp_path / "table.csv"), ["a"], ["y"]).sample()
        assert np.hstack([x, y]).tolist() == rows


@pytest.mark.parametrize("word", [word.upper() for word in MISSING_WORDS if word])
def test_a_missing_value_in_the_first_row_is_no_name(word: str) -> None:
    assert names_of([["1.5", word], ["2", "3"]], "table", None, is_bare=False) is None
    assert names_of([["x", "y"], ["1.5", word]], "table", None, is_bare=False) == ["x", "y"]


@pytest.mark.parametrize("header", ["a,y,", "a,,y", "a,,y,,", ",a,y"])
def test_columns_without_a_name_and_values_are_none(tmp_path: Path, header: str) -> None:
    rows = [[1.0, 2.0], [3.0, 4.0]]
    lines = [",".join(str(row.pop(0)) if name else "" for name in header.split(",")) for row in map(list, rows)]
    (tmp_path / "table.csv").write_text("\n".join([header, *lines]))
    table = Table(str(tmp_path / "table.csv"))
    assert np.hstack(table.sample()).tolist() == rows
    assert (table.feature_names, table.target_names) == (["a"], ["y"])


def test_a_name_that_stands_twice_in_parquet_is_refused_where_it_is_used(tmp_path: Path) -> None:
    path = str(tmp_path / "table.parquet")
    parquet.write_table(pa.table([X[:, 0], X[:, 1], X[:, 2], ["p", "q", "r", "s"]], ["a", "n", "y", "n"]), path)
    with pytest.raises(InputError, match=r"column 'n' .*several columns have that name"):
        Table(path).sample()
    x, y = Table(path, ["a"], ["y"]).sample()
    assert np.array_equal(np.hstack([x, y]), X[:, [0, 2]])


def _change_headers(path: Path, offset: int, value: int) -> None:
    """Set a byte in the headers of all members of a zip file, which stands 2 bytes later in its directory."""
    data = bytearray(path.read_bytes())
    for mark, shift in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset + shift] |= value
            at = data.find(mark, at + 1)
    path.write_bytes(bytes(data))


def test_archives_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", x=X[:, :2], y=X[:, 2])
    for name, (offset, value) in {"encrypted.npz": (6, 1), "compressed.npz": (8, 77)}.items():
        (tmp_path / name).write_bytes((tmp_path / "good.npz").read_bytes())
        _change_headers(tmp_path / name, offset, value)
        with pytest.raises(InputError, match=rf"cannot read the table .*{name} as \.npz"):
            _read(tmp_path / name)
    for member in ("read.me", "z.npy", "directory/", "y.npy/"):
        np.savez(tmp_path / "other.npz", x=X[:, :2], y=X[:, 2])
        with zipfile.ZipFile(tmp_path / "other.npz", "a") as archive:
            archive.writestr(member, "" if member.endswith("/") else "text")
        with pytest.raises(InputError, match="is not an array; leave it out"):
            _read(tmp_path / "other.npz")


def test_an_ending_of_the_other_kind_is_told_and_a_file_that_is_renamed_is_read(tmp_path: Path) -> None:
    for ending, other in ((".npy", ".npz"), (".npz", ".npy")):
        path = _write(tmp_path / f"table{ending}").rename(tmp_path / f"wrong{other}")
        with pytest.raises(InputError, match=f"rename it to end with {ending}"):
            _read(path)
        assert np.array_equal(_read(path.rename(tmp_path / f"right{ending}")), X)


@pytest.mark.parametrize("ending", [".csv", ".npy", ".npz", ".parquet"])
def test_a_path_with_a_nul_byte_is_no_file(ending: str) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        open_table(f"a\0b{ending}")


@pytest.mark.parametrize("case", BAD)
def test_a_bad_csv_is_refused_with_the_place(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Table(str(path)).sample()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["z"], "targets": ["c"]}, "cannot find column 'z'"),
        ({"targets": ["z"]}, "cannot find column 'z'"),
        ({"features": ["a"], "targets": ["a"]}, "'a' .*twice"),
        ({"features": []}, "without features"),
        ({"targets": ["a", "b", "c"]}, "no column is left"),
    ],
)
def test_bad_choices_of_columns_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = _write(tmp_path / "table.csv")
    with pytest.raises(InputError, match=message):
        Table(str(path), **options).sample()


def test_a_column_is_not_trained_on_itself(tmp_path: Path) -> None:
    table = Table(str(_write(tmp_path / "table.csv")), features=["c"])
    assert table.target_names == ["b"]  # the last one that is no feature


def test_bad_files_are_refused(tmp_path: Path) -> None:
    for name in ("no.csv", "table.xls"):
        with pytest.raises(InputError, match="cannot read the table"):
            _read(tmp_path / name)
    for name in ("broken.npz", "broken.npy"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(InputError, match="cannot read the table"):
            _read(tmp_path / name)
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    with pytest.raises(InputError, match="'a' is not a number"):
        _read(tmp_path / "text.npy")
    np.savez(tmp_path / "uneven.npz", a=np.zeros(3), b=np.zeros(4))
    with pytest.raises(InputError, match="different lengths"):
        _read(tmp_path / "uneven.npz")


def test_a_pickled_array_is_not_unpickled(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "objects.npz", x=np.zeros(1), y=objects)
    np.savez(tmp_path / "fields.npz", x=np.zeros(1), y=np.zeros(1, dtype=[("a", "f8"), ("b", "O")]))
    for name in ("objects.npy", "objects.npz", "fields.npz"):
        with pytest.raises(InputError, match=r"cannot read .* because it contains Python objects; save an array"):
            _read(tmp_path / name)


def test_excel_without_openpyxl_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(InputError, match=r"gd-lightning\[xlsx\]"):
        _read(tmp_path / "table.xlsx")


def test_a_header_that_was_damaged_is_refused_in_one_line(tmp_path: Path) -> None:
    """NumPy takes it for Python, and stumbles in as many ways."""
    path = tmp_path / "table.npy"
    np.save(path, np.arange(12.0).reshape(4, 3))
    sound, refused = path.read_bytes(), set[str]()
    length, draw = 10 + int.from_bytes(sound[8:10], "little"), random.Random(0)
    for _ in range(300):
        header = bytearray(sound[:length])
        for _ in range(draw.randrange(1, 4)):
            header[draw.randrange(10, length)] = draw.choice(b"'\"()[]{},: \n\\09aTF\xff")
        path.write_bytes(bytes(header) + sound[length:])
        try:
            Table(str(path), targets=["2"]).sample()
        except InputError as error:
            refused.add(str(error))
    assert len(refused) > 10
    assert all(len(message.splitlines()) == 1 for message in refused)
