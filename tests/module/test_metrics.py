"""Losses and metrics against NumPy in extended precision, over batches and processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule
from gd_lightning.module.metrics import R2, MeanAbsoluteError, MeanSquaredError
from tests.conftest import MakeTrainer
from tests.data.test_data_module import Given

PRECISIONS = [torch.float32, torch.float64]
METRICS: list[type[Metric]] = [MeanSquaredError, MeanAbsoluteError, R2]


def _exact(prediction: Tensor, target: Tensor) -> dict[type[Metric], float]:
    """Return the metrics of predictions and targets as they are in their precision."""
    p, y = (values.double().numpy().astype(np.longdouble) for values in (prediction, target))
    residuals: NDArray[Any] = p - y
    spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return {
        MeanSquaredError: float((residuals**2).mean()),
        MeanAbsoluteError: float(abs(residuals).mean()),
        R2: float((1 - (residuals**2).sum(axis=0) / spread).mean()),
    }


def _merged(metrics: list[Metric]) -> float:
    """Merge what processes have by the metric's own reductions, as torchmetrics does between them."""
    merged = type(metrics[0])()
    for name, reduction in merged._reductions.items():
        assert callable(reduction)
        setattr(merged, name, reduction(torch.stack([getattr(metric, name) for metric in metrics])))
    merged._update_count = 1
    return float(merged.compute())


def _samples(mean: float, spread: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    y = mean + spread * random.standard_normal((301, 2)) * [1, 3]
    p = y + spread * 0.3 * random.standard_normal((301, 2))
    return torch.from_numpy(p).to(dtype), torch.from_numpy(y).to(dtype)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("mean", [0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("spread", [1, 1e-9, 1e5, 1e-25])
def test_four_digits_are_right_wherever_the_data_have_them(
    metric: type[Metric], dtype: torch.dtype, mean: float, spread: float
) -> None:
    """In one process, in two and in three, one of which has no samples of some batches."""
    prediction, target = _samples(mean * spread, spread, dtype)
    if torch.unique(target[:, 0]).numel() == 1:
        assert dtype is torch.float32
        assert mean == 1e9  # the data have no digits there, and a run refuses them
        return
    expected = _exact(prediction, target)[metric]
    for sizes in ([301], [150, 151], [0, 1, 300]):
        processes = []
        for p, y in zip(prediction.split(sizes), target.split(sizes), strict=True):
            one = metric()
            for rows in range(0, max(1, len(p)), 64):
                one.update(p[rows : rows + 64], y[rows : rows + 64])
            processes.append(one)
        assert _merged(processes) == pytest.approx(expected, rel=1e-4, abs=0)
        if len(sizes) == 1:
            assert float(processes[0].compute()) == pytest.approx(expected, rel=1e-4, abs=0)


@pytest.mark.parametrize("convert", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_stay_in_float64_where_the_module_is_converted(convert: torch.dtype) -> None:
    module = RegressionModule(in_features=1, out_features=1).to(convert)
    for metric in (module.val_mean_loss, *module.val_metrics.values(), *module.test_metrics.values()):
        states = [getattr(metric, name) for name in metric._defaults]
        assert {state.dtype for state in states} <= {torch.float64, torch.int64}


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_r2_of_constant_targets_or_a_single_sample_is_undefined(value: float) -> None:
    for rows in (1, 3, 100):
        metric = R2()
        metric.update(torch.randn(rows, 1), torch.full((rows, 1), value))
        metric.update(torch.randn(0, 1), torch.randn(0, 1))
        assert math.isnan(float(metric.compute()))


def test_metrics_that_are_equal_in_the_first_batch_stay_apart(make_trainer: MakeTrainer) -> None:
    """Residuals of one have the same square and size: torchmetrics would share the sums of both from then on."""
    x = torch.zeros(30_000, 1)
    y = torch.cat([torch.ones(20_000, 1), torch.full((10_000, 1), 3.0)])
    module = RegressionModule(initialization={"weight": 0, "bias": 0})
    data = RegressionDataModule(Given(x, y), micro_batch_size=10_000)
    trainer = make_trainer(max_epochs=1)
    module.configure_for(data)
    (found,) = trainer.test(module, data, verbose=False)
    assert found["test_mse"] == pytest.approx(11 / 3)
    assert found["test_mae"] == pytest.approx(5 / 3)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("mean", [0, 1e3, 1e6])
def test_a_run_reports_what_its_predictions_come_to(make_trainer: MakeTrainer, precision: Any, mean: float) -> None:
    """Train loss, and the metrics of validation and test."""
    random = np.random.default_rng(1)
    x = random.standard_normal((200, 2))
    y = mean + x[:, :1] + 0.5 * random.standard_normal((200, 1))
    # float32 data: they have the digits that they have
    data = RegressionDataModule(
        Given(torch.from_numpy(x).float(), torch.from_numpy(y).float()), val_size=0.4, test_size=0.3
    )
    module = RegressionModule(lr=0.2)
    trainer = make_trainer(max_epochs=60, precision=precision, callbacks=[HistoryRecorder()])
    trainer.fit(module, data)
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        exact = [
            _exact(module(part.x).float() if "bf16" in precision else module(part.x), part.y) for part in data.parts
        ]
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    found |= trainer.test(module, data, verbose=False)[0]
    assert found["train_loss"] == pytest.approx(exact[0][MeanSquaredError], rel=1e-4)
    for part, stage in zip(exact[1:], ("val", "test"), strict=True):
        assert found[f"{stage}_loss"] == pytest.approx(part[MeanSquaredError], rel=1e-4)
        assert found[f"{stage}_mse"] == pytest.approx(part[MeanSquaredError], rel=1e-4)
        assert found[f"{stage}_mae"] == pytest.approx(part[MeanAbsoluteError], rel=1e-4)
        assert found[f"{stage}_r2"] == pytest.approx(part[R2], rel=1e-4)
