"""The gradient of the mean loss at one set of weights.

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def gradient_norm_over(
    batches: Iterable[tuple[Tensor, Tensor]],
    predict: Callable[[Tensor], Tensor],
    summed_loss: Callable[[Tensor, Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
) -> float:
    """Return the Euclidean norm of the gradient of a loss that is a mean over all samples and outputs of some batches.

    The gradients of the batches are summed in float64; the ``grad`` of the parameters is left alone.

    Args:
        batches: Pairs x of shape (B, D) and y of shape (B, K); empty ones are fine.
        predict: From x to predictions of shape (B, K).
        summed_loss: From predictions and targets to the sum of the loss over samples and outputs.
        parameters: All that the norm is taken over; frozen ones are left out.

    Returns:
        The norm; nan where there are no samples.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    totals = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in trained]
    count = 0
    for x, y in batches:
        if len(x):
            gradients = torch.autograd.grad(summed_loss(predict(x), y), trained, allow_unused=True)
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total += gradient
            count += y.numel()
    return math.hypot(*(float(total.norm()) for total in totals)) / count if count else math.nan
