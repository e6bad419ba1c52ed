"""The loss as a quadratic: against autograd and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning import Affine, LinearProblem
from gd_lightning.theory import LinearLoss


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_the_mean_squared_error(bias: bool, outputs: int) -> None:
    x, y = LinearProblem(n_samples=30, n_features=4, n_targets=outputs).sample()
    loss = LinearLoss.of(x, y, bias=bias)
    weight = torch.randn(outputs, 4, dtype=torch.float64)
    affine = Affine(weight, torch.randn(outputs, dtype=torch.float64) if bias else None)

    direct = nn.functional.mse_loss(affine(x), y).item()
    assert loss.least_squares + loss.excess(loss.error(affine)).item() == pytest.approx(direct, rel=1e-12)

    def of_first_output(parameters: torch.Tensor) -> torch.Tensor:
        predictions = x @ weight.T
        first = x @ parameters[:4] + (parameters[4] if bias else 0)
        return nn.functional.mse_loss(torch.cat([first[:, None], predictions[:, 1:]], dim=1), y)

    hessian = torch.autograd.functional.hessian(of_first_output, torch.zeros(4 + bias, dtype=torch.float64))
    assert isinstance(hessian, torch.Tensor)
    torch.testing.assert_close(loss.hessian, hessian, rtol=1e-12, atol=1e-13)
    eigenvalues = np.linalg.eigvalsh(hessian.numpy())
    np.testing.assert_allclose(loss.eigenvalues, eigenvalues, rtol=1e-11)
    assert loss.condition_number == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=1e-10)
    design = np.hstack([x.numpy(), np.ones((30, 1))]) if bias else x.numpy()
    rest = np.linalg.lstsq(design, y.numpy(), rcond=None)[1].sum()
    assert loss.least_squares == pytest.approx(rest / (30 * outputs), rel=1e-11)


def test_directions_without_variation_are_left_out() -> None:
    x = torch.randn(20, 2, dtype=torch.float64)
    twice = torch.cat([x, x[:, :1] - 3 * x[:, 1:], torch.full((20, 1), 7.0)], dim=1)  # two columns say nothing new
    loss = LinearLoss.of(twice, x.sum(dim=1, keepdim=True))
    assert len(loss.eigenvalues) == 3
    assert loss.least_squares < 1e-20
    affine = Affine(torch.randn(1, 4, dtype=torch.float64), torch.randn(1, dtype=torch.float64))
    direct = nn.functional.mse_loss(affine(twice), x.sum(dim=1, keepdim=True)).item()
    assert loss.excess(loss.error(affine)).item() == pytest.approx(direct, rel=1e-9)
