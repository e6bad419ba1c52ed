"""Updates in compiled code: linear and multilayer-perceptron networks on the CPU, without autograd.

Letters: N samples, D features, K outputs, P parameters, R saved updates, L layers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from gd_lightning.engine.chunk import Chunk, Engine, HeldOut, Record, SaveAt, Trace
from gd_lightning.engine.fused_layout import layout_of
from gd_lightning.engine.fused_memory import Memory
from gd_lightning.engine.fused_samples import SampleArrays
from gd_lightning.engine.fusible import why_not_fused
from gd_lightning.engine.optimizer_state import buffer_names, buffers, keep_state, settings_of, steps_of
from gd_lightning.errors import InputError
from gd_lightning.losses import HUBER_DELTA, Loss
from gd_lightning.torch_internals import note_step

_MOST_MEASURED = 1 << 24
"""Samples times features up to which a pass of a linear network is made in one thread, at the ends of epochs.

Torch's takes less time from ten million on, but ends a chunk, and its threads wait long where others have the cores."""

_MOST_MEASURED_OF_PERCEPTRON = 1 << 27
"""Samples times parameters; up to there torch's pass takes more time in one thread, and about as much in two."""

_DENSE = 4
"""Updates between two that are saved, and samples of each, up to which what they leave is computed again when read."""


_PREPARED: set[tuple[Hashable, ...]] = set()
"""Kinds of chunks whose compiled functions this process has called."""


class FusedEngine(Engine):
    """Carries out a chunk in one call of compiled code (Numba), with the formulas and in the precision of autograd.

    Args:
        network: The network to train, for which :func:`why_not_fused` returns "".
        optimizer: Its optimiser; settings are read from it at each chunk, and buffers are stored in it.
        loss: The name of the loss.
        huber_delta: Absolute error at which the Huber loss becomes linear.
        l1: Coefficient of the L1 penalty on the weights; biases are not penalised.

    Raises:
        InputError: The updates cannot be fused.
    """

    name: ClassVar[str] = "fused"
    first_work = 20_000_000.0

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        loss: Loss = "mse",
        huber_delta: float = HUBER_DELTA,
        l1: float = 0.0,
    ) -> None:
        reason = why_not_fused(network, optimizer)
        if reason:
            raise InputError(f"cannot fuse updates, because {reason}; use the autograd engine")
        # Imported here, so that only users of this engine need Numba and wait for its import.
        from gd_lightning.engine import kernels

        self._kernels: ModuleType = kernels
        self._optimizer = optimizer
        self._loss, self._huber_delta, self._l1 = kernels.PLACES[loss], float(huber_delta), float(l1)
        self._layout = layout_of(network)
        self._samples, self._memory = SampleArrays(kernels, self._layout), Memory(kernels, self._layout)
        self._pass: float | None = None

    def prepare(self, chunk: Chunk) -> None:
        """Compile the code for such chunks, or load it from the cache; both take longer than most chunks."""
        rule, span = self._rule(), self._span(chunk)
        kind = (self._layout.layers.tobytes(), chunk.x.dtype, rule, span)
        if kind in _PREPARED:
            return
        samples = self._samples.of_chunk(chunk, self._optimizer.param_groups[0]["params"][0].dtype)
        dtype = samples.x.dtype
        for keeps in (0, 1):  # number of saved losses; the code for one may differ from that for none
            network = self._network(chunk, dtype, rule, span, self._memory.results(SaveAt(), keeps, dtype)[0])
        network = self._kernels.measuring(network)
        state = self._kernels.State(*np.zeros((3, len(self._layout.places)), dtype), np.zeros(1, np.int64))
        ends = self._epochs(chunk, np.empty(0), self._held_out(None, 0, dtype))
        results = self._memory.results(SaveAt(), 1, dtype)
        self._kernel(chunk)(samples, network, state, np.zeros(1, dtype), rule, span._replace(updates=0), *results, ends)
        self.mean_loss(chunk.x[:0], chunk.y[:0])
        _PREPARED.add(kind)

    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk; its rows, if there are any, are trusted to be rows of x."""
        if not chunk.updates:
            return Trace(0, Record(chunk.y.new_empty(0)), chunk.check.is_needed and chunk.check.suspected)
        group = self._optimizer.param_groups[0]
        parameters: list[nn.Parameter] = group["params"]
        found = [buffers(self._optimizer, parameters, name) for name in buffer_names(self._optimizer)]
        # Arrays that share the memory of what they read and write cost a fraction of torch's copies.
        shared = [[tensor.detach().numpy() for tensor in part] for part in [list[Tensor](parameters), *found]]
        dtype = shared[0][0].dtype
        numbers = [self._layout.read(part) if part else np.empty(0, dtype) for part in shared]
        trace = self._make(chunk, self._kernels.State(*numbers, np.array([steps_of(self._optimizer)])))
        for of_part, part in zip(numbers, shared, strict=True):
            if part:
                self._layout.write(of_part, part)
        keep_state(self._optimizer, parameters, found, trace.updates)
        for tensor in (*parameters, *found[0], *found[1]):
            tensor.grad = None
            increment_version(tensor)
        if chunk.lrs is not None:
            group["lr"] = float(chunk.lrs[trace.updates - 1])
        note_step(self._optimizer)
        return trace

    def _make(self, chunk: Chunk, state: Any) -> Trace:
        """Make the updates of a chunk from a state, which is changed."""
        group, save_at = self._optimizer.param_groups[0], chunk.save_at
        dtype = state.theta.dtype
        samples = self._samples.of_chunk(chunk, group["params"][0].dtype)
        with np.errstate(over="ignore"):  # a learning rate beyond the precision becomes infinite
            lrs = np.array([float(group["lr"])] if chunk.lrs is None else chunk.lrs, dtype)
        rule, span, kernel = self._rule(), self._span(chunk), self._kernel(chunk)
        within = (chunk.stop - 1) // chunk.per_epoch
        measured = np.empty(within if chunk.ends is not None and chunk.ends.measure is not None else 0)
        held_out = self._held_out(None if chunk.ends is None else chunk.ends.held_out, within, dtype)

        def make(state: Any, span: Any, save_at: SaveAt, capacity: int, ends: Any) -> tuple[int, int, bool, Record]:
            saved, scratch = self._memory.results(save_at, capacity, dtype)
            epochs, network = self._epochs(chunk, *ends), self._network(chunk, dtype, rule, span, saved)
            updates, count, suspected = kernel(samples, network, state, lrs, rule, span, saved, scratch, epochs)
            path = (torch.from_numpy(array[:count]) if len(array) else None for array in saved[1:])
            return updates, count, suspected, Record(torch.from_numpy(saved.losses[:count]), *path)

        record: Record | Callable[[], Record]
        first, capacity = _saves(chunk)
        if first is not save_at:
            begin = [part.copy() for part in state]
            if chunk.stop > chunk.per_epoch:  # the order of the next chunk will be written into the same memory
                samples = samples._replace(rows=samples.rows.copy())
            updates, count, suspected, last = make(state, span, first, capacity, (measured, held_out))

            def record() -> Record:
                again = self._kernels.State(*(part.copy() for part in begin))
                # The chunk ended early; its last update was saved only if it was the last of an epoch.
                is_saved = updates - 1 in chunk.saved_positions(save_at, updates)
                same = span._replace(updates=updates, save_last=is_saved, is_checked=False)
                return make(again, same, save_at, count, (measured[:0], self._held_out(None, 0, dtype)))[3]
        else:
            updates, count, suspected, record = make(state, span, save_at, capacity, (measured, held_out))
            last = record
        last_loss = last.losses[-1] if count else None
        ended = min(within, (chunk.first + updates) // chunk.per_epoch)
        ends, sums = measured[:ended, None], held_out.sums[:-1][:ended]
        passes = len(ends) + len(sums) * len(held_out.x) / len(chunk.x)
        seconds = passes * self._seconds_of_pass(chunk) if passes else 0.0
        return Trace(updates, record, suspected, count, last_loss, ends, seconds, sums)

    def can_span_epochs(self, chunk: Chunk, measures: int, held_out: HeldOut | None = None) -> bool:
        """Whether compiled code can measure these losses and errors."""
        if held_out is not None and not self._can_measure(held_out.x):
            return False
        return measures == 0 or (measures == 1 and self._can_measure(chunk.x))

    def mean_loss(self, x: Tensor, y: Tensor) -> float | None:
        """Return the loss over samples that are not too many."""
        if not self._can_measure(x):
            return None
        total = self._sum_losses(x, y, 1)
        return total / y.numel() if len(y) else math.nan

    def sum_errors(self, held_out: HeldOut) -> NDArray[np.float64] | None:
        """Return the sums of errors of samples of which a batch is not too many."""
        if not self._can_measure(held_out.x[: held_out.batch_size]):
            return None
        group = self._optimizer.param_groups[0]
        theta = self._layout.read([parameter.detach().numpy() for parameter in group["params"]])
        compiled, scratch = self._held_out(held_out, 1, theta.dtype), self._memory.results(SaveAt(), 0, theta.dtype)[1]
        network = self._kernels.validating(self._network_of(theta.dtype))
        self._kernels.sum_errors_once(compiled, network, theta, self._rule(), scratch, 0)
        sums: NDArray[np.float64] = compiled.sums[0]
        return sums

    def _held_out(self, held_out: HeldOut | None, epochs: int, dtype: np.dtype[Any]) -> Any:
        """Return samples of validation for compiled code, with space for the sums of some epochs."""
        if held_out is None or not epochs:
            nothing = np.empty((0, 0), dtype)
            return self._kernels.HeldOut(nothing, nothing, 1, np.empty((0, 0)))
        x, y = held_out.x.numpy(), held_out.y.numpy()
        return self._kernels.HeldOut(x, y, held_out.batch_size, np.empty((epochs + 1, 3 + y.shape[1])))

    def _can_measure(self, x: Tensor) -> bool:
        if self._layout.is_linear:
            return x.numel() <= _MOST_MEASURED
        return len(x) * len(self._layout.places) <= _MOST_MEASURED_OF_PERCEPTRON

    def _sum_losses(self, x: Tensor, y: Tensor, times: int) -> float:
        """Return the loss, summed over samples and outputs; the sum is repeated ``times`` times for timing."""
        group = self._optimizer.param_groups[0]
        theta = self._layout.read([parameter.detach().numpy() for parameter in group["params"]])
        samples, rule, (_, scratch) = (
            self._samples.arrays(x, y),
            self._rule(),
            self._memory.results(SaveAt(), 0, theta.dtype),
        )
        network = self._kernels.measuring(self._network_of(theta.dtype))
        total: float = self._kernels.sum_losses_often(samples, network, theta, rule, scratch, times)
        return total

    def _seconds_of_pass(self, chunk: Chunk) -> float:
        """Return the seconds that compiled code takes to measure the train loss, timed once."""
        if self._pass is None:
            times = max(1, 1_000_000 // max(1, len(chunk.x) * len(self._layout.places)))
            begun = time.perf_counter()
            self._sum_losses(chunk.x, chunk.y, times)
            self._pass = (time.perf_counter() - begun) / times
        return self._pass

    def _network_of(self, dtype: np.dtype[Any], update: Any = None) -> Any:
        layout = self._layout
        shapes = np.array(layout.shapes, dtype)
        return self._kernels.network_of(layout.layers, shapes, layout.saved_places, update)

    def _network(self, chunk: Chunk, dtype: np.dtype[Any], rule: Any, span: Any, saved: Any) -> Any:
        """Return the network for compiled code, with the functions that it calls for a chunk."""
        in_threads = self._samples.is_large(chunk)
        update = self._kernels.update_of(self._layout.layers, rule, chunk.variant.batch_size, in_threads)
        network = self._network_of(dtype, self._kernels.without_records(update, rule, span, saved))
        if chunk.ends is not None and chunk.ends.measure is not None:
            network = self._kernels.measuring(network)
        if chunk.ends is not None and chunk.ends.held_out is not None:
            network = self._kernels.validating(network)
        return network

    def _kernel(self, chunk: Chunk) -> Any:
        if self._samples.is_large(chunk):
            return partial(self._kernels.carry_out_in_threads, torch.get_num_threads())
        return self._kernels.carry_out_epochs

    def _epochs(self, chunk: Chunk, measured: NDArray[np.float64], held_out: Any) -> Any:
        """Return the arguments of the compiled code for the ends of epochs."""
        low, high = (-math.inf, math.inf) if chunk.ends is None else (chunk.ends.low, chunk.ends.high)
        return self._kernels.Epochs(chunk.per_epoch, chunk.variant.train_samples, measured, low, high, held_out)

    def _rule(self) -> Any:
        return self._kernels.Rule(self._loss, self._huber_delta, self._l1, *settings_of(self._optimizer))

    def _span(self, chunk: Chunk) -> Any:
        save_at, check, variant = chunk.save_at, chunk.check, chunk.variant
        return self._kernels.Span(
            *(chunk.first, chunk.updates, variant.batch_size, variant.train_samples),
            *(save_at.start, save_at.every, save_at.last),
            *(check.is_needed, check.start, check.every, float(check.bound), check.suspected),
        )


def _saves(chunk: Chunk) -> tuple[SaveAt, int]:
    """Return which updates are saved at first, and how many losses; the rest is computed again when it is read.

    It is computed again if saving the results of updates takes longer than the updates themselves.
    """
    save_at = chunk.save_at
    is_dense = save_at.every <= _DENSE and chunk.variant.batch_size <= _DENSE
    if is_dense and (save_at.parameters or save_at.gradients):
        return replace(save_at, parameters=False, gradients=False), 1
    return save_at, chunk.saves()
