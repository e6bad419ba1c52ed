"""Refusing to make tensors that are too large for the free memory, before any of it is taken (layer 0).

Linux promises more memory than there is, and ends a process that uses it; so an allocation that succeeds says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from gd_lightning.errors import InputError
from gd_lightning.free_memory import free_memory

_SMALL = 2**26  # bytes that any running program can have; to ask the system for the free memory takes time
_FEW = 2**16  # smaller tensors are not counted: networks of a few layers are made by thousands
_TRIED = 8  # rows and columns of a parameter on which an optimiser shows how large its state is


class WithinFreeMemory(TorchDispatchMode):
    """Refuses to make tensors in its context for which there is not enough free memory on the CPU.

    What is made from sizes alone, such as ``torch.empty(3, 4)``, is counted as long as it exists.

    Args:
        purpose: The action that needs this memory, such as ``make the network``.
        instead: The alternative that a message suggests.
        copies: How many numbers will be held for each of theirs at least, itself included.
        others: Description of the other copies.

    Raises:
        InputError: The tensors take more memory than is free.
    """

    def __init__(self, purpose: str, instead: str, copies: int = 1, others: str = "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._purpose, self._instead, self._copies, self._others = purpose, instead, copies, others
        self._made: list[tuple[StorageWeakRef, int]] = []
        self._free: int | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run one of torch's functions, unless it would allocate too much."""
        given = kwargs or {}
        nbytes = _bytes_of(func, args, given)
        if nbytes == 0:
            return func(*args, **given)
        self._check(nbytes)
        made = func(*args, **given)
        self._made.append((StorageWeakRef(made.untyped_storage()), nbytes))
        return made

    def _check(self, nbytes: int) -> None:
        taken = nbytes + sum(each for _, each in self._made)
        if taken * self._copies <= _SMALL:
            return
        self._made = [(made, each) for made, each in self._made if not made.expired()]
        if self._free is None:  # less than a few megabytes have been taken so far
            self._free = free_memory()
        taken = nbytes + sum(each for _, each in self._made)
        if 0 < self._free < taken * self._copies:
            whole = f", {_size(taken * self._copies)} with {self._others}" if self._others else ""
            raise InputError(
                f"cannot {self._purpose}, because tensors of {_size(taken)} are needed for it{whole}, and "
                f"{_size(self._free)} of memory are free; use {self._instead}"
            )


def check_fits(nbytes: float, purpose: str, instead: str) -> None:
    """Refuse what takes more memory than is free, before it is begun.

    Args:
        nbytes: How many bytes it takes at least.
        purpose: The action that needs this memory, such as ``compare 10 runs``.
        instead: The alternative that a message suggests.

    Raises:
        InputError: The purpose takes more memory than is free.
    """
    if nbytes > _SMALL and 0 < (free := free_memory()) < nbytes:
        raise InputError(
            f"cannot {purpose}, because that takes {_size(nbytes)} of memory at least, and {_size(free)} are free; "
            f"give {instead}"
        )


def check_state_fits(optimizer: str, parameters: list[nn.Parameter], make: Callable[[Any], Optimizer]) -> None:
    """Refuse an optimiser whose state would take more memory than is free, which it allocates at its first step.

    Args:
        optimizer: Name of the optimiser.
        parameters: The parameters to train.
        make: Makes another one like it for other parameters.

    Raises:
        InputError: State and gradients take more than is free.
    """
    nbytes = sum(each.nbytes for each in parameters if each.device.type == "cpu")
    if nbytes <= _SMALL:
        return
    sample = nn.Parameter(torch.ones(_TRIED, _TRIED))
    sample.grad = torch.ones_like(sample)
    try:
        another = make([sample])
        another.step(lambda: 1.0)
    except Exception:  # an exception of the optimiser, which the first update in training will report
        return
    state = sum(each.numel() for each in another.state[sample].values() if isinstance(each, Tensor))
    needed, free = nbytes + nbytes * state // sample.numel(), free_memory()
    if 0 < free < needed:
        raise InputError(
            f"cannot train with {optimizer}, because its state and the gradients of {_size(nbytes)} of parameters take "
            f"{_size(needed)}, and {_size(free)} of memory are free; use a smaller network, or SGD without momentum"
        )


def _bytes_of(func: Any, args: Any, given: dict[str, Any]) -> int:
    """Return how many bytes of the CPU a function allocates that makes a tensor from sizes; 0 for others and few."""
    device = given.get("device")
    if "pin_memory" not in given or (args and isinstance(args[0], list) and math.prod(args[0]) <= _FEW):
        return 0
    is_made = not any(isinstance(each, Tensor) for each in args)
    if not is_made or (device is not None and device.type != "cpu"):
        return 0
    sizes = {name: value for name, value in given.items() if name not in ("device", "generator", "pin_memory")}
    try:
        described: Tensor = func.overloadpacket(*args, **sizes, device="meta")
    # The operation itself will raise the error, or it has no form on the meta device.
    except (RuntimeError, NotImplementedError):
        return 0
    return described.nbytes


def _size(nbytes: float) -> str:
    """Return a number of bytes in a unit in which it is easy to read."""
    return f"{nbytes / 2**30:,.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:,.0f} MiB"
