"""Training by an engine without a Trainer: many short fits, each of which ends where a Trainer's ends.

Letters: N samples, P parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from lightning.pytorch.utilities import rank_zero_info

from gd_lightning.data.order import Order, epoch_orders, uses_stored_order
from gd_lightning.engine import Chunk, Engine, EpochEnds, SaveAt, announcing_compilation
from gd_lightning.errors import InputError
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR, is_beyond
from gd_lightning.records.history import History
from gd_lightning.sklearn.early_stopping import LowestLoss
from gd_lightning.sklearn.learner import Learner
from gd_lightning.sklearn.samples import WeightedSamples
from gd_lightning.threads import is_little, one_thread_if
from gd_lightning.variants import Variant

_MOST_NUMBERS = 10_000_000  # numbers that an engine may hold in one call: rows of epochs, and parameters of updates
_MOST_EPOCHS = 20_000  # largest number of epochs in a call
_MOST_WORK = 10  # largest ratio to the work of the first chunk: about a second, so that Ctrl-C is handled soon


@dataclass(frozen=True)
class Epochs:
    """The epochs of a call of training.

    Args:
        count: Number of epochs.
        variant: The batches of an epoch.
        order: The order in which an epoch visits the samples.
        seed: Seed of the order.
        engine: auto, autograd or fused.
    """

    count: int
    variant: Variant
    order: Order = "shuffled"
    seed: int = 0
    engine: str = "auto"


@dataclass
class Curves:
    """The curves of a fit, with an entry for its start and one for each epoch.

    Args:
        update: Updates made since the network was made.
        epoch: Epochs made since then.
        seconds: Seconds of training in this fit.
        train_loss: Mean loss over the training samples at these weights.
        val_loss: Mean loss over those of validation; empty without any.
        lr: Learning rate of the update that led there; the first entry is that of the coming one.
        best: Index of the entry with the weights that the fit ended with.
    """

    update: list[int] = field(default_factory=list)
    epoch: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    best: int = 0

    def history(self, samples_per_epoch: int) -> History:
        """Return the curves as a history."""
        history, first = History(), self.epoch[0]
        for row, epoch in enumerate(self.epoch):
            values = {"val_loss": self.val_loss[row]} if self.val_loss else {}
            history.append(
                update=self.update[row],
                epoch=epoch,
                samples=(epoch - first) * samples_per_epoch,
                seconds=self.seconds[row],
                train_loss=self.train_loss[row],
                lr=self.lr[row],
                **values,
            )
        return history


def train_epochs(
    learner: Learner,
    samples: WeightedSamples,
    epochs: Epochs,
    held_out: WeightedSamples | None = None,
    lowest: LowestLoss | None = None,
    averages: bool = False,
) -> Curves:
    """Train for some epochs, continuing where the last call has ended.

    Args:
        learner: The network and its optimiser.
        samples: The training samples.
        epochs: The epochs.
        held_out: Samples for validation.
        lowest: Ends the training early by the validation loss, or the train loss without validation; None: never.
        averages: Whether the mean of the parameters after all updates is computed.

    Raises:
        InputError: The train loss diverges, or the requested engine cannot make these updates.
    """
    variant = epochs.variant
    updates = epochs.count * variant.updates_per_epoch
    engine = learner.make_engine(epochs.engine, variant, updates, samples.weights is not None)
    in_one = engine.name == "autograd" and is_little(learner.network, variant.batch_size)
    with learner.training(), one_thread_if(in_one), announcing_compilation(rank_zero_info, engine.name):
        curves = _Run(learner, engine, samples, epochs, held_out, lowest, averages).make()
    learner.use_mean(averages)
    return curves


@dataclass
class _Run:
    """A call of :func:`train_epochs`, whose arguments it has."""

    learner: Learner
    engine: Engine
    samples: WeightedSamples
    epochs: Epochs
    held_out: WeightedSamples | None
    lowest: LowestLoss | None
    averages: bool

    def __post_init__(self) -> None:
        x, y, weights = self.samples
        self._x, self._y = x, y if weights is None else torch.cat([y, weights.to(y)], dim=1)
        self._curves, self._seconds = Curves(), 0.0

    def make(self) -> Curves:
        """Carry out the epochs."""
        first = self._train_loss()
        self._note(self.learner.epochs, first, self.learner.updates)
        bound = DIVERGENCE_FACTOR * first if first > 0 else math.inf
        left, at_once = self.epochs.count, self._at_once()
        while left and not (self.lowest is not None and self.lowest.is_over):
            count = min(left, at_once)
            losses = self._carry_out(count, bound)
            left -= count
            for loss in losses:
                self.learner.epochs += 1
                self.learner.updates += self.epochs.variant.updates_per_epoch
                self._note(self.learner.epochs, loss, self.learner.updates)
                if is_beyond(loss, first):
                    raise InputError(
                        f"cannot fit, because the train loss grew from {first:.4g} to {loss:.4g}; use a smaller lr"
                    )
            if self.learner.scheduler is not None:
                self.learner.scheduler.step()
        if self.lowest is not None:
            self.lowest.restore()
        return self._curves

    def _at_once(self) -> int:
        """Return the number of epochs per call of the engine."""
        if self.held_out is not None or self.lowest is not None or self.learner.scheduler is not None:
            return 1
        variant = self.epochs.variant
        chunk = Chunk(self._x, self._y, None, variant, 0, variant.updates_per_epoch)
        if not self.engine.can_span_epochs(chunk, 1):
            return 1
        numbers = sum(parameter.numel() for parameter in self.learner.network.parameters())
        updates = variant.updates_per_epoch
        work = updates if self.engine.name == "autograd" else len(self._x) * numbers
        held = max(len(self._x), updates * numbers if self.averages else 1)
        return max(1, min(_MOST_EPOCHS, _MOST_NUMBERS // held, int(_MOST_WORK * self.engine.first_work / work)))

    def _carry_out(self, epochs: int, bound: float) -> list[float]:
        """Carry out some epochs, and return the train loss after each; fewer if it has grown beyond a bound."""
        learner, variant, begun = self.learner, self.epochs.variant, time.perf_counter()
        order, rows = self.epochs.order, None
        if not uses_stored_order(order, variant):
            rows = epoch_orders(order, variant.train_samples, self.epochs.seed, learner.epochs, epochs)
        ends = EpochEnds(lambda: [self._train_loss()], high=bound) if epochs > 1 else None
        losses: list[float] = []
        for first, stop in self._parts(epochs * variant.updates_per_epoch):
            save_at = SaveAt(parameters=True) if self.averages else SaveAt(start=stop)
            chunk = Chunk(self._x, self._y, rows, variant, first, stop, save_at=save_at, ends=ends)
            trace = self.engine.carry_out(chunk)
            if self.averages and trace.record.parameters is not None:
                learner.mean.add(trace.record.parameters)
            losses += trace.measured.ravel().tolist()
        if trace.updates == chunk.updates:
            losses.append(self._train_loss())
        self._seconds += time.perf_counter() - begun
        return losses

    def _parts(self, updates: int) -> Iterator[tuple[int, int]]:
        """Yield first and last updates of chunks whose parameters fit into memory."""
        numbers = sum(parameter.numel() for parameter in self.learner.network.parameters())
        most = max(1, _MOST_NUMBERS // numbers) if self.averages else updates
        most = updates if updates > self.epochs.variant.updates_per_epoch else most
        return ((first, min(updates, first + most)) for first in range(0, updates, most))

    def _train_loss(self) -> float:
        return self.learner.mean_loss(self.samples, self.engine)

    def _note(self, epoch: int, train_loss: float, updates: int) -> None:
        curves = self._curves
        curves.update.append(updates)
        curves.epoch.append(epoch)
        curves.seconds.append(self._seconds)
        curves.train_loss.append(train_loss)
        curves.lr.append(float(self.learner.optimizer.param_groups[0]["lr"]))
        if self.held_out is not None:
            curves.val_loss.append(self.learner.mean_loss(self.held_out, self.engine))
        if self.lowest is None or (
            len(curves.update) > 1 and self.lowest.add(curves.val_loss[-1] if curves.val_loss else train_loss)
        ):
            curves.best = len(curves.update) - 1
