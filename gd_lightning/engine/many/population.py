"""Many runs trained at once on the same data for the same number of epochs, each with its own settings and start.

Letters: M members, S starts, N samples, D features, K outputs, P parameters, E epochs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning.engine.chunk import Chunk, DivergenceCheck, Engine, SaveAt
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR, UPDATES_BETWEEN_CHECKS
from gd_lightning.variants import Variant

Orders = Callable[[int, int, int], Tensor | None]
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Members:
    """The settings of M runs, an array of shape (M,) each.

    Args:
        lr: Learning rates.
        batch_size: The batch size of each member.
        momentum: Momentum, Nesterov and weight decay are defined as in torch's SGD.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: L2 penalty.
        l1: L1 penalty on the weights; biases are not penalised.
        start: Index, among the S starts, of the start of each member.
        order: Seed of the order in which each member visits the samples.

    Example:
        >>> members = Members.of(lr=[0.1, 0.01, 0.001], batch_size=10)
        >>> len(members), members[members.lr < 0.05].lr.tolist(), members.batch_size.tolist()
        (3, [0.01, 0.001], [10, 10, 10])
    """

    lr: NDArray[np.float64]
    batch_size: NDArray[np.int64]
    momentum: NDArray[np.float64]
    nesterov: NDArray[np.bool_]
    weight_decay: NDArray[np.float64]
    l1: NDArray[np.float64]
    start: NDArray[np.int64]
    order: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        lr: Any,
        batch_size: Any,
        momentum: Any = 0.0,
        nesterov: Any = False,
        weight_decay: Any = 0.0,
        l1: Any = 0.0,
        start: Any = 0,
        order: Any = 0,
    ) -> Members:
        """Create the settings from scalars, which hold for all members, and sequences with one value per member."""
        given = (lr, batch_size, momentum, nesterov, weight_decay, l1, start, order)
        types = (float, np.int64, float, bool, float, float, np.int64, np.int64)
        together = np.broadcast_arrays(*(np.atleast_1d(value) for value in given))
        return cls(*(np.array(values, dtype=dtype) for values, dtype in zip(together, types, strict=True)))

    def __len__(self) -> int:
        return len(self.lr)

    def by_orders(self, at_once: int) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of members in groups with at most ``at_once`` distinct orders each."""
        orders = np.unique(self.order)
        for start in range(0, len(orders), at_once):
            yield np.flatnonzero(np.isin(self.order, orders[start : start + at_once]))

    def __getitem__(self, rows: Any) -> Members:
        return Members(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True)
class TrainingTask:
    """Data, starts, orders and limits that all members share.

    Args:
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        starts: Parameters before the first update, in the order of ``parameters()``, shape (S, P).
        orders: Function of (seed, epoch, epochs) that returns the rows in the order of so many epochs, from this one
            on, shape (epochs * N,), int64; None: the stored order.
        epochs: E.
        drop_last: Whether a short last batch is left out.
        divergence_factor: A train loss above this multiple of the one before the first update has diverged.
        stops: Whether a member ends when it diverges.
        in_stored_order: Whether full batches take samples in stored order. The order affects only rounding, and random
            numbers drawn per row, such as dropout.
    """

    x: Tensor
    y: Tensor
    starts: Tensor
    orders: Orders
    epochs: int
    drop_last: bool = False
    divergence_factor: float = DIVERGENCE_FACTOR
    stops: bool = True
    in_stored_order: Callable[[Variant], bool] = lambda _: False

    def variant(self, batch_size: int) -> Variant:
        """Return the variant of gradient descent for a batch size."""
        return Variant.of(int(batch_size), len(self.x), self.drop_last)

    def bounds(self, first: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the train losses above which members have diverged, shape (M,), given the initial losses."""
        # If the initial loss is 0, no multiple of it can be a bound: only a loss that is not finite counts.
        return np.where(first > 0, self.divergence_factor * first, np.finfo(np.float64).max)

    def checks(self, variant: Variant, made: int) -> Iterator[int]:
        """Yield the updates of an epoch, from 1, after which a member is checked for divergence before the epoch's end.

        Args:
            variant: The batches of the epoch.
            made: Updates before the epoch.
        """
        if self.stops:
            between = UPDATES_BETWEEN_CHECKS
            yield from range(between - made % between, variant.updates_per_epoch, between)


@dataclass(frozen=True)
class Ends:
    """The results of training the members.

    Args:
        parameters: On the CPU, shape (M, P).
        losses: Train loss before the first and after every epoch, shape (M, E + 1); nan after the end of a member.
        last: Train loss at the end, shape (M,).
        updates: Updates made, shape (M,).
        diverged: Whether a loss is not a finite number, or the train loss grew beyond its bound, shape (M,).
    """

    parameters: Tensor
    losses: NDArray[np.float64]
    last: NDArray[np.float64]
    updates: NDArray[np.int64]
    diverged: NDArray[np.bool_]

    @classmethod
    def none(cls, task: TrainingTask, members: int) -> Ends:
        """Return the initial results, before any update."""
        return cls(
            torch.full((members, task.starts.shape[1]), math.nan, dtype=task.starts.dtype),
            np.full((members, task.epochs + 1), math.nan),
            np.full(members, math.nan),
            np.zeros(members, dtype=np.int64),
            np.zeros(members, dtype=np.bool_),
        )

    def set(self, rows: NDArray[np.int64], found: Ends) -> None:
        """Store the results of some members.

        Args:
            rows: Indices of the members.
            found: Results of the members.
        """
        self.parameters[torch.from_numpy(rows)] = found.parameters
        for name in ("losses", "last", "updates", "diverged"):
            getattr(self, name)[rows] = getattr(found, name)

    @property
    def first(self) -> NDArray[np.float64]:
        """Train loss before the first update, shape (M,)."""
        first: NDArray[np.float64] = self.losses[:, 0]
        return first


def say_nothing(_: int) -> None:
    """Say nothing."""


class Population(ABC):
    """Trains many runs; with every implementation, each run ends where it would end if trained alone."""

    name: ClassVar[str]

    @abstractmethod
    def train(
        self, task: TrainingTask, members: Members, progress: Progress = say_nothing, ends: Ends | None = None
    ) -> Ends:
        """Train all members to their ends.

        Args:
            task: Data, starts, orders and limits that all members share.
            members: The settings of the members.
            progress: Called now and then with the number of updates made since the last call.
            ends: Receives the results, so that those of interrupted runs are kept, too; None: new arrays do.
        """


@dataclass(frozen=True)
class Single:
    """A single run.

    Args:
        engine: Makes the updates.
        parameters: The parameters that are trained.
        measure: Returns the train loss.
        end_epoch: Called after every epoch, for example to change the learning rate.
    """

    engine: Engine
    parameters: list[nn.Parameter]
    measure: Callable[[], float]
    end_epoch: Callable[[], None] = lambda: None


class OneByOne(Population):
    """Trains the members one after the other, for any engine; the reference for the other populations.

    Args:
        make: Function of (task, settings of all members, index of a member) that returns the run of this member.
    """

    name: ClassVar[str] = "one by one"

    def __init__(self, make: Callable[[TrainingTask, Members, int], Single]) -> None:
        self._make = make

    def train(
        self, task: TrainingTask, members: Members, progress: Progress = say_nothing, ends: Ends | None = None
    ) -> Ends:
        """Train all members to their ends."""
        ends = Ends.none(task, len(members)) if ends is None else ends
        for member in range(len(members)):
            single = self._make(task, members, member)
            _train_alone(single, task, members, member, ends, progress)
            ends.parameters[member] = torch.cat([each.detach().flatten() for each in single.parameters]).cpu()
        return ends


def _train_alone(
    single: Single, task: TrainingTask, members: Members, member: int, ends: Ends, progress: Progress
) -> None:
    variant = task.variant(members.batch_size[member])
    ends.losses[member, 0] = ends.last[member] = single.measure()
    bound = float(task.bounds(ends.first[member : member + 1])[0])

    for epoch in range(task.epochs):
        rows = None if task.in_stored_order(variant) else task.orders(int(members.order[member]), epoch, 1)
        made, suspected = 0, False
        while made < variant.updates_per_epoch:
            check = DivergenceCheck()
            if task.stops:
                to_check = UPDATES_BETWEEN_CHECKS - int(ends.updates[member]) % UPDATES_BETWEEN_CHECKS
                check = DivergenceCheck(bound, to_check, UPDATES_BETWEEN_CHECKS, suspected)
            last = variant.updates_per_epoch
            chunk = Chunk(task.x, task.y, rows, variant, made, last, save_at=SaveAt(), check=check)
            trace = single.engine.carry_out(chunk)
            made, suspected = made + trace.updates, trace.suspected
            # The updates ended early at a check, or this is the end of the epoch.
            ends.last[member] = single.measure()
            ends.updates[member] += trace.updates
            progress(trace.updates)
            is_sound = ends.last[member] <= bound and math.isfinite(trace.last_loss.item())
            ends.diverged[member] = not is_sound
            if task.stops and not is_sound:
                break
        if made == variant.updates_per_epoch:
            ends.losses[member, epoch + 1] = ends.last[member]
            single.end_epoch()
        if task.stops and ends.diverged[member]:
            return
