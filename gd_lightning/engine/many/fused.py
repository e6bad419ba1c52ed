"""Many runs trained by compiled code, in several threads.

Letters: M members, O orders, E epochs, N samples, P parameters, S starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gd_lightning.engine.fused_layout import layout_of
from gd_lightning.engine.fusible import why_not_fused_network
from gd_lightning.engine.many.population import (
    Ends,
    Members,
    Population,
    Progress,
    TrainingTask,
    say_nothing,
)
from gd_lightning.errors import InputError
from gd_lightning.losses import HUBER_DELTA, Loss
from gd_lightning.records.divergence_bound import UPDATES_BETWEEN_CHECKS

_TURNS = 8  # parts for each thread, since members take different times
_LONGEST_WAIT = 0.2  # seconds


class FusedPopulation(Population):
    """Trains each member in compiled code (Numba), with the formulas and in the precision of autograd.

    Args:
        network: A network for which :func:`~gd_lightning.engine.why_not_fused` returns ""; only its architecture is
            used.
        loss: The name of the loss.
        huber_delta: Absolute error at which the Huber loss becomes linear.

    Raises:
        InputError: The updates cannot be fused.
    """

    name: ClassVar[str] = "fused"
    rows_at_once: int = 2**24
    """Rows held at a time, over all orders, for as many epochs as fit."""

    def __init__(self, network: nn.Module, loss: Loss = "mse", huber_delta: float = HUBER_DELTA) -> None:
        if reason := why_not_fused_network(network):
            raise InputError(f"cannot fuse updates, because {reason}; use OneByOne")
        # Imported here, so that only users of this class need Numba and wait for its import.
        from gd_lightning.engine import kernels
        from gd_lightning.engine.many import kernels as of_members

        self._kernels, self._compiled = kernels, of_members
        self._layers, self._shapes, self._places, self._units, _ = layout_of(network)
        self._loss, self._huber_delta = kernels.PLACES[loss], float(huber_delta)

    def train(
        self, task: TrainingTask, members: Members, progress: Progress = say_nothing, ends: Ends | None = None
    ) -> Ends:
        """Train all members to their ends, in as many threads as torch has."""
        dtype = task.x.numpy().dtype
        shapes = np.array(self._shapes, dtype)
        network = self._kernels.measuring(self._kernels.network_of(self._layers, shapes, self._places[:0]))
        starts = np.ascontiguousarray(task.starts.to(task.x).numpy()[:, self._places])
        no_epoch, scratch = self._shared(task, np.empty((1, 1, 0), np.int64), 0), self._scratch(dtype)
        first = [self._compiled.measure(no_epoch, network, start, scratch) for start in starts]
        ends = Ends.none(task, len(members)) if ends is None else ends
        ends.losses[:, 0] = ends.last[:] = np.array(first)[members.start]
        theta = starts[members.start]
        velocity = np.zeros_like(theta) if members.momentum.any() else np.empty((len(theta), 0), dtype)
        stop, results = np.zeros(1, np.bool_), (ends.losses, ends.last, ends.updates, ends.diverged)
        states = self._compiled.MemberStates(theta, velocity, *results, stop)
        with _threads(stop) as pool:
            for chosen in members.by_orders(max(1, self.rows_at_once // len(task.x))):
                seeds, order_of = np.unique(members.order[chosen], return_inverse=True)
                settings = self._settings(task, members, ends.first, dtype)
                settings.order[chosen] = order_of
                at_once = max(1, self.rows_at_once // (len(seeds) * len(task.x)))
                for epoch in range(0, task.epochs, at_once):
                    rows = _rows(task, seeds, range(epoch, min(epoch + at_once, task.epochs)))
                    common = self._shared(task, rows, epoch), network, settings, states

                    def train(part: NDArray[np.int64], common: tuple[Any, ...] = common) -> None:
                        self._compiled.train(part, *common, self._scratch(dtype))

                    _train_in(pool, train, chosen, ends.updates, progress)
        ends.parameters[:, torch.from_numpy(self._places)] = torch.from_numpy(theta)
        return ends

    def _scratch(self, dtype: np.dtype[Any]) -> Any:
        """Return working memory for a thread."""
        units = self._units if len(self._layers) > 1 else 0
        return self._kernels.new_scratch(len(self._places), units, dtype)

    def _shared(self, task: TrainingTask, rows: NDArray[np.int64], epoch: int) -> Any:
        x, y = task.x.contiguous().numpy(), task.y.contiguous().numpy()
        ending = task.drop_last, task.stops, UPDATES_BETWEEN_CHECKS
        return self._compiled.SharedTask(x, y, rows, epoch, *ending, self._loss, self._huber_delta)

    def _settings(self, task: TrainingTask, members: Members, first: NDArray[np.float64], dtype: Any) -> Any:
        with np.errstate(over="ignore"):  # a learning rate beyond the precision becomes infinite
            lr = members.lr.astype(dtype)
        return self._compiled.Settings(
            lr=lr,
            batch_size=members.batch_size,
            momentum=members.momentum,
            nesterov=members.nesterov,
            weight_decay=members.weight_decay,
            l1=members.l1,
            order=np.zeros(len(members), np.int64),
            bound=task.bounds(first),
            make_updates=self._addresses(members, dtype),
        )

    def _addresses(self, members: Members, dtype: np.dtype[Any]) -> NDArray[np.int64]:
        """Return the addresses of the functions that make the updates of each member, shape (M,)."""
        settings = zip(members.momentum, members.weight_decay, members.l1, members.batch_size, strict=True)
        addresses = np.empty(len(members), np.int64)
        for m, (momentum, decay, l1, batch_size) in enumerate(settings):
            rule = self._kernels.Rule(0, 1.0, l1, self._kernels.SGD, momentum, False, decay, 0.0, 0.0, 0.0, False)
            addresses[m] = self._kernels.update_of(self._layers, rule, batch_size).address(dtype)
        return addresses


def _rows(task: TrainingTask, seeds: NDArray[np.int64], epochs: range) -> NDArray[np.int64]:
    """Return the rows of each order in some epochs, shape (O, E, N), or (O, E, 0) for the stored order."""
    found = [task.orders(int(seed), epochs.start, len(epochs)) for seed in seeds]
    if all(rows is None for rows in found):
        return np.empty((len(seeds), len(epochs), 0), np.int64)
    shape = len(epochs), len(task.x)
    stored_order = np.broadcast_to(np.arange(len(task.x)), shape)
    return np.stack([stored_order if rows is None else rows.numpy().reshape(shape) for rows in found])


@contextmanager
def _threads(stop: NDArray[np.bool_]) -> Iterator[ThreadPoolExecutor]:
    """Yield as many threads as torch uses.

    A signal comes while this thread waits for those; they then end their members after the epochs that these are in.

    Args:
        stop: A flag of shape (1,), set when the threads should end.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        try:
            yield pool
        except BaseException:
            stop[0] = True
            pool.shutdown(cancel_futures=True)
            raise


def _train_in(
    pool: ThreadPoolExecutor,
    train: Callable[[NDArray[np.int64]], None],
    members: NDArray[np.int64],
    updates: NDArray[np.int64],
    progress: Progress,
) -> None:
    """Train some members in threads, and report the number of updates made."""
    turns = min(len(members), _TURNS * torch.get_num_threads())
    parts, before = [members[turn::turns] for turn in range(turns)], updates.copy()
    for part, trained in zip(parts, [pool.submit(train, part) for part in parts], strict=True):
        while not wait([trained], _LONGEST_WAIT).done:
            pass  # a signal that another thread has received is handled only between two waits
        trained.result()
        progress(int(updates[part].sum() - before[part].sum()))
