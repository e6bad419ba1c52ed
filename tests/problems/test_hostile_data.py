"""Data of other kinds than plain arrays, wherever Python takes some: the same numbers, or refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch._subclasses.fake_tensor import FakeTensorMode

from gd_lightning import Arrays, Frame, InputError
from gd_lightning.data.samples import draw_pair
from gd_lightning.problems import inputs_of
from gd_lightning.sklearn import GradientDescentRegressor

VALUES = np.array([0.5, -1.25, 3.0, 2.0])
Kind = Callable[[], Any]


class Convertible:
    """Knows how to become an array."""

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        return VALUES


class Inconvertible:
    """Fails to become an array, in the manner of another library."""

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        raise RuntimeError("one line\nand another")


def _fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.ones(4)


# Each is the four values, of another kind.
SAME: dict[str, Kind] = {
    "another byte order": lambda: VALUES.astype(">f8"),
    "long numbers": lambda: VALUES.astype(np.longdouble),
    "half precision": lambda: VALUES.astype(np.float16),
    "backwards": lambda: VALUES[::-1].copy()[::-1],
    "every second one": lambda: np.repeat(VALUES, 2)[::2],
    "fractions": lambda: [Fraction(value) for value in VALUES],
    "fractions in an array": lambda: np.array([Fraction(value) for value in VALUES]),
    "a list of tensors": lambda: [torch.tensor(value, requires_grad=True) for value in VALUES],
    "a tensor with a gradient": lambda: torch.tensor(VALUES, requires_grad=True),
    "a tensor with the sign of its view": lambda: torch._neg_view(torch.tensor(-VALUES)),
    "bfloat16": lambda: torch.tensor(VALUES).bfloat16(),
    "nothing masked": lambda: np.ma.masked_array(VALUES, False),
    "an object that becomes an array": Convertible,
}
REFUSED: dict[str, Kind] = {
    "complex": lambda: VALUES + 0j,
    "a complex tensor": lambda: torch.tensor(VALUES) + 0j,
    "a sparse tensor": lambda: torch.tensor(VALUES).to_sparse(),
    "a quantised tensor": lambda: torch.quantize_per_tensor(torch.tensor(VALUES).float(), 0.1, 0, torch.qint8),
    "a tensor without values": lambda: torch.ones(4, device="meta"),
    "a fake tensor": _fake,
    "nested tensors": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    "a sparse matrix": lambda: sparse.csr_matrix(VALUES[:, None]),
    "a sparse mapping": lambda: sparse.dok_matrix(VALUES[:, None]),
    "masked rows in a list": lambda: [*np.ma.masked_array(VALUES[:, None], [[False], [True], [False], [False]])],
    "rows of different lengths": lambda: [[1.0], [1.0, 2.0], [3.0], [4.0]],
    "an object that does not become an array": Inconvertible,
    "a number": lambda: 3.0,
    "nothing": lambda: None,
}


def _sample(place: str, given: Any) -> Any:
    """Return what becomes of values that are given in a place, as an array of shape (4,)."""
    if place == "x":
        return Arrays(given, VALUES).sample()[0][:, 0]
    if place == "y":
        return Arrays(VALUES, given).sample()[1][:, 0]
    if place == "new":
        return inputs_of(given, None)[:, 0]
    return Frame({"a": given, "b": VALUES}).sample()[0][:, 0]


@pytest.mark.filterwarnings("error", "ignore:.*nested tensors is in prototype:UserWarning", "ignore:.*quant")
@pytest.mark.parametrize("place", ["x", "y", "new", "column"])
def test_the_same_numbers_or_one_line(place: str) -> None:
    for name, kind in SAME.items():
        assert _sample(place, kind()).tolist() == VALUES.tolist(), name
    for kind in REFUSED.values():
        with pytest.raises(InputError, match=r"^cannot [^\n]*; [^\n]*$"):
            _sample(place, kind())


@pytest.mark.parametrize("place", ["X", "y", "sample_weight"])
def test_the_estimator_takes_the_same_numbers(place: str) -> None:
    """A mask is refused, of which scikit-learn takes the values below it, and so is the imaginary part of a weight."""
    x, y = VALUES[:, None], VALUES

    def fitted(given: Any) -> list[float]:
        arguments = {"X": x, "y": y, "sample_weight": VALUES**2, place: given}
        return GradientDescentRegressor(epochs=2, batch_size=2).fit(**arguments).loss_curve_

    shape = (4, 1) if place == "X" else (4,)
    plain = VALUES**2
    same = (torch.tensor(plain, requires_grad=True), torch._neg_view(torch.tensor(-plain)), plain.astype(">f8"))
    assert all(fitted(given.reshape(shape)) == fitted(plain.reshape(shape)) for given in same)
    mask = np.arange(4).reshape(shape) == 1
    for given in (np.ma.masked_array(plain.reshape(shape), mask), torch.tensor(plain.reshape(shape)) + 0j):
        with pytest.raises(InputError, match=f"^cannot use {place}, because "):
            fitted(given)
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        fitted(plain.reshape(shape) + 1j)


@pytest.mark.parametrize("shape", [(0, 2), (4, 0), (0,)])
def test_what_is_empty_is_said_to_be(shape: tuple[int, ...]) -> None:
    for take in (lambda: inputs_of(np.empty(shape), None), lambda: Arrays(np.empty(shape), VALUES)):
        with pytest.raises(InputError, match=r"because it has no (rows|columns); give at least one"):
            take()
    with pytest.raises(InputError, match="no columns; give at least one"):
        draw_pair(Frame({"a": ["same"] * 4, "b": VALUES}, categories="auto"))


def test_what_only_looks_like_a_frame() -> None:
    class Columns:
        columns = ("a", "b")

    with pytest.raises(InputError, match="a Columns cannot be converted to an Arrow table; give a mapping of columns"):
        Frame(Columns())
