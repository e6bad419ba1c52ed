"""Compiled updates of linear and multilayer-perceptron networks; importing this file imports Numba.

:func:`carry_out` takes arrays and numbers alone, in named tuples, so that compiled functions can call it as well, from
many threads at once. All arrays are C-contiguous and as wide as the run's precision.

Letters: N samples, D features, K outputs, B batch, P parameters, R kept updates, L layers, U units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gd_lightning.engine.compiling import compiler
from gd_lightning.losses import LOSSES

BLOCK = 2048
"""Samples whose gradient is one partial sum of a large batch: the sum is the same, however many threads share it."""

_SHORT = 32
"""Numbers from which on a product is computed in vector registers."""

PLACES = {name: place for place, name in enumerate(LOSSES)}
"""The numbers by which compiled code knows the losses."""

MSE = PLACES["mse"]  # the squared error has loops of its own

IDENTITY, RELU, LEAKY_RELU, ELU, GELU, SILU, SOFTPLUS, SIGMOID, TANH = range(9)

Array = NDArray[Any]
Number = Any  # of the run's precision
_LossForm = Callable[..., tuple[Number, Number]]


class Samples(NamedTuple):
    """Features, shape (N, D), targets, shape (N, K), and their order, int64, shape (N,); (0,): as they lie."""

    x: Array
    y: Array
    rows: Array


class Network(NamedTuple):
    """Its layers, int64, and where its parameters lie in torch.

    A row of ``layers``, shape (L, 7): number of inputs and of outputs; where in theta its weight and its bias begin
    (-1: it has none); its first input among the units of all layers; whether its weight is transposed; its activation,
    a number above. ``shapes``, shape (L,): slope or alpha of the activations. ``places``, int64, shape (P,): where a
    number of theta lies in what is kept; shape (0,): where it does in theta.
    """

    layers: Array
    shapes: Array
    places: Array


class State(NamedTuple):
    """What updates change: parameters, (P,), and momentum buffers, (P,), zeros at first; without momentum (0,)."""

    theta: Array
    velocity: Array


class Rule(NamedTuple):
    """What is descended, the loss as a number above, and what torch's SGD takes."""

    loss: int
    huber_delta: float
    l1: float
    momentum: float
    nesterov: bool
    weight_decay: float


class Span(NamedTuple):
    """Which updates of an epoch are made, which of them leave something, and where they may end early."""

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


class Kept(NamedTuple):
    """Receives batch losses, shape (R,), or (1,) for the last of them alone; parameters and gradients, each (R, P).

    Parameters and gradients that nobody asked for have the shape (0, P).
    """

    losses: Array
    parameters: Array
    gradients: Array


class Scratch(NamedTuple):
    """A gradient, (P,); of each unit, (U,): its value, its activation's slope there, the loss's by what enters it."""

    gradient: Array
    values: Array
    rises: Array
    blames: Array


class _Stand(NamedTuple):
    kept: int
    next_kept: int
    next_look: int
    suspicion: bool
    is_over: bool


# A run may diverge, so nan and inf must stay what they are. Only sums may be reordered, and only within a function that
# does nothing else: what is kept, or where a stretch is cut, must not change how an update is rounded.
_SUMS, _ELSE = {"contract", "reassoc", "nsz"}, {"contract"}
# Without Numba's run time there are no reference counts, which would take longer than the arithmetic; nor allocations.
_INNER: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_summing = compiler(fastmath=_SUMS, forceinline=True, **_INNER)
_inlined = compiler(fastmath=_ELSE, forceinline=True, **_INNER)
_leaf = compiler(fastmath=_ELSE, **_INNER)
_outer = compiler(fastmath=_ELSE, _nrt=False, no_cfunc_wrapper=True)
allocating = compiler(fastmath=_ELSE, no_cfunc_wrapper=True)
_parallel = compiler(fastmath=_ELSE, parallel=True)


@_outer
def carry_out(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, kept: Kept, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a network, one after the other, in one thread.

    Args:
        samples: What is learned from.
        network: Its layers.
        state: What is changed.
        lrs: Learning rates, shape (updates,), or (1,) for all.
        rule: What is descended, and how.
        span: Which updates.
        kept: What they leave.
        scratch: Room to calculate, empty.

    Returns:
        How many updates were made, how many were kept, and whether there is a suspicion.
    """
    if len(network.layers) == 1:
        return carry_out_linear(samples, network, state, lrs, rule, span, kept, scratch)
    return carry_out_network(samples, network, state, lrs, rule, span, kept, scratch)


@_outer
def carry_out_linear(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, kept: Kept, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a linear network; to compile this alone takes half of the time of both kinds."""
    is_plain = rule.momentum == 0 and rule.weight_decay == 0 and rule.l1 == 0
    if is_plain and samples.y.shape[1] == 1 and span.batch_size == 1:
        if samples.x.shape[1] > 1:
            return _carry_out_plane(samples, network, state, lrs, rule, span, kept, scratch)
        if rule.loss == MSE and len(kept.losses) == 1 and len(kept.parameters) == len(kept.gradients) == 0:
            if span.keep_start == 0 and span.keep_every == 1:
                return _carry_out_line_densely(samples, state, lrs, span, kept.losses)
            if span.keep_start >= span.updates - 1 and not span.is_looking:
                return _carry_out_line_densely(samples, state, lrs, span, kept.losses)[0], 1, False
        return _carry_out_line(samples, network, state, lrs, rule, span, kept, scratch)
    stand = _begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        scratch.gradient[:] = 0
        total = _add_linear(samples, start, stop, stop - start, state.theta, scratch.gradient, rule)
        stand = _end_update(update, total, stop - start, network, state, scratch.gradient, lrs, rule, span, kept, stand)
        if stand.is_over:
            return update + 1, stand.kept, True
    return span.updates, stand.kept, stand.suspicion and span.is_looking


@_outer
def carry_out_network(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, kept: Kept, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a multilayer perceptron."""
    stand = _begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        scratch.gradient[:] = 0
        total = _add_network(samples, start, stop, network, state.theta, scratch, rule)
        stand = _end_update(update, total, stop - start, network, state, scratch.gradient, lrs, rule, span, kept, stand)
        if stand.is_over:
            return update + 1, stand.kept, True
    return span.updates, stand.kept, stand.suspicion and span.is_looking


def carry_out_in_threads(threads: int, *arguments: Any) -> tuple[int, int, bool]:
    """Make updates of a linear network from large batches in so many threads; the other arguments as in carry_out."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, vars(numba.config)["NUMBA_NUM_THREADS"]))
    try:
        return _carry_out_large(*arguments)
    finally:
        numba.set_num_threads(before)


@allocating
def _carry_out_large(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, kept: Kept, scratch: Scratch
) -> tuple[int, int, bool]:
    blocks = (span.batch_size - 1) // BLOCK + 1
    sums, totals = np.empty((blocks, len(state.theta)), state.theta.dtype), np.empty(blocks, state.theta.dtype)
    stand = _begin(span)
    for update in range(span.updates):
        start = (span.first + update) * span.batch_size
        stop = min(start + span.batch_size, span.samples)
        _sum_blocks(samples, start, stop, state.theta, sums, totals, rule)
        gradient, total = scratch.gradient, state.theta.dtype.type(0)
        gradient[:] = 0
        for block in range((stop - start - 1) // BLOCK + 1):
            _add_scaled(gradient, state.theta.dtype.type(1), sums[block])
            total += totals[block]
        stand = _end_update(update, total, stop - start, network, state, gradient, lrs, rule, span, kept, stand)
        if stand.is_over:
            return update + 1, stand.kept, True
    return span.updates, stand.kept, stand.suspicion and span.is_looking


@_parallel
def _sum_blocks(samples: Samples, start: int, stop: int, theta: Array, sums: Array, totals: Array, rule: Rule) -> None:
    for block in numba.prange((stop - start - 1) // BLOCK + 1):
        sums[block, :] = 0
        begin = start + block * BLOCK
        end = min(begin + BLOCK, stop)
        totals[block] = _add_linear(samples, begin, end, stop - start, theta, sums[block], rule)


@_leaf
def _carry_out_line(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, kept: Kept, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make plain updates of a straight line from one sample each: what one leaves to the next stays in registers."""
    theta, gradient, number = state.theta, scratch.gradient, state.theta.dtype.type
    is_shuffled, has_one_lr, has_bias = len(samples.rows) > 0, len(lrs) == 1, len(theta) == 2
    delta, lr = number(rule.huber_delta), lrs[0]
    weight, bias = theta[0], theta[1] if has_bias else number(0)
    stand = _begin(span)
    for update in range(span.updates):
        row = samples.rows[span.first + update] if is_shuffled else span.first + update
        feature = samples.x[row, 0]
        # The next update waits for this one: what does not need its parameters is put together apart from them.
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
        stand = _leave(update, loss, theta, gradient, network.places, span, kept, stand)
        if stand.is_over:
            return update + 1, stand.kept, True
    return span.updates, stand.kept, stand.suspicion and span.is_looking


@_leaf
def _carry_out_line_densely(
    samples: Samples, state: State, lrs: Array, span: Span, losses: Array
) -> tuple[int, int, bool]:
    """Do the same with the squared error, where there is room for the last loss alone; looks see that of each update.

    Of a choice that does not change in a loop, the compiler makes two loops, but not of more than two such choices.
    """
    theta, is_shuffled, has_bias, made = state.theta, len(samples.rows) > 0, len(state.theta) == 2, 0
    next_lr, look = 0 if len(lrs) == 1 else 1, span.look_start if span.is_looking else span.updates
    weight, bias = theta[0], theta[1] if has_bias else theta.dtype.type(0)
    suspicion, loss = span.is_looking and span.suspicion, weight
    while made < span.updates:
        end = min(look, span.updates)
        for update in range(made, end):
            row = samples.rows[span.first + update] if is_shuffled else span.first + update
            feature = samples.x[row, 0]
            error = weight * feature + (bias - samples.y[row, 0])
            loss, rate = error * error, lrs[next_lr * update] + lrs[next_lr * update]
            weight -= rate * feature * error
            if has_bias:
                bias -= rate * error
            if not loss <= span.bound:  # nan is beyond, too
                suspicion = True
        made = end
        if suspicion and made == look:
            break
        look += span.look_every
    theta[0], losses[0] = weight, loss
    if has_bias:
        theta[1] = bias
    return made, made, suspicion and span.is_looking


@_leaf
def _carry_out_plane(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, kept: Kept, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make plain updates of a linear network with one output from one sample each, in two passes over its weights."""
    theta, gradient, number, features = state.theta, scratch.gradient, state.theta.dtype.type, samples.x.shape[1]
    is_shuffled, has_one_lr, has_bias = len(samples.rows) > 0, len(lrs) == 1, len(theta) > features
    delta, lr, weight = number(rule.huber_delta), lrs[0], theta[:features]
    bias = theta[features] if has_bias else number(0)
    stand = _begin(span)
    for update in range(span.updates):
        row = samples.rows[span.first + update] if is_shuffled else span.first + update
        x = samples.x[row]
        product = _short_dot(weight, x) if features < _SHORT else _dot(weight, x)
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
        stand = _leave(update, loss, theta, gradient, network.places, span, kept, stand)
        if stand.is_over:
            return update + 1, stand.kept, True
    return span.updates, stand.kept, stand.suspicion and span.is_looking


@_inlined
def _begin(span: Span) -> _Stand:
    next_kept = min(span.keep_start, span.updates - 1) if span.keep_last else span.keep_start
    return _Stand(0, next_kept, span.look_start if span.is_looking else 0, span.suspicion, False)


@_inlined
def _end_update(
    update: int, total: Number, count: int, network: Network, state: State, gradient: Array, lrs: Array, rule: Rule,
    span: Span, kept: Kept, stand: _Stand,
) -> _Stand:  # fmt: skip
    outputs = network.layers[-1, 1]
    _step(network.layers, state, gradient, lrs[0 if len(lrs) == 1 else update], rule)
    loss = total / state.theta.dtype.type(count * outputs)
    return _leave(update, loss, state.theta, gradient, network.places, span, kept, stand)


@_inlined
def _leave(
    update: int, loss: Number, theta: Array, gradient: Array, places: Array, span: Span, kept: Kept, stand: _Stand
) -> _Stand:
    """Keep what is asked for of an update, and look."""
    count, next_kept, next_look, suspicion, is_over = stand
    if update == next_kept:
        kept.losses[min(count, len(kept.losses) - 1)] = loss
        if kept.parameters.shape[0] > 0:
            _scatter(theta, places, kept.parameters[count])
        if kept.gradients.shape[0] > 0:
            _scatter(gradient, places, kept.gradients[count])
        count += 1
        next_kept += span.keep_every
        if span.keep_last:
            next_kept = min(next_kept, span.updates - 1)
        if not loss <= span.bound:  # nan is beyond, too
            suspicion = True
    if update + 1 == next_look:
        is_over = suspicion
        next_look += span.look_every
    return _Stand(count, next_kept, next_look, suspicion, is_over)


@_inlined
def _scatter(numbers: Array, places: Array, into: Array) -> None:
    if len(places) == 0:
        for p in range(len(numbers)):
            into[p] = numbers[p]
    else:
        for p in range(len(numbers)):
            into[places[p]] = numbers[p]


def choose_loss(forms: list[_LossForm], place: int = 0) -> _LossForm:
    """Return what compiled code calls with an error, the place of a loss and delta, to ask the form in that place.

    Args:
        forms: From an error and delta to the loss and its slope.
        place: Of the first form that can be meant.
    """
    form = _inlined(forms[place])
    if place == len(forms) - 1:
        return _inlined(lambda error, loss, delta: form(error, delta))
    others = choose_loss(forms, place + 1)

    @_inlined
    def chosen(error: Number, loss: int, delta: Number) -> tuple[Number, Number]:
        if loss == place:
            return form(error, delta)
        return others(error, loss, delta)

    return chosen


loss_of = choose_loss([forms.value_and_slope for forms in LOSSES.values()])
"""From an error, the place of a loss and delta to the loss of an element and its derivative by the prediction."""


@_inlined
def _step(layers: Array, state: State, gradient: Array, lr: Number, rule: Rule) -> None:
    """Add the derivative of the l1 penalty to the gradient, and step as torch's SGD does."""
    theta, velocity, number = state.theta, state.velocity, state.theta.dtype.type
    if rule.l1 != 0:
        l1 = number(rule.l1)
        for layer in range(len(layers)):
            for p in range(layers[layer, 2], layers[layer, 2] + layers[layer, 0] * layers[layer, 1]):
                gradient[p] += l1 if theta[p] > 0 else -l1 if theta[p] < 0 else number(0)
    if rule.momentum == 0 and rule.weight_decay == 0:
        _add_scaled(theta, -lr, gradient)
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
def _dot(a: Array, b: Array) -> Number:
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_inlined
def _short_dot(a: Array, b: Array) -> Number:
    """Return a product of few numbers: where the next step waits for it, four sums side by side take less time."""
    first = second = third = fourth = a.dtype.type(0)
    whole = len(a) // 4 * 4
    for i in range(0, whole, 4):
        first += a[i] * b[i]
        second += a[i + 1] * b[i + 1]
        third += a[i + 2] * b[i + 2]
        fourth += a[i + 3] * b[i + 3]
    for i in range(whole, len(a)):
        first += a[i] * b[i]
    return (first + second) + (third + fourth)


@_inlined
def _add_scaled(a: Array, scale: Number, b: Array) -> None:
    for i in range(len(a)):
        a[i] += scale * b[i]


@_leaf
def _add_linear(
    samples: Samples, start: int, stop: int, count: int, theta: Array, gradient: Array, rule: Rule
) -> Number:
    """Add a linear network's gradient over some of a batch of ``count`` samples; returns their summed loss."""
    number, features, outputs = theta.dtype.type, samples.x.shape[1], samples.y.shape[1]
    if features == 1 and outputs == 1:
        return _add_line(samples, start, stop, count, theta, gradient, rule)
    is_shuffled, has_bias, bias = len(samples.rows) > 0, len(theta) > features * outputs, features * outputs
    total, delta, share = number(0), number(rule.huber_delta), number(1) / number(count * outputs)
    for sample in range(start, stop):
        row = samples.rows[sample] if is_shuffled else sample
        x = samples.x[row]
        for k in range(outputs):
            begin, end = k * features, (k + 1) * features
            prediction = _dot(theta[begin:end], x)
            if has_bias:
                prediction += theta[bias + k]
            loss, slope = loss_of(prediction - samples.y[row, k], rule.loss, delta)
            total += loss
            slope *= share
            _add_scaled(gradient[begin:end], slope, x)
            if has_bias:
                gradient[bias + k] += slope
    return total


@_summing
def _add_line(samples: Samples, start: int, stop: int, count: int, theta: Array, gradient: Array, rule: Rule) -> Number:
    """Do the same for a straight line: many samples at a time."""
    number, is_shuffled, has_bias = theta.dtype.type, len(samples.rows) > 0, len(theta) > 1
    weight, bias, delta = theta[0], theta[1] if has_bias else number(0), number(rule.huber_delta)
    total = of_weight = of_bias = number(0)
    for sample in range(start, stop):
        row = samples.rows[sample] if is_shuffled else sample
        feature = samples.x[row, 0]
        loss, slope = loss_of(weight * feature + bias - samples.y[row, 0], rule.loss, delta)
        total += loss
        of_weight += slope * feature
        of_bias += slope
    share = number(1) / number(count)
    gradient[0] += share * of_weight
    if has_bias:
        gradient[1] += share * of_bias
    return total


@_outer
def sum_losses(samples: Samples, theta: Array, rule: Rule) -> float:
    """Return the loss of a linear network, summed over samples as they lie and outputs in float64."""
    if samples.x.shape[1] == 1 and samples.y.shape[1] == 1:
        return _sum_losses_of_line(samples, theta, rule)
    return _sum_losses_of_linear(samples, theta, rule)


@_summing
def _sum_losses_of_line(samples: Samples, theta: Array, rule: Rule) -> float:
    number, total = theta.dtype.type, 0.0
    weight, bias, delta = theta[0], theta[1] if len(theta) > 1 else number(0), np.float64(rule.huber_delta)
    for row in range(len(samples.x)):
        prediction = weight * samples.x[row, 0] + bias
        total += loss_of(np.float64(prediction) - np.float64(samples.y[row, 0]), rule.loss, delta)[0]
    return total


@_leaf
def _sum_losses_of_linear(samples: Samples, theta: Array, rule: Rule) -> float:
    total, features, outputs = 0.0, samples.x.shape[1], samples.y.shape[1]
    delta, bias, has_bias = np.float64(rule.huber_delta), features * outputs, len(theta) > features * outputs
    for row in range(len(samples.x)):
        for k in range(outputs):
            prediction = _dot(theta[k * features : (k + 1) * features], samples.x[row])
            if has_bias:
                prediction += theta[bias + k]
            total += loss_of(np.float64(prediction) - np.float64(samples.y[row, k]), rule.loss, delta)[0]
    return total


@_inlined
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
            scratch.blames[last + k] = slope * share
        for layer in range(depth - 1, -1, -1):
            _backward(network, layer, theta, scratch)
    return total


@_inlined
def _row(layers: Array, at: int) -> tuple[int, ...]:
    """Return the numbers of a layer; to unpack the row itself would check its length each time."""
    return layers[at, 0], layers[at, 1], layers[at, 2], layers[at, 3], layers[at, 4], layers[at, 5], layers[at, 6]


@_inlined
def forward(network: Network, layer: int, theta: Array, scratch: Scratch) -> None:
    """From the values of a layer's inputs to those of its outputs."""
    inputs, outputs, weight, bias, unit, is_wide, activation = _row(network.layers, layer)
    above = unit + inputs
    into, out, rise = scratch.values[unit:above], scratch.values[above : above + outputs], scratch.rises[above:]
    for j in range(outputs):
        out[j] = theta[bias + j] if bias >= 0 else theta.dtype.type(0)
    if is_wide:
        for i in range(inputs):
            _add_scaled(out, into[i], theta[weight + i * outputs : weight + (i + 1) * outputs])
    else:
        for j in range(outputs):
            out[j] += _dot(theta[weight + j * inputs : weight + (j + 1) * inputs], into)
    if activation == RELU:  # the usual one has a loop of its own
        for j in range(outputs):
            rise[j] = 0 if out[j] <= 0 else 1
            out[j] = 0 if out[j] <= 0 else out[j]
    elif activation != IDENTITY:
        for j in range(outputs):
            out[j], rise[j] = _activate(out[j], activation, network.shapes[layer])


@_leaf
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


@_inlined
def _backward(network: Network, layer: int, theta: Array, scratch: Scratch) -> None:
    """Add a layer's gradient, and blame its inputs; those of the network are not to blame."""
    inputs, outputs, weight, bias, unit, is_wide, activation = _row(network.layers, layer)
    above, gradient = unit + inputs, scratch.gradient
    into, below = scratch.values[unit:above], scratch.blames[unit:above]
    rise, blame = scratch.rises[above:], scratch.blames[above : above + outputs]
    if activation != IDENTITY:
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
