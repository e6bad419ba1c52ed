"""The reference engine: plain PyTorch, for any module, optimiser and device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from gd_lightning.engine.chunk import Chunk, DivergenceCheck, Engine, EpochEnds, Record, Trace
from gd_lightning.errors import first_line

Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AutogradEngine(Engine):
    """Calls a module, torch's autograd and an optimiser for every update.

    Args:
        losses: Function of x (B, D) and y (B, K) that returns two scalars: the loss to minimise, and the batch loss in
            it.
        optimizer: Updates the parameters.
        parameters: Parameters whose values or gradients are saved on request.
    """

    name: ClassVar[str] = "autograd"
    first_work = 100.0

    def __init__(self, losses: Losses, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        self._losses, self._optimizer = losses, optimizer
        self._parameters = list(parameters)

    def prepare(self, chunk: Chunk) -> None:
        """Do nothing: PyTorch is ready."""

    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk."""
        left, self.interrupted = _Left(), None
        try:
            self._make(chunk, left)
            return left.trace()
        except BaseException:
            if left.updates:
                self.interrupted = Trace(
                    left.updates, Record(torch.empty(0)), measured=left.measures(), sums=left.sums()
                )
                with suppress(Exception):  # the exception that ended the chunk may be raised once more
                    self.interrupted = left.trace()
            raise

    def _make(self, chunk: Chunk, left: _Left) -> None:
        """Make the updates, until a divergence check ends the chunk."""
        save_at, check, lrs = chunk.save_at, chunk.check, chunk.lrs
        positions = chunk.saved_positions(save_at, chunk.updates).tolist()
        ends = set() if chunk.ends is None else set(chunk.epoch_ends(chunk.updates - 1).tolist())
        next_check, left.suspected = check.start, check.is_needed and check.suspected
        for position in range(chunk.updates):
            if lrs is not None:
                for group in self._optimizer.param_groups:
                    group["lr"] = float(lrs[position])
            is_saved = len(left.losses) < len(positions) and position == positions[len(left.losses)]
            batch_loss, gradient = self._update(*chunk.batch(position), is_saved and save_at.gradients)
            left.updates = position + 1
            if is_saved:
                left.losses.append(batch_loss)
                if save_at.parameters:
                    left.parameters.append(_flat(self._parameters))
                if gradient is not None:
                    left.gradients.append(gradient)
            is_due = check.is_needed and position + 1 == next_check
            next_check += check.every * is_due
            is_measured = False
            if position in ends and chunk.ends is not None:
                if left.is_over_at_end_of_epoch(chunk.ends):
                    return
                is_measured = chunk.ends.measure is not None
            if is_due and not is_measured and left.is_suspect(check):
                return
        left.suspected = check.is_needed and left.is_suspect(check)

    def _update(self, x: Tensor, y: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Make an update; returns batch loss and gradient at the weights from which it starts."""
        batch_loss: Tensor | None = None
        gradient: Tensor | None = None

        def closure() -> Tensor:
            nonlocal batch_loss, gradient
            self._optimizer.zero_grad()
            loss, value = self._losses(x, y)
            loss.backward()
            if batch_loss is None:  # optimisers such as LBFGS call the closure several times per update
                batch_loss = value.detach()
                gradient = _flat([_gradient(each) for each in self._parameters]) if with_gradient else None
            return loss

        with overflow_to_nan(self._optimizer):
            # torch takes two kinds of closures, and its type hints name one of them.
            self._optimizer.step(closure)  # type: ignore[arg-type]
        assert batch_loss is not None
        return batch_loss, gradient


@contextmanager
def overflow_to_nan(optimizer: Optimizer) -> Iterator[None]:
    """Turn the error that torch raises for a step too large for the precision into nan parameters.

    Args:
        optimizer: The optimiser.
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
    except RuntimeError as known:  # the error has no class of its own, and its wording differs between versions
        return type(error) is type(known) and first_line(error) == first_line(known)
    return False


class _Left:
    """The results of the updates of a chunk so far."""

    def __init__(self) -> None:
        self.updates, self.seconds = 0, 0.0
        self.suspected = False
        self.losses: list[Tensor] = []
        self.parameters: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self._measured: list[Sequence[float]] = []
        self._sums: list[NDArray[np.float64]] = []
        self._checked = 0  # number of losses that have been checked

    def is_suspect(self, check: DivergenceCheck) -> bool:
        """Whether divergence is suspected at a check."""
        losses, self._checked = self.losses[self._checked :], len(self.losses)
        is_beyond = bool(losses) and not bool((torch.stack(losses).double() <= check.bound).all())
        self.suspected = self.suspected or is_beyond
        return self.suspected

    def is_over_at_end_of_epoch(self, ends: EpochEnds) -> bool:
        """Measure at the end of an epoch, which ends all suspicion; returns whether the chunk ends there."""
        begun = time.perf_counter()
        if ends.held_out is not None:  # before the train loss, as Lightning does it
            self._sums.append(ends.held_out.sum_errors())
        if ends.measure is not None:
            self._measured.append(ends.measure())
        self.seconds += time.perf_counter() - begun
        if ends.measure is None:
            return False
        self.suspected, self._checked = False, len(self.losses)
        return ends.is_over(self._measured[-1][0], self.losses[-1].item())

    def measures(self) -> NDArray[np.float64]:
        """Return the measurements at the ends of epochs, shape (epochs, measures)."""
        return np.array(self._measured, dtype=np.float64).reshape(len(self._measured), -1 if self._measured else 0)

    def sums(self) -> NDArray[np.float64]:
        """Return the sums of errors at the ends of epochs, shape (epochs, 3 + K)."""
        return np.stack(self._sums) if self._sums else np.empty((0, 0))

    def trace(self) -> Trace:
        """Copy the results to the CPU at once, since reading each value would wait for the device."""
        saved = (torch.stack(each).cpu() if each else None for each in (self.losses, self.parameters, self.gradients))
        losses, parameters, gradients = saved
        record = Record(torch.empty(0) if losses is None else losses, parameters, gradients)
        return Trace(
            self.updates, record, self.suspected, measured=self.measures(), seconds=self.seconds, sums=self.sums()
        )


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _flat(tensors: list[nn.Parameter] | list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
