"""Gradient descent on linear regressors, and its gradients, in a few lines: what predictions are compared with."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning import Affine
from gd_lightning.theory import LinearLoss
from gd_lightning.variants import Variant

Numbers = NDArray[np.float64]


def trained(
    x: Numbers,
    y: Numbers,
    start: Affine,
    lr: float | Numbers,
    variant: Variant,
    epochs: int,
    order: Literal["sequential", "shuffled", "with_replacement"] = "sequential",
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    runs: int = 1,
) -> Numbers:
    """Train several runs at once, in float64.

    Args:
        x: Features as the regressor sees them, shape (N, D).
        y: Targets, shape (N, 1).
        start: The parameters before the first update.
        lr: The learning rate, or that of each update, shape (updates,).
        variant: The batches of an epoch.
        epochs: How many epochs.
        order: The order of the samples; all runs of the sequential one are the same.
        momentum: Of the updates.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: Of the updates.
        runs: How many.

    Returns:
        The train loss before the first and after every epoch, shape (epochs + 1, runs).
    """
    assert start.bias is not None
    design = np.hstack([x, np.ones((len(x), 1))])
    theta = np.tile(np.append(start.weight.double().numpy().ravel(), start.bias.double().numpy()), (runs, 1))
    velocity, random = np.zeros_like(theta), np.random.default_rng(0)
    rates = iter(np.broadcast_to(lr, epochs * variant.updates_per_epoch))
    losses = [np.square(theta @ design.T - y[:, 0]).mean(axis=1)]
    for _ in range(epochs):
        rows = np.tile(np.arange(len(x)), (runs, 1))
        if order == "with_replacement":
            rows = random.integers(len(x), size=rows.shape)
        elif order == "shuffled":
            rows = random.permuted(rows, axis=1)
        for update in range(variant.updates_per_epoch):
            batch = rows[:, variant.samples_at(update) : variant.samples_at(update + 1)]
            z = design[batch]
            residual = (z * theta[:, None]).sum(axis=2) - y[batch, 0]
            gradient = 2 / batch.shape[1] * (residual[:, :, None] * z).sum(axis=1) + weight_decay * theta
            velocity = momentum * velocity + gradient
            theta = theta - next(rates) * (gradient + momentum * velocity if nesterov else velocity)
        losses.append(np.square(theta @ design.T - y[:, 0]).mean(axis=1))
    return np.array(losses)


def gradients_of(loss: LinearLoss, affine: Affine) -> Tensor:
    """Return the gradient of each sample's loss, in the directions of the eigenvectors, shape (N, R K)."""
    wrong = 2 / loss.n_outputs * (loss.rows @ loss.error(affine) - loss.residuals)
    return (loss.rows[:, :, None] * wrong[:, None]).flatten(1)
