"""What sets runs apart, and what they are called: classes, seeds, losses."""

from __future__ import annotations

from typing import Any

from gd_lightning.experiments import Comparison
from gd_lightning.experiments.comparison.findings import findings
from gd_lightning.experiments.comparison.grouping import grouped
from gd_lightning.experiments.comparison.table import as_text, rows
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_reader import FinishedRun

CALLBACKS = "trainer.callbacks"


def _run(**settings: Any) -> FinishedRun:
    history = History()
    history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=2.0)
    history.append(update=1, epoch=1, samples=8, seconds=0.1, train_loss=1.0)
    history.outcome = Outcome.COMPLETED
    return FinishedRun("run", history, "history.csv", {"variant": "batch", "batch_size": 8}, settings)


def _labels(*all_settings: dict[str, Any], apart: tuple[str, ...] = ()) -> list[str]:
    return [label for label, _, _ in grouped([_run(**settings) for settings in all_settings], apart)]


def _criterion(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"gd_lightning.callbacks.{name}", "init_args": arguments}


def test_callbacks_are_told_apart_by_class_and_by_the_arguments_in_which_a_class_differs() -> None:
    lists = [
        [],
        [_criterion("LossBelow", threshold=0.1)],
        [_criterion("LossBelow", threshold=0.02)],
        [_criterion("LossPlateau", epochs=3, min_delta=0.5), _criterion("LossBelow", threshold=0.1)],
    ]
    assert _labels(*({CALLBACKS: callbacks} for callbacks in lists)) == [
        "no callbacks",
        "LossBelow threshold 0.1",
        "LossBelow threshold 0.02",
        "LossPlateau and LossBelow threshold 0.1",
    ]


def test_a_callback_that_stands_alone_or_has_no_arguments_is_one_like_any() -> None:
    alone = {f"{CALLBACKS}.class_path": "a.LossPlateau", f"{CALLBACKS}.epochs": 3}  # flat, as read from a file
    assert _labels(alone, {CALLBACKS: "a.Other"}, {CALLBACKS: None}) == ["LossPlateau", "Other", "no callbacks"]


def test_what_only_shows_sets_nothing_apart() -> None:
    assert _labels({CALLBACKS: [_criterion("PrintUpdates")]}, {CALLBACKS: []}, {}) == ["batch"]


def test_optimizers_are_named_first_and_the_models_copy_says_nothing_of_its_own() -> None:
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "eps": 1e-8}}
    flat = {f"{prefix}.{key}": value for prefix in ("optimizer", "model.optimizer") for key, value in _flat(adam)}
    sgd = {"optimizer": None, "model.optimizer": None}
    assert _labels({"model.lr": 0.1, **flat}, {"model.lr": 0.2, **sgd}) == ["Adam", "SGD"]
    other = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01, "eps": 1e-8}}
    # As in Python, where the module's options are all that there is.
    assert _labels({"model.optimizer": adam}, {"model.optimizer": other}) == ["Adam lr 0.1", "Adam lr 0.01"]


def _flat(spec: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("class_path", spec["class_path"]), *spec["init_args"].items()]


def test_seeds_set_apart_where_they_are_what_is_varied() -> None:
    settings = [{"seed_everything": seed, "data.seed": seed, "data.problem.seed": seed} for seed in (0, 1)]
    assert _labels(*settings) == ["batch"]
    assert _labels(*settings, apart=("seed_everything",)) == ["seed_everything 0", "seed_everything 1"]
    assert _labels(*settings, apart=("data.problem.init_args.seed",)) == ["seed 0", "seed 1"]


def test_losses_of_different_kinds_have_no_target_and_no_winner() -> None:
    for option, values in {"model.loss": ("mse", "mae"), "data.problem.outliers": (0.0, 0.1)}.items():
        comparison = Comparison.of([_run(**{option: value}) for value in values])
        assert comparison.target is None
        assert "target" not in as_text(rows(comparison))
        assert findings(comparison, rows(comparison)) == [
            "These groups have different losses or data, so their train losses cannot be compared."
        ]
