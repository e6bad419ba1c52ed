"""Initialization of the parameters.

Every start is drawn in float32 on the CPU, so that it is the same number in every precision and on every device;
given values are set in the precision of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.memory_checks import WithinFreeMemory
from gd_lightning.models.regressors import LinearRegressor
from gd_lightning.random_numbers import DrawnFrom

Scheme = Literal["auto", "default", "zero", "normal", "xavier", "he"]

_SCHEMES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": nn.init.zeros_,
    "normal": nn.init.normal_,
    "xavier": nn.init.xavier_uniform_,
    "he": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
}


def from_seed(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a network in float32 from a seed; torch's generator and default dtype are not changed.

    Raises:
        InputError: The network needs more memory than is free.
    """
    dtype = torch.get_default_dtype()
    if dtype is not torch.float32:  # the default dtype is that of all threads
        torch.set_default_dtype(torch.float32)
    try:
        fits = WithinFreeMemory("make the network", "a smaller one", 3, "gradients and initial values")
        with fits, torch.device("cpu"), DrawnFrom(seed):
            return make()
    finally:
        if dtype is not torch.float32:
            torch.set_default_dtype(dtype)


def initialize(network: nn.Module, scheme: str) -> None:
    """Draw new weights of all linear layers, and set their biases to 0.

    Args:
        network: Changed in place.
        scheme: ``default`` keeps PyTorch's own start; ``zero``; ``normal`` (mean 0, std 1); ``xavier`` (uniform; Glorot
            and Bengio, 2010, https://proceedings.mlr.press/v9/glorot10a.html); ``he`` (uniform, with the gain of the
            ReLU; He et al., 2015, https://arxiv.org/abs/1502.01852).

    Raises:
        InputError: The scheme is unknown.
    """
    if scheme == "default":
        return
    if scheme not in _SCHEMES:
        raise InputError(
            f"initialization {scheme!r} is unknown; use auto, default, {', '.join(_SCHEMES)}, or given values"
        )
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            with torch.no_grad():
                _SCHEMES[scheme](layer.weight)
                if layer.bias is not None:
                    layer.bias.zero_()


def set_parameters(network: LinearRegressor, start: Affine) -> None:
    """Set the parameters of a linear regressor; a missing or extra bias is an error.

    Raises:
        InputError: The shapes do not match, or only one of the two has a bias.
    """
    has_bias = network.affine().bias is not None
    if start.bias is not None and not has_bias:
        if start.bias.abs().max() > 0:
            raise InputError(
                "cannot start at a given bias, because the regressor has none; leave bias on, or out of the values"
            )
        start = Affine(start.weight)
    with torch.no_grad():
        network.weight.copy_(_fitting(start.weight, network.weight, "weight"))
        if has_bias:
            bias = torch.zeros(()) if start.bias is None else start.bias
            network.bias.copy_(_fitting(bias, network.bias, "bias"))


def given_start(values: Mapping[str, Any]) -> Affine:
    """Parse given values such as ``{"weight": -10, "bias": -20}``, with lists for several features or targets.

    Raises:
        InputError: There is another key, or no weight, or a value is not a finite number.
    """
    if unknown := sorted(set(values) - {"weight", "bias"}):
        raise InputError(f"cannot start at a given {unknown[0]!r}; the values that can be given are weight and bias")
    if "weight" not in values:
        raise InputError("cannot start at a given bias alone; give weight too")
    try:
        weight = torch.as_tensor(values["weight"], dtype=torch.float64)
        bias = torch.as_tensor(values["bias"], dtype=torch.float64) if "bias" in values else None
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot start at {dict(values)}, because the values are neither numbers nor lists of numbers"
        ) from error
    if not all(torch.isfinite(given.float()).all() for given in (weight, bias) if given is not None):
        raise InputError(f"cannot start at {dict(values)}, because the values are not finite; use numbers below 1e38")
    return Affine(weight, bias)


def _fitting(values: Tensor, parameter: Tensor, name: str) -> Tensor:
    try:
        return values.broadcast_to(parameter.shape)
    except RuntimeError:
        raise InputError(
            f"cannot start at a {name} of shape {tuple(values.shape)}, because the regressor's has shape "
            f"{tuple(parameter.shape)}; give one number, or a list of that shape"
        ) from None
