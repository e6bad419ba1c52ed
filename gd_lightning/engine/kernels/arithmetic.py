"""Dot products, scaled sums and elementwise losses of compiled updates.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

from collections.abc import Callable

from gd_lightning.engine.compiling import inlined, summing
from gd_lightning.engine.kernels.structures import Array, Number
from gd_lightning.losses import LOSSES

SHORT = 32
"""Numbers from which on a product is computed in vector registers."""

PLACES = {name: place for place, name in enumerate(LOSSES)}
"""The numbers by which compiled code knows the losses."""

MSE = PLACES["mse"]  # the squared error has loops of its own

_LossForm = Callable[..., tuple[Number, Number]]


@summing
def dot(a: Array, b: Array) -> Number:
    """Return the dot product of two vectors; the compiler chooses the order of summation."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inlined
def short_dot(a: Array, b: Array) -> Number:
    """Return the dot product of two short vectors, by four partial sums, which shortens the dependency chain."""
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


@inlined
def layer_at(layers: Array, at: int) -> tuple[int, ...]:
    """Return a row of ``layers`` as a tuple; unpacking the array row would check its length each time."""
    return layers[at, 0], layers[at, 1], layers[at, 2], layers[at, 3], layers[at, 4], layers[at, 5], layers[at, 6]


@inlined
def first_output(layers: Array) -> int:
    """Return the first output of a network among the units of all layers."""
    at: int = layers[-1, 4] + layers[-1, 0]
    return at


@inlined
def add_scaled(a: Array, scale: Number, b: Array) -> None:
    """Add ``scale * b`` to a, in place."""
    for i in range(len(a)):
        a[i] += scale * b[i]


def choose_loss(forms: list[_LossForm], place: int = 0) -> _LossForm:
    """Return a compiled function of (error, index of the loss, delta) that evaluates the form with this index.

    Args:
        forms: Functions of (error, delta) that return the loss and its slope.
        place: Index of the first form to choose from.
    """
    form = inlined(forms[place])
    if place == len(forms) - 1:
        return inlined(lambda error, loss, delta: form(error, delta))
    others = choose_loss(forms, place + 1)

    @inlined
    def chosen(error: Number, loss: int, delta: Number) -> tuple[Number, Number]:
        if loss == place:
            return form(error, delta)
        return others(error, loss, delta)

    return chosen


loss_of = choose_loss([forms.value_and_slope for forms in LOSSES.values()])
"""From an error, the place of a loss and delta to the loss of an element and its derivative by the prediction."""
