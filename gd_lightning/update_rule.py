"""How torch's SGD moves the parameters in an update, as one value (layer 0)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class UpdateRule:
    """The settings of torch's SGD, and the L1 penalty that a module adds to its loss.

    With the gradient g of the loss and the penalties, v <- mu v + g, and theta <- theta - lr v, or with Nesterov's
    momentum theta <- theta - lr (g + mu v).

    Args:
        lr: The learning rate; nan where a statement is about all learning rates.
        momentum: mu, from 0 to below 1.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: Factor of a parameter that is added to its gradient.
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


PLAIN = UpdateRule()
"""Without momentum and penalties."""
