"""Settings and state of torch's optimisers, as compiled code takes them, and as torch keeps them.

Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

OPTIMIZERS: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop, Adagrad)
"""Known optimisers; the compiled code knows them by their places here."""

UNKNOWN_SETTINGS = ("dampening", "maximize", "differentiable", "amsgrad", "capturable", "centered")
"""Settings of these optimisers with which updates are not compiled."""


def settings_of(optimizer: Optimizer) -> tuple[int, float, bool, float, float, float, float, bool]:
    """Return the settings of an optimiser.

    Returns:
        Its place; momentum, or the decay of the mean gradient; whether the momentum is Nesterov's; weight decay; decay
        of the mean squared gradient, and 0 for their sum; what is added to its root; decay of the learning rate; and
        whether weights decay by themselves, and not through the gradient.
    """
    group, kind = optimizer.param_groups[0], OPTIMIZERS.index(type(optimizer))
    first, second = group.get("betas", (group.get("momentum", 0.0), group.get("alpha", 0.0)))
    return (
        kind,
        float(first),
        bool(group.get("nesterov", False)),
        float(group["weight_decay"]),
        float(second),
        float(group.get("eps", 0.0)),
        float(group.get("lr_decay", 0.0)),
        bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW))),
    )


def buffer_names(optimizer: Optimizer) -> tuple[str, str]:
    """Return torch's names of the first and second buffer of a parameter; "" for one that it does not have."""
    if isinstance(optimizer, (Adam, AdamW)):
        return "exp_avg", "exp_avg_sq"
    if isinstance(optimizer, Adagrad):
        return "", "sum"
    first = "momentum_buffer" if optimizer.param_groups[0]["momentum"] else ""
    return first, "square_avg" if isinstance(optimizer, RMSprop) else ""


def buffers(optimizer: Optimizer, parameters: Sequence[nn.Parameter], name: str) -> list[Tensor]:
    """Return the buffers of this name; from zeros, torch's first step comes about as well."""
    found = [optimizer.state[parameter].get(name) for parameter in parameters] if name else []
    return [
        torch.zeros_like(parameter, requires_grad=False) if buffer is None else buffer
        for parameter, buffer in zip(parameters, found, strict=bool(name))
    ]


def steps_of(optimizer: Optimizer) -> int:
    """Return the number of steps that an optimiser has made, as its state says."""
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)


def why_not_state(optimizer: Optimizer) -> str:
    """Return the reason why a state rules out compiled updates; "" if it does not."""
    if len({float(state.get("step", 0)) for state in optimizer.state.values()}) > 1:
        return "parameters have been updated different numbers of times"
    return ""


def keep_state(
    optimizer: Optimizer, parameters: Sequence[nn.Parameter], found: Sequence[Sequence[Tensor]], steps: int
) -> None:
    """Store the buffers and the number of steps where torch looks for them.

    Args:
        optimizer: The optimiser.
        parameters: Parameters of the optimiser.
        found: The first and second buffers of the parameters; none of those that it does not have.
        steps: How many steps were made.
    """
    names = buffer_names(optimizer)
    if not any(names):  # torch keeps no state for plain SGD
        return
    for at, parameter in enumerate(parameters):
        state: dict[str, Any] = optimizer.state[parameter]
        if not isinstance(optimizer, SGD):
            state["step"] = state.get("step", torch.tensor(0.0)) + steps
        # The order of the keys is that of torch, since a checkpoint keeps it.
        for name, of_parameters in sorted(
            zip(names, found, strict=True), key=lambda pair: pair[0] == "momentum_buffer"
        ):
            if name:
                state[name] = of_parameters[at]
