"""The reference engine: plain PyTorch, for any module, optimiser and device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gd_lightning.engine.chunk import Chunk, DivergenceCheck, Engine, Record, Trace
from gd_lightning.errors import first_line

Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AutogradEngine(Engine):
    """Calls a module, torch's autograd and an optimiser for every update.

    Args:
        losses: From x of shape (B, D) and y of shape (B, K) to the loss that an update descends and the batch loss in
            it, both scalars.
        optimizer: Makes the step.
        parameters: What is saved where parameters or gradients are asked for.
    """

    name: ClassVar[str] = "autograd"

    def __init__(self, losses: Losses, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        self._losses, self._optimizer = losses, optimizer
        self._parameters = list(parameters)

    def prepare(self, chunk: Chunk) -> None:
        """Do nothing: PyTorch is ready."""

    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk."""
        save_at, check = chunk.save_at, chunk.check
        positions = save_at.positions(chunk.updates).tolist()
        losses: list[Tensor] = []
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        self.made = 0
        checked, next_check, suspected = 0, check.start, check.suspected
        for position in range(chunk.updates):
            if chunk.lrs is not None:
                for group in self._optimizer.param_groups:
                    group["lr"] = float(chunk.lrs[position])
            is_saved = len(losses) < len(positions) and position == positions[len(losses)]
            batch_loss, gradient = self._update(*chunk.batch(position), is_saved and save_at.gradients)
            self.made = position + 1
            if is_saved:
                losses.append(batch_loss)
                if save_at.parameters:
                    parameters.append(_flat(self._parameters))
                if gradient is not None:
                    gradients.append(gradient)
            if check.is_needed and position + 1 == next_check:
                suspected = suspected or _is_any_beyond(losses[checked:], check)
                if suspected:
                    return _trace(position + 1, losses, parameters, gradients, suspected)
                checked, next_check = len(losses), next_check + check.every
        suspected = check.is_needed and (suspected or _is_any_beyond(losses[checked:], check))
        return _trace(chunk.updates, losses, parameters, gradients, suspected)

    def _update(self, x: Tensor, y: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Make an update; returns batch loss and gradient at the weights from which it starts."""
        batch_loss: Tensor | None = None
        gradient: Tensor | None = None

        def closure() -> Tensor:
            nonlocal batch_loss, gradient
            self._optimizer.zero_grad()
            loss, value = self._losses(x, y)
            loss.backward()
            if batch_loss is None:  # such as LBFGS asks again within an update
                batch_loss = value.detach()
                gradient = _flat([_gradient(each) for each in self._parameters]) if with_gradient else None
            return loss

        with overflow_to_nan(self._optimizer):
            # The types of torch know only one of the two kinds of closures that it takes.
            self._optimizer.step(closure)  # type: ignore[arg-type]
        assert batch_loss is not None
        return batch_loss, gradient


@contextmanager
def overflow_to_nan(optimizer: Optimizer) -> Iterator[None]:
    """Let a step that torch refuses, because it is too large for the precision, end at nan as arithmetic would.

    Args:
        optimizer: Makes the step.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_beyond_precision(error):
            raise
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.fill_(math.nan)


def is_beyond_precision(error: BaseException) -> bool:
    """Whether torch refused a number because it is too large for the precision of a tensor."""
    try:
        torch.zeros(1, dtype=torch.float32).add_(torch.zeros(1, dtype=torch.float32), alpha=1e300)
    except RuntimeError as known:  # which has no class of its own, and words that change
        return type(error) is type(known) and first_line(error) == first_line(known)
    return False


def _trace(
    updates: int, losses: list[Tensor], parameters: list[Tensor], gradients: list[Tensor], suspected: bool
) -> Trace:
    """Bring what was saved to the CPU, at once: to read each value would be to wait for the device."""
    saved = (torch.stack(values).cpu() if values else None for values in (losses, parameters, gradients))
    of_losses, of_parameters, of_gradients = saved
    record = Record(torch.empty(0) if of_losses is None else of_losses, of_parameters, of_gradients)
    return Trace(updates, record, suspected)


def _is_any_beyond(losses: list[Tensor], check: DivergenceCheck) -> bool:
    return bool(losses) and not bool((torch.stack(losses).double() <= check.bound).all())


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _flat(tensors: list[nn.Parameter] | list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
