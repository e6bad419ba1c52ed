"""What a message on arrays and data frames advises works when it is followed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.lr_scheduler import LambdaLR, StepLR

from gd_lightning import Arrays, Frame, InputError, Problem, RegressionDataModule, RegressionModule, as_problem, fit
from gd_lightning.data.samples import draw_pair
from gd_lightning.problems import inputs_of
from gd_lightning.problems.arrays import numbers_of
from tests.advice.messages import messages, pattern
from tests.conftest import MakeTrainer

X, Y = np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0, 3.0])
FRAME: dict[str, Any] = {"a": [1, 2, 3], "b": [0.5, 0.25, 1.0], "y": [1, 2, 4]}
WITH_NAMES = Arrays(X, Y, ["a", "b"])


class LazyFrame:
    """A table of polars that is not computed yet; it is known by its name."""

    columns = tuple(FRAME)

    def collect(self) -> dict[str, Any]:
        return FRAME


class Sparse:
    def tocsr(self) -> Sparse:
        return self

    def toarray(self) -> Any:
        return X


class NoFrame:
    columns = ("a", "b")


def _fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.ones(2, 1)


def _csv(tmp_path: Path) -> Path:
    (tmp_path / "new.csv").write_text("b,a\n1,2\n")
    return tmp_path / "new.csv"


Do = Callable[[Path], object]


def _given(given: Any, **names: Any) -> Do:
    return lambda _: as_problem(given, **names).sample()


def _pair(x: Any = X, y: Any = Y, **names: Any) -> Do:
    return lambda _: Arrays(x, y, **names).sample()


# Of each message, a part, what brings it about, and what does as it says.
ADVICE: dict[str, tuple[Do, Do]] = {
    "of {} rows with y of {}; give both a row for each sample": (_pair(y=[1.0]), _pair()),
    "the features of these arrays have no names; use predict(x)": (
        lambda path: Arrays(X, Y).read_inputs(_csv(path)),
        lambda path: WITH_NAMES.read_inputs(_csv(path)),
    ),
    "its columns have no names; give a DataFrame": (_given((X, Y), targets="y"), _given(FRAME, targets="y")),
    "cannot train on {}; give (x, y)": (_given(X), _given((X, Y))),
    "the frame, because it has no columns; give at least one": (_pair(x={}), _pair(x={"a": Y})),
    "cannot use {}, because it has no {}; give at least one": (_pair(x=X[:0]), _pair()),
    "cannot use {} of {}, because it has no {}; give at least one": (
        lambda _: draw_pair(Frame({"a": ["b", "b"], "y": [1, 2]}, categories="auto")),
        lambda _: draw_pair(Frame({"a": ["b", "c"], "y": [1, 2]}, categories="auto")),
    ),
    "cannot be converted to an Arrow table; give a mapping": (_given(NoFrame()), _given(FRAME)),
    "because it is a {}; give a dense tensor": (
        lambda _: numbers_of(_fake(), "x"),
        lambda _: numbers_of(torch.ones(2, 1), "x"),
    ),
    "parameters are on the device meta, without values; give a network": (
        lambda _: fit((X, Y), epochs=1, network=nn.Linear(X.shape[1], 1, device="meta")),
        lambda _: fit((X, Y), epochs=1, network=nn.Linear(X.shape[1], 1)),
    ),
    "because checkpoints hold plain values; use another class": (
        lambda _: fit((X, Y), epochs=1, lr_scheduler=partial(LambdaLR, lr_lambda=lambda epoch: 1.0)),
        lambda _: fit((X, Y), epochs=1, lr_scheduler=partial(StepLR, step_size=1)),
    ),
    "a column for each {}; reshape it": (_pair(x=X.reshape(3, 2, 1)), _pair()),
    "a value that is not finite, first": (_pair(x=[[1, np.nan], [2, 3]], y=[1, 2]), _pair(x=[[2, 3]], y=[2])),
    "because the features have no names; give an array": (
        lambda path: inputs_of(_csv(path), None),
        lambda _: inputs_of(X, None),
    ),
    "because there are only {}; correct the name": (
        lambda _: WITH_NAMES.by_names(["a", "z"], ["y"]),
        lambda _: WITH_NAMES.by_names(["b", "a"], ["y"]),
    ),
    "its columns have {} rows; give each a value for each row": (_given({**FRAME, "b": [1]}), _given(FRAME)),
    "a tensor of {}; give a dense tensor": (_pair(x=torch.eye(3).to_sparse()), _pair(x=torch.eye(3))),
    "values of it are masked; drop these rows": (
        _pair(x=np.ma.masked_array(X, X == 3)),
        _pair(x=X[[0, 2]], y=Y[[0, 2]]),
    ),
    "it is a sparse {}; give its toarray()": (_pair(x=Sparse()), _pair(x=Sparse().toarray())),
    "or are not numbers; give an array of shape": (_pair(x=[[1, 2], [3], [4, 5]]), _pair()),
    "as {}; give an array with a row for each sample": (_pair(x=3), _pair(x=[1, 2, 3])),
    "for {} columns; give one for each": (_pair(feature_names=["a"]), _pair(feature_names=["a", "b"])),
    "cannot use the name {} twice; give each": (
        _pair(feature_names=["a", "b"], target_names=["a"]),
        _pair(feature_names=["a", "b"], target_names=["y"]),
    ),
    "a LazyFrame, because its rows are not computed yet; use": (_given(LazyFrame()), _given(LazyFrame().collect())),
    "because it is of shape {}; give one value for each row": (
        _given({"a": X, "y": Y}),
        _given({"a": X[:, 0], "y": Y}),
    ),
    "{} in row {} has more digits than a float64 number; leave out": (
        _pair(x=np.array([[2**60 + 1, 1], [2, 3]]), y=[1, 2]),
        _pair(x=np.array([[1], [3]]), y=[1, 2]),
    ),
}


@pytest.mark.parametrize("part", ADVICE)
def test_the_advice_works(part: str, tmp_path: Path) -> None:
    (message,) = [text for text in messages() if part in text] or [part]
    wrong, right = ADVICE[part]
    with pytest.raises(InputError) as raised:
        wrong(tmp_path)
    assert pattern(message).search(str(raised.value)), raised.value
    assert "\n" not in str(raised.value)
    right(tmp_path)


def test_the_data_of_a_checkpoint_are_given_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(max_epochs=1)
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule((X, Y)))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="checkpoints do not contain the arrays of a run; give problem="):
        RegressionDataModule.load_from_checkpoint(tmp_path / "a.ckpt")
    problem: Problem = Arrays(X, Y)
    data = RegressionDataModule.load_from_checkpoint(tmp_path / "a.ckpt", problem=problem)
    assert np.array_equal(data.train.x.numpy(), X.astype(np.float32))
