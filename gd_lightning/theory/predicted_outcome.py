"""The outlook: the predicted outcome of a run with a learning rate and a batch size.

Letters: N samples, B batch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.theory.drawn_batches import DrawnBatches
from gd_lightning.theory.full_batch import best_lr, largest_stable_lr, predicted_losses, updates_to_excess
from gd_lightning.theory.numerics.searches import smallest_whole
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.theory.sample_products import FEW_PAIRS
from gd_lightning.theory.sequential_batches import SequentialEpoch
from gd_lightning.update_rule import PLAIN, UpdateRule
from gd_lightning.variants import BatchSize, Variant

LONGEST_LOOK = 10_000
_LOOKS = (64, 1024, LONGEST_LOOK)  # epochs that are looked ahead, further where the target is not reached before
_CLOSE = 0.01  # of the least-squares loss
_NEXT_TO_NOTHING = 1e-6  # of the loss of the best constant: an least-squares loss below is no scale
_CLOSE_TO_ZERO = 1e-4  # of the loss of the best constant: what counts there
_CONSTANT = 1e-28  # of the excess at the start: a variance below is that of rounding errors
# What depends on single samples is found from fewer rows where all of them would take minutes: N R^2 numbers at most.
_NUMBERS, _PRODUCTS = 2e7, 1e9  # N S^2 numbers where the products of samples are summed up for S pairs of directions
_MOST_DIRECTIONS = 270  # in which drawn batches are told: of more, N R^2 numbers are of fewer samples than directions


class Verdict(str, Enum):
    """What becomes of a run."""

    CONVERGES = "converges"
    """It comes close to the least-squares loss within the epochs it has."""
    SLOW = "slow"
    """It would come close, but takes more epochs."""
    REACHES_ITS_FLOOR = "reaches its floor"
    """It is stable, but the noise of its batches, or rounding, keeps it away from the least-squares loss."""
    DIVERGES = "diverges"
    """Its learning rate is not below the largest stable one."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Outlook:
    """What is said of a batch size; epochs are counted until the excess is below the target.

    Args:
        variant: The batches of an epoch.
        largest_stable_lr: The learning rate below which it is stable; for batches, drawn with replacement.
        best_lr: The learning rate that shrinks the error fastest; for batches, drawn with replacement.
        lr: The learning rate that is asked about.
        epochs: Epochs to the target, about so many where they are more than 10,000 of mini-batches; ``inf`` where it
            is not reached.
        floor: How far above the least-squares loss it ends; ``inf`` where it diverges.
        verdict: What becomes of it.
        growth: For the sequential order, by how much the error can grow within an epoch; None for others.
        rounding: What of the floor is left by rounding alone, where that keeps it above the target; else 0.
    """

    variant: Variant
    largest_stable_lr: float
    best_lr: float
    lr: float
    epochs: float
    floor: float
    verdict: Verdict
    growth: float | None = None
    rounding: float = 0.0


@dataclass(frozen=True)
class Outlooks:
    """Tells the outlook of a linear regressor at any batch size and learning rate.

    Args:
        loss: The loss on the training set, rows in the order of the samples.
        start: The parameters before the first update.
        max_epochs: How many epochs a run has; ``inf`` where nothing limits it.
        rule: How an update moves, but for its learning rate.
        sequential: Whether the samples are used in their order; else, and where the loss is thinned, as if drawn with
            replacement.
        drop_last: Whether a short last batch is left out.
        with_replacement: Whether the samples are drawn with replacement: then a batch of N is no whole set either.
        rounding: How far above the least-squares loss rounding keeps a run by an update rule; None where rounding is
            left out.
        standardized: Gives the outlooks of the same run on standardised features; None where that cannot be asked for.

    Example:
        >>> import torch
        >>> x = torch.arange(-5, 5, 0.1)[:, None]
        >>> noise = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
        >>> loss = LinearLoss.of(x, -5 * x + 0.4 * noise)
        >>> outlooks = Outlooks(loss, Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0])), max_epochs=40)
        >>> [str(outlooks.of(batch_size, 0.1).verdict) for batch_size in ("full", 10, 1)]
        ['converges', 'reaches its floor', 'diverges']
    """

    loss: LinearLoss
    start: Affine
    max_epochs: float
    rule: UpdateRule = PLAIN
    sequential: bool = False
    drop_last: bool = False
    with_replacement: bool = False
    rounding: Callable[[UpdateRule], float] | None = None
    standardized: Callable[[], Outlooks] | None = None

    @cached_property
    def drawn(self) -> LinearLoss:
        """The loss with as many rows as the statements on drawn batches take into account; all of them, unless many."""
        return self.loss.thinned(_enough_rows(len(self.loss.eigenvalues)))

    @cached_property
    def excess_at_start(self) -> float:
        """The loss above the least-squares loss before the first update."""
        return self.loss.excess(self.loss.error(self.start)).item()

    @property
    def target(self) -> float:
        """The excess that counts as close.

        It is 1 % of the least-squares loss. Where that is next to nothing, less than a millionth of the loss of the
        best constant, it is a ten-thousandth of the latter. So with a bias R2 is within 0.01 of that of the least
        squares, wherever the run starts.
        """
        constant = self.loss.constant
        scale = constant if constant > _CONSTANT * self.excess_at_start else self.excess_at_start
        if self.loss.least_squares > _NEXT_TO_NOTHING * scale:
            return _CLOSE * self.loss.least_squares
        return max(_CLOSE_TO_ZERO * scale, sys.float_info.min)

    @property
    def knows_the_order(self) -> bool:
        """Whether the statements on epochs are exact for the sequential order, and no expected values."""
        return self.sequential and not self.loss.is_thinned

    def is_exact(self, variant: Variant) -> bool:
        """Whether what is said of these batches is exact: they are the whole set, or the order is known."""
        return self.is_whole(variant) or self.knows_the_order

    def is_whole(self, variant: Variant) -> bool:
        """Whether every update is from each sample once."""
        return variant.name == "batch" and not self.with_replacement

    def can_tell(self, variant: Variant) -> bool:
        """Whether anything can be said of these batches: mini-batches are told up to some number of directions."""
        return self.is_whole(variant) or len(self.loss.eigenvalues) <= _MOST_DIRECTIONS

    def losses(self, batch_size: BatchSize, lr: float, epochs: int) -> Tensor:
        """Return the predicted train loss before the first and after every epoch, shape (epochs + 1,).

        It is exact where :meth:`is_exact`, else an expected value.
        """
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        if self.is_whole(variant):
            return predicted_losses(self.loss, self.start, self.rule.at(lr), epochs)
        self._refuse_too_many_directions(variant)
        if self.knows_the_order:
            epoch = SequentialEpoch.of(self.loss, self.rule.at(lr), variant)
            return epoch.predicted_losses(self.start, epochs)
        return self.drawn_batches.expected_losses(lr, variant, epochs)

    def smallest_stable_batch_size(self, lr: float) -> int | None:
        """Return the smallest batch size whose largest stable learning rate is above lr; None where there is none."""
        n = self.loss.n_samples
        if lr >= self.largest_stable_lr(n):
            return None
        # The limit grows with the batch size.
        return int(smallest_whole(lambda size: self.drawn_batches.is_stable(lr, int(size)), 0, n))

    def largest_stable_lr(self, batch_size: BatchSize) -> float:
        """Return the learning rate below which a batch size is stable; for batches, drawn with replacement."""
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        if self.is_whole(variant):
            return largest_stable_lr(self.loss.lambda_max, self.rule)
        self._refuse_too_many_directions(variant)
        return self.drawn_batches.largest_stable_lr(variant.batch_size)

    def best_lr(self, batch_size: BatchSize) -> float:
        """Return the learning rate that shrinks the error fastest; for batches, drawn with replacement."""
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        if self.is_whole(variant):
            return best_lr(self.loss.lambda_min, self.loss.lambda_max, self.rule)
        self._refuse_too_many_directions(variant)
        return self.drawn_batches.best_lr(variant.batch_size)

    def of(self, batch_size: BatchSize, lr: float) -> Outlook:
        """Return the outlook of a batch size at a learning rate."""
        row = self._without_rounding(batch_size, lr)
        if self.rounding is None or row.verdict not in (Verdict.CONVERGES, Verdict.SLOW):
            return row
        left = self.rounding(self.rule.at(lr))
        if row.floor + left <= self.target:
            return row
        floor, verdict = row.floor + left, Verdict.REACHES_ITS_FLOOR
        return replace(row, epochs=math.inf, floor=floor, verdict=verdict, rounding=left)

    def _without_rounding(self, batch_size: BatchSize, lr: float) -> Outlook:
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        limit, best = self.largest_stable_lr(batch_size), self.best_lr(batch_size)
        if self.is_whole(variant):
            epochs = updates_to_excess(self.loss, self.start, self.rule.at(lr), self.target)
            return self._judged(variant, limit, best, lr, epochs, 0.0 if lr < limit else math.inf)
        if self.knows_the_order:
            epoch = SequentialEpoch.of(self.loss, self.rule.at(lr), variant)
            # Where it is drawn away from its start, to what is worse than a constant, nobody calls it stable.
            bearable = max(self.excess_at_start, self.loss.constant - self.loss.least_squares, self.target)
            floor = epoch.floor if epoch.floor < bearable else math.inf
            epochs = self._epochs(lambda looks: epoch.predicted_losses(self.start, looks), floor, lr, variant)
            return self._judged(variant, limit, best, lr, epochs, floor, epoch.largest_growth)
        drawn = self.drawn_batches
        floor = drawn.floor(lr, variant)
        epochs = self._epochs(lambda looks: drawn.expected_losses(lr, variant, looks), floor, lr, variant)
        return self._judged(variant, limit, best, lr, epochs, floor)

    def but(self, **changes: Any) -> Outlooks:
        """Return the outlooks of the same run with other options; what is known of drawn batches is known there."""
        other = replace(self, **changes)
        if {"loss", "start", "rule"}.isdisjoint(changes):
            other.__dict__["drawn_batches"] = self.drawn_batches
        return other

    @cached_property
    def drawn_batches(self) -> DrawnBatches:
        """What is said of drawn batches of all sizes."""
        return DrawnBatches(self.drawn, self.start, self.rule)

    def _refuse_too_many_directions(self, variant: Variant) -> None:
        if not self.can_tell(variant):
            raise InputError(
                f"cannot tell the outlook of batch_size {variant.batch_size}, because that of mini-batches is found in "
                f"up to {_MOST_DIRECTIONS} directions, and these data vary in {len(self.loss.eigenvalues)}; ask for "
                "batch_size full, or give fewer features"
            )

    def _epochs(self, losses_of: Callable[[int], Tensor], floor: float, lr: float, variant: Variant) -> float:
        """Return the epoch from whose end on the predicted excess is at most the target."""
        if floor > self.target:
            return math.inf
        for looks in _LOOKS:
            above = (~(losses_of(looks) - self.loss.least_squares <= self.target)).nonzero()
            epochs = int(above[-1, 0]) + 1 if len(above) else 0
            # With momentum the loss swings: it must stay there for as long as it took.
            if epochs <= (looks / 2 if self.rule.momentum and looks < LONGEST_LOOK else looks):
                return epochs
        # So slow a run goes on as its mean does, above its floor.
        left = max(self.target - floor, 1e-6 * self.target)
        updates = updates_to_excess(self.loss, self.start, self.rule.at(lr), left)
        return max(math.ceil(updates / variant.updates_per_epoch), LONGEST_LOOK + 1) if updates < math.inf else updates

    def _judged(
        self,
        variant: Variant,
        limit: float,
        best: float,
        lr: float,
        epochs: float,
        floor: float,
        growth: float | None = None,
    ) -> Outlook:
        if floor == math.inf:
            verdict = Verdict.DIVERGES
        elif floor > self.target:
            verdict = Verdict.REACHES_ITS_FLOOR
        else:
            verdict = Verdict.CONVERGES if epochs <= self.max_epochs else Verdict.SLOW
        return Outlook(variant, limit, best, lr, epochs, floor, verdict, growth)


def _enough_rows(directions: int) -> int:
    """Return how many rows stand for all of them in so many directions."""
    pairs = directions * (directions + 1) / 2
    return math.ceil(min(_NUMBERS / directions**2, _PRODUCTS / pairs**2 if pairs <= FEW_PAIRS else math.inf))


def seconds_to_tell(variant: Variant, columns: int, is_whole: bool, momentum: float) -> float:
    """Return about how long one thread of a usual machine takes to tell the outlook of a linear regressor.

    Args:
        variant: The batches of an epoch.
        columns: C, of the design.
        is_whole: Whether every update is from each sample once.
        momentum: Of the updates.
    """
    n, directions = variant.train_samples, min(variant.train_samples, columns)
    seconds = (2 * n * columns + 9 * directions**2) * directions / 1e9
    if is_whole:
        return seconds
    rows, pairs = min(n, _enough_rows(directions)), directions * (directions + 1) / 2
    if pairs <= FEW_PAIRS:
        of_moments = (2e-4 * rows + 1) * pairs**2 / 1e6
    else:
        of_moments = 0.5 + 1.5e-7 * rows * directions**2
    return seconds + (3 if momentum else 1) * of_moments
