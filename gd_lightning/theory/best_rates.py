"""What a learning rate is best for: to be the fastest to the target within the epochs of a run, or to end lowest.

Both are searched for among predicted curves, first over many magnitudes and then between the neighbours of the best.

Letters: B batch, E epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gd_lightning.errors import InputError
from gd_lightning.theory.predicted_outcome import MOST_EPOCHS, OutcomePredictor, Verdict
from gd_lightning.variants import BatchSize

_LOWEST, _LOOKS = 1e-4, 25  # of the limit, down to which so many learning rates are tried at first
_FINER, _ROUNDS = 7, 2  # learning rates between the neighbours of the best, and how often these are tried
_BELOW, _TRIES = 0.98, 150  # of a learning rate that diverges, and how often it is lowered


@dataclass(frozen=True)
class BestRate:
    """A learning rate that is best for something, and what is predicted of it.

    Args:
        lr: The learning rate, with three digits.
        epochs: Epochs until the train loss stays within the target; ``inf`` if it is not within those of the run.
        loss: The train loss after the epochs of the run.
        max_epochs: E.
        target: The train loss that is the target.
    """

    lr: float
    epochs: float
    loss: float
    max_epochs: int
    target: float

    @property
    def purpose(self) -> str:
        """What it is best for, in words."""
        if self.epochs < math.inf:
            return f"the fastest to a train loss of {self.target:.4g}, after {self.epochs:,.0f} epochs"
        return f"the lowest train loss after {self.max_epochs:,} epochs, {self.loss:.4g}"


@dataclass(frozen=True)
class BestRates:
    """The learning rates that are best for a batch size.

    Args:
        fastest: That which reaches the target first; None if none does within the epochs of the run.
        lowest: That with the lowest train loss at their end.

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
        tried = _tried(predictor, batch_size)
        lowest = min(tried, key=lambda each: (each.loss, each.epochs))
        fastest = min(tried, key=lambda each: (each.epochs, each.loss))
        return cls(fastest if fastest.epochs < math.inf else None, lowest)


def _tried(predictor: OutcomePredictor, batch_size: BatchSize) -> list[BestRate]:
    """Return the outcomes of learning rates over many magnitudes, and near the best of these, that do not diverge."""
    largest = _largest(predictor, batch_size)
    found = [_outcome(predictor, batch_size, largest * _LOWEST ** (i / (_LOOKS - 1))) for i in range(_LOOKS)]
    ratio = _LOWEST ** (1 / (_LOOKS - 1))
    for _ in range(_ROUNDS):
        by_loss = min(found, key=lambda each: (each.loss, each.epochs)).lr
        by_epochs = min(found, key=lambda each: (each.epochs, each.loss)).lr
        powers = [2 * i / (_FINER + 1) - 1 for i in range(1, _FINER + 1)]
        near = [lr * ratio**power for lr in sorted({by_loss, by_epochs}) for power in powers]
        found += [_outcome(predictor, batch_size, lr) for lr in near if lr <= largest]
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
        f"cannot find the best lr for batch_size {batch_size}, because each that was tried diverges; give a small lr"
    )


def _outcome(predictor: OutcomePredictor, batch_size: BatchSize, lr: float) -> BestRate:
    """Return what a learning rate comes to, with three digits as it is written."""
    written = float(f"{lr:.3g}")
    epochs = int(min(predictor.max_epochs, MOST_EPOCHS))
    losses = predictor.losses(batch_size, written, epochs).nan_to_num(math.inf, math.inf)
    target = predictor.loss.lowest + predictor.target
    above = (losses > target).nonzero()
    reached = int(above[-1, 0]) + 1 if len(above) else 0
    return BestRate(written, reached if reached <= epochs else math.inf, losses[-1].item(), epochs, target)
