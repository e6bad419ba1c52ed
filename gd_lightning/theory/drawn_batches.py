"""Mean-square theory of SGD with randomly drawn batches: stability, loss curve and noise floor.

The statements hold for updates whose batches are drawn independently of each other, with replacement (the order
``with_replacement``), or each without (``replacement=False``; with B = N that is batch gradient descent). A shuffled
epoch is neither: its batches depend on each other, and its noise floor is lower; the stability limit is a good guide
there. For the sequential order see ``sequential.py``.

With the error d = theta - theta*, samples z, residuals e and s = 1 / B (without replacement (N - B) / ((N - 1) B)), the
update

    d <- d - lr (2 / K) mean over the batch of z (z'd - e)

takes the second moment M = E[d d'], summed over outputs, and the mean m = E[d] exactly to

    M <- (I - lr H) M (I - lr H) + (2 lr / K)^2 s (mean over all samples of E|z'd - e|^2 z z' - G M G)
    m <- (I - lr H) m

with G = Z'Z / N and H = 2 G / K; ``drawn_moments.py`` says when that is stable. Source: Defossez and Bach, Averaged
least-mean-squares, AISTATS 2015, https://arxiv.org/abs/1412.0156. The tests derive map, limit and floor by enumerating
all batches.

Letters: N samples, K outputs, B batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.critical_batch_size import share_of_variance
from gd_lightning.theory.drawn_moments import Moments
from gd_lightning.theory.moment_limits import MomentLimits
from gd_lightning.theory.numerics.searches import minimum
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.theory.reduced_updates import LEAST, SMALL, ReducedUpdates, is_stable, settled
from gd_lightning.update_rule import PLAIN, UpdateRule
from gd_lightning.variants import Variant

_PRECISION = 5e-3  # precision of a learning rate in a search, as a fraction of the limit
_AT_ONCE = 64  # epochs that are computed at once
_FINER = 5e-4  # the same with momentum, with which the learning rate can be far below the limit


@dataclass(frozen=True, eq=False)
class DrawnBatches:
    """Stability and expected losses of updates with drawn batches, at any batch size and learning rate.

    Limits, and floors of batches of one size, are exact; curves, and what a short last batch changes, to three digits
    where the loss has many directions, as :class:`ReducedUpdates` has them.

    Args:
        loss: The loss on the training set.
        start: The parameters before the first update.
        rule: The update rule; its learning rate is not used.
        replacement: Whether the samples of a batch are drawn with replacement.
        small: How many numbers of a state are so few that all are followed; see :class:`ReducedUpdates`.

    Example:
        >>> x = torch.arange(-5, 5, 0.1)[:, None]
        >>> drawn = DrawnBatches(LinearLoss.of(x, -5 * x), Affine(torch.zeros(1, 1), torch.zeros(1)))
        >>> [round(drawn.largest_stable_lr(size), 4) for size in (1, 10, 50)]
        [0.0642, 0.1109, 0.1181]
    """

    loss: LinearLoss
    start: Affine
    rule: UpdateRule = PLAIN
    replacement: bool = True
    small: int = SMALL
    _limits: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _best: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def largest_stable_lr(self, batch_size: int) -> float:
        """Return the learning rate below which the expected squared error stays bounded."""
        if batch_size not in self._limits:
            self._limits[batch_size] = self._moment_limits.largest_stable_lr(self.spread(batch_size))
        return self._limits[batch_size]

    def best_lr(self, batch_size: int) -> float:
        """Return the learning rate with the smallest :meth:`contraction`, to about two digits."""
        if batch_size not in self._best:
            limit = self.largest_stable_lr(batch_size)
            precision = (_FINER if self.rule.momentum else _PRECISION) * limit
            self._best[batch_size] = minimum(lambda lr: self.contraction(lr, batch_size), 0.0, limit, precision)
        return self._best[batch_size]

    def is_stable(self, lr: float, batch_size: int) -> bool:
        """Whether the expected squared error stays bounded: less work than :meth:`largest_stable_lr` with momentum."""
        if batch_size in self._limits:
            return lr < self._limits[batch_size]
        return self._moment_limits.is_stable(lr, self.spread(batch_size))

    def contraction(self, lr: float, batch_size: int) -> float:
        """Return the factor by which an update shrinks the expected squared error in the long run, above its floor."""
        drawn, lr = self._at(lr)
        return drawn._reduced.contraction(lr, self.spread(batch_size))

    def epochs_are_stable(self, lr: float, variant: Variant) -> bool:
        """Whether the expected squared error stays bounded, a short last batch included."""
        if not variant.short_batch or not self.is_stable(lr, variant.batch_size):
            return self.is_stable(lr, variant.batch_size)
        # A smaller batch adds a positive map: if it is stable on its own, the product of its map with others is, too.
        if self.is_stable(lr, variant.short_batch):
            return True
        drawn, lr = self._at(lr)
        return is_stable(drawn._epoch(lr, variant))

    def settled_excess(self, lr: float, variant: Variant) -> float:
        """Return the :meth:`floor` of epochs that are stable, to three digits."""
        least = LEAST * self._reduced.lr
        if lr < least:  # the map of an epoch would differ from 1 by rounding errors only
            return lr / least * self.settled_excess(least, variant)
        drawn, lr = self._at(lr)
        if variant.short_batch:
            epoch = drawn._epoch(lr, variant)
        else:
            epoch = drawn._reduced.update(lr, self.spread(variant.batch_size))
        return float(drawn._reduced.observe @ settled(epoch))

    def floor(self, lr: float, variant: Variant) -> float:
        """Return how far above the lowest loss the expected train loss stays at a constant learning rate.

        The floor is that at the ends of epochs. A short last batch is noisier than the others, and counts.

        Args:
            lr: The learning rate.
            variant: The batches of an epoch.

        Returns:
            The excess, in units of the loss; ``inf`` where the learning rate is not stable.

        Example:
            >>> x = torch.tensor([[1.0], [1.0]])
            >>> loss = LinearLoss.of(x, torch.tensor([[1.0], [-1.0]]), bias=False)
            >>> drawn = DrawnBatches(loss, loss.optimum)
            >>> round(drawn.floor(0.1, Variant.of(1, 2)), 9)  # lr / (1 - lr) times least-squares loss 1
            0.111111111
        """
        if not self.epochs_are_stable(lr, variant):
            return math.inf
        if variant.short_batch:
            return self.settled_excess(lr, variant)
        return self._moment_limits.floor(lr, self.spread(variant.batch_size))

    def excess(self, lr: float, variant: Variant, epochs: int) -> float:
        """Return how far above the lowest loss the expected train loss is after some epochs."""
        drawn, lr = self._at(lr)
        state = torch.linalg.matrix_power(drawn._epoch(lr, variant), epochs) @ drawn._reduced.start
        return float(drawn._reduced.observe @ state)

    def expected_losses(self, lr: float | Tensor, variant: Variant, epochs: int) -> Tensor:
        """Return the expected train loss before the first and after every epoch, shape (epochs + 1,).

        Args:
            lr: The learning rate, or those of a run as a :data:`~gd_lightning.theory.changing_rates.Schedule` gives
                them, shape (epochs, 1) or (epochs, updates per epoch).
            variant: The batches of an epoch.
            epochs: The number of epochs.
        """
        if not isinstance(lr, Tensor):
            drawn, lr = self._at(lr)
            return drawn._losses_at(_powers(drawn._epoch(lr, variant), drawn._reduced.start, epochs))
        states, rate, epoch, left = [self._reduced.start], math.nan, torch.empty(0), 0.0
        for of_epoch in lr:
            if len(of_epoch) > 1 or left or of_epoch.item() < self._reduced.slow:
                rates = of_epoch.expand(variant.updates_per_epoch).tolist()
                state, left = self._followed(states[-1], rates, variant, left)
                states.append(state)
                continue
            if rate != of_epoch.item():
                rate = of_epoch.item()
                epoch = self._epoch(rate, variant)
            states.append(epoch @ states[-1])
        return self._losses_at(torch.stack(states))

    def _losses_at(self, states: Tensor) -> Tensor:
        """Return the expected train loss at reduced states, shape (n, k); no bit depends on how many there are."""
        return self.loss.lowest + (states * self._reduced.observe).sum(dim=1)

    def spread(self, batch_size: int) -> float:
        """Return the variance of a batch's mean in units of one sample's."""
        return share_of_variance(self.loss.n_samples, batch_size, self.replacement)

    def _epoch(self, lr: float, variant: Variant) -> Tensor:
        """Return the map of a reduced state by all updates of an epoch, shape (k, k)."""
        product = torch.eye(len(self._reduced.start), dtype=torch.float64)
        for count, size in variant.batch_sizes:
            if count:
                update = self._reduced.update(lr, self.spread(size))
                product = torch.linalg.matrix_power(update, count) @ product
        return product

    def _followed(self, state: Tensor, rates: list[float], variant: Variant, left: float = 0.0) -> tuple[Tensor, float]:
        """Return a reduced state after an epoch whose updates have learning rates of their own, and what is left.

        Updates whose learning rates are too small for the model are made as one, with the sum of these; ``left`` is the
        sum of those that are still to be made.
        """
        for index, rate in enumerate(rates):
            left += rate
            if left >= self._reduced.slow:
                state = self._reduced.update(left, self.spread(variant.size_of(index))) @ state
                left = 0.0
        return state, left

    def _at(self, lr: float) -> tuple[DrawnBatches, float]:
        """Return updates that are exact enough at a learning rate: these, or ones without momentum at a larger rate."""
        if lr >= self._reduced.slow:
            return self, lr
        return self._without_momentum, lr / (1 - self.rule.momentum)

    @cached_property
    def _without_momentum(self) -> DrawnBatches:
        return replace(self, rule=replace(self.rule, momentum=0.0, nesterov=False))

    @cached_property
    def moments(self) -> Moments:
        """The map of the second moments of the error."""
        return Moments(self.loss, self.rule)

    @property
    def _moment_limits(self) -> MomentLimits:
        return MomentLimits(self.moments)

    @cached_property
    def _reduced(self) -> ReducedUpdates:
        return ReducedUpdates.of(self.moments, self.start, self.small)


def _powers(epoch: Tensor, start: Tensor, epochs: int) -> Tensor:
    """Return the states after 0, 1, ... epochs of one map, shape (epochs + 1, k), computed in blocks."""
    states, power = start[None], epoch
    while len(states) < min(epochs + 1, _AT_ONCE):
        states = torch.cat([states, states @ power.T])
        power = power @ power
    if not power.isfinite().all():  # far above the limit, the powers of the map overflow
        one_by_one = [start]
        for _ in range(epochs):
            one_by_one.append(epoch @ one_by_one[-1])
        return torch.stack(one_by_one)
    blocks = [states]
    while len(blocks) * len(states) <= epochs:
        blocks.append(blocks[-1] @ power.T)
    return torch.cat(blocks)[: epochs + 1]
