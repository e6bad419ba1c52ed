"""Losses under changing learning rates: the affine updates of a constant one, carried out one by one.

An update at the learning rate lr_t moves error and velocity by the matrices and batches of ``full_batch.py`` and
``sequential_batches.py``, and the second moments of drawn batches by the map of ``drawn_moments.py``, each with lr_t
in the place of lr. Where all are below the largest stable learning rate, no update lets the error grow in the long run;
where some are above it, as in a warm-up that overshoots, the curve tells whether the error recovers.

Letters: T updates, E epochs, U updates of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant

Schedule = Callable[[float, int, int], Tensor]
"""From (lr, U, E) to the learning rates of a run, shape (E, U), or (E, 1) where they are constant within an epoch."""

MOST_UPDATES = 200_000
"""The most updates that are followed one after the other: some seconds."""


def followed_losses(loss: LinearLoss, start: Affine, rule: UpdateRule, variant: Variant, rates: Tensor) -> Tensor:
    """Return the train loss before the first and after every epoch, for batches in the order of the samples.

    It is exact up to rounding.

    Args:
        loss: The loss on the training set, its rows in their order.
        start: The parameters before the first update.
        rule: The update rule; its learning rate is not used.
        variant: The batches of an epoch; one of all samples is batch gradient descent.
        rates: The learning rates, as a :data:`Schedule` gives them.

    Returns:
        Shape (E + 1,).

    Raises:
        InputError: There are too many updates.
    """
    refuse_too_many(rates, variant)
    start_error, per_epoch = loss.error(start), variant.updates_per_epoch
    ends = islice(updated(loss, start_error, rule, variant, rates), per_epoch - 1, None, per_epoch)
    return loss.lowest + loss.excess(torch.stack([start_error, *ends]))


def updated(loss: LinearLoss, error: Tensor, rule: UpdateRule, variant: Variant, rates: Tensor) -> Iterator[Tensor]:
    """Yield the error of the parameters after every update, shape (R, K); arguments as :func:`followed_losses`."""
    velocity = torch.zeros_like(error)
    at_minimum = -loss.eigenvalues[:, None] * loss.pull  # gradient of the weight decay at the minimum
    for of_epoch in rates.expand(-1, variant.updates_per_epoch).tolist():
        for lr, gradient in zip(of_epoch, _gradients(loss, variant), strict=True):
            velocity = rule.momentum * velocity + gradient(error) + loss.weight_decay * error + at_minimum
            step = velocity
            if rule.nesterov:
                step = gradient(error) + loss.weight_decay * error + at_minimum + rule.momentum * velocity
            error = error - lr * step
            yield error


def _gradients(loss: LinearLoss, variant: Variant) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield the gradient of each batch of an epoch as a function of the error, without weight decay."""
    if variant.name == "batch":
        yield lambda error: loss.eigenvalues[:, None] * (error + loss.pull)
        return
    for index in range(variant.updates_per_epoch):
        batch = slice(variant.samples_at(index), variant.samples_at(index + 1))
        rows, residuals = loss.rows[batch], loss.residuals[batch]
        yield partial(_gradient, rows, residuals)


def _gradient(rows: Tensor, residuals: Tensor, error: Tensor) -> Tensor:
    return 2 / residuals.numel() * (rows.T @ (rows @ error - residuals))


def refuse_too_many(rates: Tensor, variant: Variant) -> None:
    """Refuse to follow more than :data:`MOST_UPDATES` updates."""
    updates = len(rates) * variant.updates_per_epoch
    if updates > MOST_UPDATES:
        raise InputError(
            f"cannot predict the outcome of batch_size {variant.batch_size}, because {updates:,} updates with changing "
            f"learning rates are more than the {MOST_UPDATES:,} that are followed; use fewer epochs, or a constant lr"
        )
