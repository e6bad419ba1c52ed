"""Outlooks of a module on its training data, where the theory of linear regressors applies.

Letters: N samples, C columns of the design, R directions in which it varies.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch import LightningModule
from torch import nn

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.losses import forms_of
from gd_lightning.micro_batches import Pair
from gd_lightning.models import LinearRegressor, Standardize, set_parameters
from gd_lightning.module.engine_choice import own_method
from gd_lightning.module.regression import RegressionModule
from gd_lightning.problems import Problem
from gd_lightning.theory import LinearLoss, Outlooks, Rounding
from gd_lightning.torch_internals import has_global_hooks, has_hooks
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant

# Samples for the estimate of rounding errors; fewer with many features, so that they fit in memory.
_ENOUGH, _NUMBERS, _FEWEST = 10_000, 2**24, 100

_NOT_QUADRATIC = (
    "cannot tell the outlook of this module, because its loss is not quadratic in its parameters, or is not "
    "descended by SGD at a constant learning rate; use a linear regressor, the loss mse and SGD alone"
)

# Methods that define loss and updates; a subclass that overrides one is outside the theory.
_LOSS = ("forward", "summed_loss", "training_step")
_UPDATES = (
    "configure_optimizers",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
)


def linear_outlooks(
    module: RegressionModule,
    pieces: Callable[[], Iterable[Pair]],
    variant: Variant,
    max_epochs: float,
    order: str = "shuffled",
    numbers: float = 2e7,
    start: Affine | None = None,
    problem: Problem | None = None,
) -> Outlooks:
    """Return the outlooks of a linear regressor that is trained with the mean squared error and SGD.

    Args:
        module: The module, whose network exists.
        pieces: Returns an iterable over the training samples in order, in original units, at each call.
        variant: Batch size and number of samples.
        max_epochs: Number of epochs of the run; ``inf`` if unlimited.
        order: The order of the samples.
        numbers: Upper bound of N R (sequential order) or N R^2; with more samples, a subsample is used.
        start: The parameters before the first update, in the units of the network; None: the current ones.
        problem: The problem, to add the outlooks with standardised features; None: without these.

    Raises:
        InputError: The loss is not quadratic in the parameters, or not minimised by SGD with one learning rate.
    """
    if (network := quadratic_network(module)) is None:
        raise InputError(_NOT_QUADRATIC)
    now = network.affine()
    start, columns = now if start is None else start, network.in_features + (now.bias is not None)
    directions = min(columns, variant.train_samples)
    most = math.ceil(numbers / (directions if order == "sequential" else directions**2))
    outlooks = partial(_outlooks, module, pieces, variant, max_epochs, order, most)

    def standardized() -> Outlooks:
        layer = Standardize.fit(lambda: (x for x, _ in pieces()))
        is_given = problem is not None and _is_given(module, problem)
        return outlooks(layer, start.in_standardized_units(layer.mean, layer.scale) if is_given else start)

    is_asked = problem is not None and module.standardize is None and now.bias is not None
    return replace(outlooks(module.standardize, start), standardized=standardized if is_asked else None)


def standardized_module(module: RegressionModule, layer: Standardize, problem: Problem) -> RegressionModule:
    """Return a copy of a module with the start that it would have on standardised features.

    Args:
        module: The module at its start, with a network for features that are not standardised.
        layer: The layer that standardises features.
        problem: The problem that the data come from.
    """
    other = copy.deepcopy(module)
    other.standardize = layer
    if isinstance(other.network, LinearRegressor) and _is_given(module, problem):
        set_parameters(other.network, other.network.affine().in_standardized_units(layer.mean, layer.scale))
    return other


def _is_given(module: RegressionModule, problem: Problem) -> bool:
    """Whether a linear regressor starts from given values, which are in original units, and not from drawn ones."""
    scheme = module.hparams["initialization"]
    return isinstance(scheme, Mapping) or (scheme == "auto" and problem.start is not None)


def _outlooks(
    module: RegressionModule,
    pieces: Callable[[], Iterable[Pair]],
    variant: Variant,
    max_epochs: float,
    order: str,
    most: int,
    layer: Standardize | None,
    start: Affine,
) -> Outlooks:
    """Return the outlooks on features standardised by a layer, or on original ones if it is None."""
    loss = LinearLoss.over(
        lambda: ((x if layer is None else layer.standardized(x), y) for x, y in pieces()),
        bias=start.bias is not None,
        most=most,
    )

    def rounding(rule: UpdateRule) -> float:
        x, y = _some(pieces, variant.train_samples)
        return Rounding(loss, x, y, rule, layer).excess(y.dtype)

    return Outlooks(
        loss,
        start,
        max_epochs,
        rule=UpdateRule.of(module.hparams),
        sequential=order == "sequential",
        with_replacement=order == "with_replacement",
        drop_last=variant.drop_last,
        rounding=rounding,
    )


def _some(pieces: Callable[[], Iterable[Pair]], n: int) -> Pair:
    """Return some samples, drawn evenly."""
    features = next(iter(pieces()))[0].shape[1]
    step = math.ceil(n / min(_ENOUGH, max(_FEWEST, _NUMBERS // features)))
    x, y, start = [], [], 0
    for block_x, block_y in pieces():
        first = -start % step
        x.append(block_x[first::step].cpu())
        y.append(block_y[first::step].cpu())
        start += len(block_x)
    return torch.cat(x), torch.cat(y)


def quadratic_network(module: RegressionModule) -> LinearRegressor | None:
    """Return the network if the loss is quadratic in its parameters and minimised by SGD with one lr, else None.

    With a momentum of 1 or more no learning rate is stable, and the formulas do not hold.
    """
    network, options = linear_network(module), module.hparams
    others = ("optimizer", "lr_scheduler", "weight_decay", "l1")
    if not is_squared_error(module) or any(options[name] for name in others) or options["momentum"] >= 1:
        return None
    if network is None or own_method(module, RegressionModule, _UPDATES):
        return None
    return network if all(parameter.requires_grad for parameter in network.parameters()) else None


def is_squared_error(module: LightningModule) -> bool:
    """Whether the loss of a module is known to be the mean squared error of its network; the one place that says so."""
    plain = isinstance(module, RegressionModule) and not own_method(module, RegressionModule, _LOSS)
    return plain and forms_of(module.hparams["loss"]).is_squared_error


def linear_network(module: LightningModule) -> LinearRegressor | None:
    """Return the network if its predictions are known to be an unrestricted linear function, else None."""
    if not isinstance(module, RegressionModule) or own_method(module, RegressionModule, ("forward",)):
        return None
    network, parts = module.network, [module, module.network, module.standardize]
    if not isinstance(network, LinearRegressor) or own_method(network, nn.Linear, ("forward",)):
        return None
    if has_global_hooks() or any(part is not None and has_hooks(vars(part)) for part in parts):
        return None
    return network if network.is_free else None


def has_least_squares(module: LightningModule) -> bool:
    """Whether the smallest loss of a module is known to be the least-squares loss."""
    return is_squared_error(module) and linear_network(module) is not None
