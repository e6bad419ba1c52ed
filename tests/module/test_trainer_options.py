"""What a Trainer is to be made with is refused in a sentence wherever it enters, or followed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from lightning.pytorch import Trainer

from gd_lightning import compare, fit, plan, sweep
from gd_lightning.errors import InputError
from gd_lightning.experiments.options import TRAINER_DEFAULTS
from gd_lightning.module.trainer_options import check_trainer_options, make_trainer

NAMES = list(inspect.signature(Trainer).parameters)
OUT_OF_RANGE: dict[str, list[Any]] = {
    "accelerator": ["nope"],
    "strategy": ["nope"],
    "devices": ["x", -1, 0, []],
    "num_nodes": [0, -1],
    "fast_dev_run": [-1],
    "max_epochs": [-5, 10**400],
    "min_epochs": [-1, 30],
    "max_steps": [-7],
    "min_steps": [-1],
    "max_time": ["x", {"nope": 1}],
    "limit_train_batches": [-1, 2.5, float("nan")],
    "overfit_batches": [-1],
    "val_check_interval": ["x", -1, 0, 2.5, float("nan"), {"nope": 2}],
    "check_val_every_n_epoch": [0, -1],
    "num_sanity_val_steps": [-5],
    "log_every_n_steps": [-1],
    "gradient_clip_val": [-1, float("nan")],
    "gradient_clip_algorithm": ["nope"],
    "profiler": ["nope"],
    "reload_dataloaders_every_n_epochs": [-1],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_no_type_that_it_takes(name: str) -> None:
    for value in (object(), [object()], {"a": object()}, 1j):
        with pytest.raises(InputError, match=f"^cannot use .* as {name} of the Trainer; give "):
            check_trainer_options({name: value})


@pytest.mark.parametrize("name", NAMES)
def test_its_default_is_of_its_type(name: str) -> None:
    check_trainer_options({name: inspect.signature(Trainer).parameters[name].default})


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_value_out_of_range(name: str) -> None:
    for value in OUT_OF_RANGE[name]:
        with pytest.raises(InputError, match=r"^[^\n]*; [^\n]*$"):
            make_trainer({**TRAINER_DEFAULTS, "logger": False, "max_epochs": 1, name: value})


@pytest.mark.parametrize("call", [fit, compare, plan, sweep])
def test_every_way_in_python_refuses_it(call: Callable[..., object]) -> None:
    for value in ("x", 1.5, True, [3]):
        with pytest.raises(
            InputError, match=r"cannot use .* as max_epochs of the Trainer; give a whole number or None"
        ):
            call(max_epochs=value)
    with pytest.raises(InputError, match=r"cannot use -5 as trainer.max_epochs; give a number of epochs"):
        call(epochs=-5)


def test_what_functions_make_for_the_runs_of_a_comparison_is_checked() -> None:
    with pytest.raises(InputError, match="cannot train with these options of the Trainer"):
        compare(seeds=1, trainer={"profiler": lambda: "x"})
    with pytest.raises(InputError, match="cannot use a list as logger of the Trainer"):
        make_trainer({"logger": [lambda: None]})


@pytest.mark.parametrize(
    "limit", [{"max_steps": 0}, {"max_epochs": 0}, {"max_time": timedelta(0)}, {"limit_train_batches": 0}], ids=str
)
@pytest.mark.parametrize("call", [fit, compare])
def test_a_limit_that_trains_nothing_is_no_interruption(call: Callable[..., object], limit: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a limit of them allows no update"):
        call(trainer=limit, **({} if call is fit else {"seeds": 1, "batch_sizes": ["full"]}))


def test_an_interval_of_validations_that_no_epoch_reaches() -> None:
    with pytest.raises(InputError, match="cannot validate every 1000 updates, because an epoch has 1; use a smaller"):
        fit(epochs=1, val_size=0.2, val_check_interval=1000)


def test_what_lightning_refuses_when_a_run_begins() -> None:
    with pytest.raises(
        InputError, match=r"cannot train with these options of the Trainer, because it reports: .*; give"
    ):
        fit(epochs=1, barebones=True, detect_anomaly=True)
