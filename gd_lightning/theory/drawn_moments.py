"""How the second moments of the error move under drawn batches of one size, with and without momentum.

In the directions i and j of the Hessian's eigenvectors, an update moves the error d, and with momentum the velocity v
of torch's SGD (the formulas are in ``full_batch.py``), by matrices A_i and A_j of shape (b, b), b = 1 or 2, and by the
noise of the gradient times c: c = (-lr) without momentum, (-lr, 1) with, (-lr (1 + mu), 1) with Nesterov's. So the
second moments M_ij = E[(d_i, v_i)' (d_j, v_j)] and the mean m move by

    M_ij <- A_i M_ij A_j' + s (2 / K)^2 Q_ij c c',    Q = F F'M_dd - G M_dd G + noise,    m_i <- A_i m_i

with s the variance of a batch's mean in units of one sample's, F F'M the mean over all samples of z z'M z z', and the
noise that of the residuals. Only the pairs i <= j are held. Where M grows by a factor x an update, M_dd = f o F F'M_dd,
f_ij being s (2 / K)^2 times the first entry of (x - A_i (x) A_j + s (2 / K)^2 g_i g_j c c' on M_dd)^-1 (c (x) c). The
map keeps matrices positive semidefinite, so its spectral radius is an eigenvalue, and the largest one of F'f F falls as
x rises: updates are stable if and only if it is below one at x = 1 and the mean is stable. F'f F is symmetric, with as
many rows as there are samples or pairs. Without momentum, 2 lr / K is stable below one over the largest eigenvalue of
L^-1 R, where L M = G M + M G and R M = G M G + s (F F'M - G M G).

Sources: Defossez and Bach, Averaged least-mean-squares, AISTATS 2015; Krein and Rutman, Linear operators leaving
invariant a cone, AMS Translations 26 (1950); Can, Gurbuzbalaban and Zhu, Accelerated linear convergence of stochastic
momentum methods, ICML 2019, for the map. The tests enumerate all batches.

Letters: N samples, K outputs, R directions, S = R (R + 1) / 2 pairs of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.full_batch import largest_stable_lr, update_matrices
from gd_lightning.theory.numerics.krylov import conjugate_gradient, largest_eigenvalue
from gd_lightning.theory.numerics.searches import root
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.update_rule import PLAIN, UpdateRule

FEW_PAIRS = 500  # up to which the products of samples are summed up in a matrix
_SLOWEST = 1e-8  # of the largest eigenvalue: below, what is fastest may count as it does there
_AT_ONCE = 2**22  # numbers of such products


@dataclass(frozen=True, eq=False)
class Moments:
    """The map of the second moments; a state is flat, (M, m, 1), M of shape (b^2, S) and the mean m (b, R, K).

    An entry of M off the diagonal is held times the root of 2, so that inner products are those of matrices.

    Args:
        loss: The loss on the training set.
        rule: How an update moves, but for its learning rate.
    """

    loss: LinearLoss
    rule: UpdateRule = PLAIN

    def state(self, start: Affine) -> Tensor:
        """Return the state of parameters that are known and do not move yet."""
        error = self.loss.error(start)
        state = torch.zeros(self.n_second + self._block * error.numel() + 1, dtype=torch.float64)
        m, mean = self._parts(state)
        m[0], mean[0], state[-1] = self._packed(error @ error.T), error, 1.0
        return state

    @property
    def observation(self) -> Tensor:
        """What makes the excess of a state."""
        found = torch.zeros_like(self.state(self.loss.optimum))
        found[: len(self._gram)] = self._packed(torch.diag(self.loss.eigenvalues / 2))
        return found

    @cached_property
    def units(self) -> Tensor:
        """Units of a state's numbers in which none is large for a small part of the excess."""
        of_errors = self.loss.eigenvalues.sqrt()
        units = torch.stack([of_errors, torch.full_like(of_errors, self.largest_stable_lr(1.0) ** 0.5)][: self._block])
        i, j = self._pairs
        second = torch.einsum("ap,bp->abp", units[:, i], units[:, j])
        means = units[:, :, None].expand(-1, -1, self.loss.n_outputs)
        return torch.cat([second.flatten(), means.flatten(), torch.ones(1, dtype=torch.float64)])

    @property
    def n_second(self) -> int:
        """How many numbers of a state are second moments; they come first."""
        return self._block**2 * len(self._gram)

    def drawn(self, state: Tensor) -> Tensor:
        """Return (2 / K)^2 Q, what a batch of one sample adds in units of c c', shape (S,)."""
        m, mean = self._parts(state)
        found = self._up(self._down(m[0])) - self._gram * m[0] + state[-1] * self._noise - 2 * self._crossed(mean[0])
        return (2 / self.loss.n_outputs) ** 2 * found

    def moved(self, states: Tensor, lr: float, drawn: Tensor | float = 0.0) -> Tensor:
        """Return states after an update.

        Args:
            states: The states before, shape (..., n).
            lr: The learning rate.
            drawn: s times what :meth:`drawn` returns, shape (..., S); 0 for batches without noise.
        """
        after, constant = self._mapped(states, self._maps(lr)), states[..., -1:]
        if isinstance(drawn, Tensor):
            kicked = (self._kick(lr)[:, None] * drawn[..., None, :]).flatten(-2)
            after = after + torch.cat([kicked, torch.zeros_like(after[..., kicked.shape[-1] :])], dim=-1)
        return torch.cat([after, constant], dim=-1)

    def weighted(self, states: Tensor, lr: float) -> Tensor:
        """Return the products of states with W, shape (..., n), an inner product in which updates shrink differences.

        It is made of one matrix a direction, lambda without momentum. With momentum it is the solution Q of
        Q - A'Q A = C times a number, C being the energy of error and velocity.
        """
        lam = self.loss.eigenvalues
        weights = lam[:, None, None]
        if self.rule.momentum:
            # Of an error that does not decay, Q would be infinite.
            lam = lam.clamp(min=_SLOWEST * self.loss.lambda_max)
            maps = update_matrices(lam, self.rule.at(lr))
            energy = torch.diag_embed(torch.stack([lam, torch.full_like(lam, lr)], dim=1)).flatten(1)
            pairs = torch.einsum("iac,ibd->icdab", maps, maps).flatten(3).flatten(1, 2)
            found = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - pairs, energy).unflatten(1, (2, 2))
            weights = found * (self.loss.eigenvalues / found[:, 0, 0])[:, None, None]
        return torch.cat([self._mapped(states, weights), states[..., -1:]], dim=-1)

    def update(self, lr: float, spread: float) -> Callable[[Tensor], Tensor]:
        """Return the map of a state by an update; its last entry, 1, stays.

        Args:
            lr: The learning rate.
            spread: s.
        """
        return lambda state: self.moved(state, lr, spread * self.drawn(state))

    def largest_stable_lr(self, spread: float) -> float:
        """Return the learning rate below which the expected squared error stays bounded."""
        limit = self._limit_of_the_mean
        if spread == 0:
            return limit
        if not self.rule.momentum:
            i, j = self._pairs
            of_rows = self.loss.eigenvalues * (self.loss.n_outputs / 2)
            scale = (of_rows[i] + of_rows[j]).rsqrt()

            def apply(m: Tensor) -> Tensor:
                m = scale * m
                return scale * ((1 - spread) * self._gram * m + spread * self._up(self._down(m)))

            return self.loss.n_outputs / (2 * largest_eigenvalue(apply, self._packed(torch.eye(len(of_rows)).double())))
        low = 1e-3 * limit
        while self._radius(low, spread) >= 1:
            low /= 10
        # lr / radius is nearly a straight line, and 0 at the limit of the mean.
        return root(lambda lr: lr / self._radius(lr, spread) - lr, low, limit, at_high=-limit)

    def is_stable(self, lr: float, spread: float) -> bool:
        """Whether the expected squared error stays bounded."""
        return lr < self._limit_of_the_mean and (spread == 0 or self._radius(lr, spread) < 1)

    def resolved(self, state: Tensor, lr: float, spread: float, x: float) -> Tensor:
        """Return (x - T)^-1 of a state, T being a stable update and x above 1: the sum of T^t state / x^(t + 1).

        Args:
            state: The state.
            lr: The learning rate.
            spread: s.
            x: The growth of the numbers that the states of all updates are divided by.
        """
        m, mean = self._parts(state)
        strength, constant = spread * (2 / self.loss.n_outputs) ** 2, state[-1] / (x - 1)
        means = torch.linalg.solve(x * torch.eye(self._block).double() - self._maps(lr), mean.transpose(0, 1))
        means = means.transpose(0, 1)
        forced = strength * (constant * self._noise - 2 * self._crossed(means[0]))
        system, kick = self._system(lr, spread, x), self._kick(lr)
        found = torch.linalg.solve(system, m.T + forced[:, None] * kick).T
        resolvent = torch.linalg.solve(system, kick.expand(len(system), -1)).T
        drawn = strength * self._up(self._settled(strength * resolvent[0], self._down(found[0])))
        return torch.cat([(found + resolvent * drawn).flatten(), means.flatten(), constant[None]])

    def floor(self, lr: float, spread: float) -> float:
        """Return the excess at which a stable learning rate stays."""
        f = spread * (2 / self.loss.n_outputs) ** 2 * self._resolvent(lr, spread)
        settled = f * (self._noise + self._up(self._settled(f, self._down(f * self._noise))))
        return float(self.observation[: len(settled)] @ settled)

    def _settled(self, f: Tensor, right: Tensor) -> Tensor:
        """Solve y - F'f F y = right."""
        return conjugate_gradient(lambda y: y - self._down(f * self._up(y)), right)

    @property
    def _limit_of_the_mean(self) -> float:
        return largest_stable_lr(self.loss.lambda_max, self.rule)

    def _radius(self, lr: float, spread: float) -> float:
        """Return the largest eigenvalue of s (2 / K)^2 F'f F at x = 1."""
        f = spread * (2 / self.loss.n_outputs) ** 2 * self._resolvent(lr, spread)
        start = self._down(self._packed(torch.eye(len(self.loss.eigenvalues), dtype=torch.float64)))
        return largest_eigenvalue(lambda y: self._down(f * self._up(y)), start)

    def _resolvent(self, lr: float, spread: float) -> Tensor:
        """Return f at x = 1, shape (S,)."""
        system = self._system(lr, spread, 1.0)
        found: Tensor = torch.linalg.solve(system, self._kick(lr).expand(len(system), -1))[:, 0]
        return found

    def _system(self, lr: float, spread: float, x: float) -> Tensor:
        """Return x - A_i (x) A_j + s (2 / K)^2 g_i g_j c c' on M_dd, shape (S, b^2, b^2)."""
        system = x * torch.eye(self._block**2, dtype=torch.float64) - self._pair_maps(self._maps(lr))
        system[:, :, 0] += spread * (2 / self.loss.n_outputs) ** 2 * self._gram[:, None] * self._kick(lr)
        return system

    # Maps of the directions

    @property
    def _block(self) -> int:
        return 2 if self.rule.momentum else 1

    def _maps(self, lr: float) -> Tensor:
        """Return A, shape (R, b, b)."""
        return update_matrices(self.loss.eigenvalues, self.rule.at(lr))[:, : self._block, : self._block]

    def _mapped(self, states: Tensor, maps: Tensor) -> Tensor:
        """Return all numbers of states but the last, (..., n - 1), after matrices of shape (R, b, b) on directions."""
        m, mean = self._parts(states)
        after = torch.einsum("pab,...bp->...ap", self._pair_maps(maps), m)
        return torch.cat([after.flatten(-2), torch.einsum("iab,...bik->...aik", maps, mean).flatten(-3)], dim=-1)

    def _pair_maps(self, maps: Tensor) -> Tensor:
        """Return A_i (x) A_j for A of shape (R, b, b), shape (S, b^2, b^2)."""
        i, j = self._pairs
        return torch.einsum("pac,pbd->pabcd", maps[i], maps[j]).reshape(len(i), self._block**2, self._block**2)

    def _kick(self, lr: float) -> Tensor:
        """Return c (x) c, shape (b^2,)."""
        c = torch.tensor([-lr * (1 + self.rule.momentum if self.rule.nesterov else 1), 1.0], dtype=torch.float64)[
            : self._block
        ]
        return torch.kron(c, c)

    # Packed matrices

    def _parts(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return M and m of a state."""
        directions, size = len(self.loss.eigenvalues), self._block**2 * len(self._gram)
        return (
            state[..., :size].unflatten(-1, (self._block**2, -1)),
            state[..., size:-1].unflatten(-1, (self._block, directions, self.loss.n_outputs)),
        )

    @cached_property
    def _pairs(self) -> Tensor:
        """I and j, shape (2, S)."""
        directions = len(self.loss.eigenvalues)
        return torch.triu_indices(directions, directions)

    @cached_property
    def _gram(self) -> Tensor:
        """g_i g_j, shape (S,)."""
        i, j = self._pairs
        return self.loss.eigenvalues[i] * self.loss.eigenvalues[j] * (self.loss.n_outputs / 2) ** 2

    @cached_property
    def _weights(self) -> Tensor:
        i, j = self._pairs
        return torch.sqrt(2.0 - (i == j).double())

    def _packed(self, matrix: Tensor) -> Tensor:
        i, j = self._pairs
        return matrix[i, j] * self._weights

    # Means over samples

    @cached_property
    def _noise(self) -> Tensor:
        return self._weighted(self.loss.residuals.square().sum(dim=1))

    def _weighted(self, weights: Tensor) -> Tensor:
        """Return the mean of w z z' over all samples, for w of shape (N,)."""
        rows = self.loss.rows
        return self._packed(rows.T @ (rows * weights[:, None])) / len(rows)

    @property
    def is_dense(self) -> bool:
        """Whether the products of samples are summed up in a matrix, as there are more samples than pairs."""
        return len(self._gram) <= min(FEW_PAIRS, len(self.loss.rows) - 1)

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor] | None:
        """F, shape (S, S), and the mean of z z' (z (x) e), shape (S, R K), where these are small; else None."""
        i, j = self._pairs
        if not self.is_dense:
            return None
        unit = self._gram.sqrt()  # without it, small numbers would be lost beside large ones
        squared, crossed = torch.zeros(2, 1, dtype=torch.float64)
        pieces = (tensor.split(max(1, _AT_ONCE // len(i))) for tensor in (self.loss.rows, self.loss.residuals))
        for rows, residuals in zip(*pieces, strict=True):
            products = rows[:, i] * rows[:, j] * (self._weights / unit)
            squared = squared + products.T @ products
            crossed = crossed + products.T @ (rows[:, :, None] * residuals[:, None]).flatten(1)
        values, vectors = torch.linalg.eigh(squared / len(self.loss.rows))
        unit = unit[:, None]
        return unit * vectors * values.clamp(min=0).sqrt(), unit * crossed / len(self.loss.rows)

    def _crossed(self, mean: Tensor) -> Tensor:
        """Return the mean over samples of z z' times z'm e, shape (S,), for m of shape (R, K)."""
        if self._sums is not None:
            return self._sums[1] @ mean.flatten()
        return self._weighted((self.loss.rows @ mean * self.loss.residuals).sum(dim=1))

    def _down(self, m: Tensor) -> Tensor:
        """Return F'm, z'M z / sqrt(N) of each sample where F is not small, for m of shape (S,)."""
        if self._sums is not None:
            return self._sums[0].T @ m
        i, j = self._pairs
        rows, matrix = self.loss.rows, torch.zeros(self.loss.rows.shape[1], self.loss.rows.shape[1]).double()
        matrix[i, j] = m * self._weights  # twice what is above the diagonal, and nothing below
        found: Tensor = (rows @ matrix * rows).sum(dim=1) / len(rows) ** 0.5
        return found

    def _up(self, y: Tensor) -> Tensor:
        """Return F y, shape (S,)."""
        return self._weighted(y) * len(self.loss.rows) ** 0.5 if self._sums is None else self._sums[0] @ y
