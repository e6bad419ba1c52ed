"""The map of outcomes over batch sizes and learning rates, given by the boundaries between verdicts.

At one batch size the verdict changes with the learning rate in one order: too slow, fast enough, once more too slow
just below the learning rate whose noise keeps the loss at the target, kept at its floor, diverging. So four learning
rates a batch size tell the verdicts at all others.

Letters: N samples, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from gd_lightning.theory.full_batch import best_lr, largest_stable_lr, updates_to_excess
from gd_lightning.theory.numerics.searches import bisected, minimum
from gd_lightning.theory.predicted_outcome import OutcomePredictor
from gd_lightning.theory.verdicts import Verdict
from gd_lightning.threads import one_thread_if
from gd_lightning.variants import Variant

_COLUMNS, _COLUMNS_WITH_MOMENTUM = 20, 10  # approximate number of batch sizes; with momentum each takes longer
_FULL = 0.8  # fraction of the batch size from which a last batch counts as full
_PRECISION = 1e-3  # relative precision of a boundary
_LOWEST = 1e-7  # fraction of the limit below which no learning rate is tried
_LOOKS = 12  # learning rates among which a fast one is looked for, before the search for the fastest
_SEARCHED = 5  # batch sizes whose best learning rate is searched for, 2 with momentum; the others are interpolated


@dataclass(frozen=True)
class Boundaries:
    """The learning rates at which the verdict on a batch size changes, in ascending order.

    Args:
        batch_size: B.
        fast_from: The smallest learning rate that converges within the epochs of a run; 0 where all do.
        fast_to: The largest; the same number, that of the fastest, where none is.
        quiet: Up to here the floor is at most the target.
        stable: From this learning rate on, a run diverges: ``limit``, or less if a short last batch is less stable.
        limit: The largest stable learning rate of the batch size.
        best: The one that shrinks the error fastest.
        short_batch: The number of samples in a last batch so short that it moves the boundaries down; 0 where none is.
    """

    batch_size: int
    fast_from: float
    fast_to: float
    quiet: float
    stable: float
    limit: float
    best: float
    short_batch: int = 0

    def verdict(self, lr: float) -> Verdict:
        """Return the verdict on a learning rate."""
        if lr >= self.stable:
            return Verdict.DIVERGES
        if lr > self.quiet:
            return Verdict.REACHES_ITS_FLOOR
        is_fast = self.fast_from < self.fast_to and self.fast_from <= lr <= self.fast_to
        return Verdict.CONVERGES if is_fast else Verdict.SLOW


@dataclass(frozen=True)
class OutcomeMap:
    """The outcome of a linear regressor at all batch sizes and learning rates, for samples drawn with replacement.

    Args:
        n_samples: N.
        max_epochs: How many epochs a run has; ``inf`` where nothing limits it.
        drawn: The boundaries of mini-batches, in ascending batch sizes; empty for a single sample, and where nothing
            can be told of them.
        batch: The boundaries of batch gradient descent.

    Example:
        >>> from gd_lightning.affine import Affine
        >>> from gd_lightning.theory import LinearLoss
        >>> x = torch.arange(-5, 5, 0.1)[:, None]
        >>> noise = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
        >>> start = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
        >>> predictor = OutcomePredictor(LinearLoss.of(x, -5 * x + 0.4 * noise), start, max_epochs=40)
        >>> found = OutcomeMap.of(predictor, batch_size=10)
        >>> [str(found.at(size).verdict(0.1)) for size in (100, 10, 1)]
        ['converges', 'reaches its floor', 'diverges']
    """

    n_samples: int
    max_epochs: float
    drawn: tuple[Boundaries, ...]
    batch: Boundaries

    @classmethod
    def of(cls, predictor: OutcomePredictor, batch_size: int, columns: int | None = None) -> OutcomeMap:
        """Find the boundaries.

        Args:
            predictor: The predictor of a run.
            batch_size: A batch size that the map must have.
            columns: How many batch sizes it has, about; None: 20, with momentum 10.
        """
        columns = columns or (_COLUMNS_WITH_MOMENTUM if predictor.rule.momentum else _COLUMNS)
        n = predictor.loss.n_samples
        with one_thread_if(True):
            can_tell = n > 1 and predictor.can_predict(Variant.of(1, n))
            drawn = _of_drawn(predictor, _batch_sizes(n, batch_size, columns)) if can_tell else []
            whole = next(_of_drawn(predictor, [n])) if n > 1 and predictor.with_replacement else _of_batch(predictor)
            return cls(n, predictor.max_epochs, tuple(drawn), whole)

    def at(self, batch_size: int) -> Boundaries:
        """Return the boundaries of one of the batch sizes that the map has."""
        return next(each for each in (*self.drawn, self.batch) if each.batch_size == batch_size)


def _batch_sizes(n: int, configured: int, columns: int) -> list[int]:
    """Return batch sizes from 1 to N / 2 in about equal ratios, and the configured one unless it is N.

    Of the sizes near each place, the one with the fullest last batch is taken, and none where that is short: such a
    size has boundaries of its own, below those of its neighbours.
    """

    def fullness(size: int) -> float:
        return ((n - 1) % size + 1) / size

    largest = (n + 1) // 2
    ratio = largest ** (1 / (columns - 1))
    found = {1, largest, configured} - {n}
    for place in (ratio**i for i in range(1, columns - 1)):
        batches = round(n / place)
        near = {round(place), *(math.ceil(n / count) for count in (batches - 1, batches, batches + 1) if count > 1)}
        near = {size for size in near if abs(math.log(size / place)) <= math.log(ratio) / 2}
        fullest = max(near, key=fullness, default=1)
        found |= {fullest} if fullness(fullest) >= _FULL else set()
    return sorted(found)


def _of_drawn(predictor: OutcomePredictor, sizes: list[int]) -> Iterator[Boundaries]:
    n, target = predictor.loss.n_samples, predictor.target
    drawn = predictor.drawn_batches
    searched = min(len(sizes), 2 if predictor.rule.momentum else _SEARCHED)
    places = torch.linspace(0, len(sizes) - 1, searched).round().long().tolist()
    best = {place: math.log(drawn.best_lr(sizes[place]) / drawn.largest_stable_lr(sizes[place])) for place in places}
    for place, size in enumerate(sizes):
        variant, limit = Variant.of(size, n, predictor.drop_last), drawn.largest_stable_lr(size)

        def lateness(lr: float, variant: Variant = variant) -> float:
            excess = drawn.excess(lr, variant, int(predictor.max_epochs))
            return math.log(excess / target) if excess > 0 else -math.inf

        def is_stable(lr: float, variant: Variant = variant) -> bool:
            return drawn.epochs_are_stable(lr, variant)

        def is_quiet(lr: float, variant: Variant = variant) -> bool:
            return drawn.settled_excess(lr, variant) <= target

        stable = _last(is_stable, limit) if variant.short_batch else limit
        quiet = _last(is_quiet, stable)
        if predictor.max_epochs == math.inf or predictor.excess_at_start <= target:
            fast = 0.0, quiet
        else:
            fast = _interval(lateness, quiet)
        below, above = max(p for p in places if p <= place), min(p for p in places if p >= place)
        weight = 0.0 if below == above else (place - below) / (above - below)
        ratio = math.exp((1 - weight) * best[below] + weight * best[above])
        is_short = variant.short_batch < _FULL * variant.batch_size
        yield Boundaries(
            variant.batch_size,
            fast_from=fast[0],
            fast_to=fast[1],
            quiet=quiet,
            stable=stable,
            limit=limit,
            best=ratio * limit,
            short_batch=variant.short_batch if is_short else 0,
        )


def _of_batch(predictor: OutcomePredictor) -> Boundaries:
    loss, rule = predictor.loss, predictor.rule
    limit = largest_stable_lr(loss.sharpest, rule)

    def lateness(lr: float) -> float:
        epochs = updates_to_excess(loss, predictor.start, rule.at(lr), predictor.target)
        return epochs - predictor.max_epochs

    endless = predictor.max_epochs == math.inf or predictor.excess_at_start <= predictor.target
    fast = (0.0, limit) if endless else _interval(lateness, limit)
    best = best_lr(loss.flattest, loss.sharpest, rule)
    return Boundaries(loss.n_samples, *fast, limit, limit, limit, best)


def _last(holds: Callable[[float], bool], high: float, low: float | None = None) -> float:
    """Return the largest number at which a condition is true: the upper one, or else the result of a bisection."""
    if holds(high * (1 - _PRECISION)):
        return high

    def middle(low: float, high: float) -> float | None:
        return math.sqrt(low * high) if high > (1 + _PRECISION) * low else None

    low, high = bisected(lambda lr: not holds(lr), _LOWEST * high if low is None else low, high, middle)
    return math.sqrt(low * high)


def _interval(lateness: Callable[[float], float], top: float) -> tuple[float, float]:
    """Return the interval of learning rates with a lateness of at most 0; if there is none, the point of the least."""
    looks = [top * _LOWEST ** (i / _LOOKS) for i in range(_LOOKS, 0, -1)] + [0.9 * top, top * (1 - _PRECISION)]
    found = [lateness(lr) for lr in looks]
    at = min(range(len(looks)), key=lambda i: found[i])
    inside = looks[at]
    if found[at] > 0:
        near = math.log(looks[max(at - 1, 0)]), math.log(looks[min(at + 1, len(looks) - 1)])
        inside = math.exp(minimum(lambda log: lateness(math.exp(log)), *near, math.log1p(_PRECISION), small=0.0))
        if lateness(inside) > 0:
            return inside, inside
    # Below the fast learning rate, the search is the same in 1 / lr.
    start = 0.0 if found[0] <= 0 else 1 / _last(lambda inverse: lateness(1 / inverse) <= 0, 1 / looks[0], 1 / inside)
    return start, _last(lambda lr: lateness(lr) <= 0, top, inside)
