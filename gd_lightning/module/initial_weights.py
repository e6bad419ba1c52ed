"""The initial weights of a network that is made before data or loaded weights determine them (layer 4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.models import LinearRegressor, MLPRegressor, Standardize, from_seed, given_start, set_parameters
from gd_lightning.problems import Problem
from gd_lightning.random_numbers import start_seed


class Start:
    """The initial weights of a network made from sizes alone, which may still be drawn again.

    The initial weights also depend on facts known only later: the last seed of torch, the precision of the run, the
    initialization that a problem prescribes, and how features are standardised. Weights are then changed in place, so
    that optimisers and hooks made in between stay attached; but only if they are still the values that the network was
    made with. Weights that were loaded or set by hand are kept.

    Args:
        network: The network, just made.
    """

    def __init__(self, network: nn.Module) -> None:
        self.seed = start_seed()
        self._values = [value.detach().clone() for value in _values_of(network)]

    def is_left_by(self, network: nn.Module) -> bool:
        """Whether the weights have been changed since; a move to another device or precision is not a change."""
        now = list(_values_of(network))
        return len(now) != len(self._values) or not all(
            torch.equal(value, before.to(value)) for value, before in zip(now, self._values, strict=True)
        )

    def draw_again(self, network: nn.Module, make: Callable[[], nn.Module]) -> None:
        """Draw the weights again if the seed has changed since the network was made.

        Args:
            network: The network, changed in place.
            make: Returns a new network with the same layers.
        """
        if start_seed() == self.seed:
            return
        with torch.no_grad():
            for value, drawn in zip(_values_of(network), _values_of(from_seed(make, start_seed())), strict=True):
                value.copy_(drawn)


def _values_of(network: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())


def plain_network(options: Mapping[str, Any], in_features: int, out_features: int) -> nn.Module:
    """Return the linear regressor or perceptron that options of a module describe, with the weights that torch draws.

    Args:
        options: Hyperparameters of the module.
        in_features: D.
        out_features: K.
    """
    if not options["hidden_sizes"]:
        return LinearRegressor(in_features, out_features, options["bias"])
    of_layers = (options[name] for name in ("hidden_sizes", "activation", "bias", "dropout"))
    return MLPRegressor(in_features, out_features, *of_layers)


def in_original_units(affine: Affine, features: Standardize | None, targets: Standardize | None) -> Affine:
    """Return the parameters of a linear network as those of features and targets in original units.

    Args:
        affine: Parameters of the network.
        features: The layer that standardises the features, if any.
        targets: The layer that standardises the targets, if any.
    """
    if features is not None:
        affine = affine.in_original_units(features.mean, features.scale)
    return affine if targets is None else affine.times_plus(targets.scale, targets.mean)


def of_network(affine: Affine, features: Standardize | None, targets: Standardize | None) -> Affine:
    """Return the parameters of a linear network that has these in original units.

    It is the inverse of :func:`in_original_units`.

    Args:
        affine: The parameters in original units.
        features: The layer that standardises the features, if any.
        targets: The layer that standardises the targets, if any.
    """
    if targets is not None:
        affine = affine.times_plus(1 / targets.scale, -targets.mean / targets.scale)
    return affine if features is None else affine.in_standardized_units(features.mean, features.scale)


def set_start(
    network: nn.Module,
    options: Mapping[str, Any],
    features: Standardize | None,
    targets: Standardize | None,
    problem: object,
) -> None:
    """Set given or prescribed initial values, which are in original units, in full precision.

    Args:
        network: The network, changed in place if there are such values.
        options: Hyperparameters of the module: ``initialization`` and ``bias``.
        features: The layer that standardises the features, if any.
        targets: The layer that standardises the targets, if any.
        problem: The problem, which may prescribe initial values.

    Raises:
        InputError: The given values do not fit the network.
    """
    values, linear = options["initialization"], isinstance(network, LinearRegressor)
    if isinstance(values, Mapping):
        if not linear:
            raise InputError(
                "cannot start at given values, because only a linear regressor has a weight and a bias to set; "
                "leave hidden_sizes empty, or choose another initialization"
            )
        start: Affine | None = given_start(values)
    else:
        start = problem.start if values == "auto" and linear and isinstance(problem, Problem) else None
        if start is not None and options["bias"] is False:
            start = Affine(start.weight)
    if start is not None:
        assert isinstance(network, LinearRegressor)
        if features is not None or targets is not None:
            weight = start.weight.broadcast_to(network.weight.shape)
            start = of_network(Affine(weight, start.bias), features, targets)
        set_parameters(network, start)
