"""Options that depend on each other, resolved to their final values."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from jsonargparse import Namespace

from gd_lightning.cli.options.checks import imported
from gd_lightning.default_learning_rate import DEFAULT_LR, default_lr
from gd_lightning.errors import InputError
from gd_lightning.models import standardized_by


def settle_learning_rate(options: Namespace, given: Callable[[], Namespace], default: object) -> None:
    """Give --model.lr and --optimizer.lr the same value.

    Args:
        options: All options of a subcommand that trains; changed.
        given: Returns the options that were given in arguments, configs or the environment.
        default: The default of --model.lr.

    Raises:
        InputError: Both are given, and differ.
    """
    optimizer = options.get("optimizer")
    if optimizer is None or "lr" not in optimizer.init_args:
        return
    model_lr, optimizer_lr = given().get("model.lr"), given().get("optimizer.init_args.lr")
    if None not in (model_lr, optimizer_lr) and model_lr != optimizer_lr:
        # A config printed by --print_config also contains defaults, which are not the user's choice.
        if model_lr == default:
            model_lr = None
        elif optimizer_lr == signature(imported(optimizer.class_path)).parameters["lr"].default:
            optimizer_lr = None
    if None not in (model_lr, optimizer_lr) and model_lr != optimizer_lr:
        raise InputError(
            f"cannot use model.lr {model_lr} and optimizer.lr {optimizer_lr}, because they differ; give one of them"
        )
    lr = optimizer_lr if model_lr is None else model_lr
    lr = optimizer.init_args.lr if lr is None else lr
    options.model.lr = optimizer.init_args.lr = lr
    options.model.optimizer = plain_values(optimizer)


def settle_default_lr(options: Namespace, given: Callable[[], Namespace]) -> str:
    """Give a network its default learning rate at the batch size, which is another one where batches are small.

    Args:
        options: All options of a subcommand that trains, with standardize settled; changed.
        given: Returns the options that were given in arguments, configs or the environment.

    Returns:
        A sentence that says so; "" where it is the usual one.
    """
    data, model = options.data, options.model
    lr = default_lr(data.batch_size, bool(model.get("hidden_sizes")), data.standardize)
    if (
        lr == DEFAULT_LR
        or model.get("lr") != DEFAULT_LR
        or options.get("optimizer") is not None
        or given().get("model.lr") is not None
    ):
        return ""
    model.lr = lr
    return f"lr is {lr:g}, the default for a network at batch_size {data.batch_size}; {DEFAULT_LR:g} from 32 on"


def plain_values(chosen: Namespace | None) -> dict[str, Any] | None:
    """Return the chosen class as plain values, as stored in checkpoints."""
    return None if chosen is None else chosen.as_dict()


def settle_standardize(data: Namespace) -> None:
    """Convert the option standardize to one of its words, as in the config of a run.

    Args:
        data: The options of the data; changed.
    """
    cls = imported(data.problem.class_path)
    data.standardize = standardized_by(data.standardize, "both" if getattr(cls, "is_read", None) is True else "none")


def settle_length(trainer: Namespace, given: Callable[[], Namespace]) -> None:
    """Remove the default limit of epochs if only a number of updates or a time is given.

    Args:
        trainer: The options of the Trainer; changed.
        given: Returns the options that were given in arguments, configs or the environment.

    Raises:
        InputError: A limit of 0 leaves nothing to train.
    """
    is_limited = trainer.max_steps != -1 or trainer.max_time is not None
    if is_limited and given().get("trainer.max_epochs") is None:
        trainer.max_epochs = -1
    for name in ("max_epochs", "max_steps"):
        if trainer[name] == 0:
            raise InputError(f"cannot train with trainer.{name} 0; use 1 or more")
