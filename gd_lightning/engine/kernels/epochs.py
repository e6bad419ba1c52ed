"""Compiled updates of several epochs, and the train loss at the end of each but the last.

Letters: N samples, E epochs, R saved updates.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba

from gd_lightning.engine.compiling import inlined, outer
from gd_lightning.engine.kernels.signatures import ERRORS, LOSSES, UPDATE
from gd_lightning.engine.kernels.structures import (
    Array,
    Epochs,
    Network,
    Rule,
    Samples,
    Saved,
    Scratch,
    Span,
    State,
)

_make_updates, _sum_losses, _sum_errors = UPDATE.call, LOSSES.call, ERRORS.call


class _Made(NamedTuple):
    """Number of updates made and saved, epoch and position of the next one, and whether divergence is suspected."""

    updates: int
    saved: int
    epoch: int
    within: int
    suspected: bool
    is_over: bool


class _Begins(NamedTuple):
    """Offsets of the rows, learning rates and batch losses of an epoch."""

    row: int
    lr: int
    loss: int


@outer
def carry_out_epochs(
    samples: Samples,
    network: Network,
    state: State,
    lrs: Array,
    rule: Rule,
    span: Span,
    saved: Saved,
    scratch: Scratch,
    epochs: Epochs,
) -> tuple[int, int, bool]:
    """Make updates over one or several epochs, as ``network.calls.update`` makes them within one; see ``UPDATE``."""
    made, calls = _begin(span), network.calls
    while made.updates < span.updates and not made.is_over:
        part, at = _part(span, epochs, made), _begins(lrs, saved, epochs, made)
        rows = samples.rows[at.row : at.row + epochs.samples]
        of_epoch = Samples(samples.x, samples.y, rows, samples.columns)
        remaining = Saved(saved.losses[at.loss :], saved.parameters[made.saved :], saved.gradients[made.saved :])
        updates, count, suspected = _make_updates(
            calls.update,
            (of_epoch, network, state, lrs[at.lr : at.lr + part.updates], rule, part, remaining, scratch),
        )
        made = _behind(made, span, part, updates, count, suspected)
        if made.within == epochs.per_epoch and made.updates < span.updates:
            if made.epoch < len(epochs.measured):
                total = _sum_losses(calls.sum_losses, (samples, network, state.theta, rule, scratch))
                made = _at_end(made, total / (len(samples.y) * samples.y.shape[1]), saved, epochs)
            if made.epoch < len(epochs.held_out.sums) - 1:
                errors = epochs.held_out, network, state.theta, rule, scratch, made.epoch
                _sum_errors(calls.sum_errors, errors)
            made = _next_epoch(made)
    return made.updates, made.saved, made.suspected and span.is_checked


def carry_out_in_threads(threads: int, *arguments: Any) -> tuple[int, int, bool]:
    """Make updates as :func:`carry_out_epochs` does, where those of an epoch are made in several threads.

    Args:
        threads: Number of threads.
        arguments: The arguments of :func:`carry_out_epochs`.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, vars(numba.config)["NUMBA_NUM_THREADS"]))
    try:
        return carry_out_epochs(*arguments)
    finally:
        numba.set_num_threads(before)


@inlined
def _begin(span: Span) -> _Made:
    return _Made(0, 0, 0, span.first, span.suspected, False)


@inlined
def _part(span: Span, epochs: Epochs, made: _Made) -> Span:
    """Return the span of the remaining updates of the current epoch."""
    updates = min(epochs.per_epoch - made.within, span.updates - made.updates)
    is_last = made.updates + updates == span.updates
    # The next multiple of save_every at or after the current position.
    start = span.save_start - made.updates
    if start < 0:
        start = start % span.save_every
    check = (span.check_start - made.updates - 1) % span.check_every + 1
    if span.check_start > made.updates:
        check = span.check_start - made.updates
    return Span(
        made.within, updates, span.batch_size, span.samples, start, span.save_every, span.save_last or not is_last,
        span.is_checked, check, span.check_every, span.bound, made.suspected,
    )  # fmt: skip


@inlined
def _begins(lrs: Array, saved: Saved, epochs: Epochs, made: _Made) -> _Begins:
    """Return the offsets of the current epoch in the arrays; a single learning rate holds for all updates."""
    return _Begins(
        made.epoch * epochs.samples,
        0 if len(lrs) == 1 else made.updates,
        made.saved if len(saved.losses) > 1 else 0,
    )


@inlined
def _behind(made: _Made, span: Span, part: Span, updates: int, count: int, suspected: bool) -> _Made:
    """Return the progress after part of an epoch; a check may have ended it, even at its last update."""
    total = made.updates + updates
    is_checked = span.is_checked and total >= span.check_start and (total - span.check_start) % span.check_every == 0
    is_over = updates < part.updates or (suspected and is_checked)
    return _Made(total, made.saved + count, made.epoch, made.within + updates, suspected, is_over)


@inlined
def _at_end(made: _Made, loss: float, saved: Saved, epochs: Epochs) -> _Made:
    """Record the train loss at the end of an epoch, which clears any suspicion of divergence."""
    epochs.measured[made.epoch] = loss
    last = saved.losses[min(made.saved, len(saved.losses)) - 1]
    is_over = not (loss > epochs.low and loss <= epochs.high and math.isfinite(last))
    return _Made(made.updates, made.saved, made.epoch, made.within, False, is_over)


@inlined
def _next_epoch(made: _Made) -> _Made:
    return _Made(made.updates, made.saved, made.epoch + 1, 0, made.suspected, made.is_over)
