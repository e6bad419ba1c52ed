"""A trial of optimiser and scheduler on a single weight, so that a long run does not fail after hours (layer 4)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gd_lightning.engine import is_beyond_precision
from gd_lightning.errors import InputError, first_line
from gd_lightning.module.regression import RegressionModule

_MOST_EPOCHS = 1000


def make_trial_step(hparams: Mapping[str, Any], epochs: float) -> None:
    """Make an update on a single weight, and step the scheduler through the epochs.

    The module's own SGD without a scheduler is not tried, since the module has checked all of its options.

    Args:
        hparams: Hyperparameters of a RegressionModule, of which ``lr``, ``optimizer`` and ``lr_scheduler`` are tried.
        epochs: Maximum number of epochs of the run; the scheduler is stepped through the first thousand.

    Raises:
        InputError: The optimiser or the scheduler fails, or the learning rate becomes infinite or nan.
    """
    options = {name: hparams[name] for name in ("lr", "optimizer", "lr_scheduler")}
    if options["optimizer"] is None and options["lr_scheduler"] is None:
        return
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            epoch = _first_without_finite_lr(options, math.ceil(min(epochs, _MOST_EPOCHS)))
    except InputError:
        raise
    except Exception as error:
        if is_beyond_precision(error):
            return  # with these options the run diverges
        named = options["lr_scheduler"] or options["optimizer"] or {"class_path": "SGD"}
        name = str(named["class_path"]).rpartition(".")[2]
        raise InputError(f"cannot train with these options of {name}: {first_line(error)}; change them") from error
    if epoch is not None:
        raise InputError(
            f"cannot train with this lr_scheduler, because the learning rate is not finite after epoch {epoch}; "
            "change its options"
        )


def _first_without_finite_lr(options: dict[str, Any], epochs: int) -> int | None:
    module = RegressionModule(**options, initialization="zero", bias=False, in_features=1, out_features=1)
    module.configure_model()
    made: Any = module.configure_optimizers()
    optimizer, scheduler = (
        (made["optimizer"], made["lr_scheduler"]["scheduler"]) if isinstance(made, dict) else (made, None)
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = (module(torch.ones(1, 1)) - 1).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    for epoch in range(1, epochs + 1):
        if scheduler is None:
            break
        scheduler.step(1.0) if isinstance(scheduler, ReduceLROnPlateau) else scheduler.step()
        if not all(math.isfinite(group["lr"]) for group in optimizer.param_groups):
            return epoch
    return None
