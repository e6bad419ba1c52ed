"""The loss, and the guard that predictions and targets have the same shape (floor 0).

Letters: B samples, K outputs. All losses are means over samples and outputs; the squared error has no factor 1/2.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from gd_lightning.errors import InputError, ShapeError

Loss = Literal["mse", "mae", "huber"]


def check_prediction(prediction: object) -> None:
    """Refuse what a network returns instead of its predictions.

    Raises:
        ShapeError: It is no tensor.
    """
    if not isinstance(prediction, Tensor):
        raise ShapeError(
            f"cannot use what the network returns, because it is a {type(prediction).__name__}; make it the tensor of "
            "predictions, of shape (B, K), alone"
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


def summed_loss(prediction: Tensor, target: Tensor, loss: Loss = "mse", huber_delta: float = 1.0) -> Tensor:
    """Sum the loss over samples and outputs.

    A sum, unlike a mean, is exact however the samples of an update are split into parts, an empty part included:
    the sums of the parts add up.

    With e = prediction - target, an element contributes e^2 (``mse``), abs(e) (``mae``), or, as in Huber (1964),
    e^2 / 2 where abs(e) < delta and delta (abs(e) - delta / 2) elsewhere (``huber``).

    Args:
        prediction: Predictions, shape (B, K).
        target: Targets, shape (B, K).
        loss: Which loss.
        huber_delta: Where the Huber loss turns from squared to linear, in units of the targets.

    Returns:
        A scalar tensor.

    Raises:
        ShapeError: The shapes differ.
        InputError: The loss is unknown.
    """
    check_shapes(prediction, target)
    if loss == "mse":
        return F.mse_loss(prediction, target, reduction="sum")
    if loss == "mae":
        return F.l1_loss(prediction, target, reduction="sum")
    if loss == "huber":
        return F.huber_loss(prediction, target, reduction="sum", delta=huber_delta)
    raise InputError(f"loss {loss!r} is unknown; use mse, mae or huber")


def mean_loss(prediction: Tensor, target: Tensor, loss: Loss = "mse", huber_delta: float = 1.0) -> Tensor:
    """Average the loss over samples and outputs; arguments and errors as :func:`summed_loss`.

    Example:
        >>> import torch
        >>> mean_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]])).item()
        5.0
    """
    return summed_loss(prediction, target, loss, huber_delta) / target.numel()
