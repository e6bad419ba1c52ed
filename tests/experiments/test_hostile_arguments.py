"""What is not a value of an argument in Python is refused in a sentence, before anything is written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from gd_lightning import compare, fit, load, plan, sweep
from gd_lightning.errors import InputError
from gd_lightning.sklearn import GradientDescentRegressor

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ [1.0, 2.0]
QUICK: dict[str, Any] = {"epochs": 1, "seeds": 1}
PLACES: dict[str, Any] = {
    "no text": 3,
    "NUL": "a\0b",
    "an address": "s3://bucket/run",
    "a web address": "https://example.org/run",
    "a chain of file systems": "simplecache::https://example.org/run",
    "too long": "x" * 300,
    "a file": "file.csv",
    "below a file": "file.csv/run",
    "below a device": "/dev/null/run",
    "a dangling link": "dangling",
}
COMPARED = functools.cache(lambda: compare((X, Y), batch_sizes=["full"], **QUICK))
SWEPT = functools.cache(lambda: sweep((X, Y), lrs=[0.1, 0.2], batch_size=20, **QUICK))
WRITING: dict[str, Callable[[Any], object]] = {
    "save of a comparison": lambda place: COMPARED().save(place),
    "save of a sweep": lambda place: SWEPT().save(place),
    "fit": lambda place: fit((X, Y), epochs=1, directory=place),
    "save": lambda place: fit((X, Y), epochs=1).save(place),
    "compare": lambda place: compare((X, Y), batch_sizes=["full"], directory=place, **QUICK),
    "sweep": lambda place: sweep((X, Y), lrs=[0.1, 0.2], batch_size=20, directory=place, **QUICK),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.csv").write_text("x,y\n1,2\n")
    Path("dangling").symlink_to("nowhere")


@pytest.mark.parametrize("place", PLACES)
def test_no_directory(place: str) -> None:
    for call in WRITING.values():
        with pytest.raises(InputError, match=r"^cannot use .* as a path, because .*; give the name of a directory$"):
            call(PLACES[place])
    assert sorted(path.name for path in Path().iterdir()) == ["dangling", "file.csv"]


def test_a_directory_is_given_as_text() -> None:
    assert COMPARED().save("compared") == Path("compared")
    SWEPT().save("swept", "svg")
    assert Path("swept", "sweep.json").is_file()
    with pytest.raises(InputError, match="format"):
        SWEPT().save("other", "bmp")
    assert not Path("other").exists()


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_loaded_from_it(place: str) -> None:
    """An address would be looked up in the network where a directory of its name has a checkpoint."""
    with pytest.raises(InputError):
        load(PLACES[place])
    with pytest.raises(InputError):
        fit(ckpt_path=PLACES[place], epochs=2)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "a seed in words": {"seed": "x"},
    "part of a seed": {"seed": 1.5},
    "a lr of an optimiser in words": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": "x"}}},
    "an argument that an optimiser lacks": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"nope": 1}}},
    "a scheduler without what it needs": {"lr_scheduler": "StepLR"},
    "a number as network": {"network": 3},
    "a function that makes a number": {"network": lambda *_: 3},
    "a class that is no optimiser": {"optimizer": int},
    "a function as optimiser": {"optimizer": lambda parameters: parameters},
    "a function in a scheduler": {
        "lr_scheduler": {"class_path": "LambdaLR", "init_args": {"lr_lambda": lambda epoch: 1}}
    },
    "a network without values": {"network": nn.Linear(2, 1, device="meta")},
    "micro-batches in words": {"micro_batch_size": "x"},
}


@pytest.mark.parametrize("given", ARGUMENTS)
def test_an_option_of_a_wrong_type(given: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*; [^\n]*$"):
        fit((X, Y), epochs=1, **ARGUMENTS[given])


CALLS: dict[str, Callable[[], object]] = {
    "seeds in words": lambda: compare((X, Y), seeds="x", epochs=1),  # type: ignore[arg-type]
    "part of a seed": lambda: compare((X, Y), seeds=1.5, epochs=1),  # type: ignore[arg-type]
    "an option that there is not": lambda: compare((X, Y), vary={"model.nope": [1]}, **QUICK),
    "an option that is no text": lambda: compare((X, Y), vary={3: [1]}, **QUICK),  # type: ignore[dict-item]
    "no list of values": lambda: compare((X, Y), vary={"model.lr": 3}, **QUICK),  # type: ignore[dict-item]
    "a text of values": lambda: compare((X, Y), vary={"model.lr": "12"}, **QUICK),
    "no options": lambda: compare((X, Y), vary=[1], **QUICK),  # type: ignore[arg-type]
    "a value of a wrong type": lambda: compare((X, Y), vary={"trainer.max_epochs": [1, "x"]}, seeds=1),
    "no device": lambda: sweep((X, Y), lrs=[0.1, 0.2], device="nope", **QUICK),
    "a device that is not there": lambda: sweep((X, Y), lrs=[0.1, 0.2], device="cuda:99", **QUICK),
    "no type of a limit": lambda: plan((X, Y), max_steps="x"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_cannot_be_followed(call: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*; [^\n]*$"):
        CALLS[call]()


def test_one_batch_size_is_a_list_of_one() -> None:
    alone, listed = compare((X, Y), batch_sizes=5, **QUICK), compare((X, Y), batch_sizes=[5], **QUICK)
    assert [row.train_loss.mean for row in alone.rows] == [row.train_loss.mean for row in listed.rows]
    full = compare((X, Y), batch_sizes="full", **QUICK)
    assert [row.batch_size for row in full.rows] == [20]


def test_a_network_and_what_makes_one_are_the_same() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2, 1)
    runs = [fit((X, Y), epochs=2, network=network) for network in (layer, lambda *_: layer)]
    assert all(run.summary.updates == 2 for run in runs)


@pytest.mark.parametrize(
    ("name", "arguments"), [("Adam", {"eps": 0.1}), ("RMSprop", {"alpha": 0.5}), ("AdamW", {"weight_decay": 0.1})]
)
def test_a_class_is_given_as_itself_or_by_a_name(name: str, arguments: dict[str, float]) -> None:
    kind, step = getattr(torch.optim, name), torch.optim.lr_scheduler.StepLR
    forms: tuple[tuple[Any, Any], ...] = (
        ({"class_path": f"torch.optim.{name}", "init_args": arguments}, partial(step, step_size=1)),
        ({"class_path": name, "init_args": arguments}, {"class_path": "StepLR", "init_args": {"step_size": 1}}),
        ({"class_path": kind, "init_args": arguments}, {"class_path": step, "init_args": {"step_size": 1}}),
        (partial(kind, **arguments), {"class_path": f"{step.__module__}.StepLR", "init_args": {"step_size": 1}}),
    )
    given: dict[str, Any] = {"batch_size": 5, "epochs": 3}
    runs = [fit((X, Y), optimizer=form, lr_scheduler=scheduler, **given) for form, scheduler in forms]
    fitted = [GradientDescentRegressor(optimizer=form, lr_scheduler=scheduler, **given) for form, scheduler in forms]
    losses = [run.history.last("train_loss") for run in runs]
    assert len(set(losses)) == 1
    assert len({tuple(model.fit(X, Y).loss_curve_) for model in fitted}) == 1
    bare = fit((X, Y), optimizer=kind, **given).history.last("train_loss")
    assert bare == fit((X, Y), optimizer=name, **given).history.last("train_loss") != losses[0]


def test_a_checkpoint_callback_keeps_checkpoints(tmp_path: Path) -> None:
    fit((X, Y), epochs=2, callbacks=ModelCheckpoint(tmp_path, monitor="train_loss"))
    assert list(tmp_path.glob("*.ckpt"))
