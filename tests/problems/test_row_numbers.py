"""Columns that number the rows: left out with a line that says so, or refused, and used where they are named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from gd_lightning import InputError, Table
from gd_lightning.errors import DataWarning
from gd_lightning.linear_least_squares import least_squares
from tests.conftest import CommandLine

N = 12
X = np.random.default_rng(0).normal(size=N)
Y = 1 + 3.93 * X + 0.3 * np.arange(N) + 0.1 * np.random.default_rng(1).normal(size=N)
SHUFFLED = np.random.default_rng(2).permutation(100)[:N]
NUMBERS: dict[str, tuple[str, list[object]]] = {  # what a column is called, and what stands in it
    "pandas": ("", list(range(N))),
    "R": ('""', [f'"{i + 1}"' for i in range(N)]),
    "R, with names": ('""', [f'"Mazda RX{i}"' for i in range(N)]),
    "pandas, filtered": ("", list(range(3, 3 * N + 3, 3))),
    "pandas, shuffled": ("", SHUFFLED.tolist()),
    "pandas, with dates": ("", [f"2024-01-{i + 1:02}" for i in range(N)]),
    "pandas, read and written again": ("Unnamed: 0", list(range(N))),
    "reset_index": ("index", list(range(N))),
    "Kaggle": ("Id", list(range(1, N + 1))),
    "Rdatasets": ("rownames", list(range(1, N + 1))),
}
FEATURES: dict[str, tuple[str, list[object]]] = {  # what looks like it, and is a feature
    "an index of refraction": ("index", X.round(3).tolist()),
    "an id with gaps": ("id", SHUFFLED.tolist()),
    "a count from 2": ("index", list(range(2, N + 2))),
    "years": ("year", list(range(1990, 1990 + N))),
    "a line": ("t", list(range(N))),
}


def _write(path: Path, name: str, values: list[object]) -> Path:
    rows = zip(values, X.tolist(), Y.tolist(), strict=True)
    path.write_text("\n".join([f"{name},x,y", *(f"{i},{x!r},{y!r}" for i, x, y in rows)]) + "\n")
    return path


@pytest.mark.parametrize("kind", NUMBERS)
def test_row_numbers_take_nothing_of_the_slope(tmp_path: Path, kind: str) -> None:
    name, values = NUMBERS[kind]
    table = Table(str(_write(tmp_path / "table.csv", name, values)))
    shown = name.strip('"')
    with pytest.warns(DataWarning, match=rf"used without column {shown!r} .*; name it in features to use it") as caught:
        fitted, _ = least_squares(*table.sample())
    assert len(caught) == 1
    assert fitted.weight.item() == pytest.approx(np.polyfit(X, Y, 1)[0])
    assert (table.feature_names, table.target_names) == (["x"], ["y"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.sample()
        Table(str(tmp_path / "table.csv"), features=["x"], targets=["y"]).sample()
        named = Table(str(tmp_path / "table.csv"), features=[shown, "x"])
        if str(values[0]).strip('"').isdigit():
            assert named.sample()[0][:, 0].tolist() == [float(str(value).strip('"')) for value in values]
            assert named.target_names == ["y"]
        else:
            with pytest.raises(InputError, match="cannot use column ''"):
                named.sample()


@pytest.mark.parametrize("kind", FEATURES)
def test_what_only_looks_like_row_numbers_is_a_feature(tmp_path: Path, kind: str) -> None:
    name, values = FEATURES[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, _ = Table(str(_write(tmp_path / "table.csv", name, values))).sample()
    assert x[:, 0].tolist() == pytest.approx(values)


def test_columns_without_a_name_that_are_no_row_numbers_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "table.csv", "", X.tolist())
    with pytest.raises(InputError, match=r"column 1 of .* has no name, and does not number the rows; name it"):
        Table(str(path)).sample()
    path = _write(tmp_path / "table.csv", "", [1, *range(1, N)])
    with pytest.raises(InputError, match=r"column 1 of .* has no name"):
        Table(str(path)).sample()
    path.write_text("x,,y\n1,1,2\n2,2,4\n3,3,5\n")
    with pytest.raises(InputError, match=r"column 2 of .* has no name"):
        Table(str(path)).sample()
    assert Table(str(path), ["x"], ["y"]).sample()[0].tolist() == [[1], [2], [3]]  # as the message advises


def test_a_table_of_row_numbers_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("index,y\n0,1\n1,2\n2,4\n")
    with pytest.raises(InputError, match=r"no column is left .* besides column 'index' \(it counts the rows\); name"):
        Table(str(path)).sample()
    assert Table(str(path), features=["index"]).sample()[0].tolist() == [[0], [1], [2]]  # as it advises


def test_the_index_of_pandas_in_parquet_is_no_column(tmp_path: Path) -> None:
    pandas: dict[str, Any]
    path, dates = tmp_path / "table.parquet", np.datetime64("2024-01-01") + np.arange(N)
    for name, index in (("__index_level_0__", SHUFFLED), ("t", X), ("date", dates), ("car", list("abcdefghijkl"))):
        # What pandas 2 writes for a frame with such an index, which it puts last.
        pandas = {"index_columns": [name], "column_indexes": [], "columns": [], "pandas_version": "2.2.0"}
        table = pyarrow.table({"x": X, "y": Y, name: index})
        parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
        with pytest.warns(DataWarning, match=f"column '{name}' .it is the index of the rows"):
            x, y = Table(str(path)).sample()
        assert (x[:, 0].numpy() == X).all()
        assert (y[:, 0].numpy() == Y).all()
    pandas["index_columns"] = [{"kind": "range", "name": None, "start": 0, "stop": N, "step": 1}]
    table = pyarrow.table({"x": X, "y": Y}).replace_schema_metadata({"pandas": json.dumps(pandas)})
    parquet.write_table(table, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Table(str(path)).feature_names == ["x"]


def test_arrays_that_number_the_rows_are_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "table.npz", id=np.arange(N), x=X, y=Y)
    with pytest.warns(DataWarning, match="column 'id'"):
        assert Table(str(tmp_path / "table.npz")).sample()[0].shape == (N, 1)


def test_the_command_line_says_it_in_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    path = _write(tmp_path / "table.csv", *NUMBERS["pandas"])
    command_line.fit("--data.problem", "Table", "--data.problem.path", path, "--trainer.max_epochs", "2")
    said = [line for line in command_line.err.splitlines() if "is used without column" in line]
    assert said == [line for line in command_line.err.splitlines() if line.startswith("gd_lightning: warning: ")]
    assert len(said) == 1
    assert "UserWarning" not in command_line.err
