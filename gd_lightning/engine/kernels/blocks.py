"""Gradient and loss of multilayer perceptrons over a block of samples, by matrix products.

In ``scratch``, a row has a unit's numbers for all samples of the block; the next row begins a stride after it.
Columns beyond the last sample, up to a whole vector, are copies of it, without a share in the gradient.

Letters: N samples, D features, K outputs, B batch, L numbers of a vector register.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gd_lightning.engine.compiling import REGISTER, CompiledApart, inlined, leaf, merged, summing
from gd_lightning.engine.kernels.activations import IDENTITY, RELU, rectify
from gd_lightning.engine.kernels.arithmetic import first_output, layer_at, loss_of
from gd_lightning.engine.kernels.few_features import MOST_IN_A_GROUP
from gd_lightning.engine.kernels.signatures import ACTIVATION, DOTS, LOSSES, PRODUCT
from gd_lightning.engine.kernels.structures import Array, Network, Number, Rule, Samples, Scratch

_add_product, _add_dots, _activate = PRODUCT.call, DOTS.call, ACTIVATION.call

SAMPLES = 256
"""The most samples of a block: enough for most of the time to be that of products, few enough to stay in the cache."""


def new_scratch(parameters: int, units: int, dtype: np.dtype[Any]) -> Scratch:
    """Return working memory for networks with P parameters and U units, 0 if they are linear; uninitialised.

    Args:
        parameters: P.
        units: U.
        dtype: The precision of the run.
    """
    if not units:
        nothing = np.empty(0, dtype)
        return Scratch(np.empty(parameters, dtype), nothing, nothing, nothing, np.empty(MOST_IN_A_GROUP, dtype))
    vector = REGISTER // dtype.itemsize
    size = units * (SAMPLES + vector)
    together = np.empty(3 * size + vector, dtype)
    # A vector that crosses the end of a cache line takes twice the time.
    begin = -together.ctypes.data % REGISTER // dtype.itemsize
    of_units = together[begin : begin + 3 * size].reshape(3, size)
    return Scratch(np.empty(parameters, dtype), of_units[0], of_units[1], of_units[2], np.empty(MOST_IN_A_GROUP, dtype))


class _Block(NamedTuple):
    """First sample, number of samples, of vectors and of numbers in a vector, and the stride between two rows."""

    start: int
    samples: int
    vectors: int
    lanes: int
    stride: int


@leaf
def add_blocks(
    samples: Samples, start: int, stop: int, network: Network, theta: Array, scratch: Scratch, rule: Rule
) -> Number:
    """Add the gradient over a batch to that in ``scratch``; returns the summed loss."""
    total, share = theta.dtype.type(0), theta.dtype.type(1) / theta.dtype.type((stop - start) * samples.y.shape[1])
    for begin in range(start, stop, SAMPLES):
        block = block_of(begin, min(begin + SAMPLES, stop), theta.itemsize)
        predict(samples, block, network, theta, scratch)
        total += _losses(samples, block, network, scratch, rule, share)
        for layer in range(len(network.layers) - 1, -1, -1):
            _backward(network, layer, block, theta, scratch)
    return total


def _sum_losses_of_network(samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch) -> float:
    total, delta = 0.0, np.float64(rule.huber_delta)
    stored = Samples(samples.x, samples.y, samples.rows[:0], samples.columns)
    for begin in range(0, len(samples.x), SAMPLES):
        block = block_of(begin, min(begin + SAMPLES, len(samples.x)), theta.itemsize)
        predict(stored, block, network, theta, scratch)
        at = first_output(network.layers) * block.stride
        for k in range(samples.y.shape[1]):
            for s in range(block.samples):
                error = np.float64(scratch.values[at + k * block.stride + s]) - np.float64(samples.y[begin + s, k])
                total += loss_of(error, rule.loss, delta)[0]
    return total


sum_losses_of_network = CompiledApart(_sum_losses_of_network, LOSSES)


@inlined
def block_of(start: int, stop: int, itemsize: int) -> _Block:
    """Return a block of samples, for numbers of some size in bytes."""
    lanes = REGISTER // itemsize
    vectors = (stop - start - 1) // lanes + 1
    # With an odd number of vectors, a column is distributed over all sets of the cache.
    return _Block(start, stop - start, vectors, lanes, (vectors | 1) * lanes)


@leaf
def predict(samples: Samples, block: _Block, network: Network, theta: Array, scratch: Scratch) -> None:
    """Compute the values of all units, and the derivatives of their activations."""
    start, count, vectors, lanes, stride = block
    values, width, is_shuffled = scratch.values, vectors * lanes, len(samples.rows) > 0
    for d in range(samples.x.shape[1]):
        of_feature = values[d * stride : d * stride + width]
        for s in range(count):
            of_feature[s] = samples.x[samples.rows[start + s] if is_shuffled else start + s, d]
        for s in range(count, width):
            of_feature[s] = of_feature[count - 1]
    for layer in range(len(network.layers)):
        inputs, outputs, weight, bias, unit, is_wide, activation = layer_at(network.layers, layer)
        below, above = unit * stride, (unit + inputs) * stride
        for j in range(outputs):
            values[above + j * stride : above + j * stride + width] = theta[bias + j] if bias >= 0 else 0
        row, column = (1, outputs) if is_wide else (inputs, 1)
        _add_product(
            network.calls.add_product,
            (values, above, theta, weight, values, below, stride, row, column, outputs, inputs, vectors, lanes),
        )
        if activation == RELU:
            rectify(values, scratch.derivatives, above, outputs * stride)
        elif activation != IDENTITY:
            units = values, scratch.derivatives, above, outputs * stride, activation, network.shapes[layer]
            _activate(network.calls.activate, units)


@merged
def _losses(
    samples: Samples, block: _Block, network: Network, scratch: Scratch, rule: Rule, share: Number
) -> Number:  # fmt: skip
    """Compute the deltas of the outputs; returns the summed loss."""
    start, count, vectors, lanes, stride = block
    number, is_shuffled = scratch.values.dtype.type, len(samples.rows) > 0
    total, delta, begin = number(0), number(rule.huber_delta), first_output(network.layers) * stride
    for k in range(samples.y.shape[1]):
        predictions = scratch.values[begin + k * stride : begin + (k + 1) * stride]
        deltas = scratch.deltas[begin + k * stride : begin + (k + 1) * stride]
        for s in range(count):
            row = samples.rows[start + s] if is_shuffled else start + s
            loss, slope = loss_of(predictions[s] - samples.y[row, k], rule.loss, delta)
            total += loss
            deltas[s] = slope * share
        deltas[count : vectors * lanes] = 0
    return total


@merged
def _backward(network: Network, layer: int, block: _Block, theta: Array, scratch: Scratch) -> None:
    """Add the gradient of a layer, and compute the deltas of its inputs, except for the first layer."""
    _, _, vectors, lanes, stride = block
    inputs, outputs, weight, bias, unit, is_wide, activation = layer_at(network.layers, layer)
    gradient, values, deltas, width = scratch.gradient, scratch.values, scratch.deltas, vectors * lanes
    below, above = unit * stride, (unit + inputs) * stride
    for j in range(outputs):
        begin, end = above + j * stride, above + j * stride + width
        if activation != IDENTITY:
            _multiply(deltas[begin:end], scratch.derivatives[begin:end])
        if bias >= 0:
            gradient[bias + j] += _sum(deltas[begin:end])
    if is_wide:
        matrices = gradient, weight, deltas, above, values, below, stride, outputs, inputs, vectors
    else:
        matrices = gradient, weight, values, below, deltas, above, stride, inputs, outputs, vectors
    _add_dots(network.calls.add_dots, matrices)
    if layer > 0:
        for i in range(inputs):
            deltas[below + i * stride : below + i * stride + width] = 0
        row, column = (outputs, 1) if is_wide else (1, inputs)
        _add_product(
            network.calls.add_product,
            (deltas, below, theta, weight, deltas, above, stride, row, column, inputs, outputs, vectors, lanes),
        )


@inlined
def _multiply(a: Array, b: Array) -> None:
    for s in range(len(a)):
        a[s] *= b[s]


@summing
def _sum(a: Array) -> Number:
    total = a.dtype.type(0)
    for s in range(len(a)):
        total += a[s]
    return total
