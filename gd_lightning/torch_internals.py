"""Uses of undocumented parts of torch, in one place (layer 0).

Each has a test of its own in ``tests/test_torch_internals.py``, which fails if a release has changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as of_modules
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim import optimizer as of_optimizers

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"),
)


def mixes_samples(layer: nn.Module) -> bool:
    """Whether a layer's outputs for a sample depend on the other samples of the batch: a batch norm, of any kind."""
    return isinstance(layer, _BatchNorm)


def has_hooks(attributes: Mapping[str, Any]) -> bool:
    """Whether something is called beside the methods of a module or an optimiser.

    Args:
        attributes: Attributes of the module or optimiser, without those of its parts.
    """
    return any(attributes.get(hooks) for hooks in _HOOKS)


def has_global_hooks() -> bool:
    """Whether torch calls something beside the methods of every module, or beside the step of every optimiser."""
    return bool(
        of_modules._global_forward_hooks
        or of_modules._global_forward_pre_hooks
        or of_modules._global_backward_hooks
        or of_modules._global_backward_pre_hooks
        or of_optimizers._global_optimizer_pre_hooks
        or of_optimizers._global_optimizer_post_hooks
    )


def has_gradient_hooks(parameter: Tensor) -> bool:
    """Whether something is called with the gradient of a parameter, or when it has been computed."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def has_plain_weights(layer: nn.Module) -> bool:
    """Whether weight and bias, which may be None, are parameters of a linear layer, and not computed from others."""
    return list(layer._parameters) == ["weight", "bias"]


def note_step(optimizer: Optimizer) -> None:
    """Tell the schedulers of an optimiser, which warn where they have seen no step of it, that there was one."""
    vars(optimizer)["_opt_called"] = True


def forward_pre_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Return the hooks that a module calls at the beginning of a pass, in this order."""
    return list(module._forward_pre_hooks.values())


def contents(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return parts, parameters and buffers of a module by their names, which takes less time than to yield them.

    Args:
        attributes: Attributes of the module.
    """
    modules, parameters, buffers = (attributes.get(name, {}) for name in ("_modules", "_parameters", "_buffers"))
    return modules, parameters, buffers  # a traced module has no such attributes of its own


def store_of_the_run() -> Any:
    """Return the store that the processes of a run share; they have to have met."""
    return torch.distributed.distributed_c10d._get_default_store()


def is_short_of_memory(error: BaseException) -> bool:
    """Whether an exception means that there is too little memory.

    Accelerators, Python and NumPy have an exception class for it. Memory of the CPU, for which torch raises a plain
    ``RuntimeError``, is told by the name of what allocates it.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return type(error) is RuntimeError and "DefaultCPUAllocator" in str(error)


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether an exception says that another process of the run is gone.

    Gloo raises a plain ``RuntimeError``, which it begins with the place in its source.
    """
    if not torch.distributed.is_available():
        return False
    if isinstance(error, torch.distributed.DistError):
        return True
    return torch.distributed.is_initialized() and type(error) is RuntimeError and "gloo/gloo/" in str(error)
