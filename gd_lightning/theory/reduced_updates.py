"""The updates of drawn batches in a space so small that a thousand learning rates and batch sizes can be tried.

The state (M, m, 1) of ``drawn_batches.py`` has about R^2 numbers, of which few combinations matter: those that it goes
through at some learning rates and batch sizes between which all others lie. An update is quadratic in the learning rate
and linear in 1 / B, so its projections at three learning rates and two batch sizes give it at all of them. Source:
Benner, Gugercin and Willcox, A survey of projection-based model reduction methods, SIAM Review 57 (2015).

Letters: R directions, B batch, n numbers of a state, k of a reduced one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.drawn_batches import DrawnBatches
from gd_lightning.theory.numerics.krylov import trajectory
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.variants import Variant

_SMALL = 100  # numbers of a state up to which all of them are kept
_SHARES = (0.95, 0.3, 0.03)  # of the limit: learning rates whose states span the space
_SETTLED = 30.0  # exponent of the decay after which a state has settled
_APPLICATIONS = 40  # of an update, from which the states are found
_KEPT = 1e-5  # of the largest singular value of those states


@dataclass(frozen=True)
class ReducedUpdates:
    """What comes of drawn batches, at any learning rate and batch size, to about three digits.

    Args:
        updates: The update at the learning rates -lr, 0, lr and the batch sizes 1, 2, shape (3, 2, k, k).
        lr: The learning rate lr.
        start: The state before the first update, shape (k,).
        observe: What makes the excess of a state, shape (k,).
    """

    updates: Tensor
    lr: float
    start: Tensor
    observe: Tensor

    @classmethod
    def of(cls, loss: LinearLoss, start: Affine, momentum: float = 0.0, nesterov: bool = False) -> ReducedUpdates:
        """Find the space.

        Args:
            loss: The loss on the training set, of two samples or more.
            start: The parameters before the first update.
            momentum: Of the updates.
            nesterov: Whether the momentum is Nesterov's.
        """
        single = DrawnBatches(loss, Variant.of(1, loss.n_samples), momentum=momentum, nesterov=nesterov)
        state, observe, lr = single.state(start), single.observation(), single.largest_stable_lr
        space = torch.eye(len(state), dtype=torch.float64) if len(state) <= _SMALL else _space(single, state)
        updates = [
            [torch.stack([single.update(rate, size)(vector) for vector in space]) @ space.T for size in (1, 2)]
            for rate in (-lr, 0.0, lr)
        ]
        projected = torch.stack([torch.stack(pair) for pair in updates]).transpose(-1, -2)
        return cls(projected, lr, space @ state, space @ observe)

    def update(self, lr: float, batch_size: int) -> Tensor:
        """Return an update, shape (k, k)."""
        at, share = lr / self.lr, 1 / batch_size
        rates = torch.tensor([at * (at - 1) / 2, 1 - at * at, at * (at + 1) / 2], dtype=torch.float64)
        sizes = torch.tensor([2 * share - 1, 2 - 2 * share], dtype=torch.float64)
        return torch.einsum("i,j,ijkl->kl", rates, sizes, self.updates)

    def epoch(self, lr: float, variant: Variant) -> Tensor:
        """Return all updates of an epoch, shape (k, k)."""
        product = torch.eye(len(self.start), dtype=torch.float64)
        for count, size in variant.batch_sizes:
            product = torch.linalg.matrix_power(self.update(lr, size), count) @ product
        return product

    def excess(self, lr: float, variant: Variant, epochs: int) -> float:
        """Return how far above the least-squares loss the expected train loss is after some epochs."""
        state = torch.linalg.matrix_power(self.epoch(lr, variant), epochs) @ self.start
        return float(self.observe @ state)

    def floor(self, lr: float, variant: Variant) -> float:
        """Return how far above the least-squares loss the expected train loss stays; ``inf`` where it is not stable."""
        epoch = self.epoch(lr, variant) if variant.short_batch else self.update(lr, variant.batch_size)
        matrix, noise = epoch[:-1, :-1], epoch[:-1, -1]
        if not matrix.isfinite().all() or torch.linalg.eigvals(matrix).abs().max() >= 1:
            return math.inf
        settled = torch.linalg.solve(torch.eye(len(matrix), dtype=torch.float64) - matrix, noise)
        return float(self.observe[:-1] @ settled)


def _space(single: DrawnBatches, state: Tensor) -> Tensor:
    """Return an orthonormal basis of the states that are gone through, shape (k, n); the last one is the constant 1."""
    loss, seen = single.loss, []
    n = loss.n_samples
    for size in sorted({1, math.ceil(n**0.5), math.ceil(n / 2)}):
        drawn = replace(single, variant=Variant.of(size, n))
        for share in _SHARES:
            lr = share * drawn.largest_stable_lr
            most = math.ceil(math.log2(_SETTLED / (lr * loss.lambda_min)))
            times = [2**i for i in range(max(most, 1) + 1)]
            seen.append(trajectory(drawn.update(lr, size), state, times, _APPLICATIONS)[:, :-1])
    states = torch.cat([state[None, :-1], *seen])
    _, sizes, basis = torch.linalg.svd(states / states.norm(dim=1, keepdim=True), full_matrices=False)
    kept = basis[sizes > _KEPT * sizes[0]]
    space = torch.zeros(len(kept) + 1, len(state), dtype=torch.float64)
    space[:-1, :-1], space[-1, -1] = kept, 1.0
    return space
