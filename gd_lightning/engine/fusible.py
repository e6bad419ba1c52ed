"""Recognising networks and optimisers of the fused engine by their exact types, without importing Numba.

Letters: B batch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.optim import Optimizer

from gd_lightning.engine.optimizer_state import OPTIMIZERS, UNKNOWN_SETTINGS, why_not_state
from gd_lightning.models.regressors import LinearRegressor, MLPRegressor
from gd_lightning.torch_internals import has_global_hooks, has_gradient_hooks, has_hooks, has_plain_weights

LINEAR = (nn.Linear, LinearRegressor)
ACTIVATIONS = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Tanh,
)  # fmt: skip
"""Known activations; the compiled code knows them by their places here."""


def why_no_numba() -> str:
    """Say why Numba cannot be used: not installed, or its JIT disabled; "" if it can be."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "numba may not compile (NUMBA_DISABLE_JIT is set)"
    return "" if importlib.util.find_spec("numba") else "numba is not installed (pip install numba)"


def why_not_fused(network: nn.Module, optimizer: Optimizer) -> str:
    """Return the reason, worded to follow "because", why updates cannot be fused; "" if they can be.

    Args:
        network: The network to train.
        optimizer: The optimiser of the network.

    Example:
        >>> network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        >>> why_not_fused(network, torch.optim.SGD(network.parameters()))
        'the network has dropout'
    """
    return why_not_fused_network(network) or _why_not_optimizer(network, optimizer)


def why_not_fused_network(network: nn.Module) -> str:
    """Return the reason why a network cannot be trained by the fused engine, whatever the optimiser; "" if it can be.

    Args:
        network: The network to train.
    """
    return why_no_numba() or why_no_chain(network) or _why_not_parts(parts_of(network)) or why_not_parameters(network)


def why_no_chain(network: nn.Module) -> str:
    """Return the reason why a network is not a chain of linear layers and known activations; "" if it is one.

    Args:
        network: The network to train.
    """
    if type(network) not in (*LINEAR, nn.Sequential, MLPRegressor):
        return f"{type(network).__name__} is neither linear nor a multilayer perceptron"
    for part in parts_of(network):
        if type(part) is nn.Dropout:
            return "the network has dropout"
        if type(part) not in LINEAR + ACTIVATIONS:
            return f"its part {type(part).__name__} is neither a linear layer nor a known activation"
    return ""


def parts_of(network: nn.Module) -> list[nn.Module]:
    """Return the layers and activations of a network, leaving out dropout layers with p = 0.

    Args:
        network: Linear, or a sequence of modules.
    """
    if not isinstance(network, nn.Sequential):
        return [network]
    return [part for part in network if not (type(part) is nn.Dropout and part.p == 0)]


def work_of(network: nn.Module, batch_size: int) -> int:
    """Return the number of multiplications by weights in the forward pass of one update.

    Args:
        network: The network to train.
        batch_size: B.
    """
    return batch_size * sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)


def _why_not_parts(parts: Sequence[nn.Module]) -> str:
    for part in parts:
        if isinstance(part, nn.GELU) and part.approximate != "none":
            return "its GELU is approximate"
        if isinstance(part, nn.Softplus) and (part.beta, part.threshold) != (1, 20):
            return "its Softplus has another beta or threshold than usual"
    are_linear = [type(part) in LINEAR for part in parts]
    if not (any(are_linear) and are_linear[0] and are_linear[-1] and all(map(any, pairwise(are_linear)))):
        return "its parts are not linear layers with at most one activation between two"
    return ""


def why_not_parameters(network: nn.Module) -> str:
    """Return the reason why the parameters rule out compiled or batched updates; "" if they do not."""
    modules, parameters = list(network.modules()), list(network.parameters())
    if sum(len(list(part.parameters())) for part in parts_of(network)) != len(parameters):
        return "layers share a parameter"
    if (
        has_global_hooks()
        or any(map(has_gradient_hooks, parameters))
        or any(has_hooks(vars(module)) for module in modules)
    ):
        return "a hook is registered on the network"
    if any(isinstance(module, nn.Linear) and not has_plain_weights(module) for module in modules):
        return "a weight is or was computed from other parameters"
    if any("forward" in vars(module) for module in modules):
        return "a forward was replaced"
    if not all(parameter.requires_grad for parameter in parameters):
        return "a parameter is frozen"
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return f"the network is on {parameters[0].device}, not on the CPU"
    dtypes = {parameter.dtype for parameter in parameters}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        return f"its parameters are {' and '.join(sorted(map(str, dtypes)))}, neither float32 nor float64"
    return ""


def _why_not_optimizer(network: nn.Module, optimizer: Optimizer) -> str:
    if type(optimizer) not in OPTIMIZERS:
        return f"{type(optimizer).__name__} is not one of {', '.join(kind.__name__ for kind in OPTIMIZERS)}"
    if has_hooks(vars(optimizer)):
        return "a hook is registered on the optimiser"
    step = vars(optimizer).get("step")  # torch's schedulers set such a method, which notes that it was called
    if step is not None and getattr(step, "__wrapped__", None) is not type(optimizer).step:
        return "the step of the optimiser was replaced"
    groups = [[id(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
    if groups != [[id(parameter) for parameter in network.parameters()]]:
        return "the optimiser does not have exactly the network's parameters, in one group"
    for setting in UNKNOWN_SETTINGS:
        if optimizer.param_groups[0].get(setting):
            return f"{type(optimizer).__name__} has {setting}"
    return why_not_state(optimizer)
