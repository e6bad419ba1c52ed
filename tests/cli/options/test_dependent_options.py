"""Options that mean something together, settled without a command line."""

from __future__ import annotations

import pytest
import torch  # noqa: F401  # the optimisers are looked up among what is imported
from jsonargparse import Namespace

from gd_lightning.cli.options.dependent_options import settle_learning_rate, settle_length
from gd_lightning.errors import InputError


def _options(model_lr: float, optimizer_lr: float | None, name: str = "Adam") -> Namespace:
    options = Namespace({"model.lr": model_lr, "model.optimizer": None, "optimizer": None})
    if optimizer_lr is not None:
        options.optimizer = Namespace(class_path=f"torch.optim.{name}", init_args=Namespace(lr=optimizer_lr))
    return options


# Defaults are 0.1 of the model and 0.001 of Adam.
@pytest.mark.parametrize(
    ("given", "lr"),
    [
        ({}, 0.001),
        ({"model.lr": 0.5}, 0.5),
        ({"optimizer.init_args.lr": 0.3}, 0.3),
        ({"model.lr": 0.3, "optimizer.init_args.lr": 0.3}, 0.3),
        ({"model.lr": 0.1, "optimizer.init_args.lr": 0.3}, 0.3),  # a config that was printed holds the default
        ({"model.lr": 0.5, "optimizer.init_args.lr": 0.001}, 0.5),
        ({"model.lr": 0.5, "optimizer.init_args.lr": 0.3}, None),
    ],
)
def test_one_learning_rate_is_meant_by_both_options(given: dict[str, float], lr: float | None) -> None:
    options = _options(given.get("model.lr", 0.1), given.get("optimizer.init_args.lr", 0.001))
    if lr is None:
        with pytest.raises(
            InputError, match=r"model.lr 0.5 and optimizer.lr 0.3, because they differ; give one of them"
        ):
            settle_learning_rate(options, lambda: Namespace(given), 0.1)
        return
    settle_learning_rate(options, lambda: Namespace(given), 0.1)
    assert options.model.lr == options.optimizer.init_args.lr == lr
    assert options.model.optimizer == {"class_path": "torch.optim.Adam", "init_args": {"lr": lr}}


def test_nothing_is_asked_where_there_is_no_other_learning_rate() -> None:
    for options in (_options(0.5, None), _options(0.5, 0.1)):
        if options.optimizer is not None:
            del options.optimizer.init_args["lr"]
        before = options.clone()
        settle_learning_rate(options, lambda: pytest.fail("it was asked"), 0.1)
        assert options == before


@pytest.mark.parametrize(
    ("max_steps", "max_time", "given", "epochs"),
    [
        (-1, None, None, 20),
        (50, None, None, -1),
        (-1, {"seconds": 3}, None, -1),
        (50, {"seconds": 3}, 20, 20),
        (50, None, 20, 20),
    ],
)
def test_a_limit_that_is_given_alone_is_not_cut_short(
    max_steps: int, max_time: object, given: int | None, epochs: int
) -> None:
    trainer = Namespace(max_epochs=20, max_steps=max_steps, max_time=max_time)
    settle_length(trainer, lambda: Namespace({"trainer.max_epochs": given}))
    assert trainer.max_epochs == epochs


@pytest.mark.parametrize("name", ["max_epochs", "max_steps"])
def test_a_run_of_no_length_is_refused(name: str) -> None:
    trainer = Namespace({"max_epochs": 20, "max_steps": -1, "max_time": None, name: 0})
    with pytest.raises(InputError, match=rf"cannot train with trainer.{name} 0; use 1 or more"):
        settle_length(trainer, lambda: Namespace({"trainer.max_epochs": trainer.max_epochs}))
