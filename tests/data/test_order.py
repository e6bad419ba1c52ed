from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gd_lightning.data import BatchLoader, Order, Samples
from gd_lightning.data.order import epoch_orders
from gd_lightning.errors import InputError
from gd_lightning.variants import Variant


def test_seed_and_epoch_are_hashed_not_added() -> None:
    orders = {tuple(epoch_orders("shuffled", 20, seed, epoch).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_an_order_is_a_function_of_seed_and_epoch_alone() -> None:
    first = epoch_orders("shuffled", 50, 3, 4)
    torch.manual_seed(99)
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(epoch_orders("shuffled", 50, 3, 4), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.sort().values.tolist() == list(range(50))


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**40 + 3, 2**64 + 1])
@pytest.mark.parametrize("first", [0, 5, 2**32 - 3])
def test_orders_of_several_epochs_are_those_of_each(seed: int, first: int) -> None:
    """As NumPy hashes seed and epoch, and torch draws."""
    orders: tuple[Order, ...] = ("sequential", "shuffled", "with_replacement")
    for order in orders:
        low, high = np.random.SeedSequence((seed, first + 2)).generate_state(2).tolist()
        generator = torch.Generator().manual_seed(low | high << 32)
        drawn = {
            "sequential": torch.arange(9),
            "shuffled": torch.randperm(9, generator=generator),
            "with_replacement": torch.randint(9, (9,), generator=generator.manual_seed(low | high << 32)),
        }
        several = epoch_orders(order, 9, seed, first, 6)
        assert torch.equal(several, torch.cat([epoch_orders(order, 9, seed, first + epoch) for epoch in range(6)]))
        assert torch.equal(several[18:27], drawn[order])


def test_draws_with_replacement_are_uniform() -> None:
    draws = torch.cat([epoch_orders("with_replacement", 10, 0, epoch) for epoch in range(1000)])
    counts = torch.bincount(draws, minlength=10)
    chi_square = ((counts - 1000) ** 2 / 1000).sum().item()
    assert chi_square < 27.9  # the 0.999 quantile with 9 degrees of freedom


@pytest.mark.parametrize("order", ["sequential", "shuffled", "with_replacement"])
@pytest.mark.parametrize(("n", "b"), [(1, 1), (10, 1), (10, 3), (10, 7), (10, 10), (100, 16)])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("gather", [2, 65_536])
def test_the_loader_yields_the_order_in_batches(
    monkeypatch: pytest.MonkeyPatch, order: Order, n: int, b: int, drop_last: bool, gather: int
) -> None:
    monkeypatch.setattr("gd_lightning.data.loader.PIECE", gather)
    x = torch.arange(float(n))[:, None]
    variant = Variant.of(b, n, drop_last)
    loader = BatchLoader(Samples(x, -x), variant, order, seed=3)
    assert loader.batch_size == b
    for epoch in range(3):  # each complete pass is the next epoch
        expected = epoch_orders(order, n, 3, epoch).float()
        batches = list(loader)
        assert len(batches) == len(loader) == variant.updates_per_epoch
        for index, (x_batch, y_batch) in enumerate(batches):
            rows = expected[index * b : (index + 1) * b]
            # The samples of the one batch of batch gradient descent are a set: their order makes no difference.
            got = x_batch[:, 0].sort().values if b == n else x_batch[:, 0]
            assert torch.equal(got, rows.sort().values if b == n else rows)
            assert torch.equal(y_batch, -x_batch)


@pytest.mark.parametrize("order", ["sequential", "shuffled", "with_replacement"])
@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_parts_of_processes_make_up_each_batch(order: Order, world_size: int) -> None:
    n, b = 23, 4
    x = torch.arange(float(n))[:, None]
    variant = Variant.of(b, n)
    whole = list(BatchLoader(Samples(x, x), variant, order))
    parts = [list(BatchLoader(Samples(x, x), variant, order, rank=r, world_size=world_size)) for r in range(world_size)]
    for batch, *shared in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([part[0] for part in shared]), batch[0])
    sizes = {len(part[0]) for part in itertools.chain(*parts)}
    assert max(sizes) == -(-b // world_size)


def test_the_epoch_is_read_at_the_first_batch() -> None:
    x = torch.arange(10.0)[:, None]
    loader = BatchLoader(Samples(x, x), Variant.of(2, 10), "shuffled")
    batches = iter(loader)
    loader.epoch_order.set_epoch(7)  # as Lightning does, after it made the iterator
    assert torch.equal(torch.cat([batch[0] for batch in batches])[:, 0], epoch_orders("shuffled", 10, 0, 7).float())


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(InputError, match="random"):
        BatchLoader(Samples(torch.zeros(2, 1), torch.zeros(2, 1)), Variant.of(1, 2), "random")  # type: ignore[arg-type]
