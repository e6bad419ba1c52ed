"""Linear and multilayer-perceptron regressors.

Letters: B samples, D features, K outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.torch_internals import forward_pre_hooks, has_plain_weights

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "identity"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


class LinearRegressor(nn.Linear):
    """x -> x W' + b: ``torch.nn.Linear`` that gives its parameters as an :class:`~gd_lightning.Affine`.

    Args:
        in_features: D.
        out_features: K.
        bias: Whether it has an intercept.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)

    @property
    def is_free(self) -> bool:
        """Whether weight and bias are parameters, not computed from others as with pruning and parametrizations."""
        return has_plain_weights(self)

    def affine(self) -> Affine:
        """Return the parameters, which share memory with this module unless they are computed from others."""
        for hook in forward_pre_hooks(self):
            # Pruning computes the weights at the beginning of a pass, which may be before the last update.
            if isinstance(hook, BasePruningMethod):
                with torch.no_grad():
                    hook(self, None)
        # nn.Linear declares its bias as a Parameter, but it is None with bias=False.
        bias = None if self.bias is None else self.bias.detach()
        return Affine(self.weight.detach(), bias)


class MLPRegressor(nn.Sequential):
    """A multilayer perceptron: linear layers, each but the last followed by an activation and optionally dropout.

    Args:
        in_features: D.
        out_features: K.
        hidden_sizes: Width of each hidden layer, at least one.
        activation: Name of the activation.
        bias: Whether the linear layers have biases.
        dropout: Probability that a hidden unit is left out in training.

    Raises:
        InputError: There is no hidden layer, a width is below 1, the activation is unknown, or the dropout is not a
            probability below 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_sizes: Sequence[int],
        activation: Activation = "relu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        if not hidden_sizes or min(hidden_sizes) < 1 or max(hidden_sizes) > sys.maxsize:
            raise InputError(f"cannot use hidden_sizes {list(hidden_sizes)} as layer widths; use whole numbers from 1")
        if activation not in _ACTIVATIONS:
            raise InputError(f"activation {activation!r} is unknown; use one of {', '.join(_ACTIVATIONS)}")
        if not 0 <= dropout < 1:
            raise InputError(f"cannot use dropout {dropout} as a probability; use a number from 0 to below 1")
        layers: list[nn.Module] = []
        widths = [in_features, *hidden_sizes]
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width, bias=bias), _ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], out_features, bias=bias))
        super().__init__(*layers)
