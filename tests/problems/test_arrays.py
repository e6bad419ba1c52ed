"""Arrays, tensors and data frames are the samples that they hold."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import TensorDataset

from gd_lightning import Arrays, InputError, SteepLine, Table, as_problem
from gd_lightning.problems import inputs_of
from tests.problems.frames import ArrowLike, PandasLike

X = np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 7.0]])
Y = np.array([[0.0], [1.0], [1.0]])
COLUMNS = {"a": X[:, 0], "b": X[:, 1], "y": Y[:, 0]}
WHOLE = X.astype(np.int64)
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False
NO_PANDAS = "a library of other people's, whose frames come as those of tests/problems/frames.py do"


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, Y),
        (X, Y[:, 0]),
        (X.tolist(), Y[:, 0].tolist()),
        (X.astype(np.float32), Y.astype(np.float16)),
        (WHOLE, Y.astype(bool)),
        (WHOLE.astype(np.uint8), Y.astype(np.int8)),
        (X.astype(">f8"), Y.astype(">i4")),
        (X[::-1][::-1], Y[::-1, 0][::-1]),
        (np.asfortranarray(X), Y),
        (READ_ONLY, Y),
        (X.astype(object), [Decimal(0), np.float32(1), True]),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y[:, 0]).bool()),
        (torch.from_numpy(WHOLE), torch.from_numpy(Y).bfloat16()),
        (np.ma.masked_array(X, False), Y),
        ({"a": X[:, 0], "b": X[:, 1]}, {"y": Y[:, 0]}),
        (pa.table({"a": X[:, 0], "b": X[:, 1]}), pa.array(Y[:, 0])),
        (PandasLike({"a": X[:, 0], "b": X[:, 1]}, ["a", 1]), Y),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("error")
def test_numbers_of_every_kind_are_the_samples(x: Any, y: Any) -> None:
    of_x, of_y = Arrays(x, y).sample()
    assert of_x.dtype in (torch.float32, torch.float64)
    assert np.array_equal(of_x, X)
    assert np.array_equal(of_y, Y)
    assert of_y.shape == (3, 1)


def test_whole_numbers_have_all_their_digits() -> None:
    exact = [2**53, -(2**53), 2**60, 123456789]
    assert Arrays(exact, exact).sample()[0][:, 0].tolist() == exact
    for number in (2**53 + 1, -(2**60) - 1, 2**63 + 1, 10**25 + 1):
        with pytest.raises(InputError, match=f"{number} in row 2 has more digits"):
            Arrays([1, number], [1, 2])


def test_one_feature_may_be_a_vector() -> None:
    x, y = Arrays(X[:, 0], torch.arange(3)).sample()
    assert (x.shape, y.shape) == ((3, 1), (3, 1))


@pytest.mark.parametrize("kind", ["mapping", "PandasLike", "Arrow", "stream", "pandas", "nullable", "polars"])
def test_columns_of_a_frame_are_chosen_by_name_or_number(kind: str) -> None:
    frame = _frame(kind, COLUMNS)
    for chosen, features, targets in [
        ({}, ["a", "b"], ["y"]),
        ({"targets": "y"}, ["a", "b"], ["y"]),
        ({"targets": ["a"]}, ["b", "y"], ["a"]),
        ({"targets": np.int64(0)}, ["b", "y"], ["a"]),
        ({"targets": -1, "features": ["b"]}, ["b"], ["y"]),
        ({"features": ["y", 0]}, ["y", "a"], ["b"]),
    ]:
        problem = as_problem(frame, **chosen)  # type: ignore[arg-type]
        assert (problem.feature_names, problem.target_names) == (features, targets)
        x, y = problem.sample()
        assert np.array_equal(x, np.stack([COLUMNS[name] for name in features], axis=1))
        assert np.array_equal(y, np.stack([COLUMNS[name] for name in targets], axis=1))


def _frame(kind: str, columns: Any) -> Any:
    if kind in ("mapping", "PandasLike"):
        return columns if kind == "mapping" else PandasLike(columns)
    if kind in ("Arrow", "stream"):
        return pa.table(columns) if kind == "Arrow" else ArrowLike(pa.table(columns))
    if kind == "polars":
        return pytest.importorskip("polars", reason=NO_PANDAS).DataFrame(columns)
    frame = pytest.importorskip("pandas", reason=NO_PANDAS).DataFrame(columns, index=[7, 3, 5])
    return frame.convert_dtypes() if kind == "nullable" else frame


@pytest.mark.parametrize("kind", ["mapping", "PandasLike", "Arrow", "stream", "pandas", "nullable", "polars"])
def test_missing_values_are_counted_and_found(kind: str) -> None:
    frame = _frame(kind, {"a": [1, None, None], "b": [True, False, True], "y": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match="column 'a' of the frame, because it has 2 missing values, the first"):
        as_problem(frame, targets="y").sample()
    x, _ = as_problem(frame, features=["b"], targets="y").sample()
    assert x.tolist() == [[1.0], [0.0], [1.0]]
    x, y = as_problem(frame, targets="y", missing="drop").sample()
    assert (x.tolist(), y.tolist()) == ([[1.0, 1.0]], [[1.0]])
    x, _ = as_problem(frame, targets="y", missing="mean").sample()
    assert x.tolist() == [[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("kind", ["mapping", "PandasLike", "Arrow", "stream", "pandas", "nullable", "polars"])
def test_texts_become_indicators_and_new_rows_do_as_well(kind: str) -> None:
    frame = _frame(kind, {"color": ["red", "blue", "red"], "y": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match=r"is text of 2 values, .*; use categories=\['color'\]"):
        as_problem(frame).sample()
    problem = as_problem(frame, categories=["color"])
    assert problem.feature_names == ["color=red"]
    assert problem.sample()[0].tolist() == [[1.0], [0.0], [1.0]]
    assert inputs_of({"color": ["blue"]}, problem.feature_names, problem.columns_state()).tolist() == [[0.0]]
    with pytest.raises(InputError, match="'green' in row 1 of the data is not one of its categories"):
        inputs_of({"color": ["green"]}, problem.feature_names, problem.columns_state())


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_of_libraries_come_as_they_are(kind: str) -> None:
    frame = _frame(kind, COLUMNS)
    pairs = [(frame[["a", "b"]], frame["y"]), (frame[["a", "b"]], frame[["y"]]), (frame["a"], frame["y"])]
    for pair, names in zip(pairs, [["a", "b"], ["a", "b"], ["a"]], strict=True):
        problem = as_problem(pair)
        assert (problem.feature_names, problem.target_names) == (names, ["y"])
    texts = _frame(kind, {**COLUMNS, "y": ["u", "v", "w"]})
    with pytest.raises(InputError, match="cannot use column 'y' of the frame, because it is text of 3 values"):
        as_problem(texts).sample()
    times = _frame(kind, {**COLUMNS, "y": np.array(["2020-01-01"] * 3, "datetime64[us]")})
    with pytest.raises(InputError, match=r"cannot use column 'y' of the frame, .*; use dates=\['y'\]"):
        as_problem(times).sample()
    assert as_problem(times, dates=["y"]).sample()[1].tolist() == [[18262.0]] * 3  # days since 1970
    if kind == "polars":
        with pytest.raises(InputError, match="its collect"):
            as_problem(frame.lazy())
    assert np.array_equal(as_problem(texts, features="a", targets="b").sample()[0][:, 0], X[:, 0])


def test_other_ways_to_give_data(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y,b\n1,2,3\n4,5,7\n")
    table = as_problem(tmp_path / "t.csv", targets="y")
    assert isinstance(table, Table)
    assert (table.feature_names, table.target_names) == (["a", "b"], ["y"])
    line = SteepLine()
    assert as_problem(line) is line
    pair = as_problem(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)))
    assert np.array_equal(pair.sample()[0], X)
    for other in (
        X,
        None,
        5,
        (X,),
        (X, Y, Y),
        TensorDataset(torch.ones(3, 1)),
        torch.ones(3, 2),
        iter([(X, Y)]),
        [X, Y],
    ):
        with pytest.raises(InputError, match="cannot train on an object of type"):
            as_problem(other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot choose targets of an object of type SteepLine"):
        as_problem(line, targets="y")


def test_columns_follow_the_names_of_a_run() -> None:
    problem = Arrays(X, Y, ["a", "b"], ["y"]).by_names(["b", "a"], ["y"])
    assert np.array_equal(problem.sample()[0], X[:, ::-1])
    assert problem.feature_names == ["b", "a"]
    assert np.array_equal(Arrays(X, Y).by_names(["b", "a"], ["y"]).sample()[0], X)
    with pytest.raises(InputError, match="cannot find column 'c', because there are only a, b"):
        Arrays(X, Y, ["a", "b"]).by_names(["c", "a"], ["y"])
    named = Arrays({"y": X[:, 0], "x": X[:, 1]}, Y)
    assert (named.feature_names, named.target_names) == (["y", "x"], ["y_"])  # each has a name of its own


def test_inputs_are_found_by_name(tmp_path: Path) -> None:
    new = {"b": [5.0], "more": ["text"], "a": [4]}
    assert inputs_of(new, ["a", "b"]).tolist() == [[4.0, 5.0]]
    assert inputs_of([[4, 5]], ["a", "b"]).tolist() == [[4.0, 5.0]]
    (tmp_path / "new.csv").write_text("b,more,a\n5,text,4\n")
    assert inputs_of(tmp_path / "new.csv", ["a", "b"]).tolist() == [[4.0, 5.0]]
    assert Arrays(X, Y, ["a", "b"]).read_inputs(tmp_path / "new.csv").tolist() == [[4.0, 5.0]]


def test_data_are_shared_by_copies_and_survive_a_pickle() -> None:
    problem = Arrays(X, Y, ["a", "b"])
    assert copy.deepcopy(problem).sample()[0].data_ptr() == problem.sample()[0].data_ptr()
    again = pickle.loads(pickle.dumps(problem))
    assert np.array_equal(again.sample()[0], X)
    assert again.feature_names == ["a", "b"]
