"""What compiled updates are given and what they leave: arrays and numbers alone, in named tuples.

All arrays are C-contiguous and as wide as the run's precision.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]
Number = Any  # of the run's precision


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
    number of theta lies in what is saved; shape (0,): where it does in theta.
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
    save_start: int
    save_every: int
    save_last: bool
    is_checked: bool
    check_start: int
    check_every: int
    bound: float
    suspected: bool


class Epochs(NamedTuple):
    """How many updates and rows an epoch has, and what happens at the ends of epochs within.

    ``measured``, float64, shape (E - 1,), receives the train loss there; (0,): nobody asks. The updates end where it is
    at most ``low``, or not at most ``high``, or where the last batch loss is not finite.
    """

    per_epoch: int
    samples: int
    measured: Array
    low: float
    high: float


class Saved(NamedTuple):
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
    derivatives: Array
    deltas: Array
