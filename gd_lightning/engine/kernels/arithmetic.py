"""Sums and products of compiled updates, and the losses by their places.

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
    """Return a product of two vectors; the order of the sum is the compiler's."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inlined
def short_dot(a: Array, b: Array) -> Number:
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


@inlined
def add_scaled(a: Array, scale: Number, b: Array) -> None:
    """Add a multiple of a vector to another."""
    for i in range(len(a)):
        a[i] += scale * b[i]


def choose_loss(forms: list[_LossForm], place: int = 0) -> _LossForm:
    """Return what compiled code calls with an error, the place of a loss and delta, to ask the form in that place.

    Args:
        forms: From an error and delta to the loss and its slope.
        place: Of the first form that can be meant.
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
