"""Compiled updates of linear and multilayer-perceptron networks; importing this file imports Numba.

Everything is passed as plain arrays and numbers, so that other compiled functions can call :func:`carry_out`, from many
threads at once. Rounding never depends on what is kept or where a stretch is cut: only sums within a function marked
``_summing`` may be reordered by the compiler, and each of them stands once.

Letters: N samples, D features, K outputs, B batch, P parameters, R kept updates, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

BLOCK = 2048
"""Rows whose gradient is one partial sum of a large batch: the sum is the same, however many threads share it."""

LOSSES = ("mse", "mae", "huber")
ACTIVATIONS = ("Identity", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "Sigmoid", "Tanh")

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Span(NamedTuple):
    """Which updates are made, which of them leave something, and where they may end early."""

    first: int
    updates: int
    batch_size: int
    samples: int
    keep_start: int
    keep_every: int
    keep_last: bool
    is_looking: bool
    look_start: int
    look_every: int
    bound: float
    suspicion: bool


class Rule(NamedTuple):
    """What is descended, and how: the loss as its place in ``LOSSES``, and what torch's SGD takes."""

    loss: int
    huber_delta: float
    l1: float
    momentum: float
    nesterov: bool
    weight_decay: float


class Layer(NamedTuple):
    """Columns of the array of layers, shape (L, 7): widths, where its numbers begin (bias: -1 for none), activation."""

    inputs: int
    outputs: int
    weight: int
    bias: int
    unit: int
    is_wide: bool
    activation: int


def _compiler(**options: Any) -> Callable[[_Function], _Function]:
    def compiled(function: _Function) -> _Function:
        try:
            return numba.njit(function, cache=True, nogil=True, **options)  # type: ignore[no-any-return]
        except RuntimeError:  # no folder can be written, so each process compiles for itself
            return numba.njit(function, nogil=True, **options)  # type: ignore[no-any-return]

    return compiled


# Flags that promise neither finite numbers nor that nan does not occur: a run may diverge.
_exact = _compiler(fastmath={"contract"})
_inlined = _compiler(fastmath={"contract"}, forceinline=True, _nrt=False)
_leaf = _compiler(fastmath={"contract"}, _nrt=False)
_summing = _compiler(fastmath={"contract", "reassoc", "nsz"}, forceinline=True, _nrt=False)
_parallel = _compiler(fastmath={"contract"}, parallel=True)


@_exact
def carry_out(
    x: Any,
    y: Any,
    rows: Any,
    theta: Any,
    velocity: Any,
    places: Any,
    layers: Any,
    shapes: Any,
    lrs: Any,
    span: Any,
    rule: Any,
    losses: Any,
    parameters: Any,
    gradients: Any,
) -> Any:
    """Make updates of a network, one after the other, in one thread.

    All arrays are C-contiguous; all of numbers have the precision of the run.

    Args:
        x: Features, shape (N, D).
        y: Targets, shape (N, K).
        rows: Order of the samples, int64, shape (N,); (0,): as they lie.
        theta: Parameters, layer by layer its weight and its bias, shape (P,); changed. A weight lies as in torch, or
            transposed if the layer is wide (more outputs than inputs).
        velocity: Momentum buffers like theta, zeros before the first update; shape (0,) without momentum; changed.
        places: Where a number of theta lies in what is kept, int64, shape (P,); (0,): where it does here.
        layers: See :class:`Layer`, int64, shape (L, 7).
        shapes: The slope or alpha of each layer's activation, shape (L,).
        lrs: Learning rates, shape (updates,), or (1,) for all.
        span: The :class:`Span`.
        rule: The :class:`Rule`.
        losses: Receives the kept batch losses, shape (R,).
        parameters: Receives the kept parameters, shape (R, P); (0, P): not asked for.
        gradients: Receives the kept gradients, shape (R, P); (0, P): not asked for.

    Returns:
        How many updates were made, how many were kept, and whether there is a suspicion.
    """
    units = np.empty((3, layers[-1, 4] + layers[-1, 0] + layers[-1, 1]), theta.dtype)
    return _carry_out(
        x, y, rows, theta, velocity, places, layers, shapes, lrs, span, rule, losses, parameters, gradients,
        np.empty_like(theta), units,
    )  # fmt: skip


@_leaf
def _carry_out(
    x, y, rows, theta, velocity, places, layers, shapes, lrs, span, rule, losses, parameters, gradients, gradient, units
):
    is_linear, one_rate = len(layers) == 1, len(lrs) == 1
    is_plain = rule.momentum == 0 and rule.weight_decay == 0 and rule.l1 == 0
    if is_linear and is_plain and x.shape[1] == 1 and y.shape[1] == 1 and span.batch_size == 1:
        return _carry_out_line(x, y, rows, theta, gradient, places, lrs, span, rule, losses, parameters, gradients)
    kept, next_kept, next_look, suspicion = _begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        gradient[:] = 0
        if is_linear:
            total = _add_linear(x, y, rows, start, stop, stop - start, theta, gradient, rule)
        else:
            total = _add_network(x, y, rows, start, stop, theta, layers, shapes, units, gradient, rule)
        loss = total / theta.dtype.type((stop - start) * y.shape[1])
        _step(theta, gradient, velocity, layers, lrs[0 if one_rate else update], rule)
        over, kept, next_kept, next_look, suspicion = _leave(
            update, loss, theta, gradient, places, span, losses, parameters, gradients,
            kept, next_kept, next_look, suspicion,
        )  # fmt: skip
        if over:
            return update + 1, kept, True
    return span.updates, kept, suspicion and span.is_looking


@_exact
def carry_out_large(
    x: Any, y: Any, rows: Any, theta: Any, velocity: Any, places: Any, layers: Any, shapes: Any, lrs: Any, span: Any,
    rule: Any, losses: Any, parameters: Any, gradients: Any,
) -> Any:  # fmt: skip
    """Make updates of a linear network from large batches in Numba's threads; arguments as :func:`carry_out`."""
    one_rate = len(lrs) == 1
    blocks = (span.batch_size - 1) // BLOCK + 1
    totals, sums = np.empty(blocks, theta.dtype), np.empty((blocks, len(theta)), theta.dtype)
    gradient = np.empty_like(theta)
    kept, next_kept, next_look, suspicion = _begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        _add_blocks(x, y, rows, start, stop, theta, totals, sums, rule)
        gradient[:] = 0
        total = theta.dtype.type(0)
        for block in range((stop - start - 1) // BLOCK + 1):
            total += totals[block]
            for p in range(len(theta)):
                gradient[p] += sums[block, p]
        loss = total / theta.dtype.type((stop - start) * y.shape[1])
        _step(theta, gradient, velocity, layers, lrs[0 if one_rate else update], rule)
        over, kept, next_kept, next_look, suspicion = _leave(
            update, loss, theta, gradient, places, span, losses, parameters, gradients,
            kept, next_kept, next_look, suspicion,
        )  # fmt: skip
        if over:
            return update + 1, kept, True
    return span.updates, kept, suspicion and span.is_looking


@_parallel
def _add_blocks(x, y, rows, start, stop, theta, totals, sums, rule):
    for block in numba.prange((stop - start - 1) // BLOCK + 1):
        sums[block, :] = 0
        begin = start + block * BLOCK
        end = min(begin + BLOCK, stop)
        totals[block] = _add_linear(x, y, rows, begin, end, stop - start, theta, sums[block], rule)


@_leaf
def _carry_out_line(x, y, rows, theta, gradient, places, lrs, span, rule, losses, parameters, gradients):
    """Make plain updates of a straight line from one sample each: what they change stays in registers."""
    shuffled, one_rate, has_bias = len(rows) > 0, len(lrs) == 1, len(theta) == 2
    number = theta.dtype.type
    delta = number(rule.huber_delta)
    weight, bias = theta[0], theta[1] if has_bias else number(0)
    lr = lrs[0]
    kept, next_kept, next_look, suspicion = _begin(span)
    for update in range(span.updates):
        row = rows[span.first + update] if shuffled else span.first + update
        feature = x[row, 0]
        loss, slope = _loss_of(weight * feature + bias - y[row, 0], rule.loss, delta)
        if not one_rate:
            lr = lrs[update]
        gradient[0] = slope * feature
        weight -= lr * (slope * feature)
        theta[0] = weight
        if has_bias:
            gradient[1] = slope
            bias -= lr * slope
            theta[1] = bias
        over, kept, next_kept, next_look, suspicion = _leave(
            update, loss, theta, gradient, places, span, losses, parameters, gradients,
            kept, next_kept, next_look, suspicion,
        )  # fmt: skip
        if over:
            return update + 1, kept, True
    return span.updates, kept, suspicion and span.is_looking


@_inlined
def _begin(span):
    next_kept = min(span.keep_start, span.updates - 1) if span.keep_last else span.keep_start
    return 0, next_kept, span.look_start if span.is_looking else 0, span.suspicion


@_inlined
def _leave(
    update, loss, theta, gradient, places, span, losses, parameters, gradients, kept, next_kept, next_look, suspicion
):
    """Keep what an update leaves, and look; returns whether the stretch is over, and where it stands."""
    over = False
    if update == next_kept:
        losses[kept] = loss
        if parameters.shape[0] > 0:
            _scatter(theta, places, parameters, kept)
        if gradients.shape[0] > 0:
            _scatter(gradient, places, gradients, kept)
        kept += 1
        next_kept += span.keep_every
        if span.keep_last:
            next_kept = min(next_kept, span.updates - 1)
        if not loss <= span.bound:
            suspicion = True
    if update + 1 == next_look:
        over = suspicion
        next_look += span.look_every
    return over, kept, next_kept, next_look, suspicion


@_inlined
def _scatter(numbers, places, table, row):
    if len(places) == 0:
        for p in range(len(numbers)):
            table[row, p] = numbers[p]
    else:
        for p in range(len(numbers)):
            table[row, places[p]] = numbers[p]


@_inlined
def _loss_of(error, loss, delta):
    """Return the loss of an element, and its derivative with respect to the prediction."""
    number = type(error)
    if loss == 0:
        return error * error, error + error
    if loss == 1:
        return abs(error), number(1) if error > 0 else number(-1) if error < 0 else number(0)
    if abs(error) < delta:
        return number(0.5) * error * error, error
    return delta * (abs(error) - number(0.5) * delta), delta if error >= delta else -delta if error <= -delta else error


@_inlined
def _step(theta, gradient, velocity, layers, lr, rule):
    """Add the derivative of the l1 penalty to the gradient, and step as torch's SGD does."""
    number = theta.dtype.type
    if rule.l1 != 0:
        l1 = number(rule.l1)
        for layer in range(len(layers)):
            weight = layers[layer, 2]
            for p in range(weight, weight + layers[layer, 0] * layers[layer, 1]):
                gradient[p] += l1 if theta[p] > 0 else -l1 if theta[p] < 0 else number(0)
    if rule.momentum == 0 and rule.weight_decay == 0:
        for p in range(len(theta)):
            theta[p] -= lr * gradient[p]
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


@_summing
def _dot(a, b):
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_inlined
def _add_scaled(a, scale, b):
    for i in range(len(a)):
        a[i] += scale * b[i]


@_leaf
def _add_linear(x, y, rows, start, stop, samples, theta, gradient, rule):
    """Add a linear network's gradient over some of a batch's samples; returns their summed loss."""
    shuffled, features, outputs = len(rows) > 0, x.shape[1], y.shape[1]
    has_bias = len(theta) > features * outputs
    number = theta.dtype.type
    total, delta, share = number(0), number(rule.huber_delta), number(1) / number(samples * outputs)
    for sample in range(start, stop):
        row = rows[sample] if shuffled else sample
        sample_x = x[row]
        for k in range(outputs):
            prediction = _dot(theta[k * features : (k + 1) * features], sample_x)
            if has_bias:
                prediction += theta[outputs * features + k]
            loss, slope = _loss_of(prediction - y[row, k], rule.loss, delta)
            total += loss
            slope *= share
            _add_scaled(gradient[k * features : (k + 1) * features], slope, sample_x)
            if has_bias:
                gradient[outputs * features + k] += slope
    return total


@_leaf
def _add_network(x, y, rows, start, stop, theta, layers, shapes, units, gradient, rule):
    """Add a multilayer perceptron's gradient over a batch; returns its summed loss.

    The rows of ``units`` are the values of all units, layer behind layer, how the activation rises there, and the
    derivative of the loss with respect to what enters the activation.
    """
    shuffled, outputs = len(rows) > 0, y.shape[1]
    number = theta.dtype.type
    values, rises, blames = units[0], units[1], units[2]
    last = len(values) - outputs
    total, delta, share = number(0), number(rule.huber_delta), number(1) / number((stop - start) * outputs)
    for sample in range(start, stop):
        row = rows[sample] if shuffled else sample
        for d in range(x.shape[1]):
            values[d] = x[row, d]
        for layer in range(len(layers)):
            _forward(layers, layer, shapes[layer], theta, values, rises)
        for k in range(outputs):
            loss, slope = _loss_of(values[last + k] - y[row, k], rule.loss, delta)
            total += loss
            blames[last + k] = slope * share
        for layer in range(len(layers) - 1, -1, -1):
            _backward(layers, layer, theta, values, rises, blames, gradient)
    return total


@_inlined
def _forward(layers, layer, shape, theta, values, rises):
    """From the values of a layer's inputs to those of its outputs."""
    inputs, outputs, weight, bias, unit, is_wide, activation = layers[layer]
    into, out = values[unit : unit + inputs], values[unit + inputs : unit + inputs + outputs]
    rise = rises[unit + inputs : unit + inputs + outputs]
    for j in range(outputs):
        out[j] = theta[bias + j] if bias >= 0 else theta.dtype.type(0)
    if is_wide:
        for i in range(inputs):
            _add_scaled(out, into[i], theta[weight + i * outputs : weight + (i + 1) * outputs])
    else:
        for j in range(outputs):
            out[j] += _dot(theta[weight + j * inputs : weight + (j + 1) * inputs], into)
    if activation == 1:  # the usual one has a loop of its own
        for j in range(outputs):
            rise[j] = 0 if out[j] <= 0 else 1
            out[j] = 0 if out[j] <= 0 else out[j]
    elif activation != 0:
        for j in range(outputs):
            out[j], rise[j] = _activate(out[j], activation, shape)


@_leaf
def _activate(z, activation, shape):
    """Return an activation and its derivative at z; the formulas are torch's."""
    number = type(z)
    zero, one = number(0), number(1)
    if activation == 2:  # LeakyReLU
        return (z, one) if z > 0 else (shape * z, shape)
    if activation == 3:  # ELU
        return (z, one) if z > 0 else (shape * math.expm1(z), shape * math.exp(z))
    if activation == 4:  # GELU
        below = number(0.5) * (one + math.erf(z * number(math.sqrt(0.5))))
        return z * below, below + z * math.exp(number(-0.5) * z * z) * number(1 / math.sqrt(2 * math.pi))
    if activation == 6:  # Softplus
        return (z, one) if z > 20 else (math.log1p(math.exp(z)), math.exp(z) / (math.exp(z) + one))
    if activation == 8:  # Tanh
        value = math.tanh(z)
        return value, one - value * value
    sigmoid = one / (one + math.exp(-z))
    if activation == 7:
        return sigmoid, sigmoid * (one - sigmoid)
    if activation == 5:  # SiLU
        return z * sigmoid, sigmoid * (one + z * (one - sigmoid))
    return zero, zero


@_inlined
def _backward(layers, layer, theta, values, rises, blames, gradient):
    """Add a layer's gradient, and blame its inputs; those of the network are not to blame."""
    inputs, outputs, weight, bias, unit, is_wide, activation = layers[layer]
    into, below = values[unit : unit + inputs], blames[unit : unit + inputs]
    rise, blame = rises[unit + inputs : unit + inputs + outputs], blames[unit + inputs : unit + inputs + outputs]
    if activation != 0:
        for j in range(outputs):
            blame[j] *= rise[j]
    if bias >= 0:
        _add_scaled(gradient[bias : bias + outputs], theta.dtype.type(1), blame)
    if is_wide:
        for i in range(inputs):
            begin, end = weight + i * outputs, weight + (i + 1) * outputs
            _add_scaled(gradient[begin:end], into[i], blame)
            if layer > 0:
                below[i] = _dot(theta[begin:end], blame)
        return
    below[:] = 0
    for j in range(outputs):
        begin, end = weight + j * inputs, weight + (j + 1) * inputs
        _add_scaled(gradient[begin:end], blame[j], into)
        if layer > 0:
            _add_scaled(below, blame[j], theta[begin:end])
