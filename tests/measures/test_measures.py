from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning.losses import mean_loss, summed_loss
from gd_lightning.measures import Stopwatch, gradient_norm_over, gradient_variance_over, mean_loss_over, unchanged


def test_the_mean_over_batches_is_the_mean_over_samples() -> None:
    x, y, layer = torch.randn(23, 2), torch.randn(23, 3), nn.Linear(2, 3)
    batches = [(x[:5], y[:5]), (x[5:5], y[5:5]), (x[5:], y[5:])]
    with torch.no_grad():
        expected = mean_loss(layer(x), y).item()
    assert mean_loss_over(batches, layer, summed_loss) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(mean_loss_over([], layer, summed_loss))


def test_the_gradient_over_batches_is_the_gradient_over_samples() -> None:
    x, y, layer = torch.randn(23, 2).double(), torch.randn(23, 3).double(), nn.Linear(2, 3).double()
    batches = [(x[:5], y[:5]), (x[5:5], y[5:5]), (x[5:], y[5:])]
    measured = gradient_norm_over(batches, layer, summed_loss, layer.parameters())
    assert layer.weight.grad is None
    mean_loss(layer(x), y).backward()
    gradients = torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None])
    assert measured == pytest.approx(gradients.norm().item(), rel=1e-12)
    assert math.isnan(gradient_norm_over([], layer, summed_loss, layer.parameters()))
    layer.weight.requires_grad_(False)
    bias = gradient_norm_over(batches, layer, summed_loss, layer.parameters())
    assert bias == pytest.approx(gradients[6:].norm().item(), rel=1e-12)


def test_the_variance_of_the_gradient_is_that_of_the_gradients_of_the_batches() -> None:
    x, y, layer = torch.randn(23, 2).double(), torch.randn(23, 3).double(), nn.Linear(2, 3).double()
    batches = [(x[:5], y[:5]), (x[5:5], y[5:5]), (x[5:11], y[5:11]), (x[11:], y[11:])]
    measured = gradient_variance_over(batches, layer, summed_loss, layer.parameters())
    gradients, sizes = [], []
    for x_part, y_part in batches:
        if len(x_part):
            layer.zero_grad()
            mean_loss(layer(x_part), y_part).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None]).numpy())
            sizes.append(len(x_part))
    covariance = np.cov(np.stack(gradients).T, ddof=0, fweights=sizes)
    assert measured == pytest.approx(np.trace(covariance), rel=1e-12)
    assert gradient_variance_over(batches[:1], layer, summed_loss, layer.parameters()) == 0
    assert math.isnan(gradient_variance_over([], layer, summed_loss, layer.parameters()))


def test_measuring_leaves_no_trace() -> None:
    module = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    module[2].eval()  # a part that does not train
    modes, state = [part.training for part in module.modules()], torch.get_rng_state()
    running = {name: value.clone() for name, value in module.state_dict().items()}
    with unchanged(module, torch.device("cpu")):
        assert not module(torch.rand(5, 1)).requires_grad
    assert [part.training for part in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, running[name]) for name, value in module.state_dict().items())


def test_a_stopwatch_counts_only_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    watch = Stopwatch()
    for running, seconds in ((True, 1.0), (True, 0.5), (False, 7.0), (True, 0.25)):
        (watch.start if running else watch.stop)()
        assert watch.running is running
        now += seconds
    assert watch.seconds == 1.75
