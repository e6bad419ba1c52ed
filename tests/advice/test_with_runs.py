"""What a message on runs in Python advises works when it is followed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from gd_lightning import History, InputError, RegressionModule, compare, fit, load, plan, sweep
from gd_lightning.cli.program import Program
from gd_lightning.cli.subcommands.extensions import classes_of
from tests.advice.messages import messages, pattern

Do = Callable[[Path], object]
QUICK: dict[str, Any] = {"seeds": 1, "epochs": 1}
X, Y = [[1.0, 2.0], [2.0, 0.0], [0.0, 1.0]], [1.0, 2.0, 3.0]


def _fit(**options: Any) -> Any:
    return fit((X, Y), **{"lr": 0.01, "epochs": 1, **options})


def _fit_frame() -> Any:
    return fit({"x": [0.5, 1.5, 1.0], "y": Y}, targets="y", epochs=1)


def _ended_without(name: str, path: Path) -> Path:
    place = path / name
    if not place.exists():
        (_fit().save(place) / name).unlink()
    return place


def _filled(path: Path) -> Path:
    (path / "mine").mkdir(exist_ok=True)
    (path / "mine" / "notes.txt").write_text("kept")
    return path / "mine"


def _with_library(there: bool) -> Do:
    def call(_: Path) -> object:
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(sys.modules, "polars", type("Polars", (), {"DataFrame": dict}) if there else None)
            return _fit().history.to_polars()

    return call


# Of each message, a part, what brings it about, and what does as it says.
ADVICE: dict[str, tuple[Do, Do]] = {
    "cannot vary {}; give options with their values": (
        lambda _: compare((X, Y), vary=[0.1, 0.01], **QUICK),  # type: ignore[arg-type]
        lambda _: compare((X, Y), vary={"model.lr": [0.1, 0.01]}, **QUICK),
    ),
    "cannot vary {} over {}; give a list of values": (
        lambda _: compare((X, Y), vary={"model.lr": 0.1}, **QUICK),  # type: ignore[dict-item]
        lambda _: compare((X, Y), vary={"model.lr": [0.1]}, **QUICK),
    ),
    "cannot compute on {}: {}; use cpu": (
        lambda _: sweep((X, Y), lrs=[0.1, 0.2], device="nope", **QUICK),
        lambda _: sweep((X, Y), lrs=[0.1, 0.2], device="cpu", **QUICK),
    ),
    "as network; give a module, or a class or function that makes one": (
        lambda _: _fit(network="linear"),
        lambda _: [_fit(network=network) for network in (nn.Linear(2, 1), nn.Linear, lambda d, k: nn.Linear(d, k))],
    ),
    "because it is of {}; give one of {}": (
        lambda _: _fit_frame().predict({"x": [date(2024, 1, 1)]}),
        lambda _: _fit_frame().predict({"x": [1.5]}),
    ),
    "there is no option {}; use {}": (lambda _: _fit(larning_rate=1), lambda _: _fit(batch_size=1)),
    "as options of {}; give them by their names": (
        lambda _: _fit(model=[0.1]),
        lambda _: _fit(model={}),
    ),
    "as a path, because {}; give the name of a directory": (
        lambda _: _fit(directory=3),
        lambda path: _fit(directory=str(path / "named")),
    ),
    "cannot take {} twice; give it once": (
        lambda _: _fit(momentum=0.5, model={"momentum": 0.1}),
        lambda _: _fit(model={"momentum": 0.1}),
    ),
    "cannot draw a map of outcomes, because {}; use to_dict()": (
        lambda _: plan((X, Y), loss="huber").plot(),
        lambda _: plan((X, Y), loss="huber").to_dict(),
    ),
    "cannot train in {}, because it contains other files; use": (
        lambda path: _fit(directory=_filled(path)),
        lambda path: _fit(directory=path / "other"),
    ),
    "because it has no {}; continue the run with fit": (
        lambda path: load(_ended_without("summary.json", path)),
        lambda path: fit((X, Y), ckpt_path=_ended_without("summary.json", path), epochs=2),
    ),
    "because the run was trained on {}; give these": (
        lambda _: _fit().predict([[1.0]]),
        lambda _: _fit().predict([[1.0, 2.0]]),
    ),
    "its prediction is beyond {}; use {} 64-true": (
        lambda _: _fit().predict([[1e300, 1.0]]),
        lambda _: _fit(trainer={"precision": "64-true"}).predict([[1e300, 1.0]]),
    ),
    "its prediction is not a finite number, in float64 either; leave the row out": (
        lambda _: _fit().predict([[1.7e308, 1.7e308], [1.0, 2.0]]),
        lambda _: _fit().predict([[1.0, 2.0]]),
    ),
    "cannot save the run to {}, because it contains other files; use": (
        lambda path: _fit().save(_filled(path)),
        lambda path: _fit().save(path / "other"),
    ),
    "because the runs have no Trainer; use 32-true or 64-true": (
        lambda _: sweep((X, Y), lrs=[0.01, 0.02], batch_size=1, precision="16-mixed"),
        lambda _: sweep((X, Y), lrs=[0.01, 0.02], batch_size=1, epochs=1, seeds=1, precision="64-true"),
    ),
    "because the runs have no Trainer; use device, such as": (
        lambda _: sweep((X, Y), lrs=[0.01, 0.02], batch_size=1, accelerator="gpu"),
        lambda _: sweep((X, Y), lrs=[0.01, 0.02], batch_size=1, epochs=1, seeds=1, device="cpu"),
    ),
    "because the runs have no Trainer; leave it out": (
        lambda _: sweep((X, Y), lrs=[0.01, 0.02], batch_size=1, max_steps=3),
        lambda _: sweep((X, Y), lrs=[0.01, 0.02], batch_size=1, epochs=1, seeds=1),
    ),
    "because it has no history.csv; give another run": (
        lambda path: History.from_run(_ended_without("history.csv", path)),
        lambda path: History.from_run(_fit().save(path / "another")),
    ),
    "because it is not a {}; give a subclass of it": (
        lambda _: classes_of(Program(module_class=int)),
        lambda _: classes_of(Program(module_class=type("Own", (RegressionModule,), {}))),
    ),
    "because it is not installed; install it": (_with_library(False), _with_library(True)),
}


@pytest.mark.parametrize("part", ADVICE)
def test_the_advice_works(part: str, tmp_path: Path) -> None:
    (message,) = (text for text in messages() if part in text)
    wrong, right = ADVICE[part]
    with pytest.raises(InputError) as raised:
        wrong(tmp_path)
    assert pattern(message).search(str(raised.value)), raised.value
    right(tmp_path)
