"""Trial runs that find the learning rates at which training diverges from a start.

Where targets are large, the first updates leave the region in which the curvature of the start holds: a large gradient
moves the parameters far, and the curvature grows with them, or shrinks where units saturate. No quantity measured at
the start predicts where a run then diverges; a few updates do.

Sources: Lewkowycz, Bahri, Dyer, Sohl-Dickstein and Gur-Ari, The large learning rate phase of deep learning: the
catapult mechanism, 2020, https://arxiv.org/abs/2003.02218 (networks can converge above 2 / sharpness, and diverge at a
multiple of it); Sohl-Dickstein, The boundary of neural network trainability is fractal, 2024,
https://arxiv.org/abs/2402.06184 (so the trial looks for the smallest learning rate that diverges, not the largest that
does not).

Letters: N samples, B batch, P parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gd_lightning.data.order import Order, epoch_orders
from gd_lightning.data.samples import Samples
from gd_lightning.engine import Ends, Members, TrainingTask
from gd_lightning.errors import StartError
from gd_lightning.experiments.sweeps.training import train_members, why_one_by_one
from gd_lightning.measures import unchanged
from gd_lightning.micro_batches import Pair
from gd_lightning.module import RegressionModule
from gd_lightning.theory import drawn_evenly
from gd_lightning.variants import Variant

_COARSE, _FINE = 4.0, 2**0.25  # ratios of the learning rates that are tried
_COARSE_TRIED, _FINE_TRIED = 9, 8
_BELOW = 3  # number of learning rates with the coarse ratio that are tried below the fine ones, for all epochs
_SHORT = 4  # divisor of the epochs for which learning rates with the coarse ratio are tried
# Limits of what is tried: an absolute one below; above, a multiple of the guess, if that is above 1.
_TINY, _HUGE = 1e-30, 1e9

_SAMPLES_SEEN = 10_000  # samples that a run sees, within the fewest and the most updates of the trial
_NUMBERS, _FEWEST_ROWS, _MOST_ROWS = 4 * 10**6, 64, 4096  # rows times parameters, and rows
# Orders in which small batches are tried: a learning rate that diverges in none of a few can do so in the next.
_ORDERS = 3
_HARDEST = 8  # samples with the largest values of each of two measures, which are always part of a trial


@dataclass(frozen=True)
class Tried:
    """Result of a trial at one batch size.

    Args:
        diverging_lr: The smallest learning rate that diverged; ``inf`` if none did.
        best_lr: The learning rate with the lowest final train loss; None if no run ended below its start.
        samples: Number of samples used.
        updates: Number of updates per run.
    """

    diverging_lr: float
    best_lr: float | None
    samples: int
    updates: int


@dataclass(frozen=True)
class Trial:
    """Short runs of a module from its start, to find the learning rates at which it diverges.

    They train as ``fit`` does: with the options of the module, in its precision, and with the data's order. As in
    ``fit``, a run has diverged if its train loss is not finite, or has grown a million times.

    Args:
        module: The module with its initial weights; it is not changed.
        samples: The training samples.
        order: The order in which an epoch visits them.
        seed: Seed of the order.
        drop_last: Whether a short last batch is left out.
    """

    # Seen on perceptrons with targets of scale 1 to 1e5: after so many updates, the smallest learning rate that has
    # diverged is at most 1.8 times the smallest that diverges within 200 epochs.
    fewest_updates: ClassVar[int] = 150
    """The smallest number of updates of a run."""
    most_updates: ClassVar[int] = 1500
    """The largest number of updates of a run, however small its batches are."""

    module: RegressionModule
    samples: Samples
    order: Order = "shuffled"
    seed: int = 0
    drop_last: bool = False

    def taking_part(self, batch_size: int) -> Samples:
        """Return the samples used at a batch size.

        If there are too many, an evenly spaced subset and the :meth:`hardest` samples are used.
        """
        n, parameters = len(self.samples), sum(each.numel() for each in self.module.parameters())
        most = min(_MOST_ROWS, max(_FEWEST_ROWS, _NUMBERS // max(1, parameters)))
        if batch_size < n:
            most = min(most, max(_FEWEST_ROWS, batch_size * self._updates(batch_size) // _SHORT))
        evenly = drawn_evenly(n, most)
        if evenly is None:
            return self.samples
        return self.samples.subset(torch.cat([evenly, self.hardest]).unique())

    @functools.cached_property
    def hardest(self) -> Tensor:
        """Row numbers of samples that alone can make a run diverge, shape (n,).

        These have the largest squared norms of the network's input, which is the curvature of a linear layer, or the
        largest products of this norm and the squared error, which is the squared norm of its gradient.
        """
        layer, norms, products = self.module.standardize, [], []
        with unchanged(self.module, self.samples.device):
            for x, y in self.samples.pieces():
                errors = (self.module(x) - y).double().square().sum(dim=1)
                norms.append(1 + (x if layer is None else layer(x)).double().square().sum(dim=1))
                products.append(norms[-1] * errors)
        most = min(_HARDEST, len(self.samples))
        found: Tensor = torch.cat([torch.cat(scores).topk(most).indices for scores in (norms, products)]).unique()
        return found

    def at(self, batch_size: int, guess: float) -> Tried:
        """Find the smallest learning rate that diverges.

        Learning rates in steps of a factor 4 are tried for a few epochs, in a window around the guess that moves until
        one diverges and a smaller one does not; then, for all epochs, rates in steps of a factor 2^(1/4) below the
        smallest that diverged, and some in steps of a factor 4 below these.

        Args:
            batch_size: B.
            guess: The learning rate to start from.

        Raises:
            StartError: The loss of a batch is not finite before the first update.
        """
        samples = self.taking_part(batch_size)
        size = min(batch_size, len(samples))
        self._check_start(samples.take(slice(size)))
        an_epoch = Variant.of(size, len(samples), self.drop_last).updates_per_epoch
        epochs = max(_SHORT, math.ceil(self._updates(size) / an_epoch))

        ended: dict[float, float] = {}

        def first(lrs: list[float], length: int) -> int | None:
            """Return the index of the smallest learning rate that diverges; None if none does."""
            ends = self._train(samples, size, lrs, length)
            diverged = ends.diverged.reshape(len(lrs), -1).any(axis=1)
            if length == epochs:
                last = ends.last.reshape(len(lrs), -1).mean(axis=1)
                fell = ~diverged & (last < ends.first[0])
                ended.update((lr, value) for lr, value, is_below in zip(lrs, last, fell, strict=True) if is_below)
            return int(diverged.argmax()) if diverged.any() else None

        smallest = _smallest(first, guess, epochs)
        best = min((lr for lr in ended if lr < smallest), key=ended.__getitem__, default=None)
        return Tried(smallest, best, len(samples), epochs * an_epoch)

    def _check_start(self, batch: Pair) -> None:
        """Refuse a start whose loss overflows the precision of the run: no learning rate would help."""
        with unchanged(self.module, self.samples.device):
            loss = self.module.trained_loss(self.module(batch[0]), batch[1]).item()
        if not math.isfinite(loss):
            raise StartError(
                f"the loss of a batch is {loss:g} in {batch[1].dtype}",
                "scale the targets, or choose another initialization",
            )

    def _updates(self, batch_size: int) -> int:
        """Return the number of updates per run, which is smaller if the runs are made one after the other."""
        updates = max(self.fewest_updates, min(self.most_updates, _SAMPLES_SEEN // batch_size))
        return updates if self._orders > 1 else max(self.fewest_updates, updates // _ORDERS)

    @property
    def _orders(self) -> int:
        return 1 if why_one_by_one(self.module) else _ORDERS

    def _train(self, samples: Samples, size: int, lrs: list[float], epochs: int) -> Ends:
        """Return the ends of runs, one per learning rate and order, trained one after the other."""
        options, network = self.module.hparams, self.module.network
        assert network is not None
        is_in_order = self.order == "sequential" or size == len(samples)
        seeds = range(1 if is_in_order else self._orders)

        def order_of(seed: int, epoch: int, epochs: int) -> Tensor | None:
            return None if is_in_order else epoch_orders(self.order, len(samples), self.seed + seed, epoch, epochs)

        starts = torch.cat([each.detach().flatten() for each in network.parameters()])[None]
        task = TrainingTask(samples.x, samples.y, starts, order_of, epochs, self.drop_last)
        members = Members.of(
            lr=np.repeat(lrs, len(seeds)),
            batch_size=size,
            order=np.tile(seeds, len(lrs)),
            **{name: options[name] for name in ("momentum", "nesterov", "weight_decay", "l1")},
        )
        ends, _ = train_members([(self.module, self.seed)], task, members)
        return ends


def _smallest(first: Callable[[list[float], int], int | None], guess: float, epochs: int) -> float:
    """Return the smallest of the tried learning rates that diverges; ``inf`` if none does.

    Args:
        first: Returns, for ascending learning rates and a number of epochs, the index of the first that diverges, or
            None.
        guess: The learning rate to start from.
        epochs: Number of epochs of the final trials.
    """
    most = _HUGE * max(1.0, guess)
    tried = [guess * _COARSE ** (place - _COARSE_TRIED // 2) for place in range(_COARSE_TRIED)]
    while not (found := first(tried, max(1, epochs // _SHORT))):
        # One learning rate is tried again, so that it has a neighbour on each side.
        factor = _COARSE ** (_COARSE_TRIED - 1)
        tried = [number * factor if found is None else number / factor for number in tried]
        if tried[0] < _TINY or tried[-1] > most:
            return math.inf if found is None else tried[-1]
    smallest = tried[found]
    while True:
        fine = [smallest * _FINE ** (place - _FINE_TRIED) for place in range(_FINE_TRIED)]
        tried = [fine[0] * _COARSE ** (place - _BELOW) for place in range(_BELOW)] + fine
        found = first(tried, epochs)
        if found is None or found > _BELOW or smallest < _TINY:
            return smallest if found is None else tried[found]
        smallest = tried[found]
