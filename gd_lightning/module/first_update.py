"""A trial update that shows whether a user's network can be trained, without side effects (layer 4).

Letters: N training samples, B samples of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gd_lightning.errors import InputError, first_line
from gd_lightning.random_numbers import generator_given_back
from gd_lightning.threads import is_little, one_thread_if
from gd_lightning.variants import Variant

SummedLoss = Callable[[Tensor, Tensor], Tensor]
_CONTAINERS = (list, dict, set, deque)


def try_gradient(
    module: nn.Module,
    summed_loss: SummedLoss,
    variant: Variant,
    take: Callable[[slice], tuple[Tensor, Tensor]],
    at_once: int | None = None,
) -> None:
    """Compute the gradient of the smallest batch that a run has, twice, as two updates would.

    Exceptions raised by the network propagate unchanged.

    Args:
        module: The module or network; its parameters, buffers, gradients and attributes are unchanged.
        summed_loss: Function of predictions and targets that returns the summed loss.
        variant: The batches of the run.
        take: Returns the features and targets of some rows of the training samples.
        at_once: The micro-batch size, if there is one.

    Raises:
        InputError: The network needs more samples, or there is no gradient.
    """
    smallest = variant.short_batch or variant.batch_size
    smallest = min(smallest, at_once or smallest)
    device = _device(module)
    devices = [device] if device.type == "cuda" else []
    in_threads = one_thread_if(is_little(module, smallest))
    with in_threads, generator_given_back(devices), _attributes_given_back(module), torch.enable_grad():
        try:
            losses = [_loss(module, summed_loss, take(slice(0, smallest))) for _ in range(2)]
        except Exception as error:
            if smallest > 1 or at_once == 1 or variant.train_samples == 1:
                raise
            _loss(module, summed_loss, take(slice(0, 2)))  # if this fails, too, the number of samples is not the cause
            raise InputError(
                "cannot train this network on a batch of a single sample, because it fails there "
                f"({first_line(error)}) but not on two; use {_other_sizes(variant)}"
            ) from error
        for loss in losses:
            _check_gradient(module, loss)


@contextmanager
def _attributes_given_back(module: nn.Module) -> Iterator[None]:
    """Restore the attributes of all submodules on exit, such as a call counter, with their contents."""
    before = [(vars(part), dict(vars(part))) for part in module.modules()]
    held: list[tuple[Any, Any]] = [
        (each, each.copy()) for _, own in before for each in own.values() if type(each) in _CONTAINERS
    ]
    try:
        yield
    finally:
        for attributes, own in before:
            attributes.clear()
            attributes.update(own)
        for container, content in held:
            container.clear()
            if isinstance(container, (dict, set)):
                container.update(content)
            else:
                container.extend(content)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _loss(module: nn.Module, summed_loss: SummedLoss, samples: tuple[Tensor, Tensor]) -> Tensor:
    x, y = (part.to(_device(module)) for part in samples)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return summed_loss(torch.func.functional_call(module, buffers, (x,)), y)


def _check_gradient(module: nn.Module, loss: Tensor) -> None:
    if not loss.requires_grad:
        raise InputError(
            "cannot train this network, because its predictions have no gradient with respect to its parameters; "
            "compute them from the parameters in floating point, without detach() and torch.no_grad()"
        )
    try:
        torch.autograd.grad(loss, [p for p in module.parameters() if p.requires_grad], allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"cannot train this network, because torch cannot compute its gradient in every update "
            f"({first_line(error)}); compute the predictions anew in each call, and change no tensor in place"
        ) from error


def _other_sizes(variant: Variant) -> str:
    """Return a hint at options with which no batch has a single sample."""
    n = variant.train_samples
    size = next(size for size in range(max(2, variant.batch_size), n + 1) if n % size != 1)
    return f"data.batch_size {size}" + (", or data.drop_last true" if variant.batch_size > 1 else "")
