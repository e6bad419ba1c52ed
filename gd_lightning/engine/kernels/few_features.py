"""Compiled gradients of linear networks with few features, over groups of samples held feature by feature.

If the samples of a group are adjacent in memory, feature by feature, the compiler vectorises over samples. The
sums are formed group by group, in the order of the groups: they depend on the batch alone.

Letters: N samples, D features, K outputs, B batch, S samples of a group.
"""

from __future__ import annotations

import numpy as np

from gd_lightning.engine.compiling import CompiledApart, inlined, leaf, summing
from gd_lightning.engine.kernels.arithmetic import SHORT, dot, loss_of
from gd_lightning.engine.kernels.signatures import LOSSES
from gd_lightning.engine.kernels.structures import Array, Network, Number, Rule, Samples, Scratch

GROUP = 512
"""S."""

FEWEST_IN_GROUPS = 32
"""Samples of a batch from which on groups take less time than single samples."""

MOST_SHUFFLED = 8
"""Features up to which this is so where the samples of a group are gathered."""

STRIDE = GROUP + 16
"""Numbers between two features of a group: with a power of two, all would share a few places of the fastest cache."""

MOST_IN_A_GROUP = SHORT * STRIDE
"""The most numbers that the features and errors of a group take; more features are not trained in groups."""


@leaf
def add_groups(
    samples: Samples, start: int, stop: int, count: int, theta: Array, gradient: Array, rule: Rule, group: Array
) -> Number:
    """Add a linear network's gradient over some of a batch of ``count`` samples; returns their summed loss."""
    number, features, outputs = theta.dtype.type, samples.x.shape[1], samples.y.shape[1]
    has_bias, is_shuffled = len(theta) > features * outputs, len(samples.rows) > 0
    has_columns = len(samples.columns) > 0 and not is_shuffled
    total, share = number(0), number(1) / number(count * outputs)
    errors, columns, stride = group[features * STRIDE :], samples.columns if has_columns else group, STRIDE
    if has_columns:
        stride = len(samples.x)
    for begin in range(start, stop, GROUP):
        size, first = min(GROUP, stop - begin), begin if has_columns else 0
        if is_shuffled:
            _gather(samples.x, samples.rows[begin : begin + size], group)
        elif not has_columns:
            _take(samples.x[begin : begin + size], group)
        for k in range(outputs):
            bias = theta[features * outputs + k] if has_bias else number(0)
            _begin_errors(errors, bias, samples, begin, size, k)
            for d in range(features):
                _add_product(errors, theta[k * features + d], columns[d * stride + first :], size)
            loss, slope = _slopes(errors, size, rule, share)
            total += loss
            for d in range(features):
                at = d * stride + first
                gradient[k * features + d] += dot(errors[:size], columns[at : at + size])
            if has_bias:
                gradient[features * outputs + k] += slope
    return total


def _sum_losses_of_groups(samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch) -> float:
    number, features, outputs, n = theta.dtype.type, samples.x.shape[1], samples.y.shape[1], len(samples.x)
    has_bias, has_columns, total = len(theta) > features * outputs, len(samples.columns) > 0, 0.0
    group = scratch.group
    predictions, columns, stride = group[features * STRIDE :], samples.columns if has_columns else group, STRIDE
    if has_columns:
        stride = n
    for begin in range(0, n, GROUP):
        size, first = min(GROUP, n - begin), begin if has_columns else 0
        if not has_columns:
            _take(samples.x[begin : begin + size], group)
        for k in range(outputs):
            bias = theta[features * outputs + k] if has_bias else number(0)
            for s in range(size):
                predictions[s] = bias
            for d in range(features):
                _add_product(predictions, theta[k * features + d], columns[d * stride + first :], size)
            total += _losses(predictions, samples.y[begin : begin + size], k, rule)
    return total


sum_losses_of_groups = CompiledApart(_sum_losses_of_groups, LOSSES)


@inlined
def _take(x: Array, group: Array) -> None:
    """Copy samples, feature by feature: to write what lies side by side takes less time than to read it."""
    for d in range(x.shape[1]):
        column = group[d * STRIDE : (d + 1) * STRIDE]
        for s in range(len(x)):
            column[s] = x[s, d]


@inlined
def _gather(x: Array, rows: Array, group: Array) -> None:
    """Copy the samples of some rows in the same way."""
    for d in range(x.shape[1]):
        column = group[d * STRIDE : (d + 1) * STRIDE]
        for s in range(len(rows)):
            column[s] = x[rows[s], d]


@inlined
def _begin_errors(errors: Array, bias: Number, samples: Samples, begin: int, size: int, k: int) -> None:
    """Set the errors of a group to the bias less the targets.

    Places counted from 0 cannot be negative; of others the compiler asks, one by one, whether to count from the end.
    """
    rows, y = samples.rows[begin : begin + size], samples.y[begin : begin + size]
    if len(samples.rows) > 0:
        for s in range(size):
            errors[s] = bias - samples.y[rows[s], k]
    else:
        for s in range(size):
            errors[s] = bias - y[s, k]


@inlined
def _add_product(errors: Array, weight: Number, column: Array, size: int) -> None:
    for s in range(size):
        errors[s] += weight * column[s]


@summing
def _slopes(errors: Array, size: int, rule: Rule, share: Number) -> tuple[Number, Number]:
    """Replace errors by the derivatives of their mean loss; returns the sums of losses and of derivatives."""
    number = errors.dtype.type
    total, slopes, delta = number(0), number(0), number(rule.huber_delta)
    for s in range(size):
        loss, slope = loss_of(errors[s], rule.loss, delta)
        total += loss
        slopes += slope
        errors[s] = slope * share
    return total, slopes * share


@summing
def _losses(predictions: Array, y: Array, k: int, rule: Rule) -> float:
    total, delta = 0.0, np.float64(rule.huber_delta)
    for s in range(len(y)):
        total += loss_of(np.float64(predictions[s]) - np.float64(y[s, k]), rule.loss, delta)[0]
    return total
