"""Early stopping of an estimator, at the weights with the lowest loss."""

from __future__ import annotations

import math

from torch import Tensor, nn


class LowestLoss:
    """The lowest loss of a fit with its weights, and the epochs without progress.

    Args:
        network: The network that is trained.
        patience: Epochs without progress that end the fit.
        min_delta: The smallest decrease of the loss that counts as progress.
    """

    def __init__(self, network: nn.Module, patience: int, min_delta: float) -> None:
        self._network, self._patience, self._min_delta = network, patience, min_delta
        self._lowest, self._best, self._waited = math.inf, math.inf, 0
        self._state: dict[str, Tensor] | None = None

    def add(self, loss: float) -> bool:
        """Add the loss of an epoch; returns whether it is the lowest so far, whose weights are kept."""
        is_lowest = loss < self._lowest
        if is_lowest:
            self._lowest = loss
            self._state = {name: value.clone() for name, value in self._network.state_dict().items()}
        if loss < self._best - self._min_delta:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
        return is_lowest

    @property
    def is_over(self) -> bool:
        """Whether there was no progress for too many epochs."""
        return self._waited >= self._patience

    def restore(self) -> None:
        """Give the network the weights with the lowest loss."""
        if self._state is not None:
            self._network.load_state_dict(self._state)
