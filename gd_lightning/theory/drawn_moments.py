"""The map of the error's second moments under updates with randomly drawn batches, with or without momentum.

In the directions i and j of the Hessian's eigenvectors, an update moves the error d, and with momentum the velocity v
of torch's SGD (the formulas are in ``full_batch.py``), by matrices A_i and A_j of shape (b, b), b = 1 or 2, and by the
noise of the gradient times c: c = (-lr) without momentum, (-lr, 1) with, (-lr (1 + mu), 1) with Nesterov's. So the
second moments M_ij = E[(d_i, v_i)' (d_j, v_j)] and the mean m move by

    M_ij <- A_i M_ij A_j' + s (2 / K)^2 Q_ij c c',    Q = F F'M_dd - G M_dd G + noise,    m_i <- A_i m_i

with s the variance of a batch's mean in units of one sample's, F F'M the mean over all samples of z z'M z z', and the
noise that of the residuals. With weight decay, the error is the one about the minimum of the objective, the matrices
A_i are those of its curvature, and Q has the covariances of samples where their means are not 0. Only the pairs i <= j
are held. Where M grows by a factor x an update, M_dd = f o F F'M_dd, f_ij being s (2 / K)^2 times the first entry of (x
- A_i (x) A_j + s (2 / K)^2 g_i g_j c c' on M_dd)^-1 (c (x) c). The map keeps matrices positive semidefinite, so its
spectral radius is an eigenvalue, and the largest one of F'f F falls as x rises: updates are stable if and only if it is
below one at x = 1 and the mean is stable. F'f F is symmetric, with as many rows as there are samples or pairs. Without
momentum, lr is stable below one over the largest eigenvalue of L^-1 R, where L M = C M + M C and R M = C M C + s (2 /
K)^2 (F F'M - G M G), C being the curvatures.

Sources: Defossez and Bach, Averaged least-mean-squares, AISTATS 2015, https://arxiv.org/abs/1412.0156; Krein and
Rutman, Linear operators leaving invariant a cone, AMS Translations 26 (1950); Can, Gurbuzbalaban and Zhu, Accelerated
linear convergence of stochastic momentum methods, ICML 2019, https://arxiv.org/abs/1901.07445, for the map. The tests
enumerate all batches.

Letters: N samples, K outputs, R directions, S = R (R + 1) / 2 pairs of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.full_batch import update_matrices
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.theory.sample_products import SampleProducts
from gd_lightning.update_rule import PLAIN, UpdateRule

_SLOWEST = 1e-8  # fraction of the largest eigenvalue to which smaller ones are raised


@dataclass(frozen=True, eq=False)
class Moments:
    """The map of the second moments; a state is flat, (M, m, 1), M of shape (b^2, S) and the mean m (b, R, K).

    Args:
        loss: The loss on the training set.
        rule: How an update moves, but for its learning rate.
    """

    loss: LinearLoss
    rule: UpdateRule = PLAIN

    @cached_property
    def products(self) -> SampleProducts:
        """Means over samples."""
        return SampleProducts(self.loss)

    def state(self, start: Affine) -> Tensor:
        """Return the state of known parameters without velocity."""
        error = self.loss.error(start)
        state = torch.zeros(self.n_second + self.block * error.numel() + 1, dtype=torch.float64)
        m, mean = self.parts(state)
        m[0], mean[0], state[-1] = self.products.packed(error @ error.T), error, 1.0
        return state

    @property
    def observation(self) -> Tensor:
        """The linear form that gives the excess of a state."""
        found = torch.zeros_like(self.state(self.loss.optimum))
        second, mean = self.parts(found)
        second[self.observed * (self.block + 1)] = self.products.packed(torch.diag(self.loss.eigenvalues / 2))
        mean[self.observed] = self.loss.eigenvalues[:, None] * self.loss.pull
        return found

    @cached_property
    def units(self) -> Tensor:
        """Units of a state's numbers, in which all are of the order of their share in the excess."""
        of_errors = self.loss.eigenvalues.sqrt()
        units = torch.stack([of_errors, (2 / self.loss.eigenvalues.sum()).sqrt().expand_as(of_errors)][: self.block])
        i, j = self.products.pairs
        second = torch.einsum("ap,bp->abp", units[:, i], units[:, j])
        means = units[:, :, None].expand(-1, -1, self.loss.n_outputs)
        return torch.cat([second.flatten(), means.flatten(), torch.ones(1, dtype=torch.float64)])

    @property
    def n_second(self) -> int:
        """The number of second moments in a state; they come first."""
        return self.block**2 * len(self.products.gram)

    def drawn(self, state: Tensor) -> Tensor:
        """Return (2 / K)^2 Q, what a batch of one sample adds in units of c c', shape (S,)."""
        m, mean = self.parts(state)
        found = (
            self.products.up(self.products.down(m[0]))
            - self.products.gram * m[0]
            + state[-1] * self.products.noise
            - 2 * self.products.crossed(mean[0])
        )
        return (2 / self.loss.n_outputs) ** 2 * found

    def moved(self, states: Tensor, lr: float, drawn: Tensor | float = 0.0) -> Tensor:
        """Return states after an update.

        Args:
            states: The states before, shape (..., n).
            lr: The learning rate.
            drawn: s times what :meth:`drawn` returns, shape (..., S); 0 for batches without noise.
        """
        after, constant = self._mapped(states, self.maps(lr)), states[..., -1:]
        if isinstance(drawn, Tensor):
            kicked = (self.kick(lr)[:, None] * drawn[..., None, :]).flatten(-2)
            after = after + torch.cat([kicked, torch.zeros_like(after[..., kicked.shape[-1] :])], dim=-1)
        return torch.cat([after, constant], dim=-1)

    def weighted(self, states: Tensor, lr: float) -> Tensor:
        """Return the products of states with W, shape (..., n), an inner product in which updates shrink differences.

        It is made of one matrix a direction, lambda without momentum. With momentum it is the solution Q of
        Q - A'Q A = C times a number, C being the energy of error and velocity.
        """
        lam = self.loss.curvatures
        weights = lam[:, None, None]
        if self.rule.momentum:
            # For an eigenvalue of 0, whose error does not decay, Q would be infinite.
            lam = lam.clamp(min=_SLOWEST * self.loss.sharpest)
            maps = update_matrices(lam, self.rule.at(lr))
            energy = torch.diag_embed(torch.stack([lam, torch.full_like(lam, lr)], dim=1)).flatten(1)
            pairs = torch.einsum("iac,ibd->icdab", maps, maps).flatten(3).flatten(1, 2)
            found = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - pairs, energy).unflatten(1, (2, 2))
            weights = found * (self.loss.curvatures / found[:, 0, 0])[:, None, None]
        return torch.cat([self._mapped(states, weights), states[..., -1:]], dim=-1)

    def update(self, lr: float, spread: float) -> Callable[[Tensor], Tensor]:
        """Return the map of a state by an update; its last entry, 1, stays.

        Args:
            lr: The learning rate.
            spread: s.
        """
        return lambda state: self.moved(state, lr, spread * self.drawn(state))

    @property
    def block(self) -> int:
        """How many numbers an update moves in each direction, b: the error, and with momentum the velocity."""
        return self.moving

    @property
    def moving(self) -> int:
        """The number of those that torch's SGD has."""
        return 2 if self.rule.momentum else 1

    @property
    def observed(self) -> int:
        """The index of the variable of which the excess is computed: the error."""
        return 0

    def maps(self, lr: float) -> Tensor:
        """Return A, shape (R, b, b)."""
        return update_matrices(self.loss.curvatures, self.rule.at(lr))[:, : self.moving, : self.moving]

    def _mapped(self, states: Tensor, maps: Tensor) -> Tensor:
        """Return all numbers of states but the last, (..., n - 1), after matrices of shape (R, b, b) on directions."""
        m, mean = self.parts(states)
        after = torch.einsum("pab,...bp->...ap", self.pair_maps(maps), m)
        return torch.cat([after.flatten(-2), torch.einsum("iab,...bik->...aik", maps, mean).flatten(-3)], dim=-1)

    def pair_maps(self, maps: Tensor) -> Tensor:
        """Return A_i (x) A_j for A of shape (R, b, b), shape (S, b^2, b^2)."""
        i, j = self.products.pairs
        return torch.einsum("pac,pbd->pabcd", maps[i], maps[j]).reshape(len(i), self.block**2, self.block**2)

    def kick(self, lr: float) -> Tensor:
        """Return c (x) c, shape (b^2,)."""
        c = self.kicked(lr)
        return torch.kron(c, c)

    def kicked(self, lr: float) -> Tensor:
        """Return c, the effect of gradient noise on the variables of a direction, shape (b,)."""
        moves = -lr * (1 + self.rule.momentum if self.rule.nesterov else 1)
        return torch.tensor([moves, 1.0][: self.moving], dtype=torch.float64)

    def parts(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return M and m of a state."""
        directions, size = len(self.loss.eigenvalues), self.block**2 * len(self.products.gram)
        return (
            state[..., :size].unflatten(-1, (self.block**2, -1)),
            state[..., size:-1].unflatten(-1, (self.block, directions, self.loss.n_outputs)),
        )
