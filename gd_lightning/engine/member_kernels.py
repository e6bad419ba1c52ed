"""Compiled training of many runs, one after the other; importing this file imports Numba.

:func:`train` lets other Python threads run, so that each of them can train some of the members at once. Arrays and
numbers alone, in named tuples, as in ``kernels``.

Letters: M members, O orders, E epochs, N samples, D features, K outputs, P parameters, U units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gd_lightning.engine.kernels import (
    Kept,
    Network,
    Rule,
    Samples,
    Scratch,
    Span,
    State,
    allocating,
    carry_out,
    forward,
    loss_of,
)

Array = NDArray[Any]


class Settings(NamedTuple):
    """The settings of the members, shape (M,) each; lr in the precision of the runs, ``order`` a place among O."""

    lr: Array
    batch_size: Array
    momentum: Array
    nesterov: Array
    weight_decay: Array
    l1: Array
    order: Array
    bound: Array


class Lesson(NamedTuple):
    """What all members have in common: the samples, and the loss, a number as in ``kernels``.

    ``rows``, int64, shape (O, E, N): in each order the rows of some epochs, from ``first_epoch`` on; (O, E, 0): as they
    lie. Where ``stops``, a member is looked at behind every ``look_every`` updates, and ends where it diverges.
    """

    x: Array
    y: Array
    rows: Array
    first_epoch: int
    drop_last: bool
    stops: bool
    look_every: int
    loss: int
    huber_delta: float


class Stand(NamedTuple):
    """What training changes: parameters, (M, P), momentum buffers, (M, P) or (M, 0), train losses, and the ends."""

    theta: Array
    velocity: Array
    losses: Array
    last: Array
    updates: Array
    diverged: Array


@allocating
def measure(lesson: Lesson, network: Network, theta: Array, units: int) -> float:
    """Return the train loss of a member, summed in float64.

    Args:
        lesson: The samples.
        network: Its layers.
        theta: Its parameters.
        units: U.
    """
    samples, outputs, dtype = lesson.x.shape[0], lesson.y.shape[1], theta.dtype
    values, rises = np.empty(units, dtype), np.empty(units, dtype)
    scratch = Scratch(theta, values, rises, rises)
    last, delta = units - outputs, np.float64(lesson.huber_delta)
    total = 0.0
    for row in range(samples):
        for d in range(lesson.x.shape[1]):
            values[d] = lesson.x[row, d]
        for layer in range(len(network.layers)):
            forward(network, layer, theta, scratch)
        for k in range(outputs):
            total += loss_of(np.float64(values[last + k]) - np.float64(lesson.y[row, k]), lesson.loss, delta)[0]
    mean: float = total / (samples * outputs)
    return mean


@allocating
def train(members: Array, lesson: Lesson, network: Network, settings: Settings, stand: Stand, units: int) -> None:
    """Train some members for the epochs whose rows there are.

    Args:
        members: Which ones.
        lesson: What they have in common.
        network: The layers of all.
        settings: Of all members.
        stand: What is changed; the others' is left alone.
        units: U.
    """
    n, size, dtype = lesson.x.shape[0], stand.theta.shape[1], stand.theta.dtype
    nothing, lr = np.empty((0, size), dtype), np.empty(1, dtype)
    kept = Kept(np.empty(n, dtype), nothing, nothing)
    room = np.empty((3, units), dtype)
    scratch = Scratch(np.empty(size, dtype), room[0], room[1], room[2])
    for m in members:
        state, bound, b = State(stand.theta[m], stand.velocity[m]), settings.bound[m], settings.batch_size[m]
        penalties = settings.l1[m], settings.weight_decay[m]
        rule = Rule(
            lesson.loss, lesson.huber_delta, penalties[0], settings.momentum[m], settings.nesterov[m], penalties[1]
        )
        lr[0] = settings.lr[m]
        updates = n // b if lesson.drop_last else (n - 1) // b + 1
        for e in range(lesson.rows.shape[1]):
            if lesson.stops and stand.diverged[m]:
                break
            samples = Samples(lesson.x, lesson.y, lesson.rows[settings.order[m], e])
            made, suspicion = 0, False
            while made < updates:
                to_look = lesson.look_every - stand.updates[m] % lesson.look_every
                keep_start = 0 if lesson.stops else updates - made - 1
                looks = lesson.stops, to_look, lesson.look_every, bound, suspicion
                span = Span(
                    made, updates - made, b, n, keep_start, 1, True, looks[0], looks[1], looks[2], looks[3], looks[4]
                )
                count, left, suspicion = carry_out(samples, network, state, lr, rule, span, kept, scratch)
                made += count
                stand.updates[m] += count
                # It ended early at a look, or this is the end of the epoch.
                loss = measure(lesson, network, state.theta, units)
                stand.last[m] = loss
                stand.diverged[m] = not (loss <= bound and np.isfinite(kept.losses[left - 1]))
                if lesson.stops and stand.diverged[m]:
                    break
            if made == updates:
                stand.losses[m, lesson.first_epoch + e + 1] = stand.last[m]
