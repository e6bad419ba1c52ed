"""How Lightning's ``WeightAveraging``, or a subclass with its own rule, weighs the parameters after each update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gd_lightning.lightning_internals import callbacks_of, options_of_averages
from gd_lightning.module import own_method

# Maximum number of updates for which the averaging is asked whether it is due; each takes some 50 microseconds.
_MOST_UPDATES = 20_000
_HOOKS = ("setup", "on_train_batch_end", "on_train_epoch_end", "on_train_end", "on_load_checkpoint")
_EXACT = 1e-6  # largest difference between weights that counts as rounding


@dataclass(frozen=True)
class AverageOfRun:
    """The average that a run ends with: after update t, it moves by w_t towards the parameters.

    Args:
        weights: w_t for t = 1, 2, ...; 0 where the callback averages nothing.
    """

    weights: tuple[float, ...]

    def weight(self, update: int) -> float:
        """Return w_t, the weight of the parameters after an update, counted from 1."""
        return self.weights[update - 1]

    @classmethod
    def of(cls, trainer: Trainer, updates: int, updates_per_epoch: int) -> AverageOfRun | None:
        """Return the average that the callback of a run computes; None without one, or if it is not known in advance.

        The function that averages is tried on three numbers: what it does must be a <- a + w (theta - a).

        Args:
            trainer: The Trainer with its callbacks.
            updates: Number of updates of the run.
            updates_per_epoch: Number of updates of an epoch.
        """
        found = callbacks_of(trainer, WeightAveraging)
        if len(found) != 1 or updates > _MOST_UPDATES or own_method(found[0], WeightAveraging, _HOOKS):
            return None
        (callback,), weights = found, list[float]()
        newest = nn.ParameterList([torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)])
        average = AveragedModel(newest, **options_of_averages(callback))
        for update in range(1, updates + 1):
            epoch, kept = update // updates_per_epoch - 1, 1.0
            is_due = callback.should_update(step_idx=update - 1)
            is_due_at_end = update % updates_per_epoch == 0 and callback.should_update(epoch_idx=epoch)
            for _ in filter(None, (is_due, is_due_at_end)):
                if (weight := _weight(average, newest)) is None:
                    return None
                kept *= 1 - weight
            weights.append(1 - kept)
        return cls(tuple(weights))


def _weight(average: AveragedModel, newest: nn.ParameterList) -> float | None:
    """Return the weight of the newest parameters at the next average, tried on three numbers; None if it is no such."""
    (numbers,), before = average.module.parameters(), torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64)
    with torch.no_grad():
        numbers.copy_(before)
        average.update_parameters(newest)
        after = numbers.detach()
    weight = after[0].item()
    expected = before + weight * (newest[0].detach() - before)
    return weight if (after - expected).abs().max() <= _EXACT else None
