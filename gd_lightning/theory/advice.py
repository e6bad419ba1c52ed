"""An outlook in words: the expected outcome of a run, and one sentence of advice.

Theory is first asked what becomes of a run with the options that are advised, and the advice says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gd_lightning.theory.full_batch import best_heavy_ball
from gd_lightning.theory.predicted_outcome import LONGEST_LOOK, Outlook, Outlooks, Verdict
from gd_lightning.update_rule import UpdateRule

SAFE = 0.8  # of a limit: an advice that is not on the edge
MUCH = 10.0  # times better, in condition number and in epochs: worth another kind of run
_TRIES = 40
# How options are written in an advice, on the command line and in Python.
STANDARDIZE = "--data.standardize true (in Python RegressionDataModule(standardize=True))"
_WRITTEN = {
    ("data.standardize", True): STANDARDIZE,
    ("data.drop_last", True): "drop_last",
    ("trainer.precision", "64-true"): 'precision 64-true (--trainer.precision, in Python Trainer(precision="64-true"))',
}


@dataclass(frozen=True)
class Remedy:
    """Options that are advised, and what becomes of a run with them.

    Args:
        options: The options by their full names, such as ``model.lr``; others stay.
        outlook: What is said of a run with them.
        instead: What is said of the best run that goes without them, where that takes much longer; else None.
    """

    options: Mapping[str, Any]
    outlook: Outlook
    instead: Outlook | None = None


def advice(outlooks: Outlooks, outlook: Outlook) -> str:
    """Return one sentence that says what to do.

    Args:
        outlooks: Where the outlook comes from, and those of other batch sizes.
        outlook: What is said of the run.

    Example:
        >>> import torch
        >>> from gd_lightning.affine import Affine
        >>> from gd_lightning.theory.quadratic_loss import LinearLoss
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> loss = LinearLoss.of(x, torch.tensor([[1.0], [3.0], [4.0]]), bias=False)
        >>> outlooks = Outlooks(loss, Affine(torch.zeros(1, 1)), max_epochs=10)
        >>> advice(outlooks, outlooks.of("full", 0.5))
        'lr 0.5 is above 0.2143, the limit for batch_size 3 on these data; use lr 0.1 (2 epochs).'
    """
    found = remedies(outlooks, outlook)
    said = [f"{_options(remedy)}{_result(remedy)}" for remedy in found]
    if found and _is_noisy(outlooks, outlook):
        said.append("let it fall with an lr_scheduler")
    if not said:
        return f"{_complaint(outlooks, outlook)}."
    return f"{_complaint(outlooks, outlook)}; use {', '.join(said[:-1])}{' or ' * (len(said) > 1)}{said[-1]}."


def remedies(outlooks: Outlooks, outlook: Outlook) -> list[Remedy]:
    """Return what is advised, the best first; empty where a run is well as it is.

    Args:
        outlooks: Where the outlook comes from.
        outlook: What is said of the run.
    """
    is_well = outlook.verdict is Verdict.CONVERGES and outlook.epochs <= LONGEST_LOOK
    if is_well:
        return []
    found = list(_standardized(outlooks, outlook))
    if found and found[0].instead is not None and found[0].instead.epochs > LONGEST_LOOK:
        return found  # what else there is takes too long
    if outlook.verdict is Verdict.DIVERGES:
        return [*found, *_to_be_stable(outlooks, outlook)]
    if outlook.verdict is Verdict.REACHES_ITS_FLOOR:
        return [*found, *_to_get_lower(outlooks, outlook)]
    return [*found, *_to_be_faster(outlooks, outlook)]


def stable_lr(outlooks: Outlooks, batch_size: int, part: float = 1.0) -> float:
    """Return the learning rate that shrinks the error fastest, or less where a run would diverge with it.

    A short last batch and the sequential order can be less stable than batches of one size that are drawn.

    Args:
        outlooks: What tells the outlook of a batch size.
        batch_size: B.
        part: The part of the limit for drawn batches that it may be at most.
    """
    lr = min(outlooks.best_lr(batch_size), part * outlooks.largest_stable_lr(batch_size))
    for _ in range(_TRIES):
        if outlooks.of(batch_size, lr).verdict is not Verdict.DIVERGES:
            break
        lr *= SAFE
    return lr


def _to_be_stable(outlooks: Outlooks, outlook: Outlook) -> Iterator[Remedy]:
    """Give a smaller learning rate, or what makes this one stable."""
    size, lr = outlook.variant.batch_size, outlook.lr
    yield _with_lr(outlooks, size, stable_lr(outlooks, size, SAFE))
    if outlook.variant.short_batch and lr < outlook.largest_stable_lr and outlook.growth is None:
        dropped = outlooks.but(drop_last=True).of(size, lr)
        if dropped.verdict is not Verdict.DIVERGES:
            yield Remedy({"data.drop_last": True}, dropped)
    if lr >= outlook.largest_stable_lr:
        larger = outlooks.smallest_stable_batch_size(lr)
        for tried in _ascending(larger, outlook.variant.train_samples):
            row = outlooks.of(tried, lr)
            if row.verdict is not Verdict.DIVERGES:
                yield Remedy({"data.batch_size": tried}, row)
                break


def _to_get_lower(outlooks: Outlooks, outlook: Outlook) -> Iterator[Remedy]:
    """Give what leaves a lower floor."""
    size, lr = outlook.variant.batch_size, outlook.lr
    if not _is_noisy(outlooks, outlook):
        exact = outlooks.but(rounding=None).of(size, lr)
        yield Remedy({"trainer.precision": "64-true"}, exact)
        return
    quiet = _quiet(outlooks, size, lr * outlooks.target / outlook.floor)
    if quiet is not None:
        yield quiet
    # The floor is about in proportion to 1 / B.
    enough = math.ceil(min(size * outlook.floor / outlooks.target, outlook.variant.train_samples))
    for tried in _ascending(max(enough, size + 1), outlook.variant.train_samples):
        row = outlooks.of(tried, lr)
        if row.verdict in (Verdict.CONVERGES, Verdict.SLOW):
            yield Remedy({"data.batch_size": tried}, row)
            break


def _to_be_faster(outlooks: Outlooks, outlook: Outlook) -> Iterator[Remedy]:
    """Give more epochs, or what takes fewer."""
    size = outlook.variant.batch_size
    more = Remedy({"trainer.max_epochs": outlook.epochs}, outlook)
    if outlook.epochs > LONGEST_LOOK and outlook.variant.name == "batch" and not outlooks.with_replacement:
        yield from _with_momentum(outlooks, outlook)
    # The noise grows with the learning rate: where the floor would pass the target, more is not faster.
    silent = math.inf if outlook.floor == 0 else SAFE * outlook.lr * outlooks.target / outlook.floor
    faster = min(outlook.best_lr, silent, SAFE * outlook.largest_stable_lr)
    found = _quiet(outlooks, size, faster) if faster > outlook.lr / SAFE else None
    better = found is not None and found.outlook.epochs < SAFE * outlook.epochs
    if outlook.verdict is Verdict.SLOW and outlook.epochs < math.inf:
        yield more
    if better and found is not None:
        yield found


def _with_momentum(outlooks: Outlooks, outlook: Outlook) -> Iterator[Remedy]:
    """Give batch gradient descent the momentum that is best for it, where that helps much."""
    ideal = best_heavy_ball(outlooks.loss.lambda_min, outlooks.loss.lambda_max).momentum
    digits = max(2, math.ceil(-math.log10(1 - ideal)) + 1) if ideal < 1 - 1e-9 else 9
    momentum = math.floor(ideal * 10**digits) / 10**digits
    if momentum == outlooks.rule.momentum:
        return
    moved = outlooks.but(rule=UpdateRule(momentum=momentum), standardized=None)
    lr = float(rounded(min(moved.best_lr("full"), SAFE * moved.largest_stable_lr("full"))))
    row = moved.of("full", lr)
    if row.epochs * MUCH <= outlook.epochs:
        yield Remedy({"model.momentum": momentum, "model.nesterov": False, "model.lr": lr}, row)


def _standardized(outlooks: Outlooks, outlook: Outlook) -> Iterator[Remedy]:
    """Give the run on standardised features with a learning rate for it, where that takes far fewer epochs."""
    if outlooks.standardized is None or outlooks.loss.condition_number < MUCH:
        return
    other, size = outlooks.standardized(), outlook.variant.batch_size
    if other.loss.condition_number * MUCH > outlooks.loss.condition_number:
        return
    remedy, plain = _quiet(other, size, stable_lr(other, size, SAFE)), _plainly(outlooks, outlook)
    if remedy is not None and remedy.outlook.epochs * MUCH <= (math.inf if plain is None else plain.epochs):
        yield Remedy({"data.standardize": True, **remedy.options}, remedy.outlook, instead=plain)


def _plainly(outlooks: Outlooks, outlook: Outlook) -> Outlook | None:
    """Return the run that converges on features as they are, without rounding; None where none does."""
    exact, size = outlooks.but(rounding=None), outlook.variant.batch_size
    if outlook.verdict in (Verdict.CONVERGES, Verdict.SLOW):
        return outlook
    if outlook.verdict is Verdict.REACHES_ITS_FLOOR and not _is_noisy(outlooks, outlook):
        return exact.of(size, outlook.lr)
    remedy = _quiet(exact, size, stable_lr(exact, size, SAFE))
    return None if remedy is None else remedy.outlook


def _quiet(outlooks: Outlooks, batch_size: int, lr: float) -> Remedy | None:
    """Return a learning rate that gets to the target, the given one or what is below; None where none is found."""
    for _ in range(_TRIES):
        found = _with_lr(outlooks, batch_size, lr)
        if found.outlook.verdict in (Verdict.CONVERGES, Verdict.SLOW):
            return found
        if found.outlook.rounding and found.outlook.floor - found.outlook.rounding <= outlooks.target:
            return None  # it grows as the learning rate falls
        lr *= min(SAFE, SAFE * outlooks.target / found.outlook.floor)  # 0 where it diverges
        lr = lr or SAFE * found.outlook.lr
    return None


def _with_lr(outlooks: Outlooks, batch_size: int, lr: float) -> Remedy:
    """Return a learning rate as it is written, with what becomes of a run with it."""
    written = float(rounded(lr))
    return Remedy({"model.lr": written}, outlooks.of(batch_size, written))


def _ascending(first: int | None, n: int) -> Iterator[int]:
    """Yield batch sizes from the first one to all samples, in growing steps."""
    while first is not None and first < n:
        yield first
        first = max(first + 1, math.ceil(1.1 * first))
    if first is not None:
        yield n


def _is_noisy(outlooks: Outlooks, outlook: Outlook) -> bool:
    """Whether it is the noise of the batches, and not rounding, that keeps a run at its floor."""
    return outlook.verdict is Verdict.REACHES_ITS_FLOOR and outlook.floor - outlook.rounding > outlooks.target


def _complaint(outlooks: Outlooks, outlook: Outlook) -> str:
    batch, lr = f"batch_size {outlook.variant.batch_size}", f"lr {outlook.lr:g}"
    if outlook.verdict is Verdict.DIVERGES:
        if outlook.lr >= outlook.largest_stable_lr:
            return f"{lr} is above {outlook.largest_stable_lr:.4g}, the limit for {batch} on these data"
        if outlook.growth is None:
            short = outlook.variant.short_batch
            return f"{lr} is too large for the last batch of an epoch, which has {short} sample{'s' * (short != 1)}"
        grows = f"an error can grow {outlook.growth:.2g} times within an epoch"
        return f"{lr} is too large for the sequential order: {grows}"
    if outlook.verdict is Verdict.REACHES_ITS_FLOOR:
        why = "" if _is_noisy(outlooks, outlook) else " by rounding"
        return (
            f"With {batch}, {lr} ends {outlook.floor:.2g} above the least-squares loss{why}, more than the target of "
            f"{outlooks.target:.2g}"
        )
    if outlook.verdict is Verdict.SLOW:
        return f"With {batch}, {lr} takes {epochs_in_words(outlook)} epochs, and the run has {outlooks.max_epochs:g}"
    return f"With {batch}, {lr} has converged after {epochs_in_words(outlook)} epochs: train"


def _options(remedy: Remedy) -> str:
    """Write the options of a remedy."""
    words = []
    for name, value in remedy.options.items():
        if name == "trainer.max_epochs":
            words.append(f"{epochs_in_words(remedy.outlook)} epochs")
        elif (name, value) in _WRITTEN:
            words.append(_WRITTEN[name, value])
        elif name != "model.nesterov":
            written = rounded(value) if name == "model.lr" else f"{value:g}"
            words.append(f"{name.partition('.')[2]} {written}")
    return " and ".join(words)


def _result(remedy: Remedy) -> str:
    """Say in parentheses what follows from a remedy."""
    row = remedy.outlook
    if "trainer.max_epochs" in remedy.options:
        return ""
    if row.verdict is Verdict.REACHES_ITS_FLOOR:
        return f" (ends {row.floor:.2g} above the least-squares loss)"
    # The whole set has no floor; drawn with replacement, N samples have one.
    is_exact = row.growth is not None or (row.variant.name == "batch" and row.floor == 0)
    about = "" if is_exact else "about "
    plain = remedy.instead
    instead = "" if plain is None else f" instead of {epochs_in_words(plain)} at lr {rounded(plain.lr)}"
    return f" ({about}{epochs_in_words(row)} epoch{'s' * (row.epochs != 1)}{instead})"


def in_words(outlooks: Outlooks, outlook: Outlook) -> str:
    """Return the verdict with its figures."""
    how = "" if outlooks.is_exact(outlook.variant) else ", for samples drawn with replacement"
    if how and outlooks.drawn.is_thinned:
        how += f", estimated from {len(outlooks.drawn.rows):,} of them"
    if outlook.verdict is Verdict.DIVERGES:
        return f"{outlook.verdict}{how}"
    if outlook.verdict is Verdict.REACHES_ITS_FLOOR:
        return f"{outlook.verdict}, {outlook.floor:.3g} above the least-squares loss{how}"
    there = f"{outlooks.target:.2g} above the least-squares loss after {epochs_in_words(outlook)} epochs"
    return f"{outlook.verdict}, {there}{how}"


def epochs_in_words(outlook: Outlook) -> str:
    """Return after how many epochs a run is close to the least-squares loss."""
    if outlook.epochs < 1e12:
        return f"{outlook.epochs:,.0f}"
    return f"{outlook.epochs:.1g}" if outlook.epochs < math.inf else "never"


def rounded(lr: float) -> str:
    """Write a learning rate with two digits, rounded down: an advice may not pass a limit.

    Example:
        >>> rounded(0.0499), rounded(123.4)
        ('0.049', '1.2e+02')
    """
    digit = 10 ** (math.floor(math.log10(lr)) - 1)
    return f"{math.floor(lr / digit + 1e-9) * digit:.2g}"
