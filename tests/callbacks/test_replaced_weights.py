"""What a run reports is of the weights that it ends with, where a callback puts others in place."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)

from gd_lightning import (
    HistoryRecorder,
    LastCheckpoint,
    LinearProblem,
    LossBelow,
    RegressionDataModule,
    RegressionModule,
)
from gd_lightning.losses import mean_loss
from tests.conftest import CommandLine, MakeTrainer
from tests.other_projects import NormedNetwork

# Lightning warns that no layers are split among devices; none are.
pytestmark = pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model")


class HalfAtTheEnd(Callback):
    """Replaces the weights as an average of one's own would."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for parameter in pl_module.parameters():
            parameter.data.mul_(0.5)


class HalfAtTheEndOfEpochs(Callback):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for parameter in pl_module.parameters():
            parameter.data.mul_(0.5)


REPLACING: dict[str, tuple[Callable[[], Callback], str]] = {
    "stochastic": (
        lambda: StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=2),
        "averaged by StochasticWeightAveraging;",
    ),
    "every update": (WeightAveraging, "averaged by WeightAveraging, which"),
    "exponential": (lambda: EMAWeightAveraging(decay=0.9), "averaged by EMAWeightAveraging, which"),
    "pruning": (
        lambda: ModelPruning("l1_unstructured", amount=0.5, apply_pruning=lambda epoch: epoch == 4),
        "changed by ModelPruning;",
    ),
    "of one's own": (HalfAtTheEndOfEpochs, "changed by HalfAtTheEndOfEpochs;"),
}


def _fit(
    make_trainer: MakeTrainer, callbacks: list[Callback], recorder: HistoryRecorder, **options: Any
) -> tuple[RegressionModule, RegressionDataModule, Trainer]:
    module = RegressionModule(lr=0.05, **options)
    data = RegressionDataModule(LinearProblem(n_samples=50, n_features=3), batch_size=16, val_size=10)
    saves = any(isinstance(callback, LastCheckpoint) for callback in callbacks)
    trainer = make_trainer(
        max_epochs=5, precision="64-true", logs=True, enable_checkpointing=saves, callbacks=callbacks
    )
    trainer.fit(module, data)
    return module, data, trainer


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"hidden_sizes": [3]}], ids=str)
@pytest.mark.parametrize("name", REPLACING)
def test_the_summary_is_of_the_weights_that_the_run_ends_with(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, options: dict[str, Any], is_first: bool
) -> None:
    make, words = REPLACING[name]
    recorder = HistoryRecorder()
    callbacks = [recorder, make()] if is_first else [make(), recorder]
    if not is_first and name in ("pruning", "of one's own"):
        callbacks = [*callbacks, HalfAtTheEndOfEpochs()]  # what is done before the last measurement replaces nothing
        words = "changed by"
    module, data, _ = _fit(make_trainer, [*callbacks, LastCheckpoint()], recorder, **options)
    summary, history = recorder.summary, recorder.history
    assert summary is not None
    with torch.no_grad():
        for part, value in ((data.train, summary.train_loss_last), (data.parts[1], summary.measures["val_loss"])):
            assert value == pytest.approx(mean_loss(module(part.x), part.y).item(), rel=1e-12)
    if not options:
        affine = module.affine()
        assert affine is not None
        assert summary.parameters == pytest.approx(affine.named(), rel=1e-12)
    assert summary.weights.startswith(words)
    assert f"train loss {history.last('train_loss'):.8g}" in summary.weights
    assert history.last("final_train_loss") == summary.train_loss_last != history.last("train_loss")
    written = json.loads((tmp_path / "run/summary.json").read_text())
    assert (written["weights"], written["train_loss_last"]) == (summary.weights, summary.train_loss_last)
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for key, tensor in saved.items():
        if key.startswith("network.") and "_mask" not in key:
            assert torch.equal(tensor, dict(module.named_parameters())[key.removesuffix("_orig")]) or "_orig" in key


class Remembers(Callback):
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = [parameter.detach().clone() for parameter in pl_module.parameters()]


def test_an_average_that_never_began_is_said_to_be_the_start(make_trainer: MakeTrainer) -> None:
    """Lightning puts its copy of the start in place."""
    recorder = HistoryRecorder()
    _fit(make_trainer, [recorder, StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=50)], recorder)
    summary = recorder.summary
    assert summary is not None
    assert summary.weights.startswith("those of the start, put in place by StochasticWeightAveraging")
    assert summary.train_loss_last == pytest.approx(recorder.history.first("train_loss"), rel=1e-12)


def test_weights_that_nobody_replaces_are_not_spoken_of(make_trainer: MakeTrainer) -> None:
    recorder = HistoryRecorder()
    _fit(make_trainer, [recorder, EarlyStopping("train_loss"), Remembers()], recorder)
    assert recorder.summary is not None
    assert recorder.summary.weights == ""
    assert "final_train_loss" not in recorder.history


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="one engine has one way to measure")
def test_last_digits_of_another_engine_are_no_other_weights(make_trainer: MakeTrainer) -> None:
    """What is measured before the run has an engine is rounded otherwise than what the engine measures."""
    recorder = HistoryRecorder()
    trainer = make_trainer(max_epochs=5, callbacks=[recorder, LossBelow(1e9), Remembers()])
    module = RegressionModule(lr=0.02, hidden_sizes=[4], activation="tanh", engine="fused")
    trainer.fit(module, RegressionDataModule(LinearProblem(n_samples=27, n_features=3), batch_size=7))
    assert trainer.global_step == 0
    assert recorder.summary is not None
    assert recorder.summary.weights == ""
    assert "final_train_loss" not in recorder.history


@pytest.mark.parametrize("callback", [HalfAtTheEnd, HalfAtTheEndOfEpochs])
def test_a_callback_behind_the_recorder_is_noticed(
    make_trainer: MakeTrainer, tmp_path: Path, callback: type[Callback]
) -> None:
    recorder = HistoryRecorder()
    _fit(make_trainer, [recorder, callback()], recorder)
    written = json.loads((tmp_path / "run/summary.json").read_text())
    said = {
        HalfAtTheEnd: "which a callback listed after HistoryRecorder has replaced",
        HalfAtTheEndOfEpochs: "changed by",
    }
    assert said[callback] in written["weights"]
    module, data, _ = _fit(make_trainer, [callback(), recorder], recorder)
    summary = recorder.summary
    assert summary is not None
    with torch.no_grad():
        loss = mean_loss(module(data.train.x), data.train.y).item()
    assert summary.train_loss_last == pytest.approx(loss, rel=1e-12)


def test_the_terminal_says_whose_weights_they_are(command_line: CommandLine) -> None:
    swa = ["--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.01"]
    run = command_line.fit("--data.batch_size", "16", "--model.lr", "0.01", "--trainer.max_epochs", "6", *swa)
    summary = json.loads((run / "summary.json").read_text())
    assert "weights        averaged by StochasticWeightAveraging; " in command_line.out
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert summary["parameters"]["w"] == pytest.approx(saved["network.weight"].item(), rel=1e-6)
    assert command_line("fit", "--ckpt_path", "last", "--trainer.max_epochs", "8") == 2
    assert "its weights are averaged by StochasticWeightAveraging, and those" in command_line.err
    assert command_line("test", "--ckpt_path", "last") == 0
    assert command_line.err == ""  # Lightning misses the callback, whose state a test does not need


def test_batch_norms_are_measured_anew_for_averaged_weights(make_trainer: MakeTrainer) -> None:
    """Lightning adds an epoch without updates, in which batches pass forward only."""
    recorder = HistoryRecorder()
    swa = StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=2)
    module, data, _ = _fit(make_trainer, [recorder, swa], recorder, network=NormedNetwork)
    module.eval()
    with torch.no_grad():
        loss = mean_loss(module(data.train.x), data.train.y).item()
    assert recorder.summary is not None
    assert recorder.summary.train_loss_last == pytest.approx(loss, rel=1e-12)
    assert recorder.summary.weights.startswith("averaged by")
