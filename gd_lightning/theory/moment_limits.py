"""The largest learning rate with bounded second moments under drawn batches, and their stationary values.

The formulas are in ``drawn_moments.py``: with f of a growth x, everything follows from F'f F, a symmetric operator, and
from matrices of shape (b^2, b^2), one for each pair of directions.

Letters: K outputs, R directions, S pairs of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.theory.drawn_moments import Moments
from gd_lightning.theory.full_batch import largest_stable_lr
from gd_lightning.theory.numerics.krylov import conjugate_gradient, largest_eigenvalue
from gd_lightning.theory.numerics.searches import root


@dataclass(frozen=True, eq=False)
class MomentLimits:
    """Limits of second moments; a spread is s, the variance of a batch's mean in units of one sample's.

    Args:
        moments: The map of a state by an update.
    """

    moments: Moments

    def largest_stable_lr(self, spread: float) -> float:
        """Return the learning rate below which the expected squared error stays bounded."""
        if spread == 0:
            return self._limit_of_the_mean
        if not self.moments.rule.momentum:
            return self._limit_without_momentum(spread)
        limit = self._limit_of_the_mean
        low = 1e-3 * limit
        while self._radius(low, spread) >= 1:
            low /= 10
        # lr / radius is nearly linear in lr, and 0 at the limit of the mean.
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
        moments, products = self.moments, self.moments.products
        m, mean = moments.parts(state)
        strength, constant = self._strength(spread), state[-1] / (x - 1)
        maps = x * torch.eye(moments.block, dtype=torch.float64) - moments.maps(lr)
        means = torch.linalg.solve(maps, mean.transpose(0, 1)).transpose(0, 1)
        forced = strength * (constant * products.noise - 2 * products.crossed(means[0]))
        system, kick = self._system(lr, spread, x), moments.kick(lr)
        found = torch.linalg.solve(system, m.T + forced[:, None] * kick).T
        resolvent = torch.linalg.solve(system, kick.expand(len(system), -1)).T
        drawn = strength * products.up(self._solved(strength * resolvent[0], products.down(found[0])))
        return torch.cat([(found + resolvent * drawn).flatten(), means.flatten(), constant[None]])

    def floor(self, lr: float, spread: float) -> float:
        """Return the excess at which a stable learning rate stays."""
        f, products = self._resolvent(lr, spread), self.moments.products
        settled = f * (products.noise + products.up(self._solved(f, products.down(f * products.noise))))
        return float(self.moments.observation[: len(settled)] @ settled)

    @property
    def _limit_of_the_mean(self) -> float:
        return largest_stable_lr(self.moments.loss.sharpest, self.moments.rule)

    def _limit_without_momentum(self, spread: float) -> float:
        """Return one over the largest eigenvalue of L^-1 R."""
        products, curvatures = self.moments.products, self.moments.loss.curvatures
        i, j = products.pairs
        scale, strength = (curvatures[i] + curvatures[j]).rsqrt(), self._strength(spread)
        of_mean = curvatures[i] * curvatures[j] - strength * products.gram

        def apply(m: Tensor) -> Tensor:
            m = scale * m
            return scale * (of_mean * m + strength * products.up(products.down(m)))

        return 1 / largest_eigenvalue(apply, products.identity)

    def _radius(self, lr: float, spread: float) -> float:
        """Return the largest eigenvalue of F'f F at x = 1."""
        f, products = self._resolvent(lr, spread), self.moments.products
        return largest_eigenvalue(lambda y: products.down(f * products.up(y)), products.down(products.identity))

    def _solved(self, f: Tensor, right: Tensor) -> Tensor:
        """Solve y - F'f F y = right."""
        products = self.moments.products
        return conjugate_gradient(lambda y: y - products.down(f * products.up(y)), right)

    def _resolvent(self, lr: float, spread: float) -> Tensor:
        """Return f at x = 1, shape (S,), as lr times the solution of a system whose numbers do not vanish with lr.

        The equation of the errors is divided by lr and that of the velocities multiplied, with their second moments in
        units of 1 / lr. Terms that would cancel (1 - (1 - a) (1 - b)) or underflow (lr^2 / lr) are expanded.
        """
        moments, (i, j), strength = self.moments, self.moments.products.pairs, self._strength(spread)
        system, kick = self._system(lr, spread, 1.0), moments.kick(1.0)
        system[:, 0] /= lr
        if moments.block > 1:
            system[:, -1] *= lr
            system[:, :, -1] /= lr
            system[:, 0, -1] = -moments.maps(1.0)[0, 0, 1].square()
        c, taken = moments.loss.curvatures, -moments.kicked(1.0)[0]
        system[:, 0, 0] = taken * (c[i] + c[j]) + lr * taken.square() * (strength * moments.products.gram - c[i] * c[j])
        found: Tensor = torch.linalg.solve(system, kick.expand(len(system), -1))[:, 0]
        return strength * lr * found

    def _system(self, lr: float, spread: float, x: float) -> Tensor:
        """Return x - A_i (x) A_j + s (2 / K)^2 g_i g_j c c' on M_dd, shape (S, b^2, b^2)."""
        moments = self.moments
        system = x * torch.eye(moments.block**2, dtype=torch.float64) - moments.pair_maps(moments.maps(lr))
        system[:, :, 0] += self._strength(spread) * moments.products.gram[:, None] * moments.kick(lr)
        return system

    def _strength(self, spread: float) -> float:
        """Return s (2 / K)^2."""
        return spread * (2 / self.moments.loss.n_outputs) ** 2
