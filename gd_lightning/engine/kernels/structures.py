"""Inputs and outputs of compiled updates: named tuples of arrays and numbers.

All arrays are C-contiguous and as wide as the run's precision.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]
Number = Any  # a number in the precision of the run


class Samples(NamedTuple):
    """Features, shape (N, D), targets, shape (N, K), and order, int64, shape (N,), or (0,) for the stored order.

    ``columns``, shape (D * N,): the features, one after the other, of all samples; shape (0,) if not there.
    """

    x: Array
    y: Array
    rows: Array
    columns: Array


class Calls(NamedTuple):
    """Addresses of compiled functions, in this process; 0 for those that are not needed."""

    activate: int = 0
    add_product: int = 0
    add_dots: int = 0
    update: int = 0
    sum_losses: int = 0
    sum_errors: int = 0


class Network(NamedTuple):
    """The layers of a network, int64, and the positions of its parameters in torch's order.

    A row of ``layers``, shape (L, 7): number of inputs and of outputs; where in theta its weight and its bias begin
    (-1: it has none); its first input among the units of all layers; whether its weight is transposed; its activation,
    a number above. ``shapes``, shape (L,): slope or alpha of the activations. ``places``, int64, shape (P,): where a
    number of theta lies in what is saved; shape (0,): where it does in theta.
    """

    layers: Array
    shapes: Array
    places: Array
    calls: Calls


class State(NamedTuple):
    """Parameters, (P,), first and second buffers, (P,), and the number of steps, int64, (1,); changed in place.

    The buffers are momentum or mean gradient, and mean or sum of squared gradients; (0,) if the optimiser has none.
    """

    theta: Array
    velocity: Array
    squares: Array
    steps: Array


class Rule(NamedTuple):
    """Loss (one of the numbers above), penalties, and the settings of the optimiser; see ``settings_of``."""

    loss: int
    huber_delta: float
    l1: float
    optimizer: int
    momentum: float
    nesterov: bool
    weight_decay: float
    squares_decay: float
    eps: float
    lr_decay: float
    is_decoupled: bool


class Span(NamedTuple):
    """The updates of an epoch to make, which of them are saved, and when to stop early."""

    first: int
    updates: int
    batch_size: int
    samples: int
    save_start: int
    save_every: int
    save_last: bool
    is_checked: bool
    check_start: int
    check_every: int
    bound: float
    suspected: bool


class HeldOut(NamedTuple):
    """Samples for validation, x (N, D) and y (N, K), and how many of them are a batch, whose errors are summed apart.

    ``sums``, float64, shape (E, 3 + K), receives the sums of an epoch's end in a row, see ``prediction_errors.py``; the
    last row is working memory.
    """

    x: Array
    y: Array
    batch_size: int
    sums: Array


class Epochs(NamedTuple):
    """Number of updates and rows per epoch, and what is measured at the ends of epochs.

    ``measured``, float64, shape (E - 1,), receives the train loss there; shape (0,) if not requested. The updates end
    where it is at most ``low``, or not at most ``high``, or where the last batch loss is not finite. ``held_out``
    has E rows of sums, or (0, 3 + K) if not requested.
    """

    per_epoch: int
    samples: int
    measured: Array
    low: float
    high: float
    held_out: HeldOut


class Saved(NamedTuple):
    """Receives batch losses, shape (R,), or (1,) for the last of them alone; parameters and gradients, each (R, P).

    Parameters and gradients have the shape (0, P) if not requested.
    """

    losses: Array
    parameters: Array
    gradients: Array


class Scratch(NamedTuple):
    """Gradient, (P,), and for each unit value, derivative of the activation, and delta (derivative of the loss).

    These are for one sample, or for a block of them; see :func:`new_scratch`. ``group``: space for the features and
    errors of a group of samples of a linear network.
    """

    gradient: Array
    values: Array
    derivatives: Array
    deltas: Array
    group: Array
