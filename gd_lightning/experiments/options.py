"""Options of data, model and Trainer by their names alone, as fit, plan, compare and sweep take them in Python."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from lightning.pytorch import Trainer

from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.data import RegressionDataModule
from gd_lightning.default_learning_rate import default_lr
from gd_lightning.errors import InputError, first_line
from gd_lightning.float64 import precision_of_run
from gd_lightning.module import RegressionModule
from gd_lightning.module.library_errors import GivenClasses
from gd_lightning.module.options import PACKAGES, class_spec
from gd_lightning.module.trainer_options import check_trainer_options
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems import Problem, ProblemLike, SteepLine, as_problem
from gd_lightning.random_numbers import own_generator
from gd_lightning.similar_options import similar_option
from gd_lightning.threads import one_thread_if_forked

TRAINER_DEFAULTS: dict[str, Any] = {
    # Small problems are many times faster on the CPU.
    "accelerator": "cpu",
    "devices": 1,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    # The data module shares batches among processes itself, exactly.
    "use_distributed_sampler": False,
}
TRAINS_NOTHING = "cannot train with these options, because a limit of them allows no update; leave that limit out"
_COLUMNS = ("targets", "features", "exclude", "categories", "dates", "missing")  # options of a data frame or a table


def sections(
    options: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Sort options that are given by their names alone into those of data, model and Trainer.

    Args:
        options: Options of any of the three, and those of the columns of a data frame or table; ``epochs``
            stands for ``max_epochs``. An optimiser and a scheduler are a class, a ``functools.partial`` of one with its
            arguments, a name in torch, or a mapping with ``class_path`` and ``init_args``.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``.

    Raises:
        InputError: An option is unknown or given twice, or one of the Trainer cannot be used.

    Example:
        >>> sections({"batch_size": 16, "lr": 0.1, "epochs": 5}, model={"momentum": 0.9})
        {'data': {'batch_size': 16}, 'model': {'momentum': 0.9, 'lr': 0.1}, 'trainer': {'max_epochs': 5}}
    """
    one_thread_if_forked()  # whatever is computed in Python begins with its options
    given = {name: _section(name, own) for name, own in {"data": data, "model": model, "trainer": trainer}.items()}
    for option, value in options.items():
        name = "max_epochs" if option == "epochs" else option
        section = next((section for section, names in _names().items() if name in names), None)
        if section is None:
            raise _unknown(option, ["epochs", *(each for names in _names().values() for each in names)])
        if name in given[section]:
            raise InputError(f"cannot take {option} twice; give it once, by its name or in {section}")
        given[section][name] = value
    given["model"] |= {name: class_spec(name, given["model"][name]) for name in PACKAGES if name in given["model"]}
    plain = {section: as_python(values) for section, values in given.items()}
    # What a function makes for each run of a comparison is checked when it is made.
    check_trainer_options({name: value for name, value in plain["trainer"].items() if not inspect.isroutine(value)})
    return plain


def _section(section: str, given: object) -> dict[str, Any]:
    """Return the options of a section; refuse those that it does not have."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(
            f"cannot use {given!r} as options of {section}; give them by their names, as in {section}={{}}"
        )
    for option in given:
        check_name(section, option)
    return dict(given)


def check_name(section: str, option: object) -> None:
    """Refuse an option that a section does not have.

    Raises:
        InputError: The section has no option of this name.
    """
    if option not in _names()[section]:
        raise _unknown(option, _names()[section])


def _unknown(option: object, known: Sequence[str]) -> InputError:
    near = similar_option(str(option), known)
    return InputError(f"there is no option {option!r}; use {near or 'one of ' + ', '.join(dict.fromkeys(known))}")


@cache
def _names() -> dict[str, list[str]]:
    """Return the names of the options of each section."""
    classes: dict[str, type] = {"data": RegressionDataModule, "model": RegressionModule, "trainer": Trainer}
    names = {section: list(inspect.signature(made).parameters) for section, made in classes.items()}
    return {**names, "data": [*(name for name in names["data"] if name != "problem"), *_COLUMNS]}


def taken_problem(given: ProblemLike | None, data: dict[str, Any]) -> Problem:
    """Return the problem for data of any kind; the steep line for None.

    Args:
        given: See :func:`~gd_lightning.as_problem`.
        data: Options of the data; those of columns, such as ``targets``, are removed from it.
    """
    chosen = {name: data.pop(name) for name in _COLUMNS if name in data}
    return as_problem(SteepLine() if given is None else given, **chosen)


def has_network(model: Mapping[str, Any]) -> bool:
    """Whether options of a module are those of another model than a linear regressor."""
    return bool(model.get("hidden_sizes")) or model.get("network") is not None


def with_default_lr(model: Mapping[str, Any], data: RegressionDataModule) -> dict[str, Any]:
    """Return options of a module with the learning rate of a run for which none is given.

    Args:
        model: The given options.
        data: The data with the batch size.
    """
    if {"lr", "optimizer"} & set(model) or not has_network(model) or data.standardize != "both":
        return dict(model)
    return {"lr": default_lr(data.variant.batch_size, True, data.standardize), **model}


@contextmanager
def untrained_run(
    problem: ProblemLike | None, given: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[RegressionModule, RegressionDataModule, float]]:
    """Yield module, data module and number of epochs of a run that is only described; new tensors have its precision.

    Args:
        problem: See :func:`~gd_lightning.as_problem`; None: the steep line.
        given: The options of each section, from :func:`sections`.
    """
    data = RegressionDataModule(taken_problem(problem, given["data"]), **given["data"])
    limits = {"max_epochs": 20, "max_steps": -1, "precision": None, **given["trainer"]}
    reported = GivenClasses(given["model"]).refusals_in_a_run()
    with own_generator(data.seed), precision_of_run(limits["precision"]), reported:
        epochs = most_epochs(limits["max_epochs"], limits["max_steps"], data.variant)
        yield RegressionModule(**with_default_lr(given["model"], data)), data, epochs


def present_device(device: str | torch.device) -> str | torch.device:
    """Return a device, after a check that tensors can be made on it.

    Raises:
        InputError: There is no such device.
    """
    try:
        torch.empty(0, device=torch.device(device)).cpu()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # each backend raises exceptions of its own
        raise InputError(f"cannot compute on {device!r}: {first_line(error)[:100]}; use cpu") from error
    return device
