"""How the second moments of the error move under drawn batches of one size, with and without momentum.

Without, see ``drawn_batches.py``. With momentum mu, the error d and the velocity v of torch's SGD (the formulas are in
``full_batch.py``) are moved in the directions i and j of the Hessian's eigenvectors by matrices A_i and A_j of shape
(2, 2), and by the noise of the gradient times c = (-lr, 1), with Nesterov's momentum (-lr (1 + mu), 1). So the second
moments

    M_ij = E[(d_i, v_i)' (d_j, v_j)],  shape (2, 2),    move by    M_ij <- A_i M_ij A_j' + Q_ij c c'

with the covariance of the noise Q = (2 / K)^2 s (mean over all samples of E|z'd - e|^2 z z' - G M_dd G). Q needs M_dd
alone, so where M grows by a factor x an update, M_dd = f o (B M_dd) with B M = (2 / K)^2 s (mean of z z'M z z' - G M G)
and f_ij the first entry of (x - A_i (x) A_j)^-1 (c (x) c): a problem with R^2 numbers instead of 4 R^2. Both maps keep
matrices positive semidefinite (f is a Gram matrix), so the radius of f o B is an eigenvalue, which falls as x rises,
and updates are stable if and only if it is below one at x = 1 and the mean is stable. Sources: Krein and Rutman,
Linear operators leaving invariant a cone, AMS Translations 26 (1950); Can, Gurbuzbalaban and Zhu, Accelerated linear
convergence of stochastic momentum methods, ICML 2019, for the map. The tests enumerate all batches.

Letters: N samples, K outputs, R directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.theory.full_batch import contraction, largest_stable_lr, update_matrices
from gd_lightning.theory.numerics.krylov import solve_any, spectral_radius
from gd_lightning.theory.numerics.searches import root
from gd_lightning.theory.quadratic_loss import LinearLoss


@dataclass(frozen=True)
class Moments:
    """The second moments of the error under drawn batches of one size.

    Args:
        loss: The loss on the training set.
        spread: s, the variance of a batch's mean in units of one sample's.
    """

    loss: LinearLoss
    spread: float

    @property
    def gram(self) -> Tensor:
        """The diagonal of G, shape (R,)."""
        return self.loss.eigenvalues * (self.loss.n_outputs / 2)

    @property
    def lyapunov(self) -> Tensor:
        """The factors by which L multiplies each entry of M, shape (R, R)."""
        return self.gram[:, None] + self.gram

    def weighted(self, weights: Tensor) -> Tensor:
        """Return the mean of w z z' over all samples, for w of shape (N,)."""
        rows = self.loss.rows
        return rows.T @ (rows * weights[:, None]) / len(rows)

    def products(self, m: Tensor) -> Tensor:
        """Return R M, the expectation of G_B M G_B over batches."""
        inside = self.gram[:, None] * m * self.gram
        if self.spread == 0:
            return inside
        return inside + self.spread * (self.weighted((self.loss.rows @ m * self.loss.rows).sum(dim=1)) - inside)

    def after(self, m: Tensor, lr: float) -> Tensor:
        """Return M after an update, without the noise of the residuals."""
        step = 2 * lr / self.loss.n_outputs
        return m - step * self.lyapunov * m + step**2 * self.products(m)

    def update(self, lr: float) -> Callable[[Tensor], Tensor]:
        """Return the map of the flat state (M, m, 1) by an update."""
        directions, outputs = len(self.loss.eigenvalues), self.loss.n_outputs
        step = 2 * lr / outputs
        squared = self.loss.residuals.square().sum(dim=1)

        def apply(state: Tensor) -> Tensor:
            m = state[: directions**2].view(directions, directions)
            mean = state[directions**2 : -1].view(directions, outputs)
            shrunk = 1 - lr * self.loss.eigenvalues
            after = shrunk[:, None] * m * shrunk
            if self.spread:
                rows = self.loss.rows
                errors = (rows @ m * rows).sum(dim=1) - 2 * (rows @ mean * self.loss.residuals).sum(dim=1)
                drawn = self.weighted(errors + state[-1] * squared) - self.gram[:, None] * m * self.gram
                after = after + step**2 * self.spread * drawn
            return torch.cat([after.flatten(), (shrunk[:, None] * mean).flatten(), state[-1:]])

        return apply


@dataclass(frozen=True)
class MovingMoments:
    """The second moments of error and velocity; the state of an update is flat, (M, m, 1).

    M has shape (2, 2, R, R), the first two for d and v, and the mean m has shape (2, R, K).

    Args:
        moments: Those without momentum.
        momentum: mu.
        nesterov: Whether the momentum is Nesterov's.
    """

    moments: Moments
    momentum: float
    nesterov: bool

    def update(self, lr: float) -> Callable[[Tensor], Tensor]:
        """Return the map of the flat state by an update."""
        moments, loss = self.moments, self.moments.loss
        directions, outputs = len(loss.eigenvalues), loss.n_outputs
        matrices, noise = self._matrices(lr), self._noise(lr)
        squared, size = loss.residuals.square().sum(dim=1), 4 * directions**2

        def apply(state: Tensor) -> Tensor:
            m = state[:size].view(2, 2, directions, directions)
            mean = state[size:-1].view(2, directions, outputs)
            after = torch.einsum("iac,cdij,jbd->abij", matrices, m, matrices)
            if moments.spread:
                rows = loss.rows
                errors = (rows @ m[0, 0] * rows).sum(dim=1) - 2 * (rows @ mean[0] * loss.residuals).sum(dim=1)
                drawn = moments.weighted(errors + state[-1] * squared) - moments.gram[:, None] * m[0, 0] * moments.gram
                drawn = drawn * (moments.spread * (2 / outputs) ** 2)
                after = after + torch.einsum("a,b,ij->abij", noise, noise, drawn)
            moved = torch.einsum("iac,cik->aik", matrices, mean)
            return torch.cat([after.flatten(), moved.flatten(), state[-1:]])

        return apply

    def is_stable(self, lr: float) -> bool:
        """Whether the expected squared error stays bounded."""
        return lr < self._limit_of_the_mean and self._radius(lr, 1.0) < 1

    def largest_stable_lr(self) -> float:
        """Return the learning rate below which the expected squared error stays bounded."""
        limit = self._limit_of_the_mean
        if self.moments.spread == 0:
            return limit
        low = 1e-3 * limit
        while self._radius(low, 1.0) >= 1:
            low /= 10
        # lr / radius is nearly a straight line, and 0 at the limit of the mean.
        return root(lambda lr: lr / self._radius(lr, 1.0) - lr, low, limit, at_high=-limit)

    def contraction(self, lr: float) -> float:
        """Return the factor by which an update shrinks the expected squared error in the long run."""
        of_the_mean = contraction(self.moments.loss.eigenvalues, lr, self.momentum, self.nesterov) ** 2
        if self.moments.spread == 0:
            return of_the_mean
        high = 2 * max(of_the_mean, 1.0)
        while self._radius(lr, high) >= 1:
            high *= 2
        return root(lambda value: 1 / self._radius(lr, value) - 1, of_the_mean, high, at_low=-1.0)

    def settled(self, lr: float) -> Tensor:
        """Return M at which a stable learning rate stays, shape (2, 2, R, R)."""
        moments, resolvent = self.moments, self._resolvent(lr, 1.0)
        strength = moments.spread * (2 / moments.loss.n_outputs) ** 2
        noise = strength * moments.weighted(moments.loss.residuals.square().sum(dim=1))
        found = solve_any(lambda m: m - resolvent[0, 0] * self._drawn(m), resolvent[0, 0] * noise)
        settled: Tensor = resolvent * (noise + self._drawn(found))
        return settled

    @property
    def _limit_of_the_mean(self) -> float:
        return largest_stable_lr(self.moments.loss.lambda_max, self.momentum, self.nesterov)

    def _matrices(self, lr: float) -> Tensor:
        return update_matrices(self.moments.loss.eigenvalues, lr, self.momentum, self.nesterov)

    def _noise(self, lr: float) -> Tensor:
        """Return c, shape (2,)."""
        return torch.tensor([-lr * (1 + self.momentum if self.nesterov else 1), 1.0], dtype=torch.float64)

    def _drawn(self, m: Tensor) -> Tensor:
        """Return B M, shape (R, R)."""
        moments = self.moments
        inside = moments.gram[:, None] * m * moments.gram
        return (2 / moments.loss.n_outputs) ** 2 * (moments.products(m) - inside)

    def _resolvent(self, lr: float, value: float) -> Tensor:
        """Return (x - A_i (x) A_j)^-1 (c (x) c) for all i and j, shape (2, 2, R, R)."""
        matrices, noise = self._matrices(lr), self._noise(lr)
        directions = len(matrices)
        pairs = torch.einsum("iac,jbd->ijabcd", matrices, matrices).reshape(directions, directions, 4, 4)
        found: Tensor = torch.linalg.solve(value * torch.eye(4, dtype=torch.float64) - pairs, torch.kron(noise, noise))
        return found.permute(2, 0, 1).reshape(2, 2, directions, directions)

    def _radius(self, lr: float, value: float) -> float:
        """Return the spectral radius of f o B."""
        scale = self._resolvent(lr, value)[0, 0]
        return spectral_radius(lambda m: scale * self._drawn(m), torch.diag(scale.diagonal()))
