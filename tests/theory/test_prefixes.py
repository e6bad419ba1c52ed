"""Predicted losses of the same epochs are the same to the last bit, however many epochs are predicted at once.

A run that is continued asks for other numbers of epochs than one that is not, and the history of both is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gd_lightning import LinearProblem, RegressionDataModule, RegressionModule
from gd_lightning.module import predictor_of
from tests.selection import every

SCHEDULES: list[dict[str, Any]] = [
    {},
    {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 100}}},
    {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 20}}},
]


@pytest.mark.parametrize("order", ["shuffled", "sequential", "with_replacement"])
@pytest.mark.parametrize("momentum", every(2, [0.9, 0.0]))
@pytest.mark.parametrize("schedule", every(2, SCHEDULES))
@pytest.mark.parametrize("features", every(2, [8, 3]))
@pytest.mark.parametrize("batch_size", ["full", 7])
def test_fewer_epochs_are_predicted_with_the_same_bits(
    order: Any, momentum: float, schedule: dict[str, Any], features: int, batch_size: Any
) -> None:
    data = RegressionDataModule(LinearProblem(n_features=features, n_samples=60), order=order, batch_size=batch_size)
    module = RegressionModule(lr=0.02, momentum=momentum, **schedule)
    module.configure_for(data)
    predictor = predictor_of(module, data.train.pieces, data.variant, 100, order=order)
    whole = predictor.losses(data.variant.batch_size, 0.02, 90)
    assert whole.isfinite().all()
    for epochs in [*range(1, 12), 27, 35, 50, 63, 64, 65, 70, 85]:
        part = predictor.losses(data.variant.batch_size, 0.02, epochs)
        np.testing.assert_array_equal(part.numpy(), whole[: epochs + 1].numpy())
