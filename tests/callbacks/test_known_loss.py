"""The least squares, the noise and the theory are named only where the loss is known to be the mean squared error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from gd_lightning import ExcessBelow, Forecast, HistoryRecorder, InputError, RegressionDataModule, RegressionModule
from gd_lightning.callbacks import Pictures
from gd_lightning.experiments import make_plan as plan
from gd_lightning.experiments.best_learning_rate import best_lr
from gd_lightning.experiments.comparison.problem_panels import ProblemPanels
from gd_lightning.experiments.plans.local_plan import LocalPlan
from gd_lightning.experiments.sweeps.grid import Grid
from gd_lightning.experiments.sweeps.sweep import SweepTask
from gd_lightning.models import LinearRegressor
from gd_lightning.problems import SteepLine
from tests.conftest import MakeTrainer


class OwnLoss(RegressionModule):
    def summed_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (prediction - target).square().sum()


class OwnForward(RegressionModule):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


class OwnStep(RegressionModule):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        loss = (self(x) - y).abs().mean()
        return {"loss": loss, "batch_loss": loss.detach()}


class Rising(LinearRegressor):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.exp(), self.bias)


class OwnNetwork(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return Rising(in_features, out_features)


class Hooked(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        network = super().build_network(in_features, out_features)
        network.register_forward_hook(lambda network, inputs, output: output.clamp(max=0.0))
        return network


class Computed(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return parametrizations.spectral_norm(LinearRegressor(in_features, out_features))


class Pruned(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        network = super().build_network(in_features, out_features)
        prune.random_unstructured(network, "bias", amount=1)
        return network


def _replaced_forward() -> RegressionModule:
    module = RegressionModule(lr=1e-4, in_features=1, out_features=1)
    forward = module.forward
    return _replace(module, "forward", lambda x: forward(x) + 1.0)


def _replace(module: RegressionModule, name: str, method: Callable[..., Any]) -> RegressionModule:
    setattr(module, name, method)
    return module


def _hooked_module() -> RegressionModule:
    module = RegressionModule(lr=1e-4)
    module.register_forward_hook(lambda module, inputs, output: output.clamp(max=0.0))
    return module


MODULES: dict[str, Callable[[], RegressionModule]] = {
    **{cls.__name__: lambda cls=cls: cls(lr=1e-4)  # type: ignore[misc]
       for cls in (OwnLoss, OwnForward, OwnStep, OwnNetwork, Hooked, Computed, Pruned)},
    "forward replaced": _replaced_forward,
    "summed_loss replaced": lambda: _replace(
        RegressionModule(lr=1e-4), "summed_loss", lambda prediction, target: (prediction - target).abs().sum()
    ),
    "hook on the module": _hooked_module,
    "mae": lambda: RegressionModule(lr=1e-4, loss="mae"),
}  # fmt: skip
KNOWS_THE_LOSS = ("OwnNetwork", "Hooked", "Computed", "Pruned", "hook on the module")  # but not the function


def _run(make_trainer: MakeTrainer, module: RegressionModule, *callbacks: Callback, **options: Any) -> HistoryRecorder:
    recorder = HistoryRecorder()
    trainer = make_trainer(callbacks=[recorder, *callbacks], max_epochs=2, **options)
    trainer.fit(module, RegressionDataModule(SteepLine(), batch_size=10))
    return recorder


@pytest.mark.parametrize(
    "name",
    # A hook, which is the least visible; the others, on request.
    [name if name == "Hooked" else pytest.param(name, marks=pytest.mark.slow) for name in MODULES],
)
def test_where_the_loss_is_another_one_nothing_is_compared_with_the_least_squares(
    make_trainer: MakeTrainer, name: str
) -> None:
    make = MODULES[name]
    module, forecast = make(), Forecast()
    summary = _run(make_trainer, module, forecast).summary
    assert summary is not None
    assert (summary.least_squares_loss, summary.prediction, forecast.outcome) == (None, "", None)
    is_linear = name in ("OwnLoss", "OwnStep", "summed_loss replaced", "mae")
    assert (summary.least_squares is not None, summary.truth is not None) == (is_linear, is_linear)
    assert (summary.irreducible_loss is not None) == (name in KNOWS_THE_LOSS)
    data = RegressionDataModule(SteepLine(), batch_size=10)
    assert ProblemPanels.of(data, {"": module}).surface is None
    with pytest.raises(InputError, match="ExcessBelow, because only a linear regressor with the loss mse, and no loss"):
        _run(make_trainer, make(), ExcessBelow(0.1))
    if name in ("OwnStep", "forward replaced", "summed_loss replaced", "mae"):  # without a limit, or a plan
        with pytest.raises(InputError, match=r"cannot (find the best lr|plan)"):
            best_lr(make(), data, 10)
    elif name != "Hooked":  # by the plan's trial, which takes seconds
        assert 0 < best_lr(make(), data, 10).lr < 1
    if name in ("OwnStep", "forward replaced", "Pruned"):  # of which there is no plan, or no copy to make one with
        return
    assert isinstance(plan(make(), data, 10), LocalPlan)
    grid = Grid.of({"lr": [1e-4, 1e-3], "batch_size": [10]}, make(), data, 1)
    assert np.isnan(SweepTask(grid, ((0, 0),), 1).train(make(), data).least_squares).all()


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("name", ["OwnLoss", "OwnForward", "Hooked"])
def test_no_picture_shows_a_loss_surface_of_another_loss(make_trainer: MakeTrainer, name: str) -> None:
    drawn = []
    for module in (MODULES[name](), RegressionModule(lr=1e-4)):
        recorder = _run(make_trainer, module, Pictures(), logs=True)
        assert recorder.directory is not None
        drawn.append((recorder.directory / "curves.png").stat().st_size)
    assert drawn[0] < drawn[1]


def test_a_loss_below_the_least_squares_is_no_excess(make_trainer: MakeTrainer) -> None:
    """Half of the squared error ends at half of the least squares."""
    recorder = HistoryRecorder()
    data = RegressionDataModule(SteepLine(noise=1.0), batch_size="full", standardize=True)
    module = OwnLoss(lr=0.9)
    make_trainer(callbacks=[recorder], max_epochs=100, precision="64-true").fit(module, data)
    x, y = (part.double().numpy() for part in data.train.take(slice(None)))
    design = np.hstack([x, np.ones_like(x)])
    least = float(np.mean((design @ np.linalg.lstsq(design, y, rcond=None)[0] - y) ** 2))
    assert recorder.summary is not None
    assert recorder.summary.train_loss_last == pytest.approx(least / 2, rel=1e-6)


def test_what_a_callback_changes_ends_the_comparison(make_trainer: MakeTrainer) -> None:
    """From then on there is no prediction, no least squares, and no criterion that asks for them."""

    def clamp(trainer: Trainer, module: Any) -> None:
        if trainer.current_epoch == 3:
            module.network.register_forward_hook(lambda network, inputs, output: 0.0 * output - 1e3)

    recorder, criterion = HistoryRecorder(), ExcessBelow(1e-9)
    trainer = make_trainer(
        callbacks=[recorder, Forecast(), criterion, LambdaCallback(on_train_epoch_start=clamp)], max_epochs=6
    )
    trainer.fit(RegressionModule(lr=1e-4), RegressionDataModule(SteepLine()))
    at, predicted = recorder.history.series("train_loss_predicted")
    assert (at[-1], criterion.ending) == (3, None)
    np.testing.assert_allclose(predicted, recorder.history.series("train_loss")[1][: len(predicted)], rtol=1e-5)
    assert recorder.summary is not None
    assert (recorder.summary.least_squares_loss, recorder.summary.least_squares) == (None, None)


def test_a_plan_is_made_of_what_predicts() -> None:
    """Predictions that are doubled have four times the curvature."""
    data = RegressionDataModule(SteepLine())
    made = plan(OwnForward(lr=1e-4), data, 10)
    assert isinstance(made, LocalPlan)
    x = data.train.x.double().numpy()
    design = np.hstack([x, np.ones_like(x)])
    expected = 4 * 2 * np.linalg.eigvalsh(design.T @ design / len(x)).max()
    assert made.curvature.sharpness == pytest.approx(expected, rel=1e-4)
