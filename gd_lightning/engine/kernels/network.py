"""Compiled updates of multilayer perceptrons: forward and backward, sample by sample.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

from gd_lightning.engine.compiling import CompiledApart, inlined, merged
from gd_lightning.engine.kernels.activations import IDENTITY, RELU, rectify
from gd_lightning.engine.kernels.arithmetic import add_scaled, dot, first_output, layer_at, loss_of
from gd_lightning.engine.kernels.blocks import add_blocks
from gd_lightning.engine.kernels.signatures import ACTIVATION, UPDATE
from gd_lightning.engine.kernels.structures import Array, Network, Number, Rule, Samples, Saved, Scratch, Span, State
from gd_lightning.engine.kernels.updates import make_updates

_activate = ACTIVATION.call

FEWEST_IN_BLOCKS = 8
"""Batch size from which on matrix products take less time than loops."""


def _carry_out_in_loops(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a multilayer perceptron from small batches."""
    return make_updates(_add_network, samples, network, state, lrs, rule, span, saved, scratch)


def _carry_out_in_blocks(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a multilayer perceptron by matrix products."""
    return make_updates(add_blocks, samples, network, state, lrs, rule, span, saved, scratch)


@merged
def _add_network(
    samples: Samples, start: int, stop: int, network: Network, theta: Array, scratch: Scratch, rule: Rule
) -> Number:
    """Add a multilayer perceptron's gradient over a batch; returns its summed loss."""
    number, outputs, depth = theta.dtype.type, samples.y.shape[1], len(network.layers)
    total, delta, share = number(0), number(rule.huber_delta), number(1) / number((stop - start) * outputs)
    last = first_output(network.layers)
    for sample in range(start, stop):
        row = samples.rows[sample] if len(samples.rows) > 0 else sample
        for d in range(samples.x.shape[1]):
            scratch.values[d] = samples.x[row, d]
        for layer in range(depth):
            _forward(network, layer, theta, scratch)
        for k in range(outputs):
            loss, slope = loss_of(scratch.values[last + k] - samples.y[row, k], rule.loss, delta)
            total += loss
            scratch.deltas[last + k] = slope * share
        for layer in range(depth - 1, -1, -1):
            _backward(network, layer, theta, scratch)
    return total


@inlined
def _forward(network: Network, layer: int, theta: Array, scratch: Scratch) -> None:
    """Compute the outputs of a layer from its inputs, in ``scratch``."""
    inputs, outputs, weight, bias, unit, is_wide, activation = layer_at(network.layers, layer)
    above = unit + inputs
    into, out = scratch.values[unit:above], scratch.values[above : above + outputs]
    for j in range(outputs):
        out[j] = theta[bias + j] if bias >= 0 else theta.dtype.type(0)
    if is_wide:
        for i in range(inputs):
            add_scaled(out, into[i], theta[weight + i * outputs : weight + (i + 1) * outputs])
    else:
        for j in range(outputs):
            out[j] += dot(theta[weight + j * inputs : weight + (j + 1) * inputs], into)
    if activation == RELU:
        rectify(scratch.values, scratch.derivatives, above, outputs)
    elif activation != IDENTITY:
        units = scratch.values, scratch.derivatives, above, outputs, activation, network.shapes[layer]
        _activate(network.calls.activate, units)


@inlined
def _backward(network: Network, layer: int, theta: Array, scratch: Scratch) -> None:
    """Add the gradient of a layer, and compute the deltas of its inputs, except for the first layer."""
    inputs, outputs, weight, bias, unit, is_wide, activation = layer_at(network.layers, layer)
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


network_in_loops = CompiledApart(_carry_out_in_loops, UPDATE)
network_in_blocks = CompiledApart(_carry_out_in_blocks, UPDATE)
