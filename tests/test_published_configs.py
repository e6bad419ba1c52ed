"""The published examples, from the shipped configs: their figures, and what of them is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning import Problem, RegressionDataModule, RegressionModule
from gd_lightning.callbacks import HistoryRecorder
from gd_lightning.linear_least_squares import least_squares
from gd_lightning.records.history import History
from tests.conftest import CONFIGS, CommandLine, MakeTrainer

FLOAT32 = 1e-4  # relative


def _history(run: Path) -> History:
    return History.from_csv(run / "history.csv")


@pytest.mark.parametrize(
    ("seed", "loss_0", "loss_1", "loss_19", "w", "b"),
    [
        (0, 599.12097, 345.09369, 0.25167924, -5.0031657, -0.21667072),
        (1, 594.95807, 342.48163, 0.23442169, -5.0075226, -0.31170914),
        (42, 599.27545, 345.22452, 0.23790209, -5.0054398, -0.20783755),
    ],
)
@pytest.mark.parametrize("config", [[], ["--config", CONFIGS / "batch.yaml", "--model.lr", "0.1"]])
def test_the_steep_line_by_batch_descent(
    command_line: CommandLine,
    config: list[str],
    seed: int,
    loss_0: float,
    loss_1: float,
    loss_19: float,
    w: float,
    b: float,
) -> None:
    run = command_line.fit(*config, "--data.problem.seed", str(seed))
    history = _history(run)
    for epoch, loss in ((0, loss_0), (1, loss_1), (19, loss_19)):
        assert history["train_loss"][epoch] == pytest.approx(loss, rel=FLOAT32)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["parameters"] == pytest.approx({"w": w, "b": b}, rel=FLOAT32)


def test_the_steep_line_stochastic_converges_and_as_published_diverges(command_line: CommandLine) -> None:
    run = command_line.fit("--config", CONFIGS / "stochastic.yaml", "--model.lr", "0.01")
    history = _history(run)
    assert history["train_loss"][[0, 100]] == pytest.approx([599.12, 52.39], rel=FLOAT32)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["updates"] == 2000
    assert summary["train_loss_last"] == pytest.approx(0.17305, rel=FLOAT32)
    assert summary["parameters"] == pytest.approx({"w": -5.016984, "b": 0.0665376}, rel=FLOAT32)

    run = command_line.fit("--config", CONFIGS / "stochastic_diverging.yaml", code=3)
    assert _history(run)["train_loss"][100] == pytest.approx(4.165e14, rel=1e-3)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "diverged"
    assert summary["samples"] == 2000


@dataclass
class PublishedSteepLine(Problem):
    """Data whose least-squares solution is that of the published table, and whose losses are its losses."""

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.arange(-5, 5, 0.1, dtype=torch.float64).view(-1, 1)
        design = torch.cat([x, torch.ones_like(x)], dim=1)
        optimum = torch.tensor([[-4.99300972], [-0.06002379]], dtype=torch.float64)
        contraction = torch.eye(2, dtype=torch.float64) - 0.1 * 2 * design.T @ design / 100
        start = torch.tensor([[-10.0], [-20.0]], dtype=torch.float64)
        excess = (design @ torch.linalg.matrix_power(contraction, 19) @ (start - optimum)).square().mean()
        # What the noise leaves at the optimum is orthogonal to the design, and is the rest of the last loss, the one
        # that was printed with the most digits behind the point.
        residual = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        residual -= design @ torch.linalg.lstsq(design, residual).solution
        residual *= ((0.22536348 - excess) / residual.square().mean()).sqrt()
        return x, design @ optimum + residual


def test_the_published_table_of_the_steep_line_follows_from_its_optimum(make_trainer: MakeTrainer) -> None:
    recorder, data = HistoryRecorder(), RegressionDataModule(PublishedSteepLine())
    module = RegressionModule(lr=0.1, initialization={"weight": -10, "bias": -20})
    make_trainer(callbacks=[recorder], max_epochs=20, precision="64-true").fit(module, data)
    history = recorder.history
    # The table pairs the loss before each update with the parameters after it.
    for row, loss, w, b in (
        (0, 596.7191, -1.85274696, -16.06207466),
        (1, 343.4265, -7.24758577, -12.83026123),
        (10, 4.80823, -4.94803, -1.77770),
        (19, 0.22536348, -4.99606419, -0.29067892),
    ):
        assert history["train_loss"][row] == pytest.approx(loss, rel=FLOAT32)
        assert history["w"][row + 1] == pytest.approx(w, rel=FLOAT32)
        assert history["b"][row + 1] == pytest.approx(b, rel=FLOAT32)
    # All of its rows follow from the first by theta <- theta - lr H (theta - theta*).
    x, y = data.train.x, data.train.y
    optimum = least_squares(x, y)[0].flat().numpy()
    design = np.hstack([x.numpy(), np.ones((100, 1))])
    theta, step = np.array([-10.0, -20.0]), 0.1 * 2 * design.T @ design / 100
    for row in range(21):
        np.testing.assert_allclose([history["w"][row], history["b"][row]], theta, rtol=1e-10)
        theta = theta - step @ (theta - optimum)


PARABOLA = {
    0: {"batch": 0.0079748, "stochastic": 0.0048813, "mini_batch": 0.0040369},
    42: {"batch": 0.0080343, "stochastic": 0.0054584, "mini_batch": 0.0034508},
    1: {"batch": 0.035549, "stochastic": 0.052773, "mini_batch": 0.0039028},
}


@pytest.mark.parametrize(
    ("seed", "variant"),
    [
        # 10,000 updates, of one seed in each run of the tests.
        pytest.param(seed, variant, marks=[pytest.mark.slow] if variant == "stochastic" and seed else [])
        for seed, losses in PARABOLA.items()
        for variant in losses
    ],
)
def test_the_parabola(command_line: CommandLine, seed: int, variant: str) -> None:
    seeds = ["--data.problem.seed", str(seed), "--seed_everything", str(seed + 1)]
    run = command_line.fit("--config", CONFIGS / f"parabola_{variant}.yaml", *seeds)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["train_loss_last"] == pytest.approx(PARABOLA[seed][variant], rel=FLOAT32)
    assert summary["updates"] == {"batch": 100, "mini_batch": 600, "stochastic": 10_000}[variant]


@pytest.mark.parametrize("epochs", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_noisy_line(command_line: CommandLine, epochs: int) -> None:
    length = ["--trainer.max_epochs", str(epochs)]
    run = command_line.fit("--config", CONFIGS / "noisy_line.yaml", "--trainer.precision", "64-true", *length)
    history = _history(run)
    for row, name, value in (
        (0, "b", 0.49671415),
        (0, "w", -0.1382643),
        (0, "train_loss", 2.74215777),
        (1, "grad_b", -3.04481138),
        (1, "grad_w", -1.83375372),
        (1, "b", 0.80119529),
        (1, "w", 0.04511107),
        (100, "b", 1.18607329),
        (100, "w", 1.65093557),
        (100, "train_loss", 0.01767988),
        (100, "val_loss", 0.01228482),
        (1000, "b", 1.02354094),
        (1000, "w", 1.96896411),
        (1000, "train_loss", 0.00804466),
        (1000, "val_loss", 0.00865850),
    ):
        if row <= epochs:
            assert history[name][row] == pytest.approx(value, abs=1e-8), (row, name)
    assert "batch loss   2.742157" in command_line.out  # the first update, step by step


@pytest.mark.slow
def test_the_noisy_line_in_float32_has_seven_digits_at_best(command_line: CommandLine) -> None:
    history = _history(command_line.fit("--config", CONFIGS / "noisy_line.yaml"))
    assert history["w"][1000] == pytest.approx(1.96896411, rel=FLOAT32)
    assert history["train_loss"][100] == pytest.approx(0.01767988, rel=FLOAT32)


def test_four_points(command_line: CommandLine) -> None:
    run = command_line.fit("--config", CONFIGS / "four_points.yaml")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["parameters"] == pytest.approx({"w": 1.8463475, "b": 0.4517574}, rel=FLOAT32)
    assert _history(run)["train_loss"][99] == pytest.approx(0.0342897, rel=FLOAT32)


def test_exam_scores(command_line: CommandLine) -> None:
    run = command_line.fit("--config", CONFIGS / "exam_scores.yaml")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["train_loss_first"] == pytest.approx(2675)
    assert summary["least_squares"] == pytest.approx({"w": 7.9, "b": 400})
    assert summary["parameters"] == pytest.approx({"w": 7.9, "b": 400}, rel=FLOAT32)


@pytest.mark.parametrize(
    "config",
    [
        *("parabola_mini_batch", "exam_scores"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("batch", "mini_batch", "stochastic", "noisy_line", "four_points")
        ),
    ],
)
def test_every_config_is_the_same_run_by_every_engine(command_line: CommandLine, config: str) -> None:
    pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    # Nothing may need each update separately; above its stable rate, an MLP would amplify the rounding.
    options = ["--trainer.callbacks", "null", "--trainer.precision", "64-true", "--trainer.max_steps", "200"]
    options += ["--trainer.max_epochs", "-1"]
    options += ["--model.lr", "0.01"]
    weights, histories = [], []
    for engine in ("autograd", "fused"):
        run = command_line.fit("--config", CONFIGS / f"{config}.yaml", *options, "--model.engine", engine)
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["engine"], summary["updates"]) == (engine, 200)
        state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        weights.append(torch.cat([value.flatten() for name, value in state.items() if name.startswith("network")]))
        histories.append(_history(run))
    torch.testing.assert_close(*weights, rtol=1e-12, atol=1e-12)
    for column in ("update", "batch_loss", "train_loss"):
        np.testing.assert_allclose(histories[1][column], histories[0][column], rtol=1e-12, atol=1e-12)
