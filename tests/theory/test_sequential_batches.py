"""Batches in a fixed order: against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gd_lightning import Affine, LinearProblem, SteepLine, Variant
from gd_lightning.theory import LinearLoss, SequentialEpoch
from gd_lightning.update_rule import UpdateRule
from tests.selection import every


@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("drop_last", [False, True])
def test_epochs_are_those_of_a_plain_loop(batch_size: int, drop_last: bool) -> None:
    x, y = LinearProblem(n_samples=40, n_features=3, n_targets=2, noise=0.5).sample()
    loss, variant, lr = LinearLoss.of(x, y), Variant(batch_size, 40, drop_last), 0.05
    z = np.hstack([x.numpy(), np.ones((40, 1))])
    theta = np.full((4, 2), 0.3)
    product, growth, losses = np.eye(4), 1.0, []
    for _ in range(31):
        losses.append(np.square(z @ theta - y.numpy()).mean())
        for update in range(variant.updates_per_epoch):
            batch = slice(variant.samples_at(update), variant.samples_at(update + 1))
            step = lr * 2 / (len(z[batch]) * 2)
            theta = theta - step * z[batch].T @ (z[batch] @ theta - y[batch].numpy())
            if len(losses) == 1:
                product = product - step * z[batch].T @ z[batch] @ product
                growth = max(growth, float(np.linalg.norm(product, 2)))
    epoch = SequentialEpoch.of(loss, UpdateRule(lr), variant)
    start = Affine(torch.full((2, 3), 0.3, dtype=torch.float64), torch.full((2,), 0.3, dtype=torch.float64))
    np.testing.assert_allclose(epoch.predicted_losses(start, 30), losses, rtol=1e-10)
    assert epoch.largest_growth == pytest.approx(growth, rel=1e-10)
    assert epoch.contraction == pytest.approx(np.abs(np.linalg.eigvals(product)).max(), rel=1e-9)
    long = epoch.predicted_losses(start, 5000)[-1].item() - loss.least_squares
    assert epoch.floor == pytest.approx(long, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("nesterov", every(2, [True, False]))
@pytest.mark.parametrize("batch_size", every(3, [7, 1, 40]))
def test_epochs_with_momentum_are_those_of_torch(batch_size: int, nesterov: bool) -> None:
    x, y = LinearProblem(n_samples=40, n_features=3, n_targets=2, noise=0.5).sample()
    loss, variant, lr = LinearLoss.of(x, y), Variant(batch_size, 40), 0.02
    layer = torch.nn.Linear(3, 2, dtype=torch.float64)
    start = Affine(layer.weight.detach().clone(), layer.bias.detach().clone())
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.8, nesterov=nesterov)
    losses = []
    for _ in range(100):
        losses.append(torch.nn.functional.mse_loss(layer(x), y).item())
        for update in range(variant.updates_per_epoch):
            batch = slice(variant.samples_at(update), variant.samples_at(update + 1))
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(layer(x[batch]), y[batch]).backward()
            optimizer.step()
    epoch = SequentialEpoch.of(loss, UpdateRule(lr, 0.8, nesterov), variant)
    predicted = epoch.predicted_losses(start, 99)
    np.testing.assert_allclose(predicted, losses, rtol=1e-9)
    assert epoch.contraction < 1
    assert epoch.largest_growth >= 1
    long = epoch.predicted_losses(start, 20_000)[-1].item() - loss.least_squares
    assert epoch.floor == pytest.approx(long, rel=1e-6, abs=1e-14)
    assert SequentialEpoch.of(loss, UpdateRule(4.0, 0.8, nesterov), variant).floor == math.inf


def test_the_divergence_of_system_1() -> None:
    """Published as fluctuation, printed as 4.165e14 after one epoch, in float32."""
    loss = LinearLoss.of(*SteepLine().sample())
    epoch = SequentialEpoch.of(loss, UpdateRule(0.1), Variant.of(1, 100))
    start = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
    assert epoch.predicted_losses(start, 1)[1].item() == pytest.approx(4.165e14, rel=1e-3)
    # Every epoch ends nearer to a point that is itself as far away: what fluctuates wildly is the way through an epoch.
    assert epoch.contraction < 1
    assert epoch.largest_growth > 1e7
    assert epoch.floor > 1e12
    calm = SequentialEpoch.of(loss, UpdateRule(0.01), Variant.of(1, 100))
    assert calm.contraction < 1
    assert calm.largest_growth < 1.5
    wild = SequentialEpoch.of(loss, UpdateRule(0.13), Variant.of("full", 100))
    assert wild.contraction > 1
    assert wild.floor == math.inf
    assert calm.predicted_losses(start, 20)[-1].item() == pytest.approx(0.17305, rel=1e-4)
