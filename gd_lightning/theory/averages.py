"""The loss of an average of the parameters: of all since some update (Polyak and Ruppert), or an exponential one.

The average a moves with the parameters by a <- a + w_t (theta - a), where w_t is 1 / t for the mean of t parameters,
and 1 - decay for an exponential average. So error, velocity and average move together by one affine map, and the second
moments of all three by the map of ``drawn_moments.py`` with one more number in each direction. As torch's
``AveragedModel`` does it, the first parameters that are averaged are copied.

Sources: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, SIAM J. Control Optim. 30 (1992),
https://doi.org/10.1137/0330046; Defossez and Bach, Averaged least-mean-squares, AISTATS 2015,
https://arxiv.org/abs/1412.0156.

Letters: R directions, T updates, E epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.theory.changing_rates import refuse_too_many, updated
from gd_lightning.theory.critical_batch_size import share_of_variance
from gd_lightning.theory.drawn_moments import Moments
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant


@dataclass(frozen=True)
class Average:
    """How parameters are averaged.

    Args:
        decay: Decay of an exponential average, from 0 to below 1; None: the mean of all parameters.
        first_update: The first update after which parameters are averaged, from 1; before, there is no average, and the
            parameters count as theirs.
    """

    decay: float | None = None
    first_update: int = 1

    def weight(self, update: int) -> float:
        """Return w_t, the weight of the parameters after an update, counted from 1."""
        if update <= self.first_update:
            return 1.0
        return 1 / (update - self.first_update + 1) if self.decay is None else 1 - self.decay


class Weighs(Protocol):
    """A rule for the weight of the newest parameters in an average: an :class:`Average`, or any other one."""

    def weight(self, update: int) -> float:
        """Return w_t, the weight of the parameters after an update, counted from 1."""


def averaged_losses(
    loss: LinearLoss, start: Affine, rule: UpdateRule, variant: Variant, rates: Tensor, average: Weighs
) -> Tensor:
    """Return the train loss of the average before the first and after every epoch, batches in the order of the samples.

    Args:
        loss: The loss on the training set, its rows in their order.
        start: The parameters before the first update.
        rule: The update rule; its learning rate is not used.
        variant: The batches of an epoch; one of all samples is batch gradient descent.
        rates: The learning rates, shape (E, updates of an epoch) or (E, 1).
        average: How parameters are averaged.

    Returns:
        Shape (E + 1,).

    Raises:
        InputError: There are too many updates.
    """
    refuse_too_many(rates, variant)
    mean = loss.error(start)
    errors = [mean]
    for update, error in enumerate(updated(loss, mean, rule, variant, rates), 1):
        mean = mean + average.weight(update) * (error - mean)
        if update % variant.updates_per_epoch == 0:
            errors.append(mean)
    return loss.lowest + loss.excess(torch.stack(errors))


def expected_averaged_losses(
    loss: LinearLoss,
    start: Affine,
    rule: UpdateRule,
    variant: Variant,
    rates: Tensor,
    average: Weighs,
) -> Tensor:
    """Return the expected train loss of the average before the first and after every epoch, for drawn batches.

    Args:
        loss: The loss on the training set.
        start: The parameters before the first update.
        rule: The update rule; its learning rate is not used.
        variant: The batches of an epoch.
        rates: The learning rates, shape (E, updates of an epoch) or (E, 1).
        average: How parameters are averaged.

    Returns:
        Shape (E + 1,).

    Raises:
        InputError: There are too many updates.
    """
    refuse_too_many(rates, variant)
    moments = AveragedMoments(loss, rule)
    state, update = moments.state(start), 0
    observed = [moments.observation @ state]
    sizes = map(variant.size_of, range(variant.updates_per_epoch))
    spreads = [share_of_variance(loss.n_samples, size) for size in sizes]
    for of_epoch in rates.expand(-1, variant.updates_per_epoch).tolist():
        for lr, spread in zip(of_epoch, spreads, strict=True):
            update += 1
            moments = moments.with_weight(average.weight(update))
            state = moments.moved(state, lr, spread * moments.drawn(state))
        observed.append(moments.observation @ state)
    return loss.lowest + torch.stack(observed)


@dataclass(frozen=True, eq=False)
class AveragedMoments(Moments):
    """The map of the second moments of error, velocity and average; the average comes last.

    Args:
        loss: The loss on the training set.
        rule: How an update moves, but for its learning rate.
        weight: w_t, the weight of the newest parameters in the average.
    """

    weight: float = 1.0

    def with_weight(self, weight: float) -> AveragedMoments:
        """Return the map with another weight; means over samples are shared."""
        other = replace(self, weight=weight)
        other.__dict__["products"] = self.products
        return other

    @property
    def block(self) -> int:
        """The number of variables that an update moves in each direction."""
        return self.moving + 1

    @property
    def observed(self) -> int:
        """The index of the variable of which the excess is computed: the average."""
        return self.moving

    def state(self, start: Affine) -> Tensor:
        """Return the state of parameters that are their own average."""
        state = super().state(start)
        m, mean = self.parts(state)
        for place in (self.moving, self.moving * self.block, self.block**2 - 1):
            m[place] = m[0]
        mean[self.moving] = mean[0]
        return state

    def maps(self, lr: float) -> Tensor:
        """Return A, shape (R, b, b)."""
        inner, moving = super().maps(lr), self.moving
        found = torch.zeros(len(inner), self.block, self.block, dtype=torch.float64)
        found[:, :moving, :moving] = inner
        found[:, moving, :moving] = self.weight * inner[:, 0]
        found[:, moving, moving] = 1 - self.weight
        return found

    def kicked(self, lr: float) -> Tensor:
        """Return c, shape (b,)."""
        inner = super().kicked(lr)
        return torch.cat([inner, self.weight * inner[:1]])
