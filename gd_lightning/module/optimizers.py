"""Optimiser and scheduler of a module, from plain values (layer 4)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gd_lightning.errors import InputError, first_line
from gd_lightning.memory_checks import check_state_fits
from gd_lightning.module.options import ClassSpec
from gd_lightning.update_rule import UpdateRule


def make_optimizers(module: nn.Module, options: Mapping[str, Any]) -> OptimizerLRScheduler:
    """Make the optimiser, SGD unless another is given, and the scheduler if one is given.

    Args:
        module: The module whose parameters are trained.
        options: Hyperparameters of a :class:`~gd_lightning.RegressionModule`.

    Returns:
        The value that ``configure_optimizers`` returns.

    Raises:
        InputError: The module has no trainable parameters, or the state of the optimiser does not fit in memory.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise InputError(
            "cannot train this network, because none of its parameters is to be trained; give it parameters that "
            "require a gradient"
        )
    if (spec := options["optimizer"]) is None:
        rule = UpdateRule.of(options)  # l1 of the rule is part of the loss
        of_rule: dict[str, Any] = {"weight_decay": rule.weight_decay, "nesterov": rule.nesterov}
        make: Callable[[Any], Optimizer] = partial(SGD, lr=rule.lr, momentum=rule.momentum, **of_rule)
    else:
        given = {**spec, "init_args": {"lr": options["lr"], **spec.get("init_args", {})}}
        make = partial(_made, given, Optimizer)
    optimizer = make(parameters)
    check_state_fits(type(optimizer).__name__, parameters, make)
    if (spec := options["lr_scheduler"]) is None:
        return optimizer
    scheduler = _made_scheduler(spec, optimizer)
    config: Any = {"scheduler": scheduler}
    if hasattr(scheduler, "monitor"):
        config["monitor"] = scheduler.monitor
    return {"optimizer": optimizer, "lr_scheduler": config}


def _made_scheduler(spec: ClassSpec, optimizer: Optimizer) -> Any:
    """Make a scheduler; torch's ReduceLROnPlateau takes a monitor here, too, as Lightning's class of this name does."""
    arguments = {**spec.get("init_args", {})}
    if _class_of(spec, LRScheduler) is not ReduceLROnPlateau:
        return _made(spec, LRScheduler, optimizer)
    monitor = arguments.pop("monitor", "train_loss")
    scheduler = _made({**spec, "init_args": arguments}, LRScheduler, optimizer)
    scheduler.monitor = monitor
    return scheduler


def _made(spec: ClassSpec, base: type, first: object) -> Any:
    """Make an optimiser or a scheduler.

    Raises:
        InputError: The object cannot be made with these arguments.
    """
    kind = _class_of(spec, base)
    try:
        return kind(first, **spec.get("init_args", {}))
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"cannot train with these options of {kind.__name__}: {first_line(error)}; change them"
        ) from error


def _class_of(spec: ClassSpec, base: type) -> Any:
    """Return the class that a spec names; it is looked up, never imported, and must be a subclass of ``base``.

    A spec can come from a checkpoint, which may be untrusted.
    """
    module, _, name = str(spec.get("class_path", "")).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise InputError(f"cannot use {spec} as {base.__name__}; give class_path, an imported subclass, and init_args")
    return cls
