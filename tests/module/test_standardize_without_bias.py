"""Standardised features of a model without biases: its prediction is 0 at x = 0, and nowhere else by force."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gd_lightning
from gd_lightning import HistoryRecorder, Problem, RegressionDataModule, RegressionModule
from gd_lightning.experiments import Plan
from gd_lightning.experiments import make_plan as plan
from gd_lightning.models import Standardize
from tests.conftest import CommandLine, MakeTrainer


@dataclass
class Offset(Problem):
    """y = 2 + x0 - x1, with features whose means are far from 0."""

    means: list[float] = field(default_factory=lambda: [3.0, -50.0])

    def sample(self) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(0)
        x = torch.randn(40, 2, dtype=torch.float64, generator=random) * torch.tensor([1.0, 20.0]) + torch.tensor(
            self.means
        )
        return x, 2 + x[:, :1] - x[:, 1:]


def _through_the_origin(problem: Problem) -> tuple[np.ndarray[Any, Any], float]:
    x, y = (values.numpy() for values in problem.sample())
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    return weights[:, 0], float(np.mean((x @ weights - y) ** 2))


@pytest.mark.parametrize("means", [[3.0, -50.0], [0.0, 0.0], [-2.0, 40.0]])
def test_training_ends_at_the_least_squares_through_the_origin(make_trainer: MakeTrainer, means: list[float]) -> None:
    recorder, module = HistoryRecorder(), RegressionModule(lr=0.4, bias=False, initialization="zero", momentum=0.9)
    data = RegressionDataModule(Offset(means), standardize=True)
    trainer = make_trainer(max_epochs=500, precision="64-true", callbacks=[recorder])
    trainer.fit(module, data)
    weights, loss = _through_the_origin(Offset(means))
    summary = recorder.summary
    assert summary is not None
    assert summary.parameters == pytest.approx(dict(zip(["w_0", "w_1"], weights, strict=True)), rel=1e-6)
    assert summary.least_squares == pytest.approx(summary.parameters, rel=1e-6)
    assert summary.train_loss_last == pytest.approx(loss, rel=1e-6)
    assert summary.undetermined == []
    (result,) = trainer.test(module, data, verbose=False)
    assert result["test_mse"] == pytest.approx(loss, rel=1e-4)


def test_the_layer_divides_by_the_root_mean_square() -> None:
    x = torch.tensor([[1.0, 0.0, 5.0], [3.0, 0.0, 5.0], [-2.0, 0.0, 5.0]], dtype=torch.float64)
    layer = Standardize.fit(lambda: [x[:2], x[2:]], centred=False)
    assert layer.mean.tolist() == [0, 0, 0]
    assert layer.scale.tolist() == pytest.approx([np.sqrt(14 / 3), 1, 5])
    assert not layer.centers


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_perceptron_without_biases_is_0_at_0_alone(make_trainer: MakeTrainer, activation: Any) -> None:
    module = RegressionModule(lr=0.001, bias=False, hidden_sizes=[8], activation=activation)
    data = RegressionDataModule(Offset(), standardize="features")
    make_trainer(max_epochs=20).fit(module, data)
    x = data.train.x
    assert module(torch.zeros(1, 2)).item() == 0
    assert abs(module(x.mean(dim=0, keepdim=True)).item()) > 1
    # Dividing by a constant is a change of the first weights, so that plain features reach the same function.
    plain = RegressionModule(bias=False, hidden_sizes=[8], activation=activation, in_features=2, out_features=1)
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if "standardize" not in k})
    assert module.standardize is not None
    with torch.no_grad():
        next(plain.parameters()).div_(module.standardize.scale.float())
    torch.testing.assert_close(plain(x), module(x))


def test_plan_and_sweep_speak_of_the_same_model() -> None:
    _, loss = _through_the_origin(Offset())
    made = plan(RegressionModule(lr=0.1, bias=False), RegressionDataModule(Offset(), standardize=True), 100)
    assert isinstance(made, Plan)
    assert made.predictor.loss.least_squares == pytest.approx(loss, rel=1e-5)
    assert list(made.digits["float32"]) == ["w_0", "w_1"]
    # By hand: two features of mean square 1 and correlation c have the eigenvalues 2 (1 - c) and 2 (1 + c).
    x = Offset().sample()[0].numpy()
    c = abs(np.mean(x[:, 0] * x[:, 1])) / np.sqrt(np.mean(x[:, 0] ** 2) * np.mean(x[:, 1] ** 2))
    found = [made.predictor.loss.lambda_min, made.predictor.loss.lambda_max]
    assert found == pytest.approx([2 * (1 - c), 2 * (1 + c)], rel=1e-4)
    model, data = {"bias": False, "momentum": 0.9}, {"standardize": True}
    swept = gd_lightning.sweep(
        Offset(), lrs=[0.2, 0.4], batch_sizes="full", seeds=1, max_epochs=400, model=model, data=data
    )
    assert np.ravel(swept.last) == pytest.approx(loss, rel=1e-3)


def test_a_checkpoint_of_centred_features_is_read(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    module, data = RegressionModule(lr=0.1, bias=False), RegressionDataModule(Offset(), standardize=True)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    checkpoint["state_dict"]["standardize.mean"] = torch.tensor([3.0, -50.0], dtype=torch.float64)
    torch.save(checkpoint, tmp_path / "run.ckpt")
    loaded = RegressionModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert loaded(torch.tensor([[3.0, -50.0]])).item() == 0
    affine = loaded.affine()
    assert affine is not None
    assert affine(torch.tensor([[3.0, -50.0]])).item() == pytest.approx(0, abs=1e-5)
    recorder = HistoryRecorder()
    trainer = make_trainer(max_epochs=4, callbacks=[recorder])
    trainer.fit(RegressionModule(lr=0.1, bias=False), data, ckpt_path=tmp_path / "run.ckpt", weights_only=True)
    assert recorder.summary is not None
    assert list(recorder.summary.parameters or {}) == ["w_0", "w_1", "b"]


def test_the_command_line(command_line: CommandLine) -> None:
    problem = ["--data.problem", "ExamScores", "--data.standardize", "true", "--model.bias", "false"]
    run = command_line.fit(*problem, "--trainer.max_epochs", "400", "--model.lr", "0.4")
    weights, _ = _through_the_origin(gd_lightning.ExamScores())
    fitted = float((run / "history.csv").read_text().splitlines()[-1].split(",")[_column(run, "w")])
    assert fitted == pytest.approx(weights[0], rel=1e-5)


def _column(run: Path, name: str) -> int:
    return (run / "history.csv").read_text().splitlines()[0].split(",").index(name)
