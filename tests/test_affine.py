from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from gd_lightning.affine import Affine
from gd_lightning.linear_least_squares import least_squares


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "d", "k"), [(50, 1, 1), (50, 4, 2), (5, 5, 1)])
def test_least_squares_equals_scikit_learn(n: int, d: int, k: int, bias: bool) -> None:
    x, y = torch.randn(n, d, dtype=torch.float64) + 3, torch.randn(n, k, dtype=torch.float64)
    fitted, loss = least_squares(x, y, bias)
    reference = LinearRegression(fit_intercept=bias).fit(x.numpy(), y.numpy())
    assert fitted.weight.numpy() == pytest.approx(reference.coef_, abs=1e-10)
    if bias:
        assert fitted.bias is not None
        assert fitted.bias.numpy() == pytest.approx(reference.intercept_, abs=1e-10)
    residual = y.numpy() - reference.predict(x.numpy())
    assert loss == pytest.approx((residual**2).mean(), rel=1e-9, abs=1e-20)


def test_least_squares_does_not_depend_on_the_blocks() -> None:
    x, y = torch.randn(101, 3), torch.randn(101, 2)
    whole = least_squares(x, y)
    blocks = least_squares(x, y, rows_at_once=7)
    assert torch.allclose(whole[0].flat(), blocks[0].flat(), rtol=1e-12, atol=1e-13)
    assert whole[1] == pytest.approx(blocks[1], rel=1e-12)


def test_least_squares_of_collinear_features_has_the_smallest_norm() -> None:
    x = torch.randn(20, 1, dtype=torch.float64).repeat(1, 2)
    fitted, _ = least_squares(x, 3 * x[:, :1])
    assert fitted.weight.flatten().tolist() == pytest.approx([1.5, 1.5])


def test_least_squares_of_nist_norris() -> None:
    """NIST's certified linear regression, eleven digits; data of the StRD, lower difficulty."""
    table = """
        0.1 0.2 338.8 337.4 118.1 118.2 888.0 884.6 9.2 10.1 228.1 226.5 668.5 666.3 998.5 996.3 449.1 448.6
        778.9 777.0 559.2 558.2 0.3 0.4 0.1 0.6 778.1 775.5 668.8 666.9 339.3 338.0 448.9 447.5 10.8 11.6
        557.7 556.0 228.3 228.1 998.0 995.8 888.8 887.6 119.6 120.2 0.3 0.3 0.6 0.3 557.6 556.8 339.3 339.1
        888.0 887.2 998.5 999.0 778.9 779.0 10.2 11.1 117.6 118.3 228.9 229.2 668.4 669.1 449.2 448.9 0.2 0.5
    """
    y, x = torch.tensor([float(v) for v in table.split()], dtype=torch.float64).view(-1, 2).T[..., None]
    fitted, _ = least_squares(x, y)
    assert fitted.named() == pytest.approx({"w": 1.00211681802045, "b": -0.262323073774029}, rel=1e-11)


def test_change_of_units_goes_both_ways() -> None:
    function = Affine(torch.randn(2, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64))
    mean, scale = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.5
    x = torch.randn(11, 3, dtype=torch.float64)
    assert torch.allclose(function.in_original_units(mean, scale)(x), function((x - mean) / scale))
    assert torch.allclose(
        function.in_standardized_units(mean, scale).in_original_units(mean, scale).flat(), function.flat()
    )


def test_names_follow_features_and_targets() -> None:
    function = Affine(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0, 6.0]))
    named = function.named(["hours", "sleep"], ["score", "mood"])
    assert named == {
        "w_score_hours": 1,
        "w_score_sleep": 2,
        "w_mood_hours": 3,
        "w_mood_sleep": 4,
        "b_score": 5,
        "b_mood": 6,
    }
    assert np.allclose(function.flat().numpy(), list(named.values()))
