"""An option that does not exist is answered with the one that was meant."""

from __future__ import annotations

import pytest

from gd_lightning import InputError, fit
from gd_lightning.similar_options import similar_option

OPTIONS = [
    "seed_everything",
    "data.problem.seed",
    "data.batch_size",
    "data.seed",
    "model.lr",
    "model.weight_decay",
    "model.hidden_sizes",
    "optimizer.lr",
    "trainer.max_epochs",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "model.lr"),
        ("learning-rate", "model.lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("data.lr", "model.lr"),
        ("epochs", "trainer.max_epochs"),
        ("trainer.epochs", "trainer.max_epochs"),
        ("random_state", "data.seed"),
        ("data.problem.random_state", "data.problem.seed"),
        ("hidden_layer_sizes", "model.hidden_sizes"),
        ("batch-size", "data.batch_size"),
        ("modle.lr", "model.lr"),
        ("noise", None),
    ],
)
def test_what_was_meant(name: str, meant: str | None) -> None:
    assert similar_option(name, OPTIONS) == meant


@pytest.mark.parametrize(
    ("name", "meant"), [("learning_rate", "lr"), ("max_iter", "epochs"), ("random_state", "seed"), ("bs", "batch_size")]
)
def test_names_of_other_libraries_in_python(name: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"there is no option '{name}'; use {meant}$"):
        fit(**{name: 1})  # type: ignore[arg-type]


def test_all_options_are_listed_once_where_none_is_similar() -> None:
    with pytest.raises(InputError) as caught:
        fit(qqq=1)
    names = str(caught.value).rpartition("use one of ")[2].split(", ")
    assert len(set(names)) == len(names) > 20
