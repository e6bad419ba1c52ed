"""The losses, each defined once, and a check that predictions and targets have the same shape (layer 0).

Letters: B samples, K outputs. All losses are means over samples and outputs; the squared error has no factor 1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gd_lightning.errors import InputError, ShapeError
from gd_lightning.float64 import in_float64

Loss = Literal["mse", "mae", "huber"]

HUBER_DELTA = 1.0
"""The default of ``huber_delta``: errors above it count linearly."""


@dataclass(frozen=True)
class LossForms:
    """Everything that is known of one loss; ``delta`` is the option ``huber_delta``, which other losses ignore.

    To add a loss, add its name to ``Loss`` and its forms to ``LOSSES``: every engine then trains it, ``plan`` takes
    its curvature by differentiating ``elementwise`` twice, and ``compare`` and ``sweep`` take it like any other.

    Args:
        elementwise: Returns the loss of each element for predictions and targets of one shape, and delta;
            torch must be able to differentiate it twice.
        slope: Returns the derivative of each element's loss by its prediction, for errors, prediction - target, and
            delta, in the shape of the errors.
        value_and_slope: Returns the loss and the slope of one element, as numbers of the error's type. It is compiled
            by Numba, and may use ``abs``, comparisons and the module ``math``.
        is_squared_error: Whether the exact theory of least squares holds for it.
        curvature: A sentence of a plan about the curvature of the loss; empty if there is none.
        degree: With errors, and delta, a times as large, the loss is a**degree times as large.
    """

    elementwise: Callable[[Tensor, Tensor, float], Tensor]
    slope: Callable[[Tensor, float], Tensor]
    value_and_slope: Callable[[Any, Any], tuple[Any, Any]]
    is_squared_error: bool = False
    curvature: str = ""
    degree: int = 2


def _squared(error: Any, delta: Any) -> tuple[Any, Any]:
    return error * error, error + error


def _absolute(error: Any, delta: Any) -> tuple[Any, Any]:
    number = type(error)
    return abs(error), number(1) if error > 0 else number(-1) if error < 0 else number(0)


def _huber(error: Any, delta: Any) -> tuple[Any, Any]:
    half = type(error)(0.5)
    if abs(error) < delta:
        return half * error * error, error
    return delta * (abs(error) - half * delta), delta if error >= delta else -delta if error <= -delta else error


def _huber_of_tensors(prediction: Tensor, target: Tensor, delta: float) -> Tensor:
    return F.huber_loss(prediction, target, reduction="none", delta=_within_precision(delta, prediction))


def _slope_of_huber(error: Tensor, delta: float) -> Tensor:
    bound = _within_precision(delta, error)
    return error.clamp(-bound, bound)


def _within_precision(delta: float, values: Tensor) -> float:
    """Return delta as torch takes it; from the end of the precision on, the loss is quadratic whatever the error."""
    return min(delta, torch.finfo(values.dtype).max)


LOSSES: dict[str, LossForms] = {
    "mse": LossForms(
        elementwise=lambda prediction, target, delta: F.mse_loss(prediction, target, reduction="none"),
        slope=lambda error, delta: error + error,
        value_and_slope=_squared,
        is_squared_error=True,
    ),
    "mae": LossForms(
        elementwise=lambda prediction, target, delta: F.l1_loss(prediction, target, reduction="none"),
        slope=lambda error, delta: error.sign(),
        value_and_slope=_absolute,
        degree=1,
        curvature="mae has no curvature but that of the network: its gradient stays large to the end.",
    ),
    "huber": LossForms(
        elementwise=_huber_of_tensors,
        slope=_slope_of_huber,
        value_and_slope=_huber,
        curvature="huber has no curvature beyond huber_delta: the sharpness grows as samples come closer.",
    ),
}
"""The forms of each loss by its name; compiled code knows those that are here when it is loaded."""


def forms_of(loss: str) -> LossForms:
    """Return the forms of a loss.

    Args:
        loss: Name of the loss.

    Raises:
        InputError: No loss has this name.
    """
    if loss not in LOSSES:
        raise InputError(f"loss {loss!r} is unknown; use one of {', '.join(LOSSES)}")
    return LOSSES[loss]


def check_prediction(prediction: object) -> None:
    """Refuse what a network returns instead of its predictions.

    Raises:
        ShapeError: The prediction is not a tensor.
        InputError: The numbers of the prediction are complex, sparse, or missing.
    """
    if not isinstance(prediction, Tensor):
        raise ShapeError(
            f"cannot use what the network returns, because it is a {type(prediction).__name__}; return the tensor of "
            "predictions, of shape (B, K), alone"
        )
    if prediction.is_complex():
        raise InputError("cannot use complex predictions, because a loss is one of real numbers; take their real part")
    if prediction.layout is not torch.strided or prediction.is_meta:
        raise InputError(
            "cannot use predictions that are sparse, or on the device meta, because a loss needs all of their values; "
            "make them a dense tensor on the device of the features"
        )


def check_shapes(prediction: Tensor, target: Tensor) -> None:
    """Refuse predictions and targets that torch would silently broadcast against each other.

    Args:
        prediction: Predictions, shape (B, K).
        target: Targets, shape (B, K).

    Raises:
        ShapeError: The shapes differ or are not (B, K); the message shows both.
    """
    check_prediction(prediction)
    if prediction.shape != target.shape or prediction.ndim != 2:
        raise ShapeError(
            f"predictions of shape {tuple(prediction.shape)} cannot be compared with targets of shape "
            f"{tuple(target.shape)}, because both must be (B, K); reshape the targets with y.reshape(-1, 1) "
            "or change the outputs of the network"
        )


def summed_loss(prediction: Tensor, target: Tensor, loss: Loss = "mse", huber_delta: float = HUBER_DELTA) -> Tensor:
    """Sum the loss over samples and outputs.

    A sum, unlike a mean, is exact however the samples of an update are split into parts, an empty part included:
    the sums of the parts add up.

    With e = prediction - target, an element contributes e^2 (``mse``), abs(e) (``mae``), or e^2 / 2 where abs(e) <
    delta and delta (abs(e) - delta / 2) elsewhere (``huber``; source: Huber, Robust estimation of a location parameter,
    Ann. Math. Statist. 35 (1964), https://doi.org/10.1214/aoms/1177703732).

    Args:
        prediction: Predictions, shape (B, K).
        target: Targets, shape (B, K).
        loss: Name of the loss.
        huber_delta: Error at which the Huber loss turns from squared to linear, in units of the targets.

    Returns:
        A scalar tensor.

    Raises:
        ShapeError: The shapes differ.
        InputError: The loss is unknown.
    """
    check_shapes(prediction, target)
    return forms_of(loss).elementwise(prediction, target, huber_delta).sum()


def summed_loss_in_units(
    prediction: Tensor, target: Tensor, scale: Tensor, loss: Loss = "mse", huber_delta: float = HUBER_DELTA
) -> Tensor:
    """Sum the loss of standardised predictions and targets in the units of the targets, for reports; no gradient.

    Where an error e of target k is s_k e in its units, it is the loss of the errors s_k e; that of ``huber`` becomes
    linear at ``huber_delta`` standard deviations, which is s_k times ``huber_delta`` there.

    Args:
        prediction: Predictions, standardised, shape (B, K).
        target: Targets, standardised, shape (B, K).
        scale: s, what the targets were divided by, shape (K,), float64.
        loss: Name of the loss.
        huber_delta: See :func:`summed_loss`; in units of the standardised targets.

    Returns:
        A scalar tensor, float64.

    Raises:
        ShapeError: The shapes differ.
        InputError: The loss is unknown.

    Example:
        >>> one, two = torch.tensor([[1.0, 1.0]]), torch.tensor([10.0, 2.0], dtype=torch.float64)
        >>> summed_loss_in_units(one, 0 * one, two).item()
        104.0
    """
    check_shapes(prediction, target)
    forms = forms_of(loss)
    each = in_float64(forms.elementwise(prediction, target, huber_delta))
    return (each * scale.to(each.device) ** forms.degree).sum()


def mean_loss(prediction: Tensor, target: Tensor, loss: Loss = "mse", huber_delta: float = HUBER_DELTA) -> Tensor:
    """Average the loss over samples and outputs; arguments and errors as :func:`summed_loss`.

    Example:
        >>> import torch
        >>> mean_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]])).item()
        5.0
    """
    return summed_loss(prediction, target, loss, huber_delta) / target.numel()
