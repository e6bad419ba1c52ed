"""Compiled sums of the errors of predictions, from which a validation is computed.

They are, in float64: the loss, squared errors and absolute errors, each summed over samples and outputs, and the
squared errors of each output, summed over samples.

Letters: N samples, D features, K outputs, E epochs.
"""

from __future__ import annotations

import numpy as np

from gd_lightning.engine.compiling import CompiledApart, outer, summing
from gd_lightning.engine.kernels.arithmetic import dot, first_output, loss_of
from gd_lightning.engine.kernels.blocks import SAMPLES, block_of, predict
from gd_lightning.engine.kernels.signatures import ERRORS
from gd_lightning.engine.kernels.structures import Array, HeldOut, Network, Rule, Samples, Scratch

_sum = ERRORS.call


@outer
def sum_errors_once(held_out: HeldOut, network: Network, theta: Array, rule: Rule, scratch: Scratch, at: int) -> None:
    """Sum the errors of a network; see ``ERRORS``."""
    _sum(network.calls.sum_errors, (held_out, network, theta, rule, scratch, at))


def _sum_errors(held_out: HeldOut, network: Network, theta: Array, rule: Rule, scratch: Scratch, at: int) -> None:
    """Sum the errors of a linear network into a row of ``held_out.sums``, batch by batch, as they are validated."""
    samples, is_line = len(held_out.x), held_out.x.shape[1] == 1 and held_out.y.shape[1] == 1
    held_out.sums[at, :] = 0
    for begin in range(0, samples, held_out.batch_size):
        end, part = min(begin + held_out.batch_size, samples), held_out.sums[-1]
        part[:] = 0
        if is_line:
            part[0], part[1], part[2] = _errors_of_line(held_out, begin, end, theta, rule)
            part[3] = part[1]
        else:
            _add_errors_of_linear(held_out, begin, end, theta, rule, part)
        for i in range(len(part)):
            held_out.sums[at, i] += part[i]


def _sum_errors_of_network(
    held_out: HeldOut, network: Network, theta: Array, rule: Rule, scratch: Scratch, at: int
) -> None:
    """Sum the errors of a multilayer perceptron in the same way."""
    samples, delta, part = len(held_out.x), np.float64(rule.huber_delta), held_out.sums[-1]
    stored = Samples(held_out.x, held_out.y, network.places[:0], theta[:0])
    held_out.sums[at, :] = 0
    for begin in range(0, samples, held_out.batch_size):
        part[:] = 0
        end = min(begin + held_out.batch_size, samples)
        for first in range(begin, end, SAMPLES):
            block = block_of(first, min(first + SAMPLES, end), theta.itemsize)
            predict(stored, block, network, theta, scratch)
            y = held_out.y[first : first + block.samples]
            for k in range(held_out.y.shape[1]):
                unit = (first_output(network.layers) + k) * block.stride
                predictions = scratch.values[unit : unit + block.stride]
                for s in range(block.samples):
                    error = np.float64(predictions[s]) - np.float64(y[s, k])
                    part[0] += loss_of(error, rule.loss, delta)[0]
                    part[1] += error * error
                    part[2] += abs(error)
                    part[3 + k] += error * error
        for i in range(len(part)):
            held_out.sums[at, i] += part[i]


@summing
def _errors_of_line(held_out: HeldOut, begin: int, end: int, theta: Array, rule: Rule) -> tuple[float, float, float]:
    number, of_loss, squared, absolute = theta.dtype.type, 0.0, 0.0, 0.0
    weight, bias, delta = theta[0], theta[1] if len(theta) > 1 else number(0), np.float64(rule.huber_delta)
    x, y = held_out.x[begin:end], held_out.y[begin:end]
    for s in range(len(x)):
        error = np.float64(weight * x[s, 0] + bias) - np.float64(y[s, 0])
        of_loss += loss_of(error, rule.loss, delta)[0]
        squared += error * error
        absolute += abs(error)
    return of_loss, squared, absolute


@summing
def _add_errors_of_linear(held_out: HeldOut, begin: int, end: int, theta: Array, rule: Rule, part: Array) -> None:
    features, outputs = held_out.x.shape[1], held_out.y.shape[1]
    delta, bias, has_bias = np.float64(rule.huber_delta), features * outputs, len(theta) > features * outputs
    x, y = held_out.x[begin:end], held_out.y[begin:end]
    for s in range(len(x)):
        for k in range(outputs):
            prediction = dot(theta[k * features : (k + 1) * features], x[s])
            if has_bias:
                prediction += theta[bias + k]
            error = np.float64(prediction) - np.float64(y[s, k])
            part[0] += loss_of(error, rule.loss, delta)[0]
            part[1] += error * error
            part[2] += abs(error)
            part[3 + k] += error * error


sum_errors = CompiledApart(_sum_errors, ERRORS)
sum_errors_of_network = CompiledApart(_sum_errors_of_network, ERRORS)
