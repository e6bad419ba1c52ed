"""Batches of linear networks with few features: the same bits however chunks are cut, near those of float64."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gd_lightning.engine import Chunk, EpochEnds, FusedEngine, fused_samples
from gd_lightning.variants import Variant

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")

# Samples, features, outputs, batch size: below and above the bounds at which the loops change, and whole groups or not.
SHAPES = [
    (200, 1, 1, 64), (130, 3, 1, 130), (200, 8, 2, 32), (200, 9, 1, 45), (192, 31, 1, 64), (150, 32, 1, 150),
    (150, 1, 1, 16), (131, 1, 1, 2), (300, 1, 1, 100),
]  # fmt: skip
LOSSES: list[Any] = ["mse", "mae", "huber"]


def _samples(n: int, features: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n + features)
    x, noise = torch.randn(n, features, generator=generator), torch.randn(n, outputs, generator=generator)
    return x, x.sum(1, keepdim=True) + noise


def _train(
    x: Tensor, y: Tensor, rows: Tensor | None, batch_size: int, loss: Any, epochs: int, cuts: int, dtype: torch.dtype
) -> tuple[list[float], list[float], float]:
    """Return weights, train losses at the ends of epochs within chunks, and the last one, of a run cut into chunks."""
    torch.manual_seed(0)
    network = nn.Linear(x.shape[1], y.shape[1], dtype=torch.float64).to(dtype)
    engine = FusedEngine(network, torch.optim.SGD(network.parameters(), lr=0.02), loss, 0.8)
    variant, losses = Variant(batch_size, len(x)), []
    each, x, y = epochs // cuts, x.to(dtype), y.to(dtype)
    for cut in range(cuts):
        own = None if rows is None else rows[cut * each * len(x) : (cut + 1) * each * len(x)]
        per_epoch = variant.updates_per_epoch
        ends = EpochEnds(lambda: [0.0])
        trace = engine.carry_out(Chunk(x, y, own, variant, 0, each * per_epoch, per_epoch=per_epoch, ends=ends))
        losses += [*trace.measured[:, 0].tolist(), engine.mean_loss(x, y)]
    weights = nn.utils.parameters_to_vector(network.parameters()).tolist()
    return weights, losses, losses[-1]


def _expected(x: Tensor, y: Tensor, rows: Tensor | None, batch_size: int, loss: Any, epochs: int) -> tuple[Any, float]:
    """Return weights and train loss by NumPy, in float64."""
    torch.manual_seed(0)
    network = nn.Linear(x.shape[1], y.shape[1], dtype=torch.float64)
    weight, bias = (parameter.detach().numpy().copy() for parameter in network.parameters())
    features, targets = x.double().numpy(), y.double().numpy()
    order = np.tile(np.arange(len(x)), epochs) if rows is None else rows.numpy()
    for epoch in range(epochs):
        for begin in range(0, len(x), batch_size):
            batch = order[epoch * len(x) :][begin : min(begin + batch_size, len(x))]
            error = features[batch] @ weight.T + bias - targets[batch]
            slope = {"mse": 2 * error, "mae": np.sign(error), "huber": np.clip(error, -0.8, 0.8)}[loss] / error.size
            weight, bias = weight - 0.02 * slope.T @ features[batch], bias - 0.02 * slope.sum(axis=0)
    error = features @ weight.T + bias - targets
    huber = np.where(abs(error) < 0.8, error**2 / 2, 0.8 * (abs(error) - 0.4))
    return np.append(weight, bias), float({"mse": error**2, "mae": abs(error), "huber": huber}[loss].mean())


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize(("shape", "loss"), [(shape, LOSSES[i % 3]) for i, shape in enumerate(SHAPES)])
def test_updates_are_those_of_numpy_wherever_they_are_cut(
    shape: tuple[int, int, int, int], loss: Any, is_shuffled: bool
) -> None:
    n, features, outputs, batch_size = shape
    x, y = _samples(n, features, outputs)
    generator = torch.Generator().manual_seed(1)
    rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(8)]) if is_shuffled else None
    for dtype, near in ((torch.float64, 1e-10), (torch.float32, 2e-3)):
        runs = [_train(x, y, rows, batch_size, loss, 8, cuts, dtype) for cuts in (1, 2, 8)]
        assert runs[0] == runs[1] == runs[2]
        weights, train_loss = _expected(x, y, rows, batch_size, loss, 8)
        assert runs[0][0] == pytest.approx(weights, rel=near, abs=near)
        assert runs[0][2] == pytest.approx(train_loss, rel=near)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_large_batches_are_the_same_with_any_number_of_threads_and_from_the_first_pass_on() -> None:
    x, y = _samples(30_000, 9, 1)
    variant, found = Variant(len(x), len(x)), []
    for threads in (1, 2):
        torch.manual_seed(0)
        network = nn.Linear(9, 1)
        engine = FusedEngine(network, torch.optim.SGD(network.parameters(), lr=0.01))
        with _threads(threads):
            for _ in range(7):  # from the fifth on, features are read from a copy
                engine.carry_out(Chunk(x, y, None, variant, 0, 1))
        found.append(nn.utils.parameters_to_vector(network.parameters()).tolist())
    assert found[0] == found[1]
    assert found[0] == pytest.approx(_expected_of_full_batches(x, y), rel=1e-3, abs=1e-3)


def _expected_of_full_batches(x: Tensor, y: Tensor) -> list[float]:
    torch.manual_seed(0)
    network = nn.Linear(9, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(7):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(network.parameters()).tolist()


def test_features_that_are_changed_in_place_are_read_anew() -> None:
    x, y = _samples(30_000, 9, 1)
    found = []
    for fresh in (False, True):
        torch.manual_seed(0)
        network, own = nn.Linear(9, 1), x.clone()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        engine = FusedEngine(network, optimizer)
        for update in range(7):
            if update == 6:
                own *= 2
                engine = FusedEngine(network, optimizer) if fresh else engine
            engine.carry_out(Chunk(own, y, None, Variant(len(x), len(x)), 0, 1))
        found.append(nn.utils.parameters_to_vector(network.parameters()).tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize(
    "shape", [(5_000, 3, 1, 5_000), (4_200, 9, 2, 2_100), (2_100, 40, 1, 2_100), (4_097, 1, 1, 4_097)]
)
def test_updates_in_threads_are_those_of_numpy_wherever_they_are_cut(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int], is_shuffled: bool
) -> None:
    monkeypatch.setattr(fused_samples, "LARGE", 1)
    n, features, outputs, batch_size = shape
    x, y = _samples(n, features, outputs)
    rows = torch.cat([torch.randperm(n) for _ in range(4)]) if is_shuffled else None
    runs = [_train(x, y, rows, batch_size, "mse", 4, cuts, torch.float32) for cuts in (1, 2, 4)]
    assert runs[0] == runs[1] == runs[2]
    weights, train_loss = _expected(x, y, rows, batch_size, "mse", 4)
    np.testing.assert_allclose(runs[0][0], weights, rtol=1e-3, atol=1e-4)
    assert runs[0][2] == pytest.approx(train_loss, rel=1e-4)
