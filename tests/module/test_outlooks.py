"""What the theory is asked about a module."""

from __future__ import annotations

import pytest
import torch

from gd_lightning import InputError, LinearProblem, RegressionDataModule, RegressionModule
from gd_lightning.module import linear_outlooks


def test_it_asks_about_the_features_as_the_network_sees_them() -> None:
    data, module = RegressionDataModule(LinearProblem(n_features=2), standardize=True), RegressionModule(lr=0.1)
    module.configure_for(data)
    outlooks = linear_outlooks(module, data.train.pieces, data.variant, max_epochs=10)
    assert outlooks.loss.hessian.diagonal().tolist() == pytest.approx([2.0, 2.0, 2.0], rel=1e-5)
    prediction = torch.nn.functional.mse_loss(module(data.train.x), data.train.y).item()
    assert outlooks.losses("full", 0.1, 1)[0].item() == pytest.approx(prediction, rel=1e-5)


def test_of_many_samples_some_stand_for_all_but_curvature_and_optimum() -> None:
    data, module = RegressionDataModule(LinearProblem(n_samples=3000, n_features=2)), RegressionModule()
    module.configure_for(data)
    whole, part = (
        linear_outlooks(module, data.train.pieces, data.variant, max_epochs=10, numbers=numbers).loss
        for numbers in (1e9, 9000)
    )
    assert (len(whole.rows), len(part.rows), part.n_samples) == (3000, 1000, 3000)
    assert torch.equal(part.eigenvalues, whole.eigenvalues)
    assert part.irreducible == whole.irreducible
    assert not torch.equal(part.rows, whole.rows[:1000])  # evenly drawn
    assert all(bool((row == whole.rows[3 * i : 3 * i + 3]).all(dim=1).any()) for i, row in enumerate(part.rows[:50]))


@pytest.mark.parametrize("options", [{"hidden_sizes": [3]}, {"loss": "mae"}, {"weight_decay": 0.1}, {"l1": 0.1}])
def test_what_is_not_quadratic_is_refused(options: dict[str, object]) -> None:
    data, module = RegressionDataModule(LinearProblem()), RegressionModule(**options)  # type: ignore[arg-type]
    module.configure_for(data)
    with pytest.raises(InputError, match="its loss is not quadratic"):
        linear_outlooks(module, data.train.pieces, data.variant, max_epochs=10)
