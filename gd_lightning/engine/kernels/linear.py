"""Compiled updates of linear networks, and their train loss.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

import numba
import numpy as np

from gd_lightning.engine.compiling import CompiledApart, allocating, inlined, leaf, merged, outer, parallel, summing
from gd_lightning.engine.kernels.arithmetic import MSE, SHORT, add_scaled, dot, loss_of, short_dot
from gd_lightning.engine.kernels.few_features import (
    FEWEST_IN_GROUPS,
    MOST_IN_A_GROUP,
    MOST_SHUFFLED,
    STRIDE,
    add_groups,
)
from gd_lightning.engine.kernels.signatures import LOSSES, UPDATE
from gd_lightning.engine.kernels.structures import Array, Network, Number, Rule, Samples, Saved, Scratch, Span, State
from gd_lightning.engine.kernels.updates import begin, end_update, leave, make_updates

_sum_losses = LOSSES.call

BLOCK = 2048
"""Samples whose gradient is one partial sum of a large batch: the sum is the same, however many threads share it."""


def _carry_out_batches(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a linear network."""
    return make_updates(_add_batch, samples, network, state, lrs, rule, span, saved, scratch)


def _carry_out_large(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a linear network from large batches, in several threads."""
    blocks = (span.batch_size - 1) // BLOCK + 1
    sums, totals = np.empty((blocks, len(state.theta)), state.theta.dtype), np.empty(blocks, state.theta.dtype)
    progress = begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        _sum_blocks(samples, start, stop, state.theta, sums, totals, rule)
        gradient, total = scratch.gradient, state.theta.dtype.type(0)
        gradient[:] = 0
        for block in range((stop - start - 1) // BLOCK + 1):
            add_scaled(gradient, state.theta.dtype.type(1), sums[block])
            total += totals[block]
        progress = end_update(update, total, stop - start, network, state, gradient, lrs, rule, span, saved, progress)
        if progress.is_over:
            return update + 1, progress.saved, True
    return span.updates, progress.saved, progress.suspected and span.is_checked


@parallel
def _sum_blocks(samples: Samples, start: int, stop: int, theta: Array, sums: Array, totals: Array, rule: Rule) -> None:
    size = min((samples.x.shape[1] + 1) * STRIDE, MOST_IN_A_GROUP)
    for block in numba.prange((stop - start - 1) // BLOCK + 1):
        sums[block, :], group = 0, np.empty(size, theta.dtype)
        begin = start + block * BLOCK
        end = min(begin + BLOCK, stop)
        totals[block] = _add_linear(samples, begin, end, stop - start, theta, sums[block], rule, group)


def _carry_out_line(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make plain SGD updates of a straight line with batch size 1; the parameters stay in registers."""
    theta, gradient, number = state.theta, scratch.gradient, state.theta.dtype.type
    is_shuffled, has_one_lr, has_bias = len(samples.rows) > 0, len(lrs) == 1, len(theta) == 2
    delta, lr = number(rule.huber_delta), lrs[0]
    weight, bias = theta[0], theta[1] if has_bias else number(0)
    progress = begin(span)
    for update in range(span.updates):
        row = samples.rows[span.first + update] if is_shuffled else span.first + update
        feature = samples.x[row, 0]
        # The next update depends on this one, so terms without parameters are computed apart, off the critical path.
        error = weight * feature + (bias - samples.y[row, 0])
        loss, slope = loss_of(error, rule.loss, delta)
        if not has_one_lr:
            lr = lrs[update]
        rate, direction = (lr + lr, error) if rule.loss == MSE else (lr, slope)
        weight -= rate * feature * direction
        gradient[0], theta[0] = slope * feature, weight
        if has_bias:
            bias -= rate * direction
            gradient[1], theta[1] = slope, bias
        progress = leave(update, loss, theta, gradient, network.places, span, saved, progress)
        if progress.is_over:
            return update + 1, progress.saved, True
    return span.updates, progress.saved, progress.suspected and span.is_checked


def _carry_out_line_densely(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make such updates for the squared error, saving only the last loss; checks see the loss of each update.

    It is for spans of which every update is saved, or the last one alone and none is checked.

    The compiler unswitches a loop on loop-invariant conditions, but on two of them at most.
    """
    theta, is_shuffled, has_bias, made = state.theta, len(samples.rows) > 0, len(state.theta) == 2, 0
    next_lr, check = 0 if len(lrs) == 1 else 1, span.check_start if span.is_checked else span.updates
    weight, bias = theta[0], theta[1] if has_bias else theta.dtype.type(0)
    suspected, loss = span.is_checked and span.suspected, weight
    while made < span.updates:
        end = min(check, span.updates)
        for update in range(made, end):
            row = samples.rows[span.first + update] if is_shuffled else span.first + update
            feature = samples.x[row, 0]
            error = weight * feature + (bias - samples.y[row, 0])
            loss, rate = error * error, lrs[next_lr * update] + lrs[next_lr * update]
            weight -= rate * feature * error
            if has_bias:
                bias -= rate * error
            if not loss <= span.bound:  # true for nan, too
                suspected = True
        made = end
        if suspected and made == check:
            break
        check += span.check_every
    theta[0], saved.losses[0] = weight, loss
    if has_bias:
        theta[1] = bias
    return made, made if span.save_start == 0 and span.save_every == 1 else 1, suspected and span.is_checked


def _carry_out_line_in_batches(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make plain SGD updates of a straight line with larger batches; the parameters stay in registers."""
    theta, gradient, number, has_bias = state.theta, scratch.gradient, state.theta.dtype.type, len(state.theta) == 2
    weight, bias = theta[0], theta[1] if has_bias else number(0)
    progress = begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        total, of_weight, of_bias = _sums_of_line(samples, start, stop, weight, bias, rule)
        count, lr = number(stop - start), lrs[0 if len(lrs) == 1 else update]
        share = number(1) / count
        gradient[0] = share * of_weight
        weight -= lr * gradient[0]
        theta[0] = weight
        if has_bias:
            gradient[1] = share * of_bias
            bias -= lr * gradient[1]
            theta[1] = bias
        progress = leave(update, total / count, theta, gradient, network.places, span, saved, progress)
        if progress.is_over:
            return update + 1, progress.saved, True
    return span.updates, progress.saved, progress.suspected and span.is_checked


def _carry_out_plane(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make plain SGD updates of a linear network with one output and batch size 1, in two passes over its weights."""
    theta, gradient, number, features = state.theta, scratch.gradient, state.theta.dtype.type, samples.x.shape[1]
    is_shuffled, has_one_lr, has_bias = len(samples.rows) > 0, len(lrs) == 1, len(theta) > features
    delta, lr, weight = number(rule.huber_delta), lrs[0], theta[:features]
    bias = theta[features] if has_bias else number(0)
    progress = begin(span)
    for update in range(span.updates):
        row = samples.rows[span.first + update] if is_shuffled else span.first + update
        x = samples.x[row]
        product = short_dot(weight, x) if features < SHORT else dot(weight, x)
        loss, slope = loss_of(product + bias - samples.y[row, 0], rule.loss, delta)
        if not has_one_lr:
            lr = lrs[update]
        for d in range(features):
            gradient[d] = slope * x[d]
            weight[d] -= lr * (slope * x[d])
        if has_bias:
            gradient[features] = slope
            bias -= lr * slope
            theta[features] = bias
        progress = leave(update, loss, theta, gradient, network.places, span, saved, progress)
        if progress.is_over:
            return update + 1, progress.saved, True
    return span.updates, progress.saved, progress.suspected and span.is_checked


@merged
def _add_batch(
    samples: Samples, start: int, stop: int, network: Network, theta: Array, scratch: Scratch, rule: Rule
) -> Number:
    return _add_linear(samples, start, stop, stop - start, theta, scratch.gradient, rule, scratch.group)


@leaf
def _add_linear(
    samples: Samples, start: int, stop: int, count: int, theta: Array, gradient: Array, rule: Rule, group: Array
) -> Number:
    """Add a linear network's gradient over some of a batch of ``count`` samples; returns their summed loss."""
    number, features, outputs = theta.dtype.type, samples.x.shape[1], samples.y.shape[1]
    is_line = features == 1 and outputs == 1
    # The samples of a line in stored order are adjacent in memory.
    in_groups = features <= MOST_SHUFFLED if len(samples.rows) > 0 else features < SHORT and not is_line
    if count >= FEWEST_IN_GROUPS and in_groups:
        return add_groups(samples, start, stop, count, theta, gradient, rule, group)
    if is_line:
        return _add_line(samples, start, stop, count, theta, gradient, rule)
    is_shuffled, has_bias, bias = len(samples.rows) > 0, len(theta) > features * outputs, features * outputs
    total, delta, share = number(0), number(rule.huber_delta), number(1) / number(count * outputs)
    for sample in range(start, stop):
        row = samples.rows[sample] if is_shuffled else sample
        x = samples.x[row]
        for k in range(outputs):
            begin, end = k * features, (k + 1) * features
            prediction = dot(theta[begin:end], x)
            if has_bias:
                prediction += theta[bias + k]
            loss, slope = loss_of(prediction - samples.y[row, k], rule.loss, delta)
            total += loss
            slope *= share
            add_scaled(gradient[begin:end], slope, x)
            if has_bias:
                gradient[bias + k] += slope
    return total


@inlined
def _add_line(samples: Samples, start: int, stop: int, count: int, theta: Array, gradient: Array, rule: Rule) -> Number:
    """Add the gradient of a straight line over some of a batch; returns their summed loss."""
    number, has_bias = theta.dtype.type, len(theta) > 1
    bias, share = theta[1] if has_bias else number(0), number(1) / number(count)
    total, of_weight, of_bias = _sums_of_line(samples, start, stop, theta[0], bias, rule)
    gradient[0] += share * of_weight
    if has_bias:
        gradient[1] += share * of_bias
    return total


@summing
def _sums_of_line(
    samples: Samples, start: int, stop: int, weight: Number, bias: Number, rule: Rule
) -> tuple[Number, Number, Number]:
    """Sum losses, and their derivatives by weight and by bias, over some samples, many of them at a time."""
    number = samples.x.dtype.type
    total, of_weight, of_bias, delta = number(0), number(0), number(0), number(rule.huber_delta)
    # Samples are counted from 0, as in the errors of a group.
    if len(samples.rows) > 0:
        for row in samples.rows[start:stop]:
            feature = samples.x[row, 0]
            loss, slope = loss_of(weight * feature + bias - samples.y[row, 0], rule.loss, delta)
            total += loss
            of_weight += slope * feature
            of_bias += slope
    else:
        x, y = samples.x[start:stop], samples.y[start:stop]
        for s in range(len(x)):
            loss, slope = loss_of(weight * x[s, 0] + bias - y[s, 0], rule.loss, delta)
            total += loss
            of_weight += slope * x[s, 0]
            of_bias += slope
    return total, of_weight, of_bias


@outer
def sum_losses_often(
    samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch, times: int
) -> float:
    """Sum the losses several times, to measure how long it takes in compiled code; returns the last sum."""
    total = 0.0
    for _ in range(times):
        total = _sum_losses(network.calls.sum_losses, (samples, network, theta, rule, scratch))
    return total


def _sum_losses_of_line(samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch) -> float:
    return _sum_along_line(samples, theta, rule)


@summing
def _sum_along_line(samples: Samples, theta: Array, rule: Rule) -> float:
    number, total = theta.dtype.type, 0.0
    weight, bias, delta = theta[0], theta[1] if len(theta) > 1 else number(0), np.float64(rule.huber_delta)
    for row in range(len(samples.x)):
        prediction = weight * samples.x[row, 0] + bias
        total += loss_of(np.float64(prediction) - np.float64(samples.y[row, 0]), rule.loss, delta)[0]
    return total


def _sum_losses_of_linear(samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch) -> float:
    total, features, outputs = 0.0, samples.x.shape[1], samples.y.shape[1]
    delta, bias, has_bias = np.float64(rule.huber_delta), features * outputs, len(theta) > features * outputs
    for row in range(len(samples.x)):
        for k in range(outputs):
            prediction = dot(theta[k * features : (k + 1) * features], samples.x[row])
            if has_bias:
                prediction += theta[bias + k]
            total += loss_of(np.float64(prediction) - np.float64(samples.y[row, k]), rule.loss, delta)[0]
    return total


line, line_densely = CompiledApart(_carry_out_line, UPDATE), CompiledApart(_carry_out_line_densely, UPDATE)
line_in_batches = CompiledApart(_carry_out_line_in_batches, UPDATE)
plane, batches = CompiledApart(_carry_out_plane, UPDATE), CompiledApart(_carry_out_batches, UPDATE)
large_batches = CompiledApart(_carry_out_large, UPDATE, allocating)
sum_losses_of_line = CompiledApart(_sum_losses_of_line, LOSSES)
sum_losses_of_linear = CompiledApart(_sum_losses_of_linear, LOSSES)
