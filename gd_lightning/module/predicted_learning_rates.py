"""The learning rates of a run that a scheduler changes, stepped ahead without training (layer 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gd_lightning.errors import InputError
from gd_lightning.module.regression import RegressionModule
from gd_lightning.module.schedulers_in_chunks import changes_more_than_lr
from gd_lightning.torch_internals import note_step
from gd_lightning.update_rule import UpdateRule

_OF_PLAIN_SGD = {"dampening": 0, "maximize": False}


@dataclass(frozen=True)
class SteppedRates:
    """The learning rates that the scheduler of a module gives the updates of a run.

    It is stepped as by Lightning: after every epoch, or after every update where ``interval`` is ``step``.

    Args:
        module: The module whose ``configure_optimizers`` makes SGD with a scheduler.
    """

    module: RegressionModule

    def __call__(self, lr: float, per_epoch: int, epochs: int) -> Tensor:
        """Return the learning rates of a run that is configured with lr.

        Args:
            lr: The learning rate of the module.
            per_epoch: Updates of an epoch.
            epochs: Epochs of the run.

        Returns:
            Shape (epochs, per_epoch); (epochs, 1) where they are constant within an epoch.

        Raises:
            InputError: The scheduler cannot be stepped so often.
        """
        optimizer, config = self._made(lr)
        note_step(optimizer)
        by_step, frequency = config["interval"] == "step", config["frequency"]
        rates, group = torch.empty(epochs, per_epoch if by_step else 1, dtype=torch.float64), optimizer.param_groups[0]
        for epoch in range(epochs):
            for update in range(rates.shape[1]):
                rates[epoch, update] = group["lr"]
                done = (update if by_step else epoch) + 1
                is_last = epoch == epochs - 1 and update == rates.shape[1] - 1
                if done % frequency == 0 and not is_last:
                    self._step(config["scheduler"], epoch)
        return rates

    def _made(self, lr: float) -> tuple[Optimizer, Mapping[str, Any]]:
        """Return an optimiser and the configuration of its scheduler, at another learning rate of the module."""
        configured = self.module.hparams["lr"]
        self.module.hparams["lr"] = lr
        try:
            made: Any = self.module.configure_optimizers()
        finally:
            self.module.hparams["lr"] = configured
        return made["optimizer"], {"interval": "epoch", "frequency": 1, **made["lr_scheduler"]}

    def _step(self, scheduler: Any, epoch: int) -> None:
        try:
            scheduler.step()
        except ValueError as error:  # for example beyond the total_steps of OneCycleLR
            raise InputError(
                f"cannot predict the outcome, because {type(scheduler).__name__} has no learning rate after epoch "
                f"{epoch + 1}; use as many epochs as it is made for"
            ) from error


def stepped_rates(module: RegressionModule) -> SteppedRates | None:
    """Return the learning rates of a module with a scheduler; None without one.

    Raises:
        InputError: The updates are not those of torch's SGD with the options of the module, or its scheduler cannot be
            stepped ahead.
    """
    try:
        made: Any = module.configure_optimizers()
    except RuntimeError:  # a subclass may need a Trainer for its optimiser
        made = None
    if not isinstance(made, Mapping):
        made = {"optimizer": made}
    rule, optimizer, config = UpdateRule.of(module.hparams), made.get("optimizer"), made.get("lr_scheduler")
    expected = {name: getattr(rule, name) for name in ("momentum", "nesterov", "weight_decay")} | _OF_PLAIN_SGD
    groups = optimizer.param_groups if type(optimizer) is SGD else [{}]
    if len(groups) != 1 or any(groups[0].get(name) != value for name, value in expected.items()):
        raise InputError(
            "cannot predict these updates, because they are not those of SGD with the options of the module; use its "
            "momentum, nesterov and weight_decay, and a scheduler that leaves them as they are (cycle_momentum false)"
        )
    if config is None:
        return None
    scheduler = config.get("scheduler") if isinstance(config, Mapping) else None
    if scheduler is None or isinstance(scheduler, ReduceLROnPlateau) or changes_more_than_lr(scheduler):
        raise InputError(
            f"cannot predict the learning rates of {type(scheduler).__name__}, because it depends on losses, changes "
            "more than the learning rate, or is not one of torch's; use another lr_scheduler, such as StepLR"
        )
    return SteppedRates(module)
