from __future__ import annotations

import importlib
import itertools

import pytest
import torch
from torch import Tensor

from gd_lightning import NoisyLine, RegressionDataModule, RegressionModule
from gd_lightning.data import Order
from gd_lightning.data.order import epoch_orders
from gd_lightning.engine.drawn_orders import MOST_SAMPLES, draw_orders, draws_as_torch, prepare_to_draw
from tests.conftest import MakeTrainer


@pytest.fixture(autouse=True)
def _compiled_updates_are_loaded() -> None:
    pytest.importorskip("numba", reason="orders are compiled by numba")
    importlib.import_module("gd_lightning.engine.kernels")


SEEDS = [0, 1, 2**31, 2**32, 2**63 - 1, 2**64 - 1, *range(7, 40, 2)]
"""More than are drawn side by side, and no multiple of that."""


def _as_torch(n: int, is_permuted: bool) -> Tensor:
    generators = (torch.Generator().manual_seed(seed) for seed in SEEDS)
    if is_permuted:
        return torch.stack([torch.randperm(n, generator=each) for each in generators])
    return torch.stack([torch.randint(n, (n,), generator=each) for each in generators])


@pytest.mark.parametrize("is_permuted", [True, False])
def test_compiled_code_draws_as_torch(is_permuted: bool) -> None:
    around = [1, 2, 3, 99, 100, 226, 227, 228, 396, 397, 398, 622, 623, 624, 625, 626, 1000, 1249, 5000, MOST_SAMPLES]
    for n in around if not is_permuted else [0, *around]:
        assert prepare_to_draw(n)
        expected = _as_torch(n, is_permuted)
        for count in (0, 1, 2, 16, len(SEEDS)):
            assert torch.equal(draw_orders(SEEDS[:count], n, is_permuted), expected[:count]), (n, count)


def test_torch_draws_many_samples() -> None:
    assert not prepare_to_draw(MOST_SAMPLES + 1)
    expected = _as_torch(MOST_SAMPLES + 1, True)[:2]
    assert torch.equal(draw_orders(SEEDS[:2], MOST_SAMPLES + 1, True), expected)


@pytest.mark.parametrize("order", ["shuffled", "with_replacement"])
def test_if_torch_draws_otherwise_its_orders_hold(monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    """As a later release may: many epochs have the orders that single ones have."""
    before = epoch_orders(order, 50, 3, 0, 4)
    name = "randperm" if order == "shuffled" else "randint"
    draw = getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *args, out, **options: out.copy_(draw(*args, **options).flip(0)))
    draws_as_torch.cache_clear()
    try:
        assert not prepare_to_draw(50)
        assert torch.equal(epoch_orders(order, 50, 3, 0, 4), before.view(4, 50).flip(1).flatten())
    finally:
        draws_as_torch.cache_clear()


@pytest.mark.parametrize("order", ["shuffled", "with_replacement"])
def test_a_run_is_the_same_whoever_draws_its_orders(
    monkeypatch: pytest.MonkeyPatch, make_trainer: MakeTrainer, order: Order
) -> None:
    asked: list[bool] = []

    def weights(is_as_torch: bool) -> list[Tensor]:
        def answer() -> bool:
            asked.append(is_as_torch)
            return is_as_torch

        monkeypatch.setattr("gd_lightning.engine.drawn_orders.draws_as_torch", answer)
        torch.manual_seed(0)
        module = RegressionModule(lr=0.01, engine="fused")
        make_trainer(max_epochs=200).fit(module, RegressionDataModule(NoisyLine(), batch_size=1, order=order, seed=5))
        return list(module.parameters())

    expected = weights(True)
    assert all(itertools.starmap(torch.equal, zip(weights(False), expected, strict=True)))
    assert len(set(asked)) == 2
    monkeypatch.setattr("gd_lightning.module.chunked_training.MOST_SAMPLES", 0)  # as if there were many samples
    assert all(itertools.starmap(torch.equal, zip(weights(True), expected, strict=True)))
