"""Checks of options that Lightning would misuse silently, or refuse only after a run has begun."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace

from gd_lightning.cli.options.jsonargparse_errors import in_words
from gd_lightning.cli.options.jsonargparse_internals import actions_of, type_of
from gd_lightning.errors import InputError
from gd_lightning.module.trainer_options import check_limits

_LARGEST_SEED = 2**32 - 1
# Class names of callbacks that would override batch_size or model.lr, and what they would do.
_CALLBACKS = {
    "GradientAccumulationScheduler": "batch_size would no longer be the samples per update; give data.batch_size",
    "BatchSizeFinder": "batch_size is the algorithm, not a matter of memory; give data.batch_size",
    "Timer": "its options cannot be saved in a config; give trainer.max_time",
    "LearningRateFinder": "the learning rate that it finds is far from a good one here; give model.lr",
}
# Subcommands whose result is that of all samples, and the option of each that would leave some out.
_JUDGED = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}


def refuse_nonsense(config: Namespace) -> None:
    """Check the options of a subcommand.

    Args:
        config: The parsed options.

    Raises:
        InputError: An option is invalid.
    """
    seed = config["seed_everything"]
    if isinstance(seed, bool) or not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"cannot use {_typed(seed)} as seed_everything; use a whole number from 0 to {_LARGEST_SEED}")
    optimizer = config["optimizer"]
    if optimizer is not None and not isinstance(optimizer.get("init_args.lr", 0.0), float):
        raise InputError("cannot use null as optimizer.lr; give a number, or leave it out")
    _check_trainer(config["trainer"])


def leave_sizes_open(model: Namespace) -> None:
    """Remove D and K, which the data determine, from the arguments of a network that has no type hints.

    jsonargparse sets parameters without type hints to null.

    Args:
        model: The parsed options of the module; changed.

    Raises:
        InputError: The user has given one of them.
    """
    network = model.network
    arguments = network.get("init_args") if isinstance(network, Namespace) else None
    if not arguments:
        return
    cls = imported(network.class_path)
    for parameter in list(signature(cls).parameters.values())[:2] if isinstance(cls, type) else ():
        is_open = parameter.default is parameter.annotation is Parameter.empty
        if is_open and arguments.pop(parameter.name, None) is not None:
            raise InputError(
                f"cannot use {parameter.name} of model.network, because the data determine it; leave it out"
            )


def imported(path: str) -> Any:
    """Return the object at an import path, in modules that are already imported; None if there is none."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:end]))
        if found is not None:
            for name in parts[end:]:
                found = getattr(found, name, None)
            return found
    return None


def repeated(arguments: Sequence[str]) -> list[str]:
    """Return the options that are given twice with different values, of which argparse uses only the last one.

    Args:
        arguments: The arguments after the subcommand. --config, which may be repeated, and options of the elements of a
            list are not counted.

    Example:
        >>> repeated(["--model.lr", "0.1", "--data.seed=1", "--model.lr=0.2", "--data.seed", "1"])
        ['--model.lr']
    """
    values: dict[str, str] = {}
    found, lists = list[str](), tuple[str, ...]()
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, has_value, value = argument.partition("=")
        name = name.replace(".init_args.", ".")
        if not name.startswith("--") or name == "--config" or name.startswith(lists):
            continue
        if name.endswith("+"):
            lists = (*lists, name[:-1])
        value = value if has_value else following
        if values.setdefault(name, value) != value and not name.endswith("+"):
            found.append(name)
    return list(dict.fromkeys(found))


def refuse_parts_of_samples(stage: str, trainer: Mapping[str, Any]) -> None:
    """Refuse Trainer options that leave out samples, for subcommands whose results are for all samples.

    Args:
        stage: The subcommand.
        trainer: The options of its Trainer.

    Raises:
        InputError: An option leaves out samples.
    """
    if stage in _JUDGED:
        for name in (_JUDGED[stage], "overfit_batches", "fast_dev_run"):
            if _leaves_out(name, trainer[name]):
                raise InputError(
                    f"cannot {stage} with trainer.{name} {_typed(trainer[name])}, because the result is that of all "
                    "samples; leave it out"
                )
        return
    for name in ("limit_train_batches", "overfit_batches"):
        if _leaves_out(name, trainer[name]):
            raise InputError(
                f"cannot train with trainer.{name} {trainer[name]}, because an epoch would no longer contain all "
                "training samples; hold samples out with data.test_size instead"
            )
    value = trainer["limit_val_batches"]
    if value != 0 and _leaves_out("limit_val_batches", value):
        raise InputError(
            f"cannot train with trainer.limit_val_batches {value}, because val_loss is that of all held-out samples; "
            "leave it out, or give 0 for no validation"
        )


def _leaves_out(name: str, value: object) -> bool:
    """Whether an option leaves out samples: a limit of 1.0 means all samples, a limit of 1 one batch."""
    if name.startswith("limit_"):
        return not (value is None or (isinstance(value, float) and value == 1.0))
    return bool(value)


def refuse_null(parser: ArgumentParser, values: Namespace | Mapping[str, Any], prefix: str = "") -> None:
    """Refuse null for options that need a value, which jsonargparse accepts in a config.

    Args:
        parser: The parser of the options.
        values: The parsed options.
        prefix: Prefix of the names of the options in messages.

    Raises:
        InputError: An option that needs a value is null.
    """
    for action in actions_of(parser):
        hint = type_of(action)
        if hint is None or action.default is None or action.dest not in values or values[action.dest] is not None:
            continue
        if type(None) not in get_args(hint):
            raise InputError(f"cannot use null as {prefix}{action.dest}; give {in_words(str(hint))}")


def refuse_unknown_variables(stage: str, options: Iterable[str], environment: Iterable[str]) -> None:
    """Refuse environment variables that have the prefix of a subcommand's options, but name no option.

    Args:
        stage: The subcommand.
        options: The names of its options.
        environment: The names of all variables.

    Raises:
        InputError: A variable names no option.
    """
    prefix = f"PL_{stage.upper()}__"
    known = {prefix + option.upper().replace(".", "__") for option in options}
    for name in environment:
        if name.startswith(prefix) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"see {stage} --help for the options"
            raise InputError(f"there is no option for the environment variable {name}; {hint}")


def _check_trainer(trainer: Namespace) -> None:
    if trainer.max_epochs is None:
        raise InputError(
            "cannot use null as trainer.max_epochs, because the run would have no end; give a number of epochs, or -1 "
            "for no limit"
        )
    check_limits(vars(trainer))
    profiler = getattr(trainer.profiler, "class_path", trainer.profiler)
    if str(profiler).rpartition(".")[2] in ("xla", "XLAProfiler") and not find_spec("torch_xla"):
        raise InputError("cannot profile with xla, because torch_xla is not installed; use simple as trainer.profiler")
    for callback in callback_classes(trainer):
        if reason := _CALLBACKS.get(callback.rpartition(".")[2]):
            raise InputError(f"cannot train with the callback {callback}, because {reason}")


def callback_classes(trainer: Namespace) -> Iterator[str]:
    """Return the class paths of the callbacks that the options of a Trainer name."""
    callbacks = trainer.callbacks if isinstance(trainer.callbacks, list) else [trainer.callbacks]
    return (str(callback.class_path) for callback in callbacks if isinstance(callback, Namespace))


def _typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
