"""The reference engine: plain PyTorch, for any module, optimiser and device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gd_lightning.engine.stretch import Engine, Look, Record, Stretch, Trace

Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AutogradEngine(Engine):
    """Calls a module, torch's autograd and an optimiser for every update.

    Args:
        losses: From x of shape (B, D) and y of shape (B, K) to the loss that an update descends and the batch loss in
            it, both scalars.
        optimizer: Makes the step.
        parameters: What is kept where parameters or gradients are asked for.
    """

    name: ClassVar[str] = "autograd"

    def __init__(self, losses: Losses, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        self._losses, self._optimizer = losses, optimizer
        self._parameters = list(parameters)

    def prepare(self, stretch: Stretch) -> None:
        """Do nothing: PyTorch is ready."""

    def carry_out(self, stretch: Stretch) -> Trace:
        """Make the updates of a stretch."""
        keep, look = stretch.keep, stretch.look
        positions = keep.positions(stretch.updates).tolist()
        losses: list[Tensor] = []
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        looked_at, next_look, suspicion = 0, look.start, look.suspicion
        for position in range(stretch.updates):
            if stretch.lrs is not None:
                for group in self._optimizer.param_groups:
                    group["lr"] = float(stretch.lrs[position])
            self._optimizer.zero_grad()
            loss, batch_loss = self._losses(*stretch.batch(position))
            loss.backward()
            self._optimizer.step()
            stretch.made = position + 1
            if len(losses) < len(positions) and position == positions[len(losses)]:
                losses.append(batch_loss.detach())
                if keep.parameters:
                    parameters.append(_flat(self._parameters))
                if keep.gradients:
                    gradients.append(_flat([_gradient(parameter) for parameter in self._parameters]))
            if look.is_needed and position + 1 == next_look:
                suspicion = suspicion or _is_any_beyond(losses[looked_at:], look)
                if suspicion:
                    return _trace(position + 1, losses, parameters, gradients, suspicion)
                looked_at, next_look = len(losses), next_look + look.every
        suspicion = look.is_needed and (suspicion or _is_any_beyond(losses[looked_at:], look))
        return _trace(stretch.updates, losses, parameters, gradients, suspicion)


def _trace(
    updates: int, losses: list[Tensor], parameters: list[Tensor], gradients: list[Tensor], suspicion: bool
) -> Trace:
    """Bring what was kept to the CPU, at once: to read each value would be to wait for the device."""
    kept = (torch.stack(values).cpu() if values else None for values in (losses, parameters, gradients))
    of_losses, of_parameters, of_gradients = kept
    record = Record(torch.empty(0) if of_losses is None else of_losses, of_parameters, of_gradients)
    return Trace(updates, record, suspicion)


def _is_any_beyond(losses: list[Tensor], look: Look) -> bool:
    return bool(losses) and not bool((torch.stack(losses).double() <= look.bound).all())


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _flat(tensors: list[nn.Parameter] | list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
