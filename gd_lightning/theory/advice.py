"""Advice on lr, batch size and other options, and the predicted outcome of a run in words.

Each advice states the predicted outcome of the run that follows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from gd_lightning.errors import InputError
from gd_lightning.theory.best_rates import BestRate, best_rate
from gd_lightning.theory.full_batch import best_heavy_ball
from gd_lightning.theory.predicted_outcome import MOST_EPOCHS, OutcomePredictor, PredictedOutcome
from gd_lightning.theory.verdicts import Verdict
from gd_lightning.update_rule import UpdateRule

SAFE = 0.8  # fraction of a stability limit that is advised
MUCH = 10.0  # the factor, in condition number and in epochs, by which standardising or momentum must help to be advised
_TRIES = 40
_SCHEDULED_TRIES = 12  # number of learning rates that are tried, each half of the one before
# How advice names options, on the command line and in Python.
STANDARDIZE = '--data.standardize both (in Python RegressionDataModule(standardize="both"))'
_WRITTEN = {
    ("data.standardize", "both"): STANDARDIZE,
    ("data.drop_last", True): "drop_last",
    ("trainer.precision", "64-true"): 'precision 64-true (--trainer.precision, in Python Trainer(precision="64-true"))',
}


@dataclass(frozen=True)
class Remedy:
    """Options that are advised, and the predicted outcome of a run with them.

    Args:
        options: The options by their full names, such as ``model.lr``; other options keep their values.
        outcome: The predicted outcome of a run with them.
        instead: The predicted outcome of a run that gets there without them, if that takes much longer; else None.
        best: The best learning rate with its purpose, if this remedy uses it.
    """

    options: Mapping[str, Any]
    outcome: PredictedOutcome
    instead: PredictedOutcome | None = None
    best: BestRate | None = None


def advice(predictor: OutcomePredictor, outcome: PredictedOutcome) -> str:
    """Return one sentence that says what to do.

    Args:
        predictor: The predictor that made the outcome.
        outcome: The predicted outcome of the run.

    Example:
        >>> import torch
        >>> from gd_lightning.affine import Affine
        >>> from gd_lightning.theory.quadratic_loss import LinearLoss
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> loss = LinearLoss.of(x, torch.tensor([[1.0], [3.0], [4.0]]), bias=False)
        >>> predictor = OutcomePredictor(loss, Affine(torch.zeros(1, 1)), max_epochs=10)
        >>> advice(predictor, predictor.predict("full", 0.5))
        'lr 0.5 is above 0.2143, the limit for batch_size 3 on these data; use lr 0.107 (the fastest: 1 epoch).'
    """
    found = remedies(predictor, outcome)
    said = [f"{_options(remedy)}{_result(predictor, remedy)}" for remedy in found]
    if found and _is_noisy(predictor, outcome) and predictor.schedule is None:
        said.append("an lr_scheduler that decreases lr")
    if not said:
        return f"{_complaint(predictor, outcome)}."
    return f"{_complaint(predictor, outcome)}; use {', '.join(said[:-1])}{' or ' * (len(said) > 1)}{said[-1]}."


def remedies(predictor: OutcomePredictor, outcome: PredictedOutcome) -> list[Remedy]:
    """Return remedies, the best first; empty if the run converges without one.

    Args:
        predictor: The predictor that made the outcome.
        outcome: The predicted outcome of the run.
    """
    is_well = outcome.verdict is Verdict.CONVERGES and outcome.epochs <= MOST_EPOCHS
    if is_well:
        return []
    if predictor.schedule is not None:
        return _with_schedule(predictor, outcome)
    found = list(_standardized(predictor, outcome))
    if found and found[0].instead is not None and found[0].instead.epochs > MOST_EPOCHS:
        return found  # predictions for other remedies take too long
    if outcome.verdict is Verdict.DIVERGES:
        return [*found, *_to_be_stable(predictor, outcome)]
    if outcome.verdict is Verdict.REACHES_ITS_FLOOR:
        return [*found, *_to_get_lower(predictor, outcome)]
    return [*found, *_to_be_faster(predictor, outcome)]


def stable_lr(predictor: OutcomePredictor, batch_size: int, part: float = 1.0) -> float:
    """Return the learning rate that reduces the error fastest in the long run, or a smaller one if that would diverge.

    A short last batch and the sequential order can be less stable than drawn batches of one size.

    Args:
        predictor: The predictor of the run.
        batch_size: B.
        part: The largest part of the limit for drawn batches that is returned.
    """
    lr = min(predictor.asymptotic_lr(batch_size), part * predictor.largest_stable_lr(batch_size))
    for _ in range(_TRIES):
        if predictor.predict(batch_size, lr).verdict is not Verdict.DIVERGES:
            break
        lr *= SAFE
    return lr


def _best(predictor: OutcomePredictor, batch_size: int) -> Remedy | None:
    """Return the learning rate that is best for these epochs, as for ``--model.lr best``; None if none is stable."""
    try:
        found = best_rate(predictor, batch_size)
    except InputError:
        return None
    outcome = predictor.predict(batch_size, found.lr)
    is_there = outcome.verdict is Verdict.CONVERGES and outcome.epochs == found.epochs
    if outcome.verdict is Verdict.DIVERGES or (found.reaches and not is_there):
        return None  # rounding, or the epochs after these, lead to another outcome
    return Remedy({"model.lr": found.lr}, outcome, best=found)


def _fastest(predictor: OutcomePredictor, batch_size: int) -> Remedy | None:
    """Return the learning rate that is the fastest to the target within these epochs; None if none reaches it."""
    found = _best(predictor, batch_size)
    return found if found is not None and found.best is not None and found.best.reaches else None


def _with_schedule(predictor: OutcomePredictor, outcome: PredictedOutcome) -> list[Remedy]:
    """Return the learning rate with which a run with a schedule ends lowest, if that is much lower."""
    size, largest = outcome.variant.batch_size, outcome.largest_rate or outcome.lr
    safe = SAFE * outcome.largest_stable_lr * outcome.lr / largest  # in most schedules, rates are proportional to lr
    found = [_with_lr(predictor, size, safe / 2**place) for place in range(_SCHEDULED_TRIES)]
    best = min(found, key=lambda remedy: remedy.outcome.floor)
    return [best] if best.outcome.floor < SAFE * outcome.floor else []


def _to_be_stable(predictor: OutcomePredictor, outcome: PredictedOutcome) -> Iterator[Remedy]:
    """Yield a smaller learning rate, and options with which this one is stable."""
    size, lr = outcome.variant.batch_size, outcome.lr
    yield _best(predictor, size) or _with_lr(predictor, size, stable_lr(predictor, size, SAFE))
    if outcome.variant.short_batch and lr < outcome.largest_stable_lr and outcome.growth is None:
        dropped = predictor.changed(drop_last=True).predict(size, lr)
        if dropped.verdict is not Verdict.DIVERGES:
            yield Remedy({"data.drop_last": True}, dropped)
    if lr >= outcome.largest_stable_lr:
        larger = predictor.smallest_stable_batch_size(lr)
        for tried in _ascending(larger, outcome.variant.train_samples):
            row = predictor.predict(tried, lr)
            if row.verdict is not Verdict.DIVERGES:
                yield Remedy({"data.batch_size": tried}, row)
                break


def _to_get_lower(predictor: OutcomePredictor, outcome: PredictedOutcome) -> Iterator[Remedy]:
    """Yield options that lower the noise floor."""
    size, lr = outcome.variant.batch_size, outcome.lr
    if not _is_noisy(predictor, outcome):
        yield from _to_round_less(predictor, outcome)
        return
    quiet = _fastest(predictor, size) or _quiet(predictor, size, lr * predictor.target / outcome.floor)
    if quiet is not None:
        yield quiet
    # The floor is nearly proportional to 1 / B.
    enough = math.ceil(min(size * outcome.floor / predictor.target, outcome.variant.train_samples))
    for tried in _ascending(max(enough, size + 1), outcome.variant.train_samples):
        row = predictor.predict(tried, lr)
        if row.verdict in (Verdict.CONVERGES, Verdict.SLOW):
            yield Remedy({"data.batch_size": tried}, row)
            break


def _to_round_less(predictor: OutcomePredictor, outcome: PredictedOutcome) -> Iterator[Remedy]:
    """Yield float64, and a learning rate whose steps do not round to 0, the faster one first."""
    size, found = outcome.variant.batch_size, list[Remedy | None]()
    if predictor.rounding is not None:
        exact = predictor.changed(rounding=partial(predictor.rounding, dtype=torch.float64)).predict(size, outcome.lr)
        found = [Remedy({"trainer.precision": "64-true"}, exact)]
    found.append(_fastest(predictor, size) or _quiet(predictor, size, stable_lr(predictor, size, SAFE)))
    able = [each for each in found if each and each.outcome.verdict in (Verdict.CONVERGES, Verdict.SLOW)]
    yield from sorted(able, key=lambda each: each.outcome.epochs)


def _to_be_faster(predictor: OutcomePredictor, outcome: PredictedOutcome) -> Iterator[Remedy]:
    """Yield a larger number of epochs, and options that need fewer epochs."""
    size = outcome.variant.batch_size
    more = Remedy({"trainer.max_epochs": outcome.epochs}, outcome)
    if outcome.epochs > MOST_EPOCHS and outcome.variant.name == "batch" and not predictor.with_replacement:
        yield from _with_momentum(predictor, outcome)
    # The noise grows with the learning rate: the floor must stay below the target.
    silent = math.inf if outcome.floor == 0 else SAFE * outcome.lr * predictor.target / outcome.floor
    faster = min(outcome.asymptotic_lr, silent, SAFE * outcome.largest_stable_lr)
    found = _fastest(predictor, size)
    if found is None and faster > outcome.lr / SAFE:
        found = _quiet(predictor, size, faster)
    better = found is not None and found.outcome.epochs < SAFE * outcome.epochs
    if outcome.verdict is Verdict.SLOW and outcome.epochs < math.inf:
        yield more
    if better and found is not None:
        yield found


def _with_momentum(predictor: OutcomePredictor, outcome: PredictedOutcome) -> Iterator[Remedy]:
    """Yield the best momentum for batch gradient descent, if that helps much."""
    ideal = best_heavy_ball(predictor.loss.flattest, predictor.loss.sharpest).momentum
    digits = max(2, math.ceil(-math.log10(1 - ideal)) + 1) if ideal < 1 - 1e-9 else 9
    momentum = math.floor(ideal * 10**digits) / 10**digits
    if momentum == predictor.rule.momentum:
        return
    moved = predictor.changed(rule=UpdateRule(momentum=momentum), standardized=None)
    lr = float(rounded(min(moved.asymptotic_lr("full"), SAFE * moved.largest_stable_lr("full"))))
    row = moved.predict("full", lr)
    if row.epochs * MUCH <= outcome.epochs:
        yield Remedy({"model.momentum": momentum, "model.nesterov": False, "model.lr": lr}, row)


def _standardized(predictor: OutcomePredictor, outcome: PredictedOutcome) -> Iterator[Remedy]:
    """Yield standardised features and targets with a suitable learning rate, if they need far fewer epochs."""
    if predictor.standardized is None or predictor.loss.condition_number < MUCH:
        return
    other, size = predictor.standardized(), outcome.variant.batch_size
    if other.loss.condition_number * MUCH > predictor.loss.condition_number:
        return
    remedy = _fastest(other, size) or _quiet(other, size, stable_lr(other, size, SAFE))
    plain = _plainly(predictor, outcome)
    if remedy is not None and remedy.outcome.epochs * MUCH <= (math.inf if plain is None else plain.epochs):
        yield Remedy({"data.standardize": "both", **remedy.options}, remedy.outcome, plain, remedy.best)


def _plainly(predictor: OutcomePredictor, outcome: PredictedOutcome) -> PredictedOutcome | None:
    """Return the outcome on unchanged features, without rounding, if it converges; else None."""
    exact, size = predictor.changed(rounding=None), outcome.variant.batch_size
    if outcome.verdict in (Verdict.CONVERGES, Verdict.SLOW):
        return outcome
    if outcome.verdict is Verdict.REACHES_ITS_FLOOR and not _is_noisy(predictor, outcome):
        return exact.predict(size, outcome.lr)
    remedy = _quiet(exact, size, stable_lr(exact, size, SAFE))
    return None if remedy is None else remedy.outcome


def _quiet(predictor: OutcomePredictor, batch_size: int, lr: float) -> Remedy | None:
    """Return a learning rate, at most the given one, with which the target is reached; None if none is found."""
    for _ in range(_TRIES):
        found = _with_lr(predictor, batch_size, lr)
        if found.outcome.verdict in (Verdict.CONVERGES, Verdict.SLOW):
            return found
        if found.outcome.rounding and found.outcome.floor - found.outcome.rounding <= predictor.target:
            return None  # the rounding error grows as the learning rate falls
        lr *= min(SAFE, SAFE * predictor.target / found.outcome.floor)  # the factor is 0 if the run diverges
        lr = lr or SAFE * found.outcome.lr
    return None


def _with_lr(predictor: OutcomePredictor, batch_size: int, lr: float) -> Remedy:
    """Return a learning rate, rounded as it is written, with the predicted outcome of a run with it."""
    written = float(rounded(lr))
    return Remedy({"model.lr": written}, predictor.predict(batch_size, written))


def _ascending(first: int | None, n: int) -> Iterator[int]:
    """Yield batch sizes from the first one to all samples, in growing steps."""
    while first is not None and first < n:
        yield first
        first = max(first + 1, math.ceil(1.1 * first))
    if first is not None:
        yield n


def _is_noisy(predictor: OutcomePredictor, outcome: PredictedOutcome) -> bool:
    """Whether the noise of the batches, and not rounding, keeps a run above the target."""
    return outcome.verdict is Verdict.REACHES_ITS_FLOOR and outcome.floor - outcome.rounding > predictor.target


def _complaint(predictor: OutcomePredictor, outcome: PredictedOutcome) -> str:
    batch, lr = f"batch_size {outcome.variant.batch_size}", f"lr {outcome.lr:g}"
    if outcome.largest_rate is not None:
        return _complaint_of_schedule(predictor, outcome, f"{batch}, {lr}")
    if outcome.verdict is Verdict.DIVERGES:
        if outcome.lr >= outcome.largest_stable_lr:
            return f"{lr} is above {outcome.largest_stable_lr:.4g}, the limit for {batch} on these data"
        if outcome.growth is None:
            short = outcome.variant.short_batch
            return f"{lr} is too large for the last batch of an epoch, which has {short} sample{'s' * (short != 1)}"
        grows = f"an error can grow {outcome.growth:.2g} times within an epoch"
        return f"{lr} is too large for the sequential order: {grows}"
    if outcome.verdict is Verdict.REACHES_ITS_FLOOR:
        why = "" if _is_noisy(predictor, outcome) else " by rounding"
        return (
            f"With {batch}, {lr} ends {outcome.floor:.2g} above {predictor.reference}{why}, more than the target of "
            f"{predictor.target:.2g}"
        )
    if outcome.verdict is Verdict.SLOW:
        return f"With {batch}, {lr} takes {epochs_in_words(outcome)} epochs, and the run has {predictor.max_epochs:g}"
    return f"With {batch}, {lr} has converged after {epochs_in_words(outcome)} epochs: train"


def _complaint_of_schedule(predictor: OutcomePredictor, outcome: PredictedOutcome, said: str) -> str:
    if outcome.verdict is Verdict.DIVERGES:
        assert outcome.largest_rate is not None
        limit, largest = outcome.largest_stable_lr, outcome.largest_rate
        is_above = "above" if largest >= limit else "near"
        rate = f"whose largest rate {largest:.4g} is {is_above} the limit {limit:.4g}"
        return f"{said} diverges with its lr_scheduler, {rate}"
    if outcome.verdict is Verdict.CONVERGES:
        return f"With {said} and its lr_scheduler have converged after {epochs_in_words(outcome)} epochs: train"
    target = f"more than the target of {predictor.target:.2g}"
    return f"With {said} and its lr_scheduler end {outcome.floor:.2g} above {predictor.reference}, {target}"


def _options(remedy: Remedy) -> str:
    """Write the options of a remedy."""
    words = []
    for name, value in remedy.options.items():
        if name == "trainer.max_epochs":
            words.append(f"{epochs_in_words(remedy.outcome)} epochs")
        elif (name, value) in _WRITTEN:
            words.append(_WRITTEN[name, value])
        elif name != "model.nesterov":
            written = rounded(value) if name == "model.lr" and remedy.best is None else f"{value:g}"
            words.append(f"{name.partition('.')[2]} {written}")
    return " and ".join(words)


def _result(predictor: OutcomePredictor, remedy: Remedy) -> str:
    """Return the outcome of a remedy, in parentheses."""
    row = remedy.outcome
    if "trainer.max_epochs" in remedy.options:
        return ""
    best = remedy.best
    if best is not None and not best.reaches:
        above, epochs = best.loss - predictor.loss.lowest, f"{best.max_epochs:,} epoch{'s' * (best.max_epochs != 1)}"
        return f" (the lowest loss after {epochs}, {above:.2g} above {predictor.reference})"
    if row.verdict is Verdict.REACHES_ITS_FLOOR or row.floor > predictor.target:
        return f" (ends {row.floor:.2g} above {predictor.reference})"
    # Batches of all samples have no floor; batches of N samples drawn with replacement have one.
    is_exact = row.growth is not None or (row.variant.name == "batch" and row.floor == 0)
    about = "" if is_exact else "about "
    plain = remedy.instead
    instead = "" if plain is None else f" instead of {epochs_in_words(plain)} at lr {rounded(plain.lr)}"
    first = "" if best is None else "the fastest: "
    return f" ({first}{about}{epochs_in_words(row)} epoch{'s' * (row.epochs != 1)}{instead})"


def in_words(predictor: OutcomePredictor, outcome: PredictedOutcome) -> str:
    """Return the verdict with floor or epochs, and whether it is exact."""
    how = "" if predictor.is_exact(outcome.variant) else ", for samples drawn with replacement"
    if how and predictor.drawn.is_thinned:
        how += f", estimated from {len(predictor.drawn.rows):,} of them"
    if outcome.verdict is Verdict.DIVERGES:
        return f"{outcome.verdict}{how}"
    if outcome.verdict is Verdict.REACHES_ITS_FLOOR or outcome.floor > predictor.target:
        return f"{outcome.verdict}, {outcome.floor:.3g} above {predictor.reference}{how}"
    there = f"{predictor.target:.2g} above {predictor.reference} after {epochs_in_words(outcome)} epochs"
    return f"{outcome.verdict}, {there}{how}"


def epochs_in_words(outcome: PredictedOutcome) -> str:
    """Return the number of epochs after which a run has converged, or "never"."""
    if outcome.epochs < 1e12:
        return f"{outcome.epochs:,.0f}"
    return f"{outcome.epochs:.1g}" if outcome.epochs < math.inf else "never"


def rounded(lr: float) -> str:
    """Write a learning rate with two digits, rounded down so that it stays below a limit.

    Example:
        >>> rounded(0.0499), rounded(123.4)
        ('0.049', '1.2e+02')
    """
    digit = 10 ** (math.floor(math.log10(lr)) - 1)
    return f"{math.floor(lr / digit + 1e-9) * digit:.2g}"
