"""In which order an epoch visits the training samples: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from gd_lightning.errors import InputError
from gd_lightning.variants import Variant

Order = Literal["sequential", "shuffled", "with_replacement"]
ORDERS: tuple[Order, ...] = ("sequential", "shuffled", "with_replacement")


def epoch_order(order: Order, n: int, seed: int, epoch: int) -> Tensor:
    """Return the row of each sample of an epoch, in the order of their use.

    Seed and epoch are hashed, not added: with a sum, epoch 1 of seed 0 would be epoch 0 of seed 1.

    Args:
        order: ``sequential`` (as given), ``shuffled`` (a new permutation each epoch), or ``with_replacement`` (n
            independent draws each epoch).
        n: Number of training samples.
        seed: Seed of the order, from 0.
        epoch: Which epoch, from 0.

    Returns:
        Row numbers, shape (n,), int64.
    """
    if order == "sequential":
        return torch.arange(n)
    low, high = np.random.SeedSequence((seed, epoch)).generate_state(2).tolist()
    generator = torch.Generator().manual_seed(low | high << 32)
    if order == "shuffled":
        return torch.randperm(n, generator=generator)
    return torch.randint(n, (n,), generator=generator)


def comes_as_it_lies(order: Order, variant: Variant) -> bool:
    """Whether an epoch takes the samples as they lie: in their order, or shuffled into the one batch of all of them.

    Of one batch that leaves some out, the order says which.
    """
    return order == "sequential" or (order == "shuffled" and variant.name == "batch")


class EpochOrder(Sampler[int]):
    """The order of an epoch as a torch sampler; Lightning tells it the epoch through ``set_epoch``.

    Args:
        order: See :func:`epoch_order`.
        n: Number of training samples.
        seed: Seed of the order.

    Raises:
        InputError: The order is unknown.
    """

    def __init__(self, order: Order, n: int, seed: int) -> None:
        if order not in ORDERS:
            raise InputError(f"order {order!r} is unknown; use one of {', '.join(ORDERS)}")
        self.order = order
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is given next."""
        self.epoch = epoch

    def rows(self) -> Tensor:
        """Return the rows of the current epoch, shape (n,), int64."""
        return self.rows_of(self.epoch)

    def rows_of(self, epoch: int) -> Tensor:
        """Return the rows of an epoch, shape (n,), int64."""
        return epoch_order(self.order, self.n, self.seed, epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows().tolist())

    def __len__(self) -> int:
        return self.n
