"""A chunk of updates, which an engine carries out, and the trace that it returns.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.micro_batches import Pair
from gd_lightning.records.columns import are_in
from gd_lightning.variants import Variant

NOTHING_IS_BEYOND = math.inf


@dataclass(frozen=True)
class SaveAt:
    """Which updates of a chunk are saved, by their positions in it, from 0; a saved update keeps its batch loss.

    Args:
        start: Position of the first saved update.
        every: Interval between saved updates.
        last: Whether the last update of the chunk is saved as well.
        parameters: Whether the parameters after each saved update are saved, too.
        gradients: Whether the gradients are saved, too.

    Example:
        >>> SaveAt(start=1, every=3, last=True).positions(9)
        array([1, 4, 7, 8])
    """

    start: int = 0
    every: int = 1
    last: bool = True
    parameters: bool = False
    gradients: bool = False

    def count(self, updates: int) -> int:
        """Return the number of saved updates in a chunk of ``updates`` updates."""
        regular = self._regular(updates)
        return len(regular) + (self.last and updates > 0 and updates - 1 not in regular)

    def _regular(self, updates: int) -> range:
        return range(self.start, updates, self.every)

    def joined(self, other: SaveAt, updates: int) -> SaveAt:
        """Return a request that covers this and another one, and the last update, in a chunk of ``updates`` updates.

        If the two requests differ in their updates, every update is saved.
        """
        other = replace(other, last=True)
        if self.start >= updates or self == other:
            return other
        return SaveAt(parameters=self.parameters or other.parameters, gradients=self.gradients or other.gradients)

    def positions(self, updates: int) -> NDArray[np.int64]:
        """Return the positions of the saved updates in a chunk of ``updates`` updates, shape (R,)."""
        positions = np.arange(self.start, updates, self.every, dtype=np.int64)
        if len(positions) < self.count(updates):
            positions = np.append(positions, updates - 1)
        return positions


@dataclass(frozen=True)
class DivergenceCheck:
    """Ends a chunk early at a check, if a saved batch loss since the last check is above a bound or nan.

    Args:
        bound: The largest batch loss that is not a reason to stop.
        start: How many updates of the chunk come before its first check.
        every: How many updates lie between two checks.
        suspected: Whether there was such a batch loss before the chunk, not yet checked.
    """

    bound: float = NOTHING_IS_BEYOND
    start: int = 1
    every: int = 1
    suspected: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether any loss can be above the bound."""
        return self.suspected or self.bound != NOTHING_IS_BEYOND


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Samples that a run validates on at the ends of epochs, by sums of errors; see :meth:`Engine.sum_errors`.

    Args:
        x: Features as a compiled network takes them, contiguous, shape (N, D).
        y: Targets, contiguous, shape (N, K).
        batch_size: Samples whose errors are summed apart, before these sums are added in their order.
        sum_errors: Sums the errors at the current weights if the engine has no faster way, shape (3 + K,).
    """

    x: Tensor
    y: Tensor
    batch_size: int
    sum_errors: Callable[[], NDArray[np.float64]]


@dataclass(frozen=True)
class EpochEnds:
    """Measurements at the ends of epochs within a chunk of several epochs, and when they end the chunk.

    Args:
        measure: Measures at the current weights if the engine has no faster way; the train loss comes first. None:
            nothing is measured.
        low: The chunk ends at the end of an epoch whose train loss is at most this.
        high: The chunk ends at the end of an epoch whose train loss is above this, or nan, or whose last batch loss is
            not finite.
        held_out: The samples of validation; None where there is none.
    """

    measure: Callable[[], Sequence[float]] | None = None
    low: float = -math.inf
    high: float = math.inf
    held_out: HeldOut | None = None

    def is_over(self, train_loss: float, batch_loss: float) -> bool:
        """Whether the chunk ends at an epoch's end where these were measured."""
        return not (self.low < train_loss <= self.high and math.isfinite(batch_loss))


class Record(NamedTuple):
    """Results of the saved updates of a chunk; None for results that were not requested.

    Args:
        losses: Batch losses, in the precision of the run, shape (R,).
        parameters: Parameters after the updates, in the order of ``parameters()``, shape (R, P).
        gradients: Gradients of the updates, without weight decay, shape (R, P).
    """

    losses: Tensor
    parameters: Tensor | None = None
    gradients: Tensor | None = None


_LAST_ALONE, _NO_CHECK = SaveAt(start=sys.maxsize), DivergenceCheck()


@dataclass(frozen=True)
class ChunkRequest:
    """The requests of a callback for the coming chunk of updates.

    The method ``chunk_request(trainer)`` of a callback, which returns one, is called after the ``on_train_batch_start``
    of all callbacks. If a callback has a hook of epochs and no such method, or one of an older class, a chunk ends
    with the current epoch at the latest.

    Args:
        save_at: Which updates to save.
        check: When to end the chunk early.
        epochs: In how many epochs, the present one included, the callback needs no hook but those of the last one.
        measure: Measures at the end of each epoch; see :class:`EpochEnds`.
        measures: How many numbers ``measure`` returns.
        low: The chunk is to end where the train loss, at an epoch's end, is at most this.
        high: The chunk is to end where the train loss, at an epoch's end, is above this, or a loss is not finite.
        interrupted: Called with the chunk and its partial trace if an exception ends it.
    """

    save_at: SaveAt | None = None
    check: DivergenceCheck | None = None
    epochs: float = math.inf
    measure: Callable[[], Sequence[float]] | None = None
    measures: int = 0
    low: float = -math.inf
    high: float = math.inf
    interrupted: Callable[[Chunk, Trace], None] | None = None


class Chunk:
    """Consecutive updates of an epoch, or of several, over samples in memory.

    Args:
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        rows: In which order the epochs visit the samples, int64, shape (N,) for each of them, concatenated;
            None: the stored order. That of several epochs is there until the next chunk is made.
        variant: B, N, and whether a short last batch is dropped.
        first: The first update, counted from the beginning of the epoch, from 0.
        stop: One past the last update, counted from the same update.
        lrs: Learning rate of each update, shape (stop - first,); None: the one that the optimiser has.
        save_at: Which updates are saved; by default the last one, and with several epochs the last of each.
        check: When the chunk ends early; by default never.
        per_epoch: How many updates an epoch has; None: as many as the variant says.
        ends: The measurements at the ends of epochs; None: there are none.

    Example:
        >>> import torch
        >>> x = torch.arange(5.0)[:, None]
        >>> chunk = Chunk(x, -x, torch.tensor([4, 3, 2, 1, 0]), Variant(2, 5), first=1, stop=3)
        >>> [chunk.batch(position)[0].flatten().tolist() for position in range(chunk.updates)]
        [[2.0, 1.0], [0.0]]
    """

    # Not a dataclass: Lightning would take it apart when it moves a batch to a device.
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        rows: Tensor | None,
        variant: Variant,
        first: int,
        stop: int,
        lrs: NDArray[np.float64] | None = None,
        save_at: SaveAt = _LAST_ALONE,
        check: DivergenceCheck = _NO_CHECK,
        per_epoch: int | None = None,
        ends: EpochEnds | None = None,
    ) -> None:
        self.x, self.y, self.rows = x, y, rows
        self.variant = variant
        self.first, self.stop = first, stop
        self.lrs = lrs
        self.save_at, self.check = save_at, check
        self.per_epoch = variant.updates_per_epoch if per_epoch is None else per_epoch
        self.ends = ends

    @property
    def updates(self) -> int:
        """Number of updates."""
        return self.stop - self.first

    def place(self, updates: int) -> tuple[int, int]:
        """Return the epoch and the position in it after the first ``updates`` updates.

        Args:
            updates: At least one.

        Returns:
            Index of the epoch, from 0, that contains the last of them, and the number of updates made in that epoch.
        """
        epochs = (self.first + updates - 1) // self.per_epoch
        return epochs, self.first + updates - epochs * self.per_epoch

    def epoch_ends(self, updates: int) -> NDArray[np.int64]:
        """Return the positions of the last updates of epochs among its first updates; none where it has one epoch."""
        if self.stop <= self.per_epoch:
            return np.empty(0, np.int64)
        return np.arange(self.per_epoch - 1 - self.first, updates, self.per_epoch, dtype=np.int64)

    def saved_positions(self, save_at: SaveAt, updates: int) -> NDArray[np.int64]:
        """Return the positions of the saved updates among the first ``updates``, shape (R,).

        Args:
            save_at: The request: that of the chunk, or a part of it.
            updates: Number of updates made; fewer than all if the chunk ended early.
        """
        last = save_at.last and updates == self.updates
        positions, ends = replace(save_at, last=last).positions(updates), self.epoch_ends(updates)
        if len(ends) == updates:  # each epoch is an update
            return ends
        others = ends[~are_in(ends, positions)]
        return np.insert(positions, np.searchsorted(positions, others), others) if len(others) else positions

    def saves(self) -> int:
        """Return the number of saved updates if all updates are made."""
        count, ends = self.save_at.count(self.updates), self.epoch_ends(self.updates)
        if count <= self.save_at.last:  # none, or the last one alone
            return len(ends) + (count and self.updates - 1 not in ends[-1:])
        is_regular = (ends >= self.save_at.start) & ((ends - self.save_at.start) % self.save_at.every == 0)
        is_counted = is_regular | (ends == self.updates - 1) if self.save_at.last else is_regular
        return count + len(ends) - int(is_counted.sum())

    def asked(
        self,
        requests: Sequence[ChunkRequest],
        lrs: NDArray[np.float64] | None = None,
        epochs: int = 1,
        rows: Tensor | None = None,
        held_out: HeldOut | None = None,
    ) -> Chunk:
        """Return the chunk with the results of all requests; the last one decides when it ends early.

        Args:
            requests: The requests of the callbacks.
            lrs: Learning rate of each update, shape (updates,), and the chunk ends after the last of them; None: the
                one that the optimiser has.
            epochs: How many epochs it has instead of one, which it has from the first to the last update.
            rows: The order of these epochs.
            held_out: The samples of validation.
        """
        save_at, check, ends = self.save_at, self.check, None if held_out is None else EpochEnds(held_out=held_out)
        stop = self.stop + (epochs - 1) * self.per_epoch if lrs is None else self.first + len(lrs)
        for request in requests:
            if request.save_at is not None:
                save_at = save_at.joined(request.save_at, stop - self.first)
            check = request.check or check
            if request.measure is not None:
                low, high = max(each.low for each in requests), min(each.high for each in requests)
                ends = EpochEnds(request.measure, low, high, held_out)
        rows = self.rows if rows is None else rows
        return Chunk(*(self.x, self.y, rows, self.variant, self.first, stop, lrs, save_at, check, self.per_epoch, ends))

    def over(self, x: Tensor, y: Tensor) -> Chunk:
        """Return the same updates over other samples, x of shape (N, D) and y of shape (N, K)."""
        own = self.rows, self.variant, self.first, self.stop, self.lrs, self.save_at, self.check
        return Chunk(x, y, *own, self.per_epoch, self.ends)

    def __iter__(self) -> Iterator[Tensor]:
        """Unpack the one update of a chunk like the batch (x, y) that it is made of.

        Raises:
            ValueError: There are several.
        """
        if self.updates != 1:
            raise ValueError(f"cannot use a chunk of {self.updates} updates as a single batch (x, y)")
        return iter(self.batch(0))

    def batch(self, position: int) -> Pair:
        """Return the samples of an update, x of shape (B, D) and y of shape (B, K)."""
        epoch, update = divmod(self.first + position, self.per_epoch)
        begin, end = self.variant.samples_at(update), self.variant.samples_at(update + 1)
        if self.rows is None:
            return self.x[begin:end], self.y[begin:end]
        before = epoch * self.variant.train_samples
        chosen = self.rows[before + begin : before + end]
        return self.x[chosen], self.y[chosen]


class Trace:
    """The results of a chunk, besides the changed parameters.

    Args:
        updates: Number of updates made; fewer than all if a check ended the chunk.
        record: Results of the saved updates, or a function that recomputes them: saving can take longer than the
            updates.
        suspected: Whether a saved batch loss is beyond the bound, since the last check that found none.
        saved: R, the number of saved updates; None: taken from the record, which is then in memory.
        last_loss: Batch loss of the last saved update, a scalar; None: taken from the record.
        measured: Measurements at the ends of epochs within the chunk, shape (epochs, measures).
        seconds: Seconds that these measurements took.
        sums: Sums of errors of the samples of validation at the ends of epochs within it, shape (epochs, 3 + K).
    """

    validated: Mapping[str, NDArray[np.float64]] = {}
    """Measures of validation at these ends, by name, each of shape (epochs,), nan where no validation was due."""

    def __init__(
        self,
        updates: int,
        record: Record | Callable[[], Record],
        suspected: bool = False,
        saved: int | None = None,
        last_loss: Tensor | None = None,
        measured: NDArray[np.float64] | None = None,
        seconds: float = 0.0,
        sums: NDArray[np.float64] | None = None,
    ) -> None:
        self.updates = updates
        self.suspected = suspected
        self._record = record
        self.saved = len(self.record.losses) if saved is None else saved
        self._last_loss = last_loss
        self.measured = np.empty((0, 0)) if measured is None else measured
        self.seconds = seconds
        self.sums = np.empty((0, 0)) if sums is None else sums

    @property
    def record(self) -> Record:
        """The results of the saved updates."""
        return self._record if isinstance(self._record, Record) else self._record()

    @property
    def in_memory(self) -> Record | None:
        """Results of the saved updates if they are in memory; None if they would be recomputed."""
        return self._record if isinstance(self._record, Record) else None

    @property
    def last_loss(self) -> Tensor:
        """The batch loss of the last update that is saved, a scalar; nan where none is."""
        if self._last_loss is None:
            self._last_loss = self.record.losses[-1] if self.saved else torch.tensor(torch.nan)
        return self._last_loss


class ChunkSource(Protocol):
    """Plans the chunks that a loader yields."""

    @property
    def end(self) -> int:
        """One past the last update that is made, or about to be made, counted from the beginning of the epoch."""

    def next_chunk(self, rows: Tensor | None, update: int) -> Chunk | None:
        """Plan the chunk that begins at an update of the epoch; None where the rest of the epoch comes in batches."""


class Engine(ABC):
    """Carries out updates of parameters that it holds, with the settings and the state of their optimiser."""

    name: ClassVar[str]
    first_work: float
    """Work of a run's first chunk: updates for autograd, else updates times batch size times number of parameters."""
    max_updates: float = math.inf
    """The most updates of a chunk."""
    interrupted: Trace | None = None
    """What the present chunk has left where an exception has ended it; None where no update was made."""

    @abstractmethod
    def prepare(self, chunk: Chunk) -> None:
        """Prepare for chunks like this one, for example by compiling code; no update is made."""

    @abstractmethod
    def carry_out(self, chunk: Chunk) -> Trace:
        """Make the updates of a chunk in order, changing the parameters and the state of the optimiser in place."""

    def can_span_epochs(self, chunk: Chunk, measures: int, held_out: HeldOut | None = None) -> bool:
        """Whether this engine can carry out several such epochs in one call.

        Args:
            chunk: A whole epoch.
            measures: Number of quantities measured at the end of each epoch; the first is the train loss.
            held_out: The samples of validation.
        """
        return True

    def sum_errors(self, held_out: HeldOut) -> NDArray[np.float64] | None:
        """Return the sums of errors of some samples at the present parameters, in float64.

        Args:
            held_out: The samples.

        Returns:
            Loss, squared errors and absolute errors, each summed over samples and outputs, and the squared errors of
            each output, shape (3 + K,); None if the engine cannot compute them faster than the network.
        """
        return None

    def mean_loss(self, x: Tensor, y: Tensor) -> float | None:
        """Return the loss at the present parameters, a mean over samples x (N, D) and outputs of y (N, K).

        Returns:
            The loss; None if the engine cannot compute it faster than a forward pass of the network.
        """
        return None
