"""Conditions under which the theory of linear regressors applies to a module (layer 4)."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from gd_lightning.errors import InputError
from gd_lightning.losses import forms_of
from gd_lightning.models import LinearRegressor
from gd_lightning.module.engine_choice import own_method
from gd_lightning.module.predicted_learning_rates import stepped_rates
from gd_lightning.module.regression import RegressionModule
from gd_lightning.torch_internals import has_global_hooks, has_hooks

# Methods that define loss and updates; theory does not hold for a subclass that overrides one.
_LOSS = ("forward", "summed_loss", "training_step")
_UPDATES = (
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
)


def quadratic_network(module: RegressionModule) -> LinearRegressor | None:
    """Return the network if the loss is quadratic in its parameters and minimised by SGD, else None.

    The learning rate may change by a scheduler that can be stepped ahead. With a momentum of 1 or more no learning
    rate is stable, and the formulas do not hold.
    """
    network, options = linear_network(module), module.hparams
    others = ("optimizer", "l1")
    if not is_squared_error(module) or any(options[name] for name in others) or options["momentum"] >= 1:
        return None
    if network is None or own_method(module, RegressionModule, _UPDATES):
        return None
    if not all(parameter.requires_grad for parameter in network.parameters()):
        return None
    try:
        stepped_rates(module)
    except InputError:
        return None
    return network


def is_squared_error(module: LightningModule) -> bool:
    """Whether the loss of a module is known to be the mean squared error of its network."""
    plain = isinstance(module, RegressionModule) and not own_method(module, RegressionModule, _LOSS)
    return plain and forms_of(module.hparams["loss"]).is_squared_error


def linear_network(module: LightningModule) -> LinearRegressor | None:
    """Return the network if its predictions are known to be an unrestricted linear function, else None."""
    if not isinstance(module, RegressionModule) or own_method(module, RegressionModule, ("forward",)):
        return None
    network, parts = module.network, [module, module.network, module.standardize, module.standardize_targets]
    if not isinstance(network, LinearRegressor) or own_method(network, nn.Linear, ("forward",)):
        return None
    if has_global_hooks() or any(part is not None and has_hooks(vars(part)) for part in parts):
        return None
    return network if network.is_free else None


def predicting_part(module: LightningModule) -> nn.Module:
    """Return the part of a module that predicts, without those that only measure."""
    if not isinstance(module, RegressionModule) or own_method(module, RegressionModule, ("forward",)):
        return module
    assert module.network is not None
    return module.network if module.standardize is None else nn.Sequential(module.standardize, module.network)


def trained_loss_of(module: RegressionModule) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the summed loss that updates minimise, from what the predictor returns and targets in original units."""
    layer = module.standardize_targets
    if layer is None:
        return module.summed_loss
    # An own forward returns predictions in original units.
    is_own = bool(own_method(module, RegressionModule, ("forward",)))
    return lambda prediction, target: module.summed_loss(
        layer.standardized(prediction) if is_own else prediction, layer.standardized(target)
    )


def has_least_squares(module: LightningModule) -> bool:
    """Whether the smallest loss of a module is known to be the least-squares loss."""
    return is_squared_error(module) and linear_network(module) is not None
