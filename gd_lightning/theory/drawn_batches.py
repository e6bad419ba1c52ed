"""Stochastic and mini-batch gradient descent with drawn batches, in the mean square: stable or not, curve and floor.

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

with G = Z'Z / N and H = 2 G / K. The map of M is positive and symmetric, so it is stable if and only if 2 lr / K is
below one over the largest eigenvalue of L^-1 R, where L M = G M + M G and R M = G M G + s (mean of z z'M z z' - G M G).
With momentum, see ``drawn_moments.py``. Sources: Defossez and Bach, Averaged least-mean-squares, AISTATS 2015; Ma,
Bassily and Belkin, The power of interpolation, ICML 2018. The tests derive map, limit and floor by enumerating all
batches.

Letters: N samples, K outputs, B batch, R directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.critical_batch_size import share_of_variance
from gd_lightning.theory.drawn_moments import Moments, MovingMoments
from gd_lightning.theory.numerics.krylov import largest_eigenvalue, power, powers, smallest_eigenvalue, solve
from gd_lightning.theory.numerics.searches import minimum
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.variants import Variant

_PRECISION = 5e-3  # of a learning rate that is searched for, in parts of the limit
_MIXED = 0.1
_FINER = 5e-4  # with momentum, with which it can be far below the limit
_MOST_EPOCHS = 10_000  # until a floor has settled
_SMALL = 400  # numbers of a state up to which its map is written down as a matrix


@dataclass(frozen=True)
class DrawnBatches:
    """What comes of updates whose batches are drawn.

    Args:
        loss: The loss on the training set.
        variant: The batches of an epoch. Limit, best learning rate and contraction are those of its batch size; a short
            last batch counts as it is in the floor and the expected losses.
        replacement: Whether a batch may hold a sample twice.
        momentum: Of the updates.
        nesterov: Whether the momentum is Nesterov's.

    Example:
        >>> x = torch.arange(-5, 5, 0.1)[:, None]
        >>> loss = LinearLoss.of(x, -5 * x)
        >>> [round(DrawnBatches(loss, Variant.of(size, 100)).largest_stable_lr, 4) for size in (1, 10, 50)]
        [0.0642, 0.1109, 0.1181]
    """

    loss: LinearLoss
    variant: Variant
    replacement: bool = True
    momentum: float = 0.0
    nesterov: bool = False

    @cached_property
    def largest_stable_lr(self) -> float:
        """The learning rate below which the expected squared error stays bounded."""
        if self.momentum:
            return self._moving.largest_stable_lr()
        moments = self._moments
        scale = moments.lyapunov.rsqrt()
        largest = largest_eigenvalue(lambda m: scale * moments.products(scale * m), self._identity())
        return self.loss.n_outputs / (2 * largest)

    @cached_property
    def best_lr(self) -> float:
        """The learning rate with the smallest :meth:`contraction`, to about two digits.

        With a = 2 lr / K the contraction without momentum is 1 less the smallest eigenvalue of a L - a^2 R, a minimum
        of concave functions of a, so a golden-section search finds it.
        """
        if self.momentum:
            limit = self.largest_stable_lr
            return minimum(self.contraction, 0.0, limit, _FINER * limit)
        moments, lyapunov = self._moments, self._moments.lyapunov
        # The eigenvector is positive semidefinite, so it has a part along the identity; that of another learning rate
        # alone may be without any, and would be taken for it.
        positive = self._identity() / lyapunov
        positive = vector = positive / positive.norm()

        def kept(lr: float) -> float:
            nonlocal vector  # near the one of the learning rate before
            a = 2 * lr / self.loss.n_outputs
            value, vector = smallest_eigenvalue(
                lambda m: a * lyapunov * m - a**2 * moments.products(m),
                vector * torch.sign((vector * positive).sum()) + _MIXED * positive,
                lambda m: m / lyapunov,
            )
            return -value

        return minimum(kept, 0.0, self.largest_stable_lr, _PRECISION * self.largest_stable_lr)

    def is_stable(self, lr: float) -> bool:
        """Whether the expected squared error stays bounded: less work than :attr:`largest_stable_lr` with momentum."""
        return self._moving.is_stable(lr) if self.momentum else lr < self.largest_stable_lr

    def contraction(self, lr: float) -> float:
        """Return the factor by which an update shrinks the expected squared error in the long run, above its floor."""
        if self.momentum:
            return self._moving.contraction(lr)
        return largest_eigenvalue(lambda m: self._moments.after(m, lr), self._identity())

    def floor(self, lr: float) -> float:
        """Return how far above the least-squares loss the expected train loss stays at a constant learning rate.

        It is that at the ends of epochs. For batches of one size it solves the discrete Lyapunov equation
        M = T M + noise, with T and noise as above. A short last batch is noisier than the others, and counts.

        Args:
            lr: The learning rate.

        Returns:
            The excess, in units of the loss; ``inf`` where the learning rate is not stable.

        Example:
            >>> x = torch.tensor([[1.0], [1.0]])
            >>> loss = LinearLoss.of(x, torch.tensor([[1.0], [-1.0]]), bias=False)
            >>> round(DrawnBatches(loss, Variant.of(1, 2)).floor(0.1), 9)  # lr / (1 - lr) times least-squares loss 1
            0.111111111
        """
        loss, moments, step = self.loss, self._moments, 2 * lr / self.loss.n_outputs
        if not self.is_stable(lr):
            return math.inf
        if moments.spread == 0:
            return 0.0
        if self.momentum:
            return self._settled(self._moving.settled(lr), lr)
        scale = moments.lyapunov.rsqrt()
        right = scale * (step * moments.spread * moments.weighted(loss.residuals.square().sum(dim=1)))
        found = scale * solve(lambda m: m - step * scale * moments.products(scale * m), right)
        return self._settled(found, lr)

    def _settled(self, found: Tensor, lr: float) -> float:
        """Return the floor at the ends of epochs, from the second moments where batches of one size settle."""
        size = self.loss.n_outputs * len(self.loss.eigenvalues) * (2 if self.momentum else 1)
        state = torch.cat([found.flatten(), torch.zeros(size, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
        observe = self.observation()
        value = float(observe @ state)
        if not self.variant.short_batch:
            return value
        # A short batch disturbs what the others have settled to; the epochs settle again, from there.
        if len(state) <= _SMALL:
            matrix = self._epoch_matrix(lr)
            inside, noise = matrix[: found.numel(), : found.numel()], matrix[: found.numel(), -1]
            if torch.linalg.eigvals(inside).abs().max() >= 1:
                return math.inf
            settled = torch.linalg.solve(torch.eye(len(inside), dtype=torch.float64) - inside, noise)
            return float(observe[: found.numel()] @ settled)
        epoch, step, slower = self._epoch(lr), math.inf, 1.0
        for _ in range(_MOST_EPOCHS):
            state = epoch(state)
            before, value = value, float(observe @ state)
            if abs(value - before) <= 1e-10 * value:
                return value
            slower, step = (value - before) / step, value - before
        # Steps that shrink go on about as a geometric series; others grow.
        return value + step * slower / (1 - slower) if slower < 1 else math.inf

    def expected_losses(self, start: Affine, lr: float, epochs: int) -> Tensor:
        """Return the expected train loss before the first and after every epoch, shape (epochs + 1,).

        Args:
            start: The parameters before the first update.
            lr: The learning rate.
            epochs: How many epochs.
        """
        state, observe = self.state(start), self.observation()
        if len(state) > _SMALL and not self.variant.short_batch:
            times = [self.variant.updates_per_epoch * epoch for epoch in range(epochs + 1)]
            return self.loss.least_squares + powers(self.update(lr, self.variant.batch_size), state, observe, times)
        epoch = self._epoch(lr)
        values = [observe @ state]
        for _ in range(epochs):
            state = epoch(state)
            values.append(observe @ state)
        return self.loss.least_squares + torch.stack(values)

    def state(self, start: Affine) -> Tensor:
        """Return the state (M, m, 1) of parameters that are known and do not move yet, flat."""
        error = self.loss.error(start)
        squares = (error @ error.T).flatten()
        if self.momentum:  # the velocity is 0
            squares, error = torch.cat([squares, squares.new_zeros(3 * len(squares))]), torch.cat([error, 0 * error])
        return torch.cat([squares, error.flatten(), torch.ones(1, dtype=torch.float64)])

    def update(self, lr: float, batch_size: int) -> Callable[[Tensor], Tensor]:
        """Return the map of a flat state by an update; its last entry, 1, stays."""
        moments = self._moments_of(batch_size)
        return (MovingMoments(moments, self.momentum, self.nesterov) if self.momentum else moments).update(lr)

    @property
    def _moments(self) -> Moments:
        return self._moments_of(self.variant.batch_size)

    @property
    def _moving(self) -> MovingMoments:
        return MovingMoments(self._moments, self.momentum, self.nesterov)

    def _moments_of(self, batch_size: int) -> Moments:
        return Moments(self.loss, share_of_variance(self.loss.n_samples, batch_size, self.replacement))

    def _identity(self) -> Tensor:
        return torch.eye(len(self.loss.eigenvalues), dtype=torch.float64)

    def observation(self) -> Tensor:
        """Return what makes the excess of a state (M, m, 1), of which the moments of the error come first."""
        directions, outputs = len(self.loss.eigenvalues), self.loss.n_outputs
        size = directions * outputs + 1
        if self.momentum:
            size += 3 * directions**2 + directions * outputs
        rest = torch.zeros(size, dtype=torch.float64)
        return torch.cat([torch.diag(self.loss.eigenvalues / 2).flatten(), rest])

    def _epoch_matrix(self, lr: float) -> Tensor:
        """Return the map of a state by an epoch, where it is small enough to be written down."""
        matrix = units = torch.eye(len(self.observation()), dtype=torch.float64)
        for count, size in self.variant.batch_sizes:
            update = self.update(lr, size)
            matrix = torch.linalg.matrix_power(torch.stack([update(unit) for unit in units], dim=1), count) @ matrix
        return matrix

    def _epoch(self, lr: float) -> Callable[[Tensor], Tensor]:
        """Return the map of a state (M, m, 1) by an epoch."""
        if len(self.observation()) <= _SMALL:
            matrix = self._epoch_matrix(lr)
            return lambda state: matrix @ state
        updates = [(count, self.update(lr, size)) for count, size in self.variant.batch_sizes if count]

        def carry_out(state: Tensor) -> Tensor:
            for count, update in updates:
                state = power(update, state, count)
            return state

        return carry_out
