"""The order in which an epoch visits the training samples: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from gd_lightning.engine.drawn_orders import draw_orders
from gd_lightning.errors import InputError
from gd_lightning.variants import Variant

Order = Literal["sequential", "shuffled", "with_replacement"]
_WORD = np.uint64(0xFFFFFFFF)
ORDERS: tuple[Order, ...] = ("sequential", "shuffled", "with_replacement")


def epoch_orders(order: Order, n: int, seed: int, first: int, epochs: int = 1, out: Tensor | None = None) -> Tensor:
    """Return the rows of consecutive epochs in the order of their use; of small n, many take far less time than singly.

    Seed and epoch are hashed, not added: with a sum, epoch 1 of seed 0 would be epoch 0 of seed 1.

    Args:
        order: ``sequential`` (as given), ``shuffled`` (a new permutation each epoch), or ``with_replacement`` (n
            independent draws each epoch).
        n: Number of training samples.
        seed: Seed of the order, from 0.
        first: The first epoch, from 0.
        epochs: Number of epochs.
        out: Receives them, contiguous; None: a new tensor does.

    Returns:
        Row numbers, shape (epochs * n,), int64.
    """
    rows = torch.empty(epochs * n, dtype=torch.int64) if out is None else out
    if order == "sequential":
        rows.view(epochs, n)[:] = torch.arange(n)
    else:
        draw_orders(_seeds(seed, first, epochs), n, order == "shuffled", rows.view(epochs, n))
    return rows


def _seeds(seed: int, first: int, epochs: int) -> list[int]:
    """Hash a seed with several epochs, as ``numpy.random.SeedSequence((seed, epoch)).generate_state(2)`` does with one.

    NumPy's version takes longer than drawing the order of some hundred samples. Source: O'Neill, Developing a seed_seq
    alternative (2015), https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html, as NumPy has it.
    """
    if epochs == 1 or (first + epochs) >> 32 or seed >> 64:  # each epoch is one word of 32 bits, the seed one or two
        states = (np.random.SeedSequence((seed, first + epoch)).generate_state(2).tolist() for epoch in range(epochs))
        return [low | high << 32 for low, high in states]
    of_seed = [seed & 0xFFFFFFFF, seed >> 32] if seed >> 32 else [seed]
    words = [*(np.full(epochs, word, np.uint64) for word in of_seed), np.arange(first, first + epochs, dtype=np.uint64)]
    words += [np.zeros(epochs, np.uint64)] * (4 - len(words))
    mixing, drawing = _Hash(0x43B0D7E5, 0x931E8875), _Hash(0x8B51F9DD, 0x58F38DED)
    pool = [mixing(word) for word in words]
    for source, target in permutations(range(4), 2):
        mixed = np.uint64(0xCA01F9DD) * pool[target] - np.uint64(0x4973F715) * mixing(pool[source])
        pool[target] = _folded(mixed & _WORD)
    seeds: list[int] = (drawing(pool[0]) | drawing(pool[1]) << np.uint64(32)).tolist()
    return seeds


class _Hash:
    """A hash of 32-bit words, whose constant changes at each call.

    Args:
        constant: Initial value of the constant.
        factor: Multiplier of the constant at each call.
    """

    def __init__(self, constant: int, factor: int) -> None:
        self._constant, self._factor = constant, factor

    def __call__(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the hash of words, held in 64 bits each."""
        mixed = words ^ np.uint64(self._constant)
        self._constant = self._constant * self._factor & 0xFFFFFFFF
        return _folded(mixed * np.uint64(self._constant) & _WORD)


def _folded(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    folded: NDArray[np.uint64] = words ^ words >> np.uint64(16)
    return folded


def uses_stored_order(order: Order, variant: Variant) -> bool:
    """Whether an epoch takes the samples in stored order: if it is sequential, or shuffled into one full batch.

    A single batch that leaves samples out is not full: the order decides which ones.
    """
    return order == "sequential" or (order == "shuffled" and variant.name == "batch")


class EpochOrder(Sampler[int]):
    """The order of an epoch as a torch sampler; Lightning tells it the epoch through ``set_epoch``.

    Args:
        order: See :func:`epoch_orders`.
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
        """Set the epoch whose order is iterated next."""
        self.epoch = epoch

    def rows(self) -> Tensor:
        """Return the rows of the current epoch, shape (n,), int64."""
        return self.rows_of(self.epoch)

    def rows_of(self, first: int, epochs: int = 1, out: Tensor | None = None) -> Tensor:
        """Return the rows of consecutive epochs from ``first`` on, shape (epochs * n,), int64; see epoch_orders."""
        return epoch_orders(self.order, self.n, self.seed, first, epochs, out)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows().tolist())

    def __len__(self) -> int:
        return self.n
