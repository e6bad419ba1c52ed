"""The gradient of the mean loss at fixed weights.

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn


def gradient_norm_over(
    batches: Iterable[tuple[Tensor, Tensor]],
    predict: Callable[[Tensor], Tensor],
    summed_loss: Callable[[Tensor, Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
) -> float:
    """Return the Euclidean norm of the gradient of a loss that is a mean over all samples and outputs of some batches.

    The gradients of the batches are summed in float64; the ``grad`` of the parameters is not changed.

    Args:
        batches: Pairs x of shape (B, D) and y of shape (B, K); they may be empty.
        predict: Function of x that returns predictions of shape (B, K).
        summed_loss: Function of predictions and targets that returns the loss, summed over samples and outputs.
        parameters: The parameters of the gradient; frozen ones are left out.

    Returns:
        The norm; nan without samples.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for gradient, outputs in _gradients(batches, predict, summed_loss, parameters):
        total, count = total + gradient, count + outputs
    return float(total.norm()) / count if count else math.nan


def gradient_variance_over(
    batches: Iterable[tuple[Tensor, Tensor]],
    predict: Callable[[Tensor], Tensor],
    summed_loss: Callable[[Tensor, Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
) -> float:
    """Return the variance of the batch gradient over batches, at one set of weights.

    It is the mean of |g_b - g|^2 over the samples, where g_b is the gradient of the batch of a sample, and g that of
    all samples; for batches of equal size it is the mean over batches. It is the trace of the covariance of the
    gradient, see McCandlish et al., An Empirical Model of Large-Batch Training (2018),
    https://arxiv.org/abs/1812.06162. An update of SGD is lr g_b, so its variance is lr^2 times this one. Source of the
    recurrence: West, Updating Mean and Variance Estimates: An Improved Method, Communications of the ACM 22 (1979),
    https://doi.org/10.1145/359146.359153.

    Args:
        batches: See :func:`gradient_norm_over`.
        predict: See :func:`gradient_norm_over`.
        summed_loss: See :func:`gradient_norm_over`.
        parameters: See :func:`gradient_norm_over`.

    Returns:
        The variance; 0 for a single batch, nan without batches.
    """
    mean, scatter, count = torch.zeros((), dtype=torch.float64), 0.0, 0
    for total, outputs in _gradients(batches, predict, summed_loss, parameters):
        count += outputs
        away = total / outputs - mean
        mean = mean + away * (outputs / count)
        scatter += outputs * float((away * (total / outputs - mean)).sum())
    return scatter / count if count else math.nan


def _gradients(
    batches: Iterable[tuple[Tensor, Tensor]],
    predict: Callable[[Tensor], Tensor],
    summed_loss: Callable[[Tensor, Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
) -> Iterator[tuple[Tensor, int]]:
    """Yield the gradient of the summed loss of each batch, shape (P,), float64, and the number of summed outputs."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for x, y in batches:
        if len(x):
            parts = torch.autograd.grad(summed_loss(predict(x), y), trained, allow_unused=True)
            pairs = zip(parts, trained, strict=True)
            flat = [torch.zeros_like(p) if part is None else part for part, p in pairs]
            yield torch.cat([part.detach().double().flatten() for part in flat]), y.numel()
