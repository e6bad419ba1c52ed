"""Where a run takes place, and in which precision: the same descent, within its rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule
from tests.conftest import MakeTrainer
from tests.selection import every

LR, UPDATES = 0.1, 40
# By the digits of each format, and how a rounding error grows over the updates of a stable descent.
TOLERANCES: dict[Any, float] = {"64-true": 1e-12, "32-true": 1e-5, "bf16-mixed": 2e-2}
GPU = pytest.param(
    "gpu",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)


def _by_numpy(data: RegressionDataModule) -> np.ndarray[Any, Any]:
    """Return the parameters of batch gradient descent from zero, by its closed form in float64."""
    x = data.train.x.double().numpy()
    design = np.hstack([x, np.ones((len(x), 1))])
    theta = np.zeros(design.shape[1])
    for _ in range(UPDATES):
        theta = theta - LR * 2 / len(x) * design.T @ (design @ theta - data.train.y.double().numpy().ravel())
    return theta


@pytest.mark.parametrize("accelerator", ["cpu", GPU])
@pytest.mark.parametrize("micro_batch_size", every(2, [None, 7]))
@pytest.mark.parametrize("precision", TOLERANCES)
def test_every_precision_gives_the_descent_to_its_digits(
    make_trainer: MakeTrainer, accelerator: str, precision: Any, micro_batch_size: int | None
) -> None:
    data = RegressionDataModule(LinearProblem(n_features=3), micro_batch_size=micro_batch_size)
    module, recorder = RegressionModule(lr=LR, initialization="zero"), HistoryRecorder()
    trainer = make_trainer(max_epochs=UPDATES, precision=precision, accelerator=accelerator, callbacks=[recorder])
    trainer.fit(module, data)
    wide = torch.float64 if precision == "64-true" else torch.float32
    assert {parameter.dtype for parameter in module.parameters()} == {wide}  # the weights are never rounded to 16 bits
    parameters = torch.cat([parameter.detach().cpu().double().flatten() for parameter in module.parameters()])
    expected = _by_numpy(data)
    tolerance = TOLERANCES[precision] * np.abs(expected).max()
    np.testing.assert_allclose(parameters.numpy(), expected, rtol=0, atol=tolerance)
    if precision == "bf16-mixed":
        assert np.abs(parameters.numpy() - expected).max() > 1e-6  # it was carried out in 16 bits


@pytest.mark.parametrize("accelerator", [GPU])
def test_data_are_copied_to_the_device_once(make_trainer: MakeTrainer, accelerator: str) -> None:
    seen: set[int] = set()

    class Watched(RegressionModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, _ = batch
            assert x.is_cuda
            seen.add(x.untyped_storage().data_ptr())
            return super().training_step(batch, batch_idx)

    data = RegressionDataModule(LinearProblem(n_features=3), order="sequential")
    make_trainer(max_epochs=3, accelerator=accelerator).fit(Watched(lr=LR), data)
    assert len(seen) == 1
