from __future__ import annotations

import numpy as np
import pytest
import torch

from gd_lightning.errors import ShapeError
from gd_lightning.objective import Loss, mean_loss, summed_loss


def _numpy(loss: Loss, error: np.ndarray[tuple[int, ...], np.dtype[np.float64]], delta: float) -> float:
    absolute = np.abs(error)
    if loss == "mse":
        return float((error**2).mean())
    if loss == "mae":
        return float(absolute.mean())
    return float(np.where(absolute < delta, error**2 / 2, delta * (absolute - delta / 2)).mean())


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_mean_loss_equals_its_definition_in_numpy(loss: Loss, delta: float) -> None:
    prediction, target = torch.randn(13, 3, dtype=torch.float64), torch.randn(13, 3, dtype=torch.float64)
    expected = _numpy(loss, (prediction - target).numpy(), delta)
    assert mean_loss(prediction, target, loss, delta).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_sums_of_parts_add_up_and_an_empty_part_has_a_gradient(loss: Loss) -> None:
    prediction = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(7, 2, dtype=torch.float64)
    parts = [summed_loss(prediction[rows], target[rows], loss) for rows in (slice(0, 3), slice(3, 3), slice(3, 7))]
    total = torch.stack(parts).sum()
    assert total.item() == pytest.approx(summed_loss(prediction, target, loss).item(), rel=1e-14)
    total.backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


def test_squared_error_has_no_half() -> None:
    w = torch.tensor([[3.0]], requires_grad=True)
    mean_loss(w, torch.tensor([[1.0]])).backward()
    assert w.grad is not None
    assert w.grad.item() == 4.0  # d (w - 1)^2 / dw = 2 (w - 1)


@pytest.mark.parametrize("shapes", [((5, 1), (5,)), ((5,), (5, 1)), ((5,), (5,)), ((5, 1), (4, 1)), ((5, 1), (5, 2))])
def test_shapes_that_torch_would_broadcast_are_refused_with_both(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    with pytest.raises(ShapeError) as caught:
        mean_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
    assert str(shapes[0]) in str(caught.value)
    assert str(shapes[1]) in str(caught.value)
