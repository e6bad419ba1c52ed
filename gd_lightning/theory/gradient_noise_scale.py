"""The gradient noise scale: the batch size at which the noise of the gradient is as large as the gradient.

Source: McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018,
https://arxiv.org/abs/1812.06162, equation 2.9.
"""

from __future__ import annotations

import math

from torch import Tensor


def gradient_variance(squared_norms: Tensor, squared_norm: float) -> float:
    """Return tr(S), the trace of the covariance S of single samples' gradients.

    Args:
        squared_norms: The squared norms of the samples' gradients, shape (n,).
        squared_norm: Squared norm of the gradient of the mean loss.
    """
    return max(0.0, squared_norms.mean().item() - squared_norm)


def gradient_noise_scale(variance: float, squared_norm: float) -> float:
    """Return the simple noise scale tr(S) / |g|^2, in samples; ``inf`` where only the gradient is 0.

    It is about the critical batch size: far below it, twice the batch saves half of the updates; far above, none.

    Args:
        variance: tr(S).
        squared_norm: |g|^2, of the gradient of the mean loss.

    Example:
        >>> gradient_noise_scale(12.0, 4.0)
        3.0
    """
    if variance == 0:
        return 0.0
    return math.inf if squared_norm == 0 else variance / squared_norm
