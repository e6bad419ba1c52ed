"""What a run that is judged or continued leaves to choose, without a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace

from gd_lightning.cli.checkpoint_argument import EarlierRun
from gd_lightning.cli.options.earlier_run import (
    refuse_another_run,
    refuse_fewer_epochs,
    refuse_to_diverge_again,
    settings_for,
)
from gd_lightning.errors import InputError

SETTINGS: dict[str, Any] = {
    "seed_everything": 3,
    "model": {"lr": 0.1, "engine": "auto", "hidden_sizes": [8]},
    "data": {"batch_size": 4, "problem": {"class_path": "A", "init_args": {"noise": 1.0}}},
    "trainer": {"max_epochs": 5, "precision": "64-true"},
    "on_divergence": "stop",
    "recorder": {},
}


def _run(**changed: Any) -> EarlierRun:
    return EarlierRun(Path("run/checkpoints/last.ckpt"), Path("run"), {**SETTINGS, **changed}, epochs=5)


def test_only_fit_goes_on_as_the_run_began() -> None:
    assert settings_for("fit", _run()) == SETTINGS
    for stage in ("validate", "test", "predict"):
        found = settings_for(stage, _run())
        assert found == {
            **{name: SETTINGS[name] for name in ("seed_everything", "model", "data")},
            "trainer": {"precision": "64-true"},
        }
        assert "trainer" not in settings_for(stage, _run(trainer={}))


@pytest.mark.parametrize(
    ("section", "values", "refused"),
    [
        ("model", {"lr": 0.1, "engine": "autograd", "hidden_sizes": (8,), "new": 1}, None),
        ("data", {"batch_size": 4, "predict_inputs": [[1.0]], "micro_batch_size": 2}, None),
        ("model", {"lr": 0.2}, "model.lr 0.2, because the run was made with 0.1"),
        ("data", {"batch_size": 8}, "data.batch_size 8, because the run was made with 4"),
        (
            "data",
            {"problem": {"class_path": "A", "init_args": {"noise": 2.0}}},
            "data.problem.noise 2.0, because the run was made with 1.0",
        ),
    ],
)
def test_model_and_data_of_a_run_stay(section: str, values: dict[str, Any], refused: str | None) -> None:
    options = Namespace({"model": Namespace(lr=0.1), "data": Namespace(batch_size=4), section: Namespace(**values)})
    if refused is None:
        refuse_another_run("test", options, _run())
        return
    with pytest.raises(InputError, match=f"cannot test with {refused}"):
        refuse_another_run("test", options, _run())


@pytest.mark.parametrize("epochs", [None, -1, 5, 6, 0, 4])
def test_a_run_is_not_continued_to_an_epoch_that_is_over(epochs: int | None) -> None:
    if epochs in (0, 4):
        with pytest.raises(InputError, match=r"give trainer\.max_epochs 5 or more"):
            refuse_fewer_epochs(epochs, _run())
    else:
        refuse_fewer_epochs(epochs, _run())


@pytest.mark.parametrize(
    ("on_divergence", "factor", "reason", "is_refused"),
    [
        ("stop", 1e6, "the loss is nan", True),
        ("stop", 1e6, "", False),
        ("continue", 1e6, "the loss is nan", False),
        ("stop", 1e9, "the loss is nan", False),
    ],
)
def test_a_run_does_not_diverge_the_same_way_again(
    monkeypatch: pytest.MonkeyPatch, on_divergence: str, factor: float, reason: str, is_refused: bool
) -> None:
    monkeypatch.setattr(EarlierRun, "divergence", reason)
    options = Namespace(on_divergence=on_divergence, divergence_factor=factor)
    run = _run(divergence_factor=1e6)
    if is_refused:
        with pytest.raises(InputError, match="because it diverged: the loss is nan"):
            refuse_to_diverge_again(options, run)
    else:
        refuse_to_diverge_again(options, run)
