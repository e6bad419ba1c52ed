from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning.identifiability import undetermined
from gd_lightning.linear_least_squares import least_squares
from gd_lightning.theory import LinearLoss

Design = NDArray[np.float64]
RANDOM = np.random.default_rng(0)
X1, X2, X4 = (RANDOM.normal(5, 2, 40), RANDOM.normal(-1, 0.5, 40), RANDOM.normal(0, 300, 40))
ZERO, FIVE = np.zeros(40), np.full(40, 5.0)
DESIGNS: dict[str, list[Design]] = {
    "nothing": [X1, X2, X4],
    "one feature": [X1],
    "a constant": [X1, FIVE, X2],
    "a constant that is no binary number": [X1, np.full(40, 0.1), X2],
    "zeros": [X1, ZERO],
    "two constants": [FIVE, 2 * FIVE, X1],
    "duplicates": [X1, X2, X1],
    "x and 2x": [X1, 2 * X1, X4],
    "x and x + 3": [X1, X1 + 3, X2],
    "x and -x": [X1, -X1],
    "a sum": [X1, X2, X1 + X2, X4],
    "a mean of means": [X1, X2, (X1 + X2) / 2, (X1 - X2) / 3],
    "columns of a category": [(X1 > 5).astype(np.float64), (X1 <= 5).astype(np.float64), X2],
    "units far apart": [1e9 * X1, 1e-9 * X2, X4],
    "units far apart, and a sum": [1e9 * X1, 1e-9 * X2, X1 + X2],
    "a large mean": [1e4 + X1, X2],
    "nearly alike": [X1, X1 + 0.01 * X2],
    "more features than samples": [X1[:3], X2[:3], X4[:3], X1[3:6]],
    "as many features as samples": [X1[:3], X2[:3], X4[:3]],
    "one sample": [X1[:1]],
    "one constant": [FIVE],
}


def _open_by_projection(x: Design, bias: bool, tolerance: float) -> list[bool]:
    """Return the same by NumPy: a parameter is open where its column is a combination of the others.

    The combination is a shift of all parameters that leaves every prediction, and with it the loss.
    """
    design = np.column_stack([x, np.ones(len(x))]) if bias else x
    length = np.linalg.norm(design, axis=0)
    design = design / np.where(length > 0, length, 1)
    is_open = []
    for column in range(design.shape[1]):
        shift = np.zeros(design.shape[1])
        others = np.arange(design.shape[1]) != column
        shift[others] = -np.linalg.lstsq(design[:, others], design[:, column], rcond=tolerance)[0]
        shift[column] = 1
        is_open.append(bool(np.linalg.norm(design @ shift) < 10 * tolerance))
    return is_open if bias else [*is_open, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", DESIGNS)
def test_open_are_the_parameters_that_others_can_make_up_for(name: str, bias: bool, dtype: torch.dtype) -> None:
    x = torch.tensor(np.column_stack(DESIGNS[name]), dtype=dtype)
    expected = _open_by_projection(x.double().numpy(), bias, 1e-6 if dtype is torch.float32 else 1e-12)
    assert undetermined([x], bias).tolist() == expected
    assert undetermined(x.split(7), bias).tolist() == expected


def test_what_is_open_is_counted_right_for_known_cases() -> None:
    cases: list[tuple[str, bool, list[bool]]] = [
        ("nothing", True, [False, False, False, False]),
        ("a constant", True, [False, True, False, True]),
        ("a constant", False, [False, False, False, False]),
        ("zeros", True, [False, True, False]),
        ("duplicates", True, [True, False, True, False]),
        ("x and x + 3", True, [True, True, False, True]),
        ("x and x + 3", False, [False, False, False, False]),
        ("a sum", True, [True, True, True, False, False]),
        ("columns of a category", True, [True, True, False, True]),
        ("units far apart", True, [False, False, False, False]),
        ("a large mean", True, [False, False, False]),
        ("nearly alike", True, [False, False, False]),
    ]
    for name, bias, expected in cases:
        found = undetermined([torch.tensor(np.column_stack(DESIGNS[name]), dtype=torch.float64)], bias)
        assert found.tolist()[: len(expected)] == expected, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"units far apart", "units far apart, and a sum"}))
def test_collinear_features_have_the_smallest_solution_and_the_spectrum_of_what_is_meant(
    name: str, bias: bool, dtype: torch.dtype
) -> None:
    exact = np.column_stack(DESIGNS[name])
    y = np.random.default_rng(1).normal(size=(len(exact), 1))
    x, tolerance = torch.tensor(exact, dtype=dtype), 1e-3 if dtype is torch.float32 else 1e-9
    # NumPy, on the design that is not rounded: the pseudo-inverse, and the eigenvalues of its product with itself.
    center = exact.mean(axis=0) if bias else np.zeros(exact.shape[1])
    weight = np.linalg.pinv(exact - center, rcond=1e-12) @ (y - y.mean() * bias)
    fitted, _ = least_squares(x, torch.tensor(y), bias)
    assert np.allclose(fitted.weight.numpy()[0], weight[:, 0], rtol=tolerance, atol=tolerance * np.abs(weight).max())
    design = np.column_stack([exact, np.ones(len(exact))]) if bias else exact
    values = np.linalg.svd(design, compute_uv=False)
    expected = 2 / len(exact) * values[values > 1e-12 * values[0]][::-1] ** 2
    assert LinearLoss.of(x, torch.tensor(y), bias).eigenvalues.numpy() == pytest.approx(expected, rel=tolerance)
