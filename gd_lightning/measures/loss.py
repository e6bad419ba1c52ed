"""The mean loss at fixed weights, measured without side effects on the module.

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gd_lightning.random_numbers import generator_given_back


@contextmanager
def unchanged(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate a module without leaving a trace: no gradients, evaluation mode, random generators restored.

    Args:
        module: The module.
        device: The module's device, whose random generator is restored, too.
    """
    # Duplicates are not left out: that would hash each part, which takes long if the parts are metrics.
    trained = [part for _, part in module.named_modules(remove_duplicate=False) if part.training]
    devices = [device] if device.type == "cuda" else []
    with generator_given_back(devices), torch.no_grad():
        try:
            # Set without __setattr__, which looks for parameters first and takes as long as measuring a small model.
            for part in trained:
                vars(part)["training"] = False
            yield
        finally:
            for part in trained:
                vars(part)["training"] = True


def mean_loss_over(
    batches: Iterable[tuple[Tensor, Tensor]],
    predict: Callable[[Tensor], Tensor],
    summed_loss: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """Average a loss over all samples and outputs of some batches, summed in float64.

    Args:
        batches: Pairs x of shape (B, D) and y of shape (B, K); they may be empty.
        predict: Function of x that returns predictions of shape (B, K).
        summed_loss: Function of predictions and targets that returns the loss, summed over samples and outputs.

    Returns:
        The mean; nan without samples.
    """
    total, count = 0.0, 0
    for x, y in batches:
        if len(x):
            total += summed_loss(predict(x), y).item()
            count += y.numel()
    return total / count if count else float("nan")
