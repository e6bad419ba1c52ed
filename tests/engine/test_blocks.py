"""Matrix products and activations of compiled perceptrons, against NumPy, and against torch's autograd in float64."""

from __future__ import annotations

import copy
import functools
import importlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning.engine import Chunk, Engine, FusedEngine, SaveAt
from gd_lightning.engine.fusible import ACTIVATIONS
from gd_lightning.models.regressors import MLPRegressor
from gd_lightning.variants import Variant
from tests.engine.reference import autograd_engine

numba = pytest.importorskip("numba")

products: Any = importlib.import_module("gd_lightning.engine.kernels.products")
activations: Any = importlib.import_module("gd_lightning.engine.kernels.activations")
REGISTER: int = importlib.import_module("gd_lightning.engine.compiling").REGISTER


@functools.cache
def _in_python(function: Any) -> Any:
    """Return what other compiled code calls, by its address or as it is, for calls from Python."""
    return numba.njit(getattr(function, "compiled", function).py_func)


EXTREMES = [0.0, -0.0, 1e-30, -1e-30, 20.0, 20.5, -20.5, 88.0, -88.0, 100.0, -100.0, 700.0, -700.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ACTIVATIONS[1:])
def test_an_activation_and_its_derivative_are_those_of_torch(kind: type[nn.Module], dtype: Any) -> None:
    spread = np.random.default_rng(0).normal(scale=3, size=1000)
    z = np.concatenate([spread, EXTREMES, np.linspace(-6, 6, 301), [np.nan]]).astype(dtype)
    exact = torch.from_numpy(z).double().requires_grad_()
    layer: Any = kind(0.3) if kind in (nn.LeakyReLU, nn.ELU) else kind()
    expected = layer(exact)
    (slopes,) = torch.autograd.grad(expected.sum(), exact)
    values, derivatives = z.copy(), np.empty_like(z)
    if kind is nn.ReLU:
        _in_python(activations.rectify)(values, derivatives, 0, len(z))
    else:
        _in_python(activations.activate)(values, derivatives, 0, len(z), ACTIVATIONS.index(kind), dtype(0.3))
    eps = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(values, expected.detach().numpy(), rtol=eps, atol=eps)
    defined = ~np.isnan(z)
    np.testing.assert_allclose(derivatives[defined], slopes.numpy()[defined], rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "terms"), [(1, 1), (2, 3), (7, 5), (8, 9), (13, 2), (31, 16)])
def test_products_are_those_of_numpy(rows: int, terms: int, dtype: Any) -> None:
    lanes = REGISTER // np.dtype(dtype).itemsize
    draw = np.random.default_rng(rows)
    for vectors in (1, 2, 3):
        stride = (vectors | 1) * lanes
        matrix, out, b = (
            draw.normal(size=shape).astype(dtype) for shape in ((rows, terms), (rows, stride), (terms, stride))
        )
        exact = out.astype(np.float64)
        exact[:, : vectors * lanes] += matrix.astype(np.float64) @ b[:, : vectors * lanes]
        tolerance = {"rtol": 0, "atol": 100 * np.finfo(dtype).eps}
        for a, row, column in ((matrix, terms, 1), (matrix.T.copy(), 1, rows)):
            into = out.copy()
            sizes = stride, row, column, rows, terms, vectors, lanes
            _in_python(products.add_product)(into.ravel(), 0, a.ravel(), 0, b.ravel(), 0, *sizes)
            np.testing.assert_allclose(into, exact, **tolerance)
        into = draw.normal(size=(terms, rows)).astype(dtype)
        dots = into.astype(np.float64) + b[:, : vectors * lanes].astype(np.float64) @ out[:, : vectors * lanes].T
        _in_python(products.add_dots)(into.ravel(), 0, out.ravel(), 0, b.ravel(), 0, stride, rows, terms, vectors)
        np.testing.assert_allclose(into, dots, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [8, 17, 64, 256, 300, 600])
def test_batches_of_one_and_of_several_blocks_are_those_ofautograd_engine(batch_size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    samples = 700
    x = torch.randn(samples, 9, dtype=dtype)
    y = torch.stack([x.sum(1).sin(), x.prod(1)], dim=1)
    start = MLPRegressor(9, 2, [33, 20, 5], "tanh").to(dtype)
    variant, order = Variant(batch_size, samples), torch.randperm(samples)
    records, ends = [], []
    makers: tuple[Any, ...] = (FusedEngine, autograd_engine)
    for make in makers:
        network = copy.deepcopy(start)
        engine: Engine = make(network, torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.5))
        chunk = Chunk(x, y, order, variant, 0, variant.updates_per_epoch, save_at=SaveAt(gradients=True))
        records.append(engine.carry_out(chunk).record)
        loss = engine.mean_loss(x, y)
        ends.append((network(x) - y).square().mean().item() if loss is None else loss)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for mine, reference in zip(*records, strict=True):
        assert (mine is None) == (reference is None)
        if mine is not None:
            torch.testing.assert_close(mine, reference, rtol=tolerance, atol=tolerance)
    assert ends[0] == pytest.approx(ends[1], rel=tolerance)


def test_a_batch_is_the_same_to_the_bit_wherever_a_chunk_is_cut() -> None:
    torch.manual_seed(0)
    x = torch.randn(900, 3)
    y, start, variant = x.sum(1, keepdim=True).sin(), MLPRegressor(3, 1, [20, 7], "gelu"), Variant(290, 900)
    ends = []
    for cuts in ([0, 4], [0, 1, 4], [0, 1, 2, 3, 4]):
        network = copy.deepcopy(start)
        for first, stop in itertools.pairwise(cuts):
            engine = FusedEngine(network, torch.optim.SGD(network.parameters(), lr=0.05))
            engine.carry_out(Chunk(x, y, None, variant, first, stop))
        ends.append(nn.utils.parameters_to_vector(network.parameters()))
    assert all(torch.equal(end, ends[0]) for end in ends)
