"""Learning rates that are best for a purpose: to reach the target first within the epochs of a run, or to end lowest.

Both are searched for among predicted curves, first over many magnitudes and then between the neighbours of the best.

Letters: B batch, E epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gd_lightning.errors import InputError
from gd_lightning.theory.predicted_outcome import MOST_EPOCHS, OutcomePredictor
from gd_lightning.theory.verdicts import Verdict
from gd_lightning.variants import BatchSize, Variant

_LOWEST, _LOOKS = 1e-4, 25  # fraction of the limit down to which learning rates are tried at first, and their number
_FINER, _ROUNDS = 7, 3  # learning rates between neighbours of the best, and number of such refinements
_BELOW, _TRIES = 0.98, 150  # factor by which a learning rate that diverges is lowered, and largest number of attempts
_SHORT = (64, 1024)  # numbers of epochs that are predicted before those of a longer run
_CURVES = _LOOKS + _ROUNDS * 2 * _FINER  # largest number of curves that are predicted
# Seconds, measured on one core, to follow an update whose learning rate may be another than that of the one before, and
# an epoch of drawn batches.
_UPDATE, _DRAWN_UPDATE, _DRAWN_EPOCH = 30e-6, 1e-4, 2e-4
AT_LENGTH = 30.0
"""Seconds that a search may take which a person asked for."""


@dataclass(frozen=True)
class BestRate:
    """A learning rate that is best for a purpose, and its predicted outcome.

    Args:
        lr: The learning rate, with three digits.
        epochs: Epochs until the train loss stays within the target; ``inf`` if it is not within those of the run.
        loss: The train loss after the epochs of the run.
        max_epochs: E.
        target: The train loss that is the target.
        loss_there: The train loss when it is reached, else that after E epochs; of two that are as fast, it decides.
    """

    lr: float
    epochs: float
    loss: float
    max_epochs: int
    target: float
    loss_there: float

    @property
    def reaches(self) -> bool:
        """Whether it reaches the target within the epochs of the run."""
        return self.epochs < math.inf

    @property
    def purpose(self) -> str:
        """What it is best for, in words."""
        if self.reaches:
            return f"the fastest to a train loss of {self.target:.4g}, after {_counted(self.epochs)}"
        return f"the lowest train loss after {_counted(self.max_epochs)}, {self.loss:.4g}"

    def sentence(self, batch_size: int) -> str:
        """Return a sentence on the purpose of this learning rate, with the batch size."""
        return f"The best lr for batch_size {batch_size} is {self.lr:g} by theory: {self.purpose}."

    @property
    def in_short(self) -> str:
        """What it is best for, in a cell of a table."""
        return f"target in {_counted(self.epochs)}" if self.reaches else f"loss after {_counted(self.max_epochs)}"


@dataclass(frozen=True)
class BestRates:
    """The learning rates that are best for a batch size.

    Args:
        fastest: The learning rate that reaches the target first; None if none does within the epochs of the run.
        lowest: The learning rate with the lowest train loss at the end of these epochs.

    Example:
        >>> import torch
        >>> from gd_lightning.affine import Affine
        >>> from gd_lightning.theory import LinearLoss
        >>> x = torch.arange(-5, 5, 0.1)[:, None]
        >>> start = Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
        >>> found = BestRates.of(OutcomePredictor(LinearLoss.of(x, -5 * x), start, max_epochs=40), "full")
        >>> found.best is found.fastest
        True
    """

    fastest: BestRate | None
    lowest: BestRate

    @property
    def best(self) -> BestRate:
        """The fastest to the target if any reaches it, else the one that ends lowest."""
        return self.lowest if self.fastest is None else self.fastest

    @classmethod
    def of(cls, predictor: OutcomePredictor, batch_size: BatchSize) -> BestRates:
        """Search for them.

        Args:
            predictor: The predictor of a run, with its epochs.
            batch_size: B, or ``full``.

        Raises:
            InputError: There is no prediction for this batch size, or no learning rate is found that does not diverge.
        """
        tried = _tried(predictor, batch_size, _epochs_of(predictor))
        fastest = min(tried, key=_time)
        return cls(fastest if fastest.reaches else None, min(tried, key=_end))


def best_rate(predictor: OutcomePredictor, batch_size: BatchSize, seconds: float = 2.0) -> BestRate:
    """Return the rate that reaches the target first within the epochs of a run, or ends lowest if none reaches it.

    It is :attr:`BestRates.best`, found sooner where a run is long.

    Args:
        predictor: The predictor of a run, with its epochs.
        batch_size: B, or ``full``.
        seconds: How long the search may take, by an estimate: with a schedule, each update is followed.

    Raises:
        InputError: There is no prediction for this batch size, no learning rate is found that does not diverge, or the
            search takes longer.
    """
    epochs = _epochs_of(predictor)
    for few in (each for each in _SHORT if each < epochs):
        _refuse_longer(predictor, batch_size, few, seconds)
        if (soon := min(_tried(predictor, batch_size, few), key=_time)).reaches:
            found = _outcome(predictor, batch_size, soon.lr, epochs)
            if found.epochs == soon.epochs:  # otherwise the loss leaves the target again
                return found
    _refuse_longer(predictor, batch_size, epochs, seconds)
    return BestRates.of(predictor, batch_size).best


def _refuse_longer(predictor: OutcomePredictor, batch_size: BatchSize, epochs: int, seconds: float) -> None:
    """Refuse a search among curves of some epochs that takes too long, by an estimate that is equal on all machines."""
    if predictor.schedule is None:
        return
    variant = Variant.of(batch_size, predictor.loss.n_samples, predictor.drop_last)
    updates = epochs * variant.updates_per_epoch
    if predictor.is_exact(variant):
        needed = _UPDATE * updates
    else:
        by_epoch = predictor.schedule(1.0, variant.updates_per_epoch, 1).shape[1] == 1
        needed = _DRAWN_EPOCH * epochs if by_epoch else _DRAWN_UPDATE * updates
    if (needed := _CURVES * needed) > seconds:
        raise InputError(
            f"cannot find the best lr for batch_size {variant.batch_size}, because with this lr_scheduler the search "
            f"takes about {needed:.0f} s; use fewer epochs, or a constant lr"
        )


def _epochs_of(predictor: OutcomePredictor) -> int:
    return int(min(predictor.max_epochs, MOST_EPOCHS))


def _time(rate: BestRate) -> tuple[float, float]:
    return rate.epochs, rate.loss_there


def _end(rate: BestRate) -> tuple[float, float]:
    return rate.loss, rate.epochs


def _counted(epochs: float) -> str:
    return f"{epochs:,.0f} epoch{'s' * (epochs != 1)}"


def _tried(predictor: OutcomePredictor, batch_size: BatchSize, epochs: int) -> list[BestRate]:
    """Return the outcomes of learning rates over many magnitudes, and near the best of these, that do not diverge."""
    largest = _largest(predictor, batch_size)
    looks = [largest * _LOWEST ** (i / (_LOOKS - 1)) for i in range(_LOOKS)]
    # In one direction, only this rate converges in one update.
    looks.append(min(predictor.asymptotic_lr(batch_size), largest))
    found = [_outcome(predictor, batch_size, lr, epochs) for lr in looks]
    ratio = _LOWEST ** (1 / (_LOOKS - 1))
    for _ in range(_ROUNDS):
        by_loss, by_epochs = min(found, key=_end).lr, min(found, key=_time).lr
        powers = [2 * i / (_FINER + 1) - 1 for i in range(1, _FINER + 1)]
        near = [lr * ratio**power for lr in sorted({by_loss, by_epochs}) for power in powers]
        found += [_outcome(predictor, batch_size, lr, epochs) for lr in near if lr <= largest]
        ratio **= 2 / (_FINER + 1)
    return found


def _largest(predictor: OutcomePredictor, batch_size: BatchSize) -> float:
    """Return a learning rate, at or shortly below the limit, with which a run does not diverge."""
    lr = _BELOW * predictor.largest_stable_lr(batch_size)
    for _ in range(_TRIES):
        if predictor.predict(batch_size, lr).verdict is not Verdict.DIVERGES:
            return lr
        lr *= _BELOW
    raise InputError(
        f"cannot find the best lr for batch_size {batch_size}, because every lr that was tried diverges; give a "
        "small lr"
    )


def _outcome(predictor: OutcomePredictor, batch_size: BatchSize, lr: float, epochs: int) -> BestRate:
    """Return the outcome of a learning rate within some epochs; it is rounded to three digits, as it is printed."""
    written = float(f"{lr:.3g}")
    losses = predictor.losses(batch_size, written, epochs).nan_to_num(math.inf, math.inf)
    target = predictor.loss.lowest + predictor.target
    above = (losses > target).nonzero()
    reached = int(above[-1, 0]) + 1 if len(above) else 0
    there = losses[min(reached, epochs)].item()
    return BestRate(written, reached if reached <= epochs else math.inf, losses[-1].item(), epochs, target, there)
