"""The loop over compiled updates, and the end of each: optimiser step, saving of results, and divergence check.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gd_lightning.engine.compiling import inlined, leaf, merged
from gd_lightning.engine.kernels.arithmetic import add_scaled
from gd_lightning.engine.kernels.structures import Array, Network, Number, Rule, Samples, Saved, Scratch, Span, State

SGD, ADAM, ADAM_W, RMS_PROP, ADAGRAD = range(5)


class Progress(NamedTuple):
    """Number of saved updates, the next update to save and to check, and whether divergence is suspected or found."""

    saved: int
    next_saved: int
    next_check: int
    suspected: bool
    is_over: bool


@inlined
def begin(span: Span) -> Progress:
    """Return the progress before the first update."""
    next_saved = min(span.save_start, span.updates - 1) if span.save_last else span.save_start
    return Progress(0, next_saved, span.check_start if span.is_checked else 0, span.suspected, False)


@merged
def make_updates(
    add_gradient: Callable[..., Number], samples: Samples, network: Network, state: State, lrs: Array, rule: Rule,
    span: Span, saved: Saved, scratch: Scratch,
) -> tuple[int, int, bool]:  # fmt: skip
    """Make updates as ``UPDATE`` says.

    Args:
        add_gradient: Adds the gradient over a batch, samples ``start`` to ``stop``, to ``scratch.gradient``, and
            returns the summed loss. It takes (samples, start, stop, network, theta, scratch, rule).
        samples: The training samples.
        network: The layers.
        state: Parameters and momentum buffers.
        lrs: Learning rates.
        rule: Loss, penalties and settings of the optimiser.
        span: The range of updates.
        saved: Arrays for the results.
        scratch: Working memory.
    """
    progress = begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        scratch.gradient[:] = 0
        total = add_gradient(samples, start, stop, network, state.theta, scratch, rule)
        progress = end_update(
            update, total, stop - start, network, state, scratch.gradient, lrs, rule, span, saved, progress
        )
        if progress.is_over:
            return update + 1, progress.saved, True
    return span.updates, progress.saved, progress.suspected and span.is_checked


@inlined
def end_update(
    update: int, total: Number, count: int, network: Network, state: State, gradient: Array, lrs: Array, rule: Rule,
    span: Span, saved: Saved, progress: Progress,
) -> Progress:  # fmt: skip
    """Make the step, save and check if due; returns the progress after this update."""
    outputs = network.layers[-1, 1]
    _step(network.layers, state, gradient, lrs[0 if len(lrs) == 1 else update], rule)
    loss = total / state.theta.dtype.type(count * outputs)
    return leave(update, loss, state.theta, gradient, network.places, span, saved, progress)


@inlined
def leave(
    update: int,
    loss: Number,
    theta: Array,
    gradient: Array,
    places: Array,
    span: Span,
    saved: Saved,
    progress: Progress,
) -> Progress:
    """Save loss, parameters and gradient of an update as requested, and check its loss."""
    count, next_saved, next_check, suspected, is_over = progress
    if update == next_saved:
        saved.losses[min(count, len(saved.losses) - 1)] = loss
        if saved.parameters.shape[0] > 0:
            _scatter(theta, places, saved.parameters[count])
        if saved.gradients.shape[0] > 0:
            _scatter(gradient, places, saved.gradients[count])
        count += 1
        next_saved += span.save_every
        if span.save_last:
            next_saved = min(next_saved, span.updates - 1)
        if not loss <= span.bound:  # true for nan, too
            suspected = True
    if update + 1 == next_check:
        is_over = suspected
        next_check += span.check_every
    return Progress(count, next_saved, next_check, suspected, is_over)


@inlined
def _scatter(numbers: Array, places: Array, into: Array) -> None:
    if len(places) == 0:
        for p in range(len(numbers)):
            into[p] = numbers[p]
    else:
        for p in range(len(numbers)):
            into[places[p]] = numbers[p]


@inlined
def _step(layers: Array, state: State, gradient: Array, lr: Number, rule: Rule) -> None:
    """Add the derivative of the l1 penalty to the gradient, and step as torch's optimisers do."""
    theta, velocity, number = state.theta, state.velocity, state.theta.dtype.type
    if rule.l1 != 0:
        l1 = number(rule.l1)
        for layer in range(len(layers)):
            for p in range(layers[layer, 2], layers[layer, 2] + layers[layer, 0] * layers[layer, 1]):
                gradient[p] += l1 if theta[p] > 0 else -l1 if theta[p] < 0 else number(0)
    if rule.optimizer != SGD:
        state.steps[0] += 1
        _step_by_squares(state, gradient, lr, rule)
        return
    if rule.momentum == 0 and rule.weight_decay == 0:
        add_scaled(theta, -lr, gradient)
        return
    momentum, decay = number(rule.momentum), number(rule.weight_decay)
    for p in range(len(theta)):
        direction = gradient[p]
        if rule.weight_decay != 0:
            direction += decay * theta[p]
        if rule.momentum != 0:
            velocity[p] = momentum * velocity[p] + direction
            direction = direction + momentum * velocity[p] if rule.nesterov else velocity[p]
        theta[p] -= lr * direction


@inlined
def share_so_far(decay: float, step: float) -> float:
    """Return ``1 - decay**step``; a power takes as long as all else in an update of few parameters."""
    # The power is below exp(-40), which a float64 does not resolve beside 1.
    return 1.0 if (1.0 - decay) * step > 40.0 else 1.0 - decay**step


@leaf
def _step_by_squares(state: State, gradient: Array, lr: Number, rule: Rule) -> None:
    """Step by gradients that are divided by the root of their mean or summed squares, with torch's formulas."""
    theta, first, squares, number = state.theta, state.velocity, state.squares, state.theta.dtype.type
    step, is_adam, has_first = np.float64(state.steps[0]), rule.optimizer <= ADAM_W, len(state.velocity) > 0
    rate, root = np.float64(lr), 1.0
    if is_adam:
        rate /= share_so_far(rule.momentum, step)
        root = math.sqrt(share_so_far(rule.squares_decay, step))
    elif rule.optimizer == ADAGRAD:
        rate /= 1.0 + (step - 1.0) * rule.lr_decay
    kept = number(1.0 - np.float64(lr) * rule.weight_decay) if rule.is_decoupled else number(1)
    decay = number(0) if rule.is_decoupled else number(rule.weight_decay)
    momentum, share, scale = number(rule.momentum), number(1.0 - rule.momentum), number(root)
    old, new = number(rule.squares_decay), number(1.0 - rule.squares_decay)
    if rule.optimizer == ADAGRAD:
        old, new = number(1), number(1)
    eps, size = number(rule.eps), number(rate)
    for p in range(len(theta)):
        g = gradient[p] + decay * theta[p]
        squares[p] = old * squares[p] + new * g * g
        divisor = math.sqrt(squares[p]) / scale + eps
        direction = g / divisor
        if is_adam:
            first[p] += share * (g - first[p])
            direction = first[p] / divisor
        elif has_first:
            first[p] = momentum * first[p] + direction
            direction = first[p]
        theta[p] = kept * theta[p] - size * direction
