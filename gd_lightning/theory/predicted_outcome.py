"""The predicted outcome of a run: whether it converges, after how many epochs, and how far from the minimum it ends.

Letters: N samples, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR
from gd_lightning.theory.averages import Weighs, averaged_losses, expected_averaged_losses
from gd_lightning.theory.changing_rates import MOST_UPDATES, Schedule, followed_losses, refuse_too_many
from gd_lightning.theory.convergence_target import target_excess
from gd_lightning.theory.drawn_batches import DrawnBatches
from gd_lightning.theory.full_batch import best_lr, largest_stable_lr, predicted_losses, updates_to_excess
from gd_lightning.theory.numerics.searches import smallest_whole
from gd_lightning.theory.quadratic_loss import LinearLoss
from gd_lightning.theory.sample_products import FEW_PAIRS
from gd_lightning.theory.sequential_batches import SequentialEpoch
from gd_lightning.theory.verdicts import Verdict
from gd_lightning.update_rule import PLAIN, UpdateRule
from gd_lightning.variants import BatchSize, Variant

MOST_EPOCHS = 10_000
# Each number is used only if the target is not reached within the previous one.
_EPOCHS_PREDICTED = (64, 1024, MOST_EPOCHS)
# Second moments of drawn batches are computed from a subsample where all samples would take minutes: from at most
# N R^2 numbers for R directions, or N S^2 where products of samples are summed up for S pairs of directions.
_NUMBERS, _PRODUCTS = 2e7, 1e9
_MOST_DIRECTIONS = 270  # with more, the subsample would have fewer samples than directions


@dataclass(frozen=True)
class PredictedOutcome:
    """The predicted outcome of a run with one batch size and one learning rate.

    Args:
        variant: Batch size and number of samples.
        largest_stable_lr: The learning rate below which the run is stable; for mini-batches, drawn with replacement.
        asymptotic_lr: The learning rate that reduces the error fastest in the long run, whatever the epochs; for
            mini-batches, drawn with replacement. What is best for a run is :func:`~gd_lightning.theory.best_rate`.
        lr: The learning rate of the run.
        epochs: Number of epochs until the excess stays below the target, an estimate for mini-batches above 10,000;
            ``inf`` if the target is not reached.
        floor: The excess, the loss above the lowest, at which the run ends; ``inf`` if it diverges. The lowest is the
            least-squares loss, or with weight decay the train loss at the minimum of the objective.
        verdict: The outcome in a word.
        growth: For the sequential order, the factor by which the error can grow within an epoch; else None.
        rounding: The part of the floor that is due to rounding alone, if that keeps it above the target; else 0.
        largest_rate: The largest learning rate of a schedule; None for a constant one.
    """

    variant: Variant
    largest_stable_lr: float
    asymptotic_lr: float
    lr: float
    epochs: float
    floor: float
    verdict: Verdict
    growth: float | None = None
    rounding: float = 0.0
    largest_rate: float | None = None


@dataclass(frozen=True)
class OutcomePredictor:
    """Predicts the outcome of training a linear regressor, for any batch size and learning rate.

    Args:
        loss: The loss on the training set, rows in the order of the samples.
        start: The parameters before the first update.
        max_epochs: Number of epochs of a run; ``inf`` if unlimited.
        rule: The update rule; its learning rate is not used.
        sequential: Whether samples are visited in their order; if not, or if the loss is of a subsample, as if
            drawn with replacement.
        drop_last: Whether a short last batch is left out.
        with_replacement: Whether samples are drawn with replacement; then a batch of N is not the whole set either.
        rounding: Returns the excess that rounding leaves under an update rule, in the precision of the run or another
            one; None: rounding is neglected.
        standardized: Returns the predictor of the same run on standardised features; None if there is none.
        schedule: Gives the learning rates of a run; None for a constant one. Limits are then those of its largest rate,
            and the floor is the excess at which the run ends.

    Example:
        >>> import torch
        >>> x = torch.arange(-5, 5, 0.1)[:, None]
        >>> noise = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
        >>> loss = LinearLoss.of(x, -5 * x + 0.4 * noise)
        >>> predictor = OutcomePredictor(loss, Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0])), max_epochs=40)
        >>> [str(predictor.predict(batch_size, 0.1).verdict) for batch_size in ("full", 10, 1)]
        ['converges', 'reaches its floor', 'diverges']
    """

    loss: LinearLoss
    start: Affine
    max_epochs: float
    rule: UpdateRule = PLAIN
    sequential: bool = False
    drop_last: bool = False
    with_replacement: bool = False
    rounding: Callable[..., float] | None = None
    standardized: Callable[[], OutcomePredictor] | None = None
    schedule: Schedule | None = None

    @cached_property
    def drawn(self) -> LinearLoss:
        """The loss on the samples, or a subsample, from which moments of drawn batches are computed."""
        return self.loss.thinned(_enough_rows(len(self.loss.eigenvalues)))

    @cached_property
    def excess_at_start(self) -> float:
        """The excess, the loss above the lowest, before the first update."""
        return self.loss.excess(self.loss.error(self.start)).item()

    @property
    def target(self) -> float:
        """The excess at which a run has converged; see :mod:`gd_lightning.theory.convergence_target`."""
        return target_excess(self.loss, self.excess_at_start)

    @property
    def reference(self) -> str:
        """The loss that the excess is relative to, in words."""
        decay = self.loss.weight_decay
        return f"the loss that weight_decay {decay:g} leads to" if decay else "the least-squares loss"

    @property
    def knows_the_order(self) -> bool:
        """Whether losses are predicted exactly for the sequential order, and not as expected values."""
        return self.sequential and not self.loss.is_thinned

    def is_exact(self, variant: Variant) -> bool:
        """Whether losses are predicted exactly: a batch is the whole set, or the order is known."""
        return self.is_whole(variant) or self.knows_the_order

    def is_whole(self, variant: Variant) -> bool:
        """Whether every update uses each sample once."""
        return variant.name == "batch" and not self.with_replacement

    def can_predict(self, variant: Variant) -> bool:
        """Whether there is a prediction for this batch size; for mini-batches, up to some number of directions.

        With a schedule, updates that must be followed one after the other may be too many.
        """
        if self.schedule is not None and (self.is_exact(variant) or self.schedule(1.0, 2, 1).shape[1] > 1):
            epochs = min(self.max_epochs, _EPOCHS_PREDICTED[1])
            if variant.updates_per_epoch * epochs > MOST_UPDATES:
                return False
        return self.is_whole(variant) or len(self.loss.eigenvalues) <= _MOST_DIRECTIONS

    def losses(self, batch_size: BatchSize, lr: float, epochs: int) -> Tensor:
        """Return the predicted train loss before the first and after every epoch, shape (epochs + 1,).

        It is exact if :meth:`is_exact`, else an expected value.

        Raises:
            InputError: There is no prediction for this batch size.
        """
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        if not self.is_whole(variant):
            _refuse_too_many_directions(self.loss, variant)
        if self.schedule is not None:
            return self._scheduled_losses(variant, self.schedule(lr, variant.updates_per_epoch, epochs))
        if self.is_whole(variant):
            return predicted_losses(self.loss, self.start, self.rule.at(lr), epochs)
        if self.knows_the_order:
            epoch = SequentialEpoch.of(self.loss, self.rule.at(lr), variant)
            return epoch.predicted_losses(self.start, epochs)
        return self.drawn_batches.expected_losses(lr, variant, epochs)

    def averaged_loss(self, batch_size: BatchSize, lr: float, epochs: int, average: Weighs) -> float:
        """Return the predicted train loss of an average of the parameters at the end of some epochs.

        It is exact if :meth:`is_exact`, else an expected value.

        Args:
            batch_size: B, or ``full``.
            lr: The learning rate.
            epochs: The epochs of the run.
            average: How parameters are averaged.

        Raises:
            InputError: There is no prediction for this batch size, or there are too many updates.
        """
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        rates = torch.full((epochs, 1), lr, dtype=torch.float64)
        if self.schedule is not None:
            rates = self.schedule(lr, variant.updates_per_epoch, epochs)
        if self.is_exact(variant):
            return averaged_losses(self.loss, self.start, self.rule, variant, rates, average)[-1].item()
        _refuse_too_many_directions(self.loss, variant)
        return expected_averaged_losses(self.drawn, self.start, self.rule, variant, rates, average)[-1].item()

    def smallest_stable_batch_size(self, lr: float) -> int | None:
        """Return the smallest batch size that is stable with a learning rate; None if none is."""
        n = self.loss.n_samples
        if lr >= self.largest_stable_lr(n):
            return None
        # The limit grows with the batch size.
        return int(smallest_whole(lambda size: self.drawn_batches.is_stable(lr, int(size)), 0, n))

    def largest_stable_lr(self, batch_size: BatchSize) -> float:
        """Return the learning rate below which a batch size is stable; for mini-batches, drawn with replacement."""
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        if self.is_whole(variant):
            return largest_stable_lr(self.loss.sharpest, self.rule)
        _refuse_too_many_directions(self.loss, variant)
        return self.drawn_batches.largest_stable_lr(variant.batch_size)

    def asymptotic_lr(self, batch_size: BatchSize) -> float:
        """Return the learning rate that reduces the error fastest in the long run, above its floor.

        For mini-batches it is the one for samples drawn with replacement.
        """
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        if self.is_whole(variant):
            return best_lr(self.loss.flattest, self.loss.sharpest, self.rule)
        _refuse_too_many_directions(self.loss, variant)
        return self.drawn_batches.best_lr(variant.batch_size)

    def predict(self, batch_size: BatchSize, lr: float) -> PredictedOutcome:
        """Return the predicted outcome of a run.

        Args:
            batch_size: B, or ``full``.
            lr: The learning rate.

        Raises:
            InputError: There is no prediction for this batch size.
        """
        row = self._without_rounding(batch_size, lr)
        if self.rounding is None or row.verdict not in (Verdict.CONVERGES, Verdict.SLOW):
            return row
        left = self.rounding(self.rule.at(row.largest_rate or lr))
        if row.floor + left <= self.target or row.floor > self.target:
            return row
        floor, verdict = row.floor + left, Verdict.REACHES_ITS_FLOOR
        return replace(row, epochs=math.inf, floor=floor, verdict=verdict, rounding=left)

    def _without_rounding(self, batch_size: BatchSize, lr: float) -> PredictedOutcome:
        variant = Variant.of(batch_size, self.loss.n_samples, self.drop_last)
        limit, best = self.largest_stable_lr(batch_size), self.asymptotic_lr(batch_size)
        if self.schedule is not None:
            return self._scheduled(variant, limit, best, lr, self.schedule)
        if self.is_whole(variant):
            epochs = updates_to_excess(self.loss, self.start, self.rule.at(lr), self.target)
            return _judged(self, variant, limit, best, lr, epochs, 0.0 if lr < limit else math.inf)
        if self.knows_the_order:
            epoch = SequentialEpoch.of(self.loss, self.rule.at(lr), variant)
            # A run that ends above both its start and the best constant is not called stable.
            bearable = max(self.excess_at_start, self.loss.constant - self.loss.lowest, self.target)
            floor = epoch.floor if epoch.floor < bearable else math.inf
            epochs = self._epochs(lambda horizon: epoch.predicted_losses(self.start, horizon), floor, lr, variant)
            return _judged(self, variant, limit, best, lr, epochs, floor, epoch.largest_growth)
        drawn = self.drawn_batches
        floor = drawn.floor(lr, variant)
        epochs = self._epochs(lambda horizon: drawn.expected_losses(lr, variant, horizon), floor, lr, variant)
        return _judged(self, variant, limit, best, lr, epochs, floor)

    def _scheduled_losses(self, variant: Variant, rates: Tensor) -> Tensor:
        """Return the predicted train loss before the first and after every epoch, shape (epochs + 1,)."""
        if self.is_whole(variant) or self.knows_the_order:
            return followed_losses(self.loss, self.start, self.rule, variant, rates)
        if rates.shape[1] > 1:
            refuse_too_many(rates, variant)
        return self.drawn_batches.expected_losses(rates, variant, len(rates))

    def _scheduled(
        self, variant: Variant, limit: float, best: float, lr: float, schedule: Schedule
    ) -> PredictedOutcome:
        """Return the predicted outcome of a run with a schedule, by its whole curve."""
        horizon = int(min(self.max_epochs, _EPOCHS_PREDICTED[1]))
        rates = schedule(lr, variant.updates_per_epoch, horizon)
        excess = self._scheduled_losses(variant, rates) - self.loss.lowest
        bearable = max(self.excess_at_start, self.loss.constant - self.loss.lowest, self.target)
        is_finite = bool(excess.isfinite().all())
        if not is_finite or excess[-1] > bearable or excess.max() > DIVERGENCE_FACTOR * bearable:
            floor, epochs, verdict = math.inf, math.inf, Verdict.DIVERGES
        else:
            above = (excess > self.target).nonzero()
            floor, epochs = excess[-1].item(), int(above[-1, 0]) + 1 if len(above) else 0
            verdict = Verdict.CONVERGES
            if epochs > horizon:
                epochs, last = math.inf, rates[-1, -1].item()
                is_noisy = (
                    last > 0 and not self.is_exact(variant) and self.drawn_batches.floor(last, variant) > self.target
                )
                verdict = Verdict.REACHES_ITS_FLOOR if is_noisy else Verdict.SLOW
        return PredictedOutcome(variant, limit, best, lr, epochs, floor, verdict, largest_rate=rates.max().item())

    def changed(self, **changes: Any) -> OutcomePredictor:
        """Return the predictor of the same run with other arguments; computed moments are shared if they still hold."""
        other = replace(self, **changes)
        if {"loss", "start", "rule"}.isdisjoint(changes):
            other.__dict__["drawn_batches"] = self.drawn_batches
        return other

    @cached_property
    def drawn_batches(self) -> DrawnBatches:
        """The theory of drawn batches, of all sizes."""
        return DrawnBatches(self.drawn, self.start, self.rule)

    def _epochs(self, losses_of: Callable[[int], Tensor], floor: float, lr: float, variant: Variant) -> float:
        """Return the number of epochs after which the predicted excess stays at or below the target."""
        if floor > self.target:
            return math.inf
        for horizon in _EPOCHS_PREDICTED:
            above = (~(losses_of(horizon) - self.loss.lowest <= self.target)).nonzero()
            epochs = int(above[-1, 0]) + 1 if len(above) else 0
            # With momentum the loss oscillates: it must stay below the target for as long as it took to reach it.
            if epochs <= (horizon / 2 if self.rule.momentum and horizon < MOST_EPOCHS else horizon):
                return epochs
        # After these epochs, the expected parameters give the excess above the floor.
        left = max(self.target - floor, 1e-6 * self.target)
        updates = updates_to_excess(self.loss, self.start, self.rule.at(lr), left)
        return max(math.ceil(updates / variant.updates_per_epoch), MOST_EPOCHS + 1) if updates < math.inf else updates


def _judged(
    predictor: OutcomePredictor,
    variant: Variant,
    limit: float,
    best: float,
    lr: float,
    epochs: float,
    floor: float,
    growth: float | None = None,
) -> PredictedOutcome:
    if floor == math.inf:
        verdict = Verdict.DIVERGES
    elif floor > predictor.target:
        verdict = Verdict.REACHES_ITS_FLOOR
    else:
        verdict = Verdict.CONVERGES if epochs <= predictor.max_epochs else Verdict.SLOW
    return PredictedOutcome(variant, limit, best, lr, epochs, floor, verdict, growth)


def _refuse_too_many_directions(loss: LinearLoss, variant: Variant) -> None:
    if len(loss.eigenvalues) > _MOST_DIRECTIONS:
        raise InputError(
            f"cannot predict the outcome of batch_size {variant.batch_size}, because theory computes mini-batches in "
            f"up to {_MOST_DIRECTIONS} directions, and these data vary in {len(loss.eigenvalues)}; use batch_size "
            "full, or fewer features"
        )


def _enough_rows(directions: int) -> int:
    """Return the size of the subsample for a number of directions."""
    pairs = directions * (directions + 1) / 2
    return math.ceil(min(_NUMBERS / directions**2, _PRODUCTS / pairs**2 if pairs <= FEW_PAIRS else math.inf))


def seconds_to_predict(variant: Variant, columns: int, is_whole: bool, momentum: float) -> float:
    """Return an estimate of the seconds that predicting the outcome of a linear regressor takes in one thread.

    Args:
        variant: Batch size and number of samples.
        columns: C, the columns of the design.
        is_whole: Whether every update uses each sample once.
        momentum: Momentum of the updates.
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
