"""The values that a network was made with, before data or loaded weights settle where training starts (layer 4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.generators import start_seed
from gd_lightning.models import LinearRegressor, Standardize, from_seed, given_start, set_parameters
from gd_lightning.problems import Problem


class Start:
    """A network that was made from sizes alone: its values are drawn, and may still be drawn again.

    Where training starts also depends on what becomes known later: torch's seed as it was last set, the precision of
    the run, the start that a problem prescribes, and how features are standardised. All of that is settled in place,
    so that optimisers, copies and hooks that were made in between are still those of the network; but only
    while the network has the values that it was made with. Weights that were loaded or set by hand stay.

    Args:
        network: As it was just made.
    """

    def __init__(self, network: nn.Module) -> None:
        self.seed = start_seed()
        self._values = [value.detach().clone() for value in _values_of(network)]

    def is_left_by(self, network: nn.Module) -> bool:
        """Whether a network has other values by now; a move to another device or precision changes none."""
        now = list(_values_of(network))
        return len(now) != len(self._values) or not all(
            torch.equal(value, before.to(value)) for value, before in zip(now, self._values, strict=True)
        )

    def draw_again(self, network: nn.Module, make: Callable[[], nn.Module]) -> None:
        """Give a network the values that the present seed draws, where that is another seed.

        Args:
            network: Changed in place.
            make: Makes a network of the same layers.
        """
        if start_seed() == self.seed:
            return
        with torch.no_grad():
            for value, drawn in zip(_values_of(network), _values_of(from_seed(make, start_seed())), strict=True):
                value.copy_(drawn)


def _values_of(network: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())


def set_start(network: nn.Module, options: Mapping[str, Any], layer: Standardize | None, problem: object) -> None:
    """Set given or prescribed values, which are in original units; they are kept in full precision.

    Args:
        network: Changed in place, if there are such values.
        options: Hyperparameters of the module: ``initialization`` and ``bias``.
        layer: What standardises the features of the network.
        problem: What the data come from, which may prescribe the start.

    Raises:
        InputError: Values are given that the network cannot have.
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
        if layer is not None:
            weight = start.weight.broadcast_to(network.weight.shape)
            start = Affine(weight, start.bias).in_standardized_units(layer.mean, layer.scale)
        set_parameters(network, start)
