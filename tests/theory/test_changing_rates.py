"""Learning rates that change: against torch's own schedulers in training, and against many runs in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import (
    Affine,
    Forecast,
    HistoryRecorder,
    InputError,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    Variant,
    fit,
    plan,
)
from gd_lightning.module import predictor_of, stepped_rates
from gd_lightning.theory import DrawnBatches, LinearLoss, OutcomePredictor, Verdict
from gd_lightning.update_rule import UpdateRule
from tests.conftest import MakeTrainer
from tests.theory.training import trained

SCHEDULERS: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 3, "gamma": 0.3},
    "CosineAnnealingLR": {"T_max": 10},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 11, "cycle_momentum": False},
    "LinearLR": {"start_factor": 0.1, "total_iters": 5},  # a warm-up
    "CosineAnnealingWarmRestarts": {"T_0": 4},
}
CHEAP = ["StepLR", "OneCycleLR"]


def _spec(name: str) -> dict[str, Any]:
    return {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": SCHEDULERS[name]}


class ByUpdate(RegressionModule):
    """Its scheduler is stepped after every update."""

    def configure_optimizers(self) -> Any:
        """Return the options' optimiser and scheduler."""
        made: Any = super().configure_optimizers()
        return {**made, "lr_scheduler": {**made["lr_scheduler"], "interval": "step"}}


@pytest.mark.parametrize(
    "name", [name if name in CHEAP else pytest.param(name, marks=pytest.mark.slow) for name in SCHEDULERS]
)
@pytest.mark.parametrize("by_update", [False, True])
def test_the_rates_are_those_of_torch(name: str, by_update: bool) -> None:
    module = (ByUpdate if by_update else RegressionModule)(lr=0.05, lr_scheduler=_spec(name))
    module.configure_for(RegressionDataModule(SteepLine()))
    rates = stepped_rates(module)
    assert rates is not None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.02)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **SCHEDULERS[name])
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    found = rates(0.02, 2, 5) if by_update else rates(0.02, 2, 10)
    assert found.shape == ((5, 2) if by_update else (10, 1))
    np.testing.assert_allclose(found.flatten(), expected, rtol=1e-12)
    assert module.hparams["lr"] == 0.05


@pytest.mark.parametrize(
    ("options", "batch_size"),
    [
        ({"lr_scheduler": _spec("StepLR"), "momentum": 0.5}, "full"),
        ({"lr_scheduler": _spec("LinearLR"), "weight_decay": 0.2}, 25),
    ],
)
def test_the_curve_is_that_of_a_run(options: dict[str, Any], batch_size: Any) -> None:
    run = fit(batch_size=batch_size, order="sequential", lr=0.02, max_epochs=11, precision="64-true", model=options)
    measured, predicted = run.history["train_loss"], run.history["train_loss_predicted"]
    ends = np.isfinite(predicted)
    assert ends.sum() == 12
    np.testing.assert_allclose(predicted[ends], measured[ends], rtol=1e-9)


def test_the_curve_is_that_of_a_run_whose_rate_changes_by_update(make_trainer: MakeTrainer) -> None:
    cycle = {"max_lr": 0.05, "total_steps": 24, "cycle_momentum": False}
    spec = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": cycle}
    data, recorder = RegressionDataModule(SteepLine(), batch_size=34, order="sequential"), HistoryRecorder()
    trainer = make_trainer(max_epochs=8, precision="64-true", callbacks=[recorder, Forecast()])
    trainer.fit(ByUpdate(momentum=0.5, lr_scheduler=spec), data)
    measured, predicted = recorder.history["train_loss"], recorder.history["train_loss_predicted"]
    ends = np.isfinite(predicted)
    assert ends.sum() == 9
    np.testing.assert_allclose(predicted[ends], measured[ends], rtol=1e-9)


def _few(rule: UpdateRule) -> tuple[Any, Any, Affine, LinearLoss]:
    random = np.random.default_rng(1)
    x = random.normal(size=(20, 2))
    y = x @ [[1.0], [-2.0]] + 0.5 * random.normal(size=(20, 1)) + 2
    loss = LinearLoss.of(torch.from_numpy(x), torch.from_numpy(y)).with_weight_decay(rule.weight_decay)
    return x, y, Affine(torch.zeros(1, 2), torch.zeros(1)), loss


@pytest.mark.parametrize("rule", [UpdateRule(), UpdateRule(momentum=0.6, weight_decay=0.1)])
@pytest.mark.parametrize("by_update", [False, True])
def test_the_mean_of_many_runs_is_the_expected_curve(rule: UpdateRule, by_update: bool) -> None:
    x, y, start, loss = _few(rule)
    variant, drawn = Variant.of(3, 20), DrawnBatches(loss, start, rule)
    per_epoch = variant.updates_per_epoch
    largest = 0.4 * drawn.largest_stable_lr(3)
    rates = largest * torch.linspace(1, 0.1, 8 * (per_epoch if by_update else 1)).double().view(8, -1)
    every = rates.expand(-1, per_epoch).flatten().numpy()
    moved: dict[str, Any] = {"momentum": rule.momentum, "weight_decay": rule.weight_decay}
    losses = trained(x, y, start, every, variant, 8, "with_replacement", runs=2000, **moved)
    apart = losses.mean(axis=1) - drawn.expected_losses(rates, variant, 8).numpy()
    assert (np.abs(apart[1:]) < 3 * losses[1:].std(axis=1) / 2000**0.5).all()


def test_in_order_every_update_has_its_rate() -> None:
    rule = UpdateRule(momentum=0.7, nesterov=True, weight_decay=0.1)
    x, y, start, loss = _few(rule)
    rates = torch.linspace(0.05, 0.001, 28).double().view(4, 7)
    predictor = OutcomePredictor(loss, start, 4, rule, sequential=True, schedule=lambda lr, updates, epochs: rates)
    moved: dict[str, Any] = {"momentum": 0.7, "nesterov": True, "weight_decay": 0.1}
    expected = trained(x, y, start, rates.flatten().numpy(), Variant.of(3, 20), 4, **moved)[:, 0]
    np.testing.assert_allclose(predictor.losses(3, 1.0, 4), expected, rtol=1e-10)


def test_the_limit_is_that_of_the_largest_rate() -> None:
    """A warm-up to just above the limit diverges, one to just below does not; from above to below, a run recovers."""
    _, _, start, loss = _few(UpdateRule())
    limit = 2 / loss.lambda_max

    def told(*rates: float) -> Verdict:
        every = torch.tensor(rates).double()

        def schedule(lr: float, per_epoch: int, epochs: int) -> torch.Tensor:
            place = torch.arange(epochs).clamp(max=len(every) - 1)
            return every[place][:, None]

        row = OutcomePredictor(loss, start, 600, schedule=schedule).predict("full", 0.1)
        assert row.largest_rate == pytest.approx(max(rates))
        assert row.largest_stable_lr == pytest.approx(limit)
        return row.verdict

    warm = [limit * share for share in (0.1, 0.3, 0.6)]
    assert told(*warm, 1.03 * limit) is Verdict.DIVERGES
    assert told(*warm, 0.97 * limit) is Verdict.CONVERGES
    assert told(1.1 * limit, 1.1 * limit, 0.5 * limit) is Verdict.CONVERGES


def test_advice_of_a_schedule_ends_lower_when_it_is_followed() -> None:
    options = {"lr_scheduler": _spec("StepLR"), "momentum": 0.0}
    found = plan(batch_size=10, lr=0.3, max_epochs=10, model=options)
    assert "diverges with its lr_scheduler, whose largest rate 0.3 is above the limit 0.11" in found.advice
    lr = float(found.advice.split("; use lr ")[1].split(" ")[0])
    assert fit(batch_size=10, lr=lr, max_epochs=10, model=options).history["train_loss"][-1] < 1.0
    assert "learning rate changes" in found.why_no_map


def test_what_cannot_be_stepped_ahead_is_refused() -> None:
    for name, options in (
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 20}),
        ("ReduceLROnPlateau", {}),
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1}),
    ):
        spec = {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": options}
        module = RegressionModule(lr_scheduler=spec)
        module.configure_for(RegressionDataModule(SteepLine()))
        with pytest.raises(InputError, match="cannot predict"):
            stepped_rates(module)
    data, short = RegressionDataModule(SteepLine()), RegressionModule(lr_scheduler=_spec("OneCycleLR"))
    short.configure_for(data)
    predictor = predictor_of(short, data.train.pieces, data.variant, math.inf)
    with pytest.raises(InputError, match="has no learning rate after epoch 12; use as many epochs"):
        predictor.predict("full", 0.1)


def test_a_schedule_that_ends_at_a_rate_of_zero_is_slow_and_no_failure() -> None:
    _, _, start, loss = _few(UpdateRule())
    rates = torch.tensor([[0.01], [0.0]]).double()
    row = OutcomePredictor(loss, start, 2, schedule=lambda lr, updates, epochs: rates[:epochs]).predict(3, 0.01)
    assert row.verdict is Verdict.SLOW
    assert row.floor > 0
