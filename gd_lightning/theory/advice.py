"""An outlook in words: what will become of a run, and one sentence that says what to do."""

from __future__ import annotations

import math

from gd_lightning.theory.outlook import Outlook, Outlooks, Verdict

SAFE = 0.8  # of a limit: an advice that is not on the edge


def advice(outlooks: Outlooks, outlook: Outlook) -> str:
    """Return one sentence that says what to do.

    Args:
        outlooks: Where the outlook comes from, and those of other batch sizes.
        outlook: What is said of the run.

    Example:
        >>> import torch
        >>> from gd_lightning.affine import Affine
        >>> from gd_lightning.theory.linear_loss import LinearLoss
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> loss = LinearLoss.of(x, torch.tensor([[1.0], [3.0], [4.0]]), bias=False)
        >>> outlooks = Outlooks(loss, Affine(torch.zeros(1, 1)), max_epochs=10)
        >>> advice(outlooks, outlooks.of("full", 0.5))
        'lr 0.5 is above 0.2143, the limit for batch_size 3 on these data; use lr 0.1.'
    """
    batch, lr = f"batch_size {outlook.variant.batch_size}", f"lr {outlook.lr:g}"
    if outlook.verdict is Verdict.DIVERGES:
        cured = min(outlook.best_lr, SAFE * outlook.largest_stable_lr)
        size, short = outlook.variant.batch_size, outlook.variant.short_batch
        while short and outlooks.of(size, cured).verdict is Verdict.DIVERGES:
            cured *= SAFE  # a short last batch is less stable than the others
        cure = f"use lr {rounded(cured)}"
        if outlook.lr < outlook.largest_stable_lr and outlook.growth is None:
            samples = f"{short} sample{'s' * (short != 1)}"
            return f"{lr} is too large for the last batch of an epoch, which has {samples}; {cure}, or drop_last."
        if outlook.lr < outlook.largest_stable_lr:
            return (
                f"{lr} is too large for the sequential order: an error can grow {outlook.growth:.2g} times within an "
                f"epoch; {cure}."
            )
        larger = outlooks.smallest_stable_batch_size(outlook.lr)
        cure += f" or batch_size {larger}" if larger is not None else ""
        return f"{lr} is above {outlook.largest_stable_lr:.4g}, the limit for {batch} on these data; {cure}."
    if outlook.verdict is Verdict.REACHES_ITS_FLOOR:
        smaller = rounded(outlook.lr * outlooks.target / outlook.floor)
        return (
            f"With {batch}, {lr} ends {outlook.floor:.2g} above the irreducible loss, more than the target of "
            f"{outlooks.target:.2g}; use lr {smaller} for more epochs, let it fall, or take larger batches."
        )
    if outlook.verdict is Verdict.SLOW:
        # The noise grows with the learning rate: where the floor would pass the target, more is not faster.
        quiet = math.inf if outlook.floor == 0 else SAFE * outlook.lr * outlooks.target / outlook.floor
        faster = min(outlook.best_lr, quiet)
        cure = f", or lr {rounded(faster)}" if faster > outlook.lr / SAFE else ""
        takes = f"{lr} takes {epochs_in_words(outlook)} epochs, and the run has {outlooks.max_epochs:g}"
        return f"With {batch}, {takes}; use more epochs{cure}."
    return f"With {batch}, {lr} is there after {epochs_in_words(outlook)} epochs: train."


def in_words(outlooks: Outlooks, outlook: Outlook) -> str:
    """Return the verdict with its figures."""
    how = "" if outlook.variant.name == "batch" or outlooks.knows_the_order else ", for samples drawn with replacement"
    if outlook.verdict is Verdict.DIVERGES:
        return f"{outlook.verdict}{how}"
    if outlook.verdict is Verdict.REACHES_ITS_FLOOR:
        return f"{outlook.verdict}, {outlook.floor:.3g} above the irreducible loss{how}"
    there = f"{outlooks.target:.2g} above the irreducible loss after {epochs_in_words(outlook)} epochs"
    return f"{outlook.verdict}, {there}{how}"


def epochs_in_words(outlook: Outlook) -> str:
    """Return after how many epochs a run is close to the irreducible loss."""
    if outlook.epochs < math.inf:
        return f"{outlook.epochs:,.0f}"
    return "more than 10,000" if outlook.verdict is Verdict.SLOW else "never"


def rounded(lr: float) -> str:
    """Write a learning rate with two digits, rounded down: an advice may not pass a limit.

    Example:
        >>> rounded(0.0499), rounded(123.4)
        ('0.049', '1.2e+02')
    """
    digit = 10 ** (math.floor(math.log10(lr)) - 1)
    return f"{math.floor(lr / digit + 1e-9) * digit:.2g}"
