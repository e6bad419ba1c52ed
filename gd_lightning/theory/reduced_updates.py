"""A reduced model of updates with drawn batches, small enough to try a thousand learning rates and batch sizes.

The state (M, m, 1) of ``drawn_moments.py`` has about R^2 / 2 numbers, of which few combinations matter: those that it
passes through at some learning rates and batch sizes that enclose all others. An update is quadratic in the learning
rate and linear in the variance of a batch's mean, so its projections at three learning rates and two variances give it
at all of them. Source: Benner, Gugercin and Willcox, A survey of projection-based model reduction methods, SIAM Review
57 (2015), https://doi.org/10.1137/130932715.

Letters: R directions, B batch, n numbers of a state, k of a reduced one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.drawn_moments import Moments
from gd_lightning.theory.moment_limits import MomentLimits

SMALL = 120  # largest number of entries of a state for which all of them are kept
# Fractions of the limit: states at these learning rates span the space. With momentum, each oscillates differently.
_SHARES, _SHARES_WITH_MOMENTUM = (0.95, 0.3, 0.03), (0.95, 0.6, 0.3, 0.1, 0.03)
_STABLE = 1 + 1e-10  # an eigenvalue of 1 except for rounding: for collinear features, the error decays that slowly
# Maximum number of states at a learning rate: from the first updates to those after which the slowest error decayed.
_SHIFTS = 12
LEAST = 1e-6  # fraction of the limit below which the floor is proportional to the learning rate to six digits
_KEPT = 1e-7  # fraction of the largest singular value of those states
# Fraction of the limit of a batch of one sample below which, with momentum, a reduced model is not stable. There
# the velocity follows the gradient, so that momentum only makes the learning rate 1 / (1 - mu) times as large, unless
# a direction is so sharp that its error decays as fast as the velocity: the second number is this fraction of it.
_SLOW, _SLOWER_THAN_VELOCITY = 3e-3, 0.1


@dataclass(frozen=True, eq=False)
class ReducedUpdates:
    """The behaviour of updates with drawn batches at any learning rate and batch size, to about three digits.

    With momentum it is about two digits. Where a state has few numbers, all of them are kept, and it is exact.

    Args:
        moments: The updates of the states.
        space: States that span the space, shape (k, n): of second moments alone, of means alone, and the constant 1.
        drawn: The vector that a batch of one sample adds to each state, shape (k, S).
        n_second: How many of them are of second moments.
        lr: The largest stable learning rate of a batch of one sample.
        start: The state before the first update, shape (k,).
        observe: Its product with a state is the excess loss, shape (k,).
    """

    moments: Moments
    space: Tensor
    drawn: Tensor
    n_second: int
    lr: float
    start: Tensor
    observe: Tensor
    _updates: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, moments: Moments, start: Affine, small: int = SMALL) -> ReducedUpdates:
        """Find the space.

        Args:
            moments: The updates of the states.
            start: The parameters before the first update.
            small: How many numbers of a state are so few that all are kept.
        """
        state, units = moments.state(start), moments.units
        sizes = [moments.n_second, len(state) - moments.n_second - 1]
        if len(state) <= small:
            parts = [torch.eye(size, dtype=torch.float64) for size in sizes]
        else:
            parts = [_basis(part) for part in (_states(moments, state) * units)[:, :-1].split(sizes, dim=1)]
        space = torch.block_diag(*parts, torch.ones(1, 1, dtype=torch.float64))
        vectors = space / units
        drawn = torch.stack([moments.drawn(vector) for vector in vectors])
        begun, observe, lr = (
            space @ (state * units),
            vectors @ moments.observation,
            MomentLimits(moments).largest_stable_lr(1.0),
        )
        return cls(moments, vectors, drawn, len(parts[0]), lr, begun, observe)

    @cached_property
    def slow(self) -> float:
        """The learning rate below which updates are as without momentum, at a larger one; 0 where all are exact."""
        momentum, (kept, all_numbers) = self.moments.rule.momentum, self.space.shape
        if not momentum or kept == all_numbers:
            return 0.0
        settling = (1 - momentum) ** 2 / self.moments.loss.sharpest
        return min(_SLOW * self.lr, _SLOWER_THAN_VELOCITY * settling)

    def update(self, lr: float, spread: float) -> Tensor:
        """Return an update, shape (k, k).

        Args:
            lr: The learning rate.
            spread: The variance of a batch's mean in units of one sample's.
        """
        # Without momentum, the inner product does not depend on the learning rate.
        near = self.lr
        if self.moments.rule.momentum and lr > 0:
            near = 4.0 ** round(math.log2(max(lr, LEAST * self.lr)) / 2)
        if near not in self._updates:
            self._updates[near] = self._projected(near)
        at = lr / self.lr
        rates = torch.tensor([at * (at - 1) / 2, 1 - at * at, at * (at + 1) / 2], dtype=torch.float64)
        spreads = torch.tensor([1 - spread, spread], dtype=torch.float64)
        return torch.einsum("i,j,ijkl->kl", rates, spreads, self._updates[near])

    def _projected(self, lr: float) -> Tensor:
        """Return the updates at three learning rates and the spreads 0 and 1, shape (3, 2, k, k).

        Their results are projected in an inner product in which updates at about this learning rate shrink differences.
        """
        weighted = self.moments.weighted(self.space, lr)
        found: Tensor = torch.linalg.solve(self.space @ weighted.T, weighted @ self._moved.T)
        return torch.permute(found.unflatten(1, (3, 2, -1)), (1, 2, 0, 3))

    @cached_property
    def _moved(self) -> Tensor:
        """The space after updates at -lr, 0 and lr and the spreads 0 and 1, shape (6 k, n)."""
        rates, spreads = (-self.lr, 0.0, self.lr), (0.0, 1.0)
        return torch.cat([self.moments.moved(self.space, rate, s * self.drawn) for rate in rates for s in spreads])

    def contraction(self, lr: float, spread: float) -> float:
        """Return the factor by which an update shrinks the expected squared error in the long run, above its floor."""
        second = self.update(lr, spread)[: self.n_second, : self.n_second]
        return float(torch.linalg.eigvals(second).abs().max()) if second.isfinite().all() else math.inf


def is_stable(epoch: Tensor) -> bool:
    """Whether states converge under the map of an epoch, shape (k, k)."""
    matrix = epoch[:-1, :-1]
    return bool(matrix.isfinite().all()) and bool(torch.linalg.eigvals(matrix).abs().max() <= _STABLE)


def settled(epoch: Tensor) -> Tensor:
    """Return the fixed point of the map of a stable epoch, shape (k,)."""
    system = torch.eye(len(epoch) - 1, dtype=torch.float64) - epoch[:-1, :-1]
    return torch.cat([torch.linalg.solve(system, epoch[:-1, -1]), epoch.new_ones(1)])


def _states(moments: Moments, state: Tensor) -> Tensor:
    """Return states whose span contains all states of a run, shape (states, n)."""
    n, limits, seen = moments.loss.n_samples, MomentLimits(moments), [state]
    for size in sorted({1, math.ceil(n**0.5), math.ceil(n / 2)}):
        limit = limits.largest_stable_lr(1 / size)
        for share in _SHARES_WITH_MOMENTUM if moments.rule.momentum else _SHARES:
            lr = share * limit
            slowest = min(lr * moments.loss.flattest, 0.1)
            many = min(_SHIFTS, 2 + math.ceil(-2 * math.log10(slowest)))
            seen += [limits.resolved(state, lr, 1 / size, 1 + slowest ** (i / (many - 1))) for i in range(many)]
    return torch.stack(seen)


def _basis(states: Tensor) -> Tensor:
    """Return an orthonormal basis of some states, shape (k, n)."""
    states = states[states.any(dim=1)]
    _, values, basis = torch.linalg.svd(states / states.norm(dim=1, keepdim=True), full_matrices=False)
    kept: Tensor = basis[values > _KEPT * values[:1]]
    return kept
