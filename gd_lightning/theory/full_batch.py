"""Batch gradient descent on a quadratic loss: exact stability, rate and loss curve.

In the direction of an eigenvector with eigenvalue lam, an update of torch's SGD acts on error d and velocity v as

    v <- mu v + lam d,    d <- d - lr v            (momentum mu)
    v <- mu v + lam d,    d <- d - lr (lam d + mu v)    (Nesterov, with the new v)

so every statement follows from one 2 by 2 matrix per direction. Sources: Polyak, Some methods of speeding up the
convergence of iteration methods, USSR Comp. Math. 4 (1964), https://doi.org/10.1016/0041-5553(64)90137-5; Nesterov,
Soviet Math. Dokl. 27 (1983), https://www.mathnet.ru/eng/dan46009; Goh, Why momentum really works, Distill (2017),
https://doi.org/10.23915/distill.00006.

Letters: R directions, K outputs, T updates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.numerics.searches import minimum, smallest_whole
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.update_rule import PLAIN, UpdateRule

_MOST_UPDATES = 2.0**900
_BLOCK = 4_096  # updates that are checked at a time
_MOST_EXACT = 1e6  # largest number of updates for which oscillations are checked
_VECTORS = 64  # multiple of the length of vector registers: powers of a rest would have other last bits


def largest_stable_lr(lambda_max: float, rule: UpdateRule = PLAIN) -> float:
    """Return the learning rate below which gradient descent converges: 2 (1 + mu) / lambda_max.

    With Nesterov's momentum it is 2 (1 + mu) / ((1 + 2 mu) lambda_max).

    Args:
        lambda_max: Largest eigenvalue of the Hessian of the loss.
        rule: The update rule, with momentum mu.

    Example:
        >>> round(largest_stable_lr(16.67068), 5), round(largest_stable_lr(1, UpdateRule(momentum=0.9)), 9)
        (0.11997, 3.8)
    """
    return 2 * (1 + rule.momentum) / ((1 + 2 * rule.momentum if rule.nesterov else 1) * lambda_max)


def best_lr(lambda_min: float, lambda_max: float, rule: UpdateRule = PLAIN) -> float:
    """Return the learning rate that reduces the error fastest, 2 (1 + mu) / (lambda_min + lambda_max).

    The roots of an update, z^2 - (1 + mu - lr lam) z + mu = 0, are as large at lr lam as at 2 (1 + mu) - lr lam, so the
    best learning rate is where the smallest and the largest eigenvalue are equally far from the middle. With Nesterov's
    momentum it is found by a search, to six digits.

    Args:
        lambda_min: Smallest eigenvalue of the Hessian that is not 0.
        lambda_max: Largest eigenvalue.
        rule: The update rule.
    """
    if rule.nesterov:
        outer = torch.tensor([lambda_min, lambda_max], dtype=torch.float64)
        limit = largest_stable_lr(lambda_max, rule)
        return minimum(lambda lr: contraction(outer, rule.at(lr)), 0.0, limit, 1e-6 * limit)
    return 2 * (1 + rule.momentum) / (lambda_min + lambda_max)


def best_heavy_ball(lambda_min: float, lambda_max: float) -> UpdateRule:
    """Return the learning rate and momentum that reduce the error fastest.

    lr = 4 / (sqrt(lambda_max) + sqrt(lambda_min))^2 and mu = ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^2, with kappa the
    condition number. Source: Polyak (1964).
    """
    low, high = math.sqrt(lambda_min), math.sqrt(lambda_max)
    return UpdateRule(4 / (high + low) ** 2, momentum=((high - low) / (high + low)) ** 2)


def contraction(eigenvalues: Tensor, rule: UpdateRule) -> float:
    """Return the factor by which an update shrinks the error in the long run; 1 or more where it does not.

    Args:
        eigenvalues: Eigenvalues of the Hessian, shape (R,).
        rule: The update rule.

    Returns:
        The largest modulus of the eigenvalues of the update.
    """
    return float(torch.linalg.eigvals(update_matrices(eigenvalues, rule)).abs().max())


def predicted_losses(loss: LinearLoss, start: Affine, rule: UpdateRule, updates: int) -> Tensor:
    """Return the train loss of batch gradient descent before the first and after every update, shape (T + 1,).

    It is exact: what a run in float64 measures differs by rounding alone.

    Args:
        loss: The loss on the training set.
        start: The parameters before the first update.
        rule: The update rule.
        updates: T.
    """
    error = loss.error(start)
    if rule.momentum == 0:
        factors = 1 - rule.lr * loss.curvatures
        # The powers are computed for one direction at a time: all at once would be T * R numbers.
        steps = torch.arange(updates + 1 + -(updates + 1) % _VECTORS, dtype=torch.float64)
        excess = torch.zeros_like(steps)
        for factor, *weights in zip(factors, *_weights(loss, error), strict=True):
            for power, weight in enumerate(weights, 1):
                excess += weight * (factor**power) ** steps if weight else 0.0
        return loss.lowest + excess[: updates + 1]
    update = update_matrices(loss.curvatures, rule)
    state = torch.stack([error, torch.zeros_like(error)], dim=1)
    errors = [error]
    for _ in range(updates):
        state = update @ state
        errors.append(state[:, 0])
    return loss.lowest + loss.excess(torch.stack(errors))


def updates_to_excess(loss: LinearLoss, start: Affine, rule: UpdateRule, excess: float) -> float:
    """Return how many updates of batch gradient descent bring the loss to the lowest loss plus an excess.

    Args:
        loss: The loss on the training set.
        start: The parameters before the first update.
        rule: The update rule.
        excess: How far above the lowest loss, in units of the loss; more than 0.

    Returns:
        A whole number, and ``inf`` where the loss is never so small. With momentum the loss may oscillate: from so
        many updates on it stays so small, but it may have been so before. With momentum, a result above a million is
        an upper bound.
    """
    error = loss.error(start)
    if excess >= loss.excess(error) and not loss.weight_decay:  # with weight decay, the loss can rise above its start
        return 0
    if not rule.lr < largest_stable_lr(loss.sharpest, rule):
        return math.inf
    modes, weights = _Modes.of(loss.curvatures, rule), _weights(loss, error)
    high = 1.0
    while modes.bound(weights, high) > excess:
        if high >= _MOST_UPDATES:
            return math.inf
        high *= 2
    high = smallest_whole(lambda time: modes.bound(weights, time) <= excess, high / 2, high)
    # From here on the bound stays below; where two modes interfere, the loss does so since it was last above.
    while 0 < high <= _MOST_EXACT:
        times = torch.arange(max(0, high - _BLOCK), high, dtype=torch.float64)
        above = (modes.excess(weights, times) > excess).nonzero()
        if len(above):
            return int(times[above[-1, 0]]) + 1
        high -= len(times)
    return high


@dataclass(frozen=True)
class _Modes:
    """The two modes of each direction, d_t = c_1 z_1^t + c_2 z_2^t for an error of 1 and no velocity at t = 0.

    With z = 1 - w and a = lr lam, w solves w^2 - p w + a = 0, p = 1 - mu + a (Nesterov: + mu a): in this form nothing
    is lost where a is far below the precision.

    Args:
        logarithms: Logarithms of z_1 and z_2, shape (2, R), complex.
        shares: c_1 and c_2, of the same shape.
    """

    logarithms: Tensor
    shares: Tensor

    @classmethod
    def of(cls, eigenvalues: Tensor, rule: UpdateRule) -> _Modes:
        momentum, nesterov = rule.momentum, rule.nesterov
        a = rule.lr * eigenvalues.double()
        p = 1 - momentum + a * (1 + momentum if nesterov else 1)
        discriminant = p.square() - 4 * a
        # Two modes that coincide are separated by a difference too small to matter.
        apart = torch.where(discriminant.abs() < 1e-14, 1e-14, discriminant).to(torch.complex128).sqrt()
        larger = torch.where(p >= 0, p + apart, p - apart) / 2
        w = torch.stack([a / larger, larger])
        first = a * (1 + momentum if nesterov else 1)  # the fraction that the first update subtracts
        shares = torch.stack([(w[1] - first) / (w[1] - w[0]), (first - w[0]) / (w[1] - w[0])])
        return cls(_log1m(w), shares)

    def excess(self, weights: tuple[Tensor, Tensor], times: Tensor) -> Tensor:
        """Return the sum over directions of weights times d_t and d_t^2, shape of ``times``."""
        total = torch.zeros_like(times)
        for linear, squared, logarithms, shares in zip(*weights, self.logarithms.T, self.shares.T, strict=True):
            error = (shares[:, None] * (logarithms[:, None] * times).exp()).sum(dim=0).real
            total += error * (linear + squared * error)
        return total

    def bound(self, weights: tuple[Tensor, Tensor], time: float) -> float:
        """Return an upper bound of :meth:`excess` that falls with time."""
        sizes = (self.shares.abs() * (self.logarithms.real * time).exp()).sum(dim=0)
        return (sizes * (weights[0].abs() + weights[1] * sizes)).sum().item()


def _weights(loss: LinearLoss, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of a direction's error and its square in the excess, in units of initial errors, shape (R,).

    The first is 0 without weight decay.
    """
    linear = loss.eigenvalues * (loss.pull * error).sum(dim=1)
    return linear, loss.eigenvalues / 2 * error.square().sum(dim=1)


def _log1m(w: Tensor) -> Tensor:
    """Return log(1 - w) of complex numbers, also of tiny ones; of 1 it is a number whose exponential is 0."""
    size = -2 * w.real + w.real.square() + w.imag.square()  # abs(1 - w)^2 - 1
    return torch.complex(torch.log1p(size.clamp(min=-1)).clamp(min=-1e300) / 2, torch.atan2(-w.imag, 1 - w.real))


def update_matrices(eigenvalues: Tensor, rule: UpdateRule) -> Tensor:
    """Return the matrix of an update on (d, v) in each direction, shape (R, 2, 2).

    Args:
        eigenvalues: Eigenvalues of the Hessian, shape (R,).
        rule: The update rule.
    """
    lam, mu = eigenvalues.double(), torch.full_like(eigenvalues, rule.momentum, dtype=torch.float64)
    step = rule.lr * (1 + mu if rule.nesterov else 1)
    first = [1 - step * lam, -rule.lr * mu * (mu if rule.nesterov else 1)]
    return torch.stack([torch.stack(first, dim=-1), torch.stack([lam, mu], dim=-1)], dim=-2)
