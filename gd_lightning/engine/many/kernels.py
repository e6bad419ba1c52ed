"""Compiled training of many runs, one after the other; importing this file imports Numba.

:func:`train` lets other Python threads run, so that each of them can train some of the members at once. Arguments are
named tuples of arrays and numbers, as in ``kernels``.

Letters: M members, O orders, E epochs, N samples, D features, K outputs, P parameters, U units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gd_lightning.engine.compiling import allocating, outer
from gd_lightning.engine.kernels import (
    LOSSES,
    SGD,
    UPDATE,
    Network,
    Rule,
    Samples,
    Saved,
    Scratch,
    Span,
    State,
)

_make_updates, _sum_losses = UPDATE.call, LOSSES.call

Array = NDArray[Any]


class Settings(NamedTuple):
    """The settings of the members, shape (M,) each.

    lr is in the precision of the runs, ``order`` an index below O, ``make_updates`` the address of a compiled function.
    """

    lr: Array
    batch_size: Array
    momentum: Array
    nesterov: Array
    weight_decay: Array
    l1: Array
    order: Array
    bound: Array
    make_updates: Array


class SharedTask(NamedTuple):
    """The samples and the loss (a number as in ``kernels``), which all members share.

    ``rows``, int64, shape (O, E, N): the rows of some epochs in each order, from ``first_epoch`` on; (O, E, 0): the
    stored order. If ``stops``, a member is checked after every ``check_every`` updates, and ends when it diverges.
    """

    x: Array
    y: Array
    rows: Array
    first_epoch: int
    drop_last: bool
    stops: bool
    check_every: int
    loss: int
    huber_delta: float


class MemberStates(NamedTuple):
    """State changed by training: parameters, (M, P), momentum buffers, (M, P) or (M, 0), train losses, and the ends.

    ``stop``, shape (1,), is set by another thread where members are to end after the epoch that they are in.
    """

    theta: Array
    velocity: Array
    losses: Array
    last: Array
    updates: Array
    diverged: Array
    stop: Array


@outer
def measure(task: SharedTask, network: Network, theta: Array, scratch: Scratch) -> float:
    """Return the train loss of a member, summed in float64.

    Args:
        task: The samples.
        network: Layers of the member.
        theta: Parameters of the member.
        scratch: Uninitialised working memory.
    """
    samples, rule = (
        Samples(task.x, task.y, task.rows[0, 0, :0], theta[:0]),
        Rule(task.loss, task.huber_delta, 0.0, SGD, 0.0, False, 0.0, 0.0, 0.0, 0.0, False),
    )
    total = _sum_losses(network.calls.sum_losses, (samples, network, theta, rule, scratch))
    mean: float = total / (task.y.shape[0] * task.y.shape[1])
    return mean


@allocating
def train(
    members: Array, task: SharedTask, network: Network, settings: Settings, states: MemberStates, scratch: Scratch
) -> None:
    """Train some members for the epochs in ``task.rows``.

    Args:
        members: Indices of the members to train.
        task: Samples, loss and limits that all members share.
        network: The layers.
        settings: The settings of all members.
        states: The state of all members; only that of the chosen ones is changed.
        scratch: Uninitialised working memory.
    """
    n, size, dtype = task.x.shape[0], states.theta.shape[1], states.theta.dtype
    nothing = np.empty((0, size), dtype)
    saved = Saved(np.empty(n, dtype), nothing, nothing)
    for m in members:
        for e in range(task.rows.shape[1]):
            if states.stop[0]:
                return
            if task.stops and states.diverged[m]:
                break
            if train_epoch(m, e, task, network, settings, states, saved, scratch):
                states.losses[m, task.first_epoch + e + 1] = states.last[m]


@allocating
def train_epoch(
    m: int,
    e: int,
    task: SharedTask,
    network: Network,
    settings: Settings,
    states: MemberStates,
    saved: Saved,
    scratch: Scratch,
) -> bool:
    """Train a member for the e-th epoch in ``task.rows``; returns whether all updates were made."""
    n, b, bound = task.x.shape[0], settings.batch_size[m], settings.bound[m]
    lr = settings.lr[m : m + 1].astype(states.theta.dtype)
    penalties = settings.l1[m], settings.weight_decay[m]
    rule = Rule(
        task.loss, task.huber_delta, penalties[0], SGD, settings.momentum[m], settings.nesterov[m], penalties[1],
        0.0, 0.0, 0.0, False,
    )  # fmt: skip
    samples = Samples(task.x, task.y, task.rows[settings.order[m], e], lr[:0])
    state = State(states.theta[m], states.velocity[m], states.velocity[m, :0], task.rows[0, 0, :0])
    updates, made, suspected = n // b if task.drop_last else (n - 1) // b + 1, 0, False
    while made < updates:
        left = updates - made
        to_check = task.check_every - states.updates[m] % task.check_every
        save_start = 0 if task.stops else left - 1
        span = Span(made, left, b, n, save_start, 1, True, task.stops, to_check, task.check_every, bound, suspected)
        count, saves, suspected = _make_updates(
            settings.make_updates[m], (samples, network, state, lr, rule, span, saved, scratch)
        )
        made += count
        states.updates[m] += count
        # The updates ended early at a check, or this is the end of the epoch.
        loss = measure(task, network, state.theta, scratch)
        states.last[m] = loss
        states.diverged[m] = not (loss <= bound and np.isfinite(saved.losses[saves - 1]))
        if task.stops and states.diverged[m]:
            break
    is_whole: bool = made == updates
    return is_whole
