"""Compiled updates of multilayer perceptrons: forward and backward, sample by sample.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

import math

import numpy as np

from gd_lightning.engine.compiling import inlined, leaf, outer
from gd_lightning.engine.kernels.arithmetic import add_scaled, dot, loss_of
from gd_lightning.engine.kernels.structures import Array, Network, Number, Rule, Samples, Saved, Scratch, Span, State
from gd_lightning.engine.kernels.updates import begin, end_update

IDENTITY, RELU, LEAKY_RELU, ELU, GELU, SILU, SOFTPLUS, SIGMOID, TANH = range(9)


@outer
def carry_out_network(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a multilayer perceptron."""
    progress = begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        scratch.gradient[:] = 0
        total = _add_network(samples, start, stop, network, state.theta, scratch, rule)
        progress = end_update(
            update, total, stop - start, network, state, scratch.gradient, lrs, rule, span, saved, progress
        )
        if progress.is_over:
            return update + 1, progress.saved, True
    return span.updates, progress.saved, progress.suspected and span.is_checked


@inlined
def _add_network(
    samples: Samples, start: int, stop: int, network: Network, theta: Array, scratch: Scratch, rule: Rule
) -> Number:
    """Add a multilayer perceptron's gradient over a batch; returns its summed loss."""
    number, outputs, depth = theta.dtype.type, samples.y.shape[1], len(network.layers)
    total, delta, share = number(0), number(rule.huber_delta), number(1) / number((stop - start) * outputs)
    last = len(scratch.values) - outputs
    for sample in range(start, stop):
        row = samples.rows[sample] if len(samples.rows) > 0 else sample
        for d in range(samples.x.shape[1]):
            scratch.values[d] = samples.x[row, d]
        for layer in range(depth):
            forward(network, layer, theta, scratch)
        for k in range(outputs):
            loss, slope = loss_of(scratch.values[last + k] - samples.y[row, k], rule.loss, delta)
            total += loss
            scratch.deltas[last + k] = slope * share
        for layer in range(depth - 1, -1, -1):
            _backward(network, layer, theta, scratch)
    return total


@outer
def sum_losses_of_network(samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch) -> float:
    """Return the loss of a multilayer perceptron, summed in float64 over outputs and samples in stored order."""
    outputs, total, delta = samples.y.shape[1], 0.0, np.float64(rule.huber_delta)
    last = len(scratch.values) - outputs
    for row in range(len(samples.x)):
        for d in range(samples.x.shape[1]):
            scratch.values[d] = samples.x[row, d]
        for layer in range(len(network.layers)):
            forward(network, layer, theta, scratch)
        for k in range(outputs):
            error = np.float64(scratch.values[last + k]) - np.float64(samples.y[row, k])
            total += loss_of(error, rule.loss, delta)[0]
    return total


@outer
def sum_losses_of_network_often(
    samples: Samples, network: Network, theta: Array, rule: Rule, scratch: Scratch, times: int
) -> float:
    """Sum the losses several times, to measure how long it takes in compiled code; returns the last sum."""
    total = 0.0
    for _ in range(times):
        total = sum_losses_of_network(samples, network, theta, rule, scratch)
    return total


@inlined
def _row(layers: Array, at: int) -> tuple[int, ...]:
    """Return a row of ``layers`` as a tuple; unpacking the array row would check its length each time."""
    return layers[at, 0], layers[at, 1], layers[at, 2], layers[at, 3], layers[at, 4], layers[at, 5], layers[at, 6]


@inlined
def forward(network: Network, layer: int, theta: Array, scratch: Scratch) -> None:
    """Compute the outputs of a layer from its inputs, in ``scratch``."""
    inputs, outputs, weight, bias, unit, is_wide, activation = _row(network.layers, layer)
    above = unit + inputs
    into, out = scratch.values[unit:above], scratch.values[above : above + outputs]
    derivative = scratch.derivatives[above:]
    for j in range(outputs):
        out[j] = theta[bias + j] if bias >= 0 else theta.dtype.type(0)
    if is_wide:
        for i in range(inputs):
            add_scaled(out, into[i], theta[weight + i * outputs : weight + (i + 1) * outputs])
    else:
        for j in range(outputs):
            out[j] += dot(theta[weight + j * inputs : weight + (j + 1) * inputs], into)
    if activation == RELU:  # the usual one has a loop of its own
        for j in range(outputs):
            derivative[j] = 0 if out[j] <= 0 else 1
            out[j] = 0 if out[j] <= 0 else out[j]
    elif activation != IDENTITY:
        for j in range(outputs):
            out[j], derivative[j] = _activate(out[j], activation, network.shapes[layer])


@leaf
def _activate(z: Number, activation: int, shape: Number) -> tuple[Number, Number]:
    """Return an activation other than ReLU and its derivative at z; the formulas are torch's."""
    number, one = type(z), type(z)(1)
    if activation == LEAKY_RELU:
        return (z, one) if z > 0 else (shape * z, shape)
    if activation == ELU:
        return (z, one) if z > 0 else (shape * math.expm1(z), shape * math.exp(z))
    if activation == GELU:
        below = number(0.5) * (one + math.erf(z * number(math.sqrt(0.5))))
        return z * below, below + z * math.exp(number(-0.5) * z * z) * number(1 / math.sqrt(2 * math.pi))
    if activation == SOFTPLUS:
        return (z, one) if z > 20 else (math.log1p(math.exp(z)), math.exp(z) / (math.exp(z) + one))
    if activation == TANH:
        value = math.tanh(z)
        return value, one - value * value
    sigmoid = one / (one + math.exp(-z))
    if activation == SILU:
        return z * sigmoid, sigmoid * (one + z * (one - sigmoid))
    return sigmoid, sigmoid * (one - sigmoid)


@inlined
def _backward(network: Network, layer: int, theta: Array, scratch: Scratch) -> None:
    """Add the gradient of a layer, and compute the deltas of its inputs, except for the first layer."""
    inputs, outputs, weight, bias, unit, is_wide, activation = _row(network.layers, layer)
    above, gradient = unit + inputs, scratch.gradient
    into, below = scratch.values[unit:above], scratch.deltas[unit:above]
    derivative, delta = scratch.derivatives[above:], scratch.deltas[above : above + outputs]
    if activation != IDENTITY:
        for j in range(outputs):
            delta[j] *= derivative[j]
    if bias >= 0:
        add_scaled(gradient[bias : bias + outputs], theta.dtype.type(1), delta)
    if is_wide:
        for i in range(inputs):
            begin, end = weight + i * outputs, weight + (i + 1) * outputs
            add_scaled(gradient[begin:end], into[i], delta)
            if layer > 0:
                below[i] = dot(theta[begin:end], delta)
        return
    below[:] = 0
    for j in range(outputs):
        begin, end = weight + j * inputs, weight + (j + 1) * inputs
        add_scaled(gradient[begin:end], delta[j], into)
        if layer > 0:
            add_scaled(below, delta[j], theta[begin:end])
