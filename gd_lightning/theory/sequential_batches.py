"""Gradient descent over batches in a fixed order (``sequential``): the exact linear map of an epoch.

An update with batch b takes the error d to (I - lr H_b) d + lr g_b, so an epoch is an affine map d -> E d + c. E
decides whether epochs shrink the distance to the fixed point of the map. The largest norm of the products that lead to
E says how much an error may grow within an epoch, even where every epoch shrinks it. Source, for the epoch as one map:
Ying, Yuan, Vlaski and Sayed, Stochastic learning under random reshuffling with constant step-sizes, IEEE Trans. Signal
Processing 67 (2019), https://arxiv.org/abs/1803.07964.

With weight decay w, an update adds lr (w d - H p), d being the error about the minimum of the objective, and p what
the decay adds to the least-squares solution. With momentum, d stands for error and velocity, (d, v), which an update
moves as in ``full_batch.py``.

Letters: N samples, K outputs, R directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant

_NORMS = 200  # maximum number of products of an epoch whose norm is computed: a norm costs R^3


@dataclass(frozen=True)
class SequentialEpoch:
    """An epoch of updates in the order of the samples.

    Args:
        loss: The loss on the training set, its rows in their order.
        matrix: E, shape (R, R), in the directions of ``loss``; with momentum (2 R, 2 R), errors before velocities.
        shift: c, shape (R, K) or (2 R, K).
        largest_growth: Factor by which the error can grow in an epoch: the largest spectral norm of the product of its
            first updates, at up to 200 places; at least 1, before the first update. The velocity is 0 before the first.
    """

    loss: LinearLoss
    matrix: Tensor
    shift: Tensor
    largest_growth: float

    @classmethod
    def of(cls, loss: LinearLoss, rule: UpdateRule, variant: Variant) -> SequentialEpoch:
        """Carry out an epoch on all directions at once.

        Args:
            loss: The loss on the training set, its rows in the order of the samples.
            rule: The update rule.
            variant: The batches of an epoch.
        """
        momentum = rule.momentum
        directions = len(loss.eigenvalues)
        size = 2 * directions if momentum else directions
        state = torch.cat([torch.eye(size), torch.zeros(size, loss.n_outputs)], dim=1).double()
        error, velocity = state[:directions], state[directions:]
        updates = variant.updates_per_epoch
        looks = set(torch.linspace(1, updates, min(updates, _NORMS)).round().long().tolist())
        growth, at_minimum = 1.0, -loss.eigenvalues[:, None] * loss.pull  # gradient of the decay at the minimum
        for index in range(updates):
            batch = slice(variant.samples_at(index), variant.samples_at(index + 1))
            rows, residuals = loss.rows[batch], loss.residuals[batch]
            wrong = rows @ error
            wrong[:, size:] -= residuals
            step = (2 / (loss.n_outputs * len(rows))) * (rows.T @ wrong) + loss.weight_decay * error
            step[:, size:] += at_minimum
            if momentum:
                velocity = momentum * velocity + step
                step = step + momentum * velocity if rule.nesterov else velocity
            error = error - rule.lr * step
            if index + 1 in looks:
                growth = max(growth, torch.linalg.matrix_norm(error[:, :directions], ord=2).item())
        state = torch.cat([error, velocity])
        return cls(loss, state[:, :size], state[:, size:], growth)

    @property
    def contraction(self) -> float:
        """The factor by which an epoch shrinks the error in the long run: the spectral radius of E."""
        return float(torch.linalg.eigvals(self.matrix).abs().max())

    @property
    def floor(self) -> float:
        """The excess over the lowest loss at the ends of epochs, at the fixed point of the map; ``inf`` if unstable."""
        if self.contraction >= 1:
            return float("inf")
        fixed = torch.linalg.solve(torch.eye(len(self.matrix), dtype=torch.float64) - self.matrix, self.shift)
        return self.loss.excess(fixed[: len(self.loss.eigenvalues)]).item()

    def predicted_losses(self, start: Affine, epochs: int) -> Tensor:
        """Return the train loss before the first and after every epoch, shape (epochs + 1,); exact up to rounding."""
        error = self.loss.error(start)
        state = torch.cat([error, error.new_zeros(len(self.matrix) - len(error), error.shape[1])])
        errors = [error]
        for _ in range(epochs):
            state = self.matrix @ state + self.shift
            errors.append(state[: len(error)])
        return self.loss.lowest + self.loss.excess(torch.stack(errors))
