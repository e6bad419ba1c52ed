"""What the theory is asked about a module."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gd_lightning import Affine, InputError, LinearProblem, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.module import predictor_of
from gd_lightning.problems import Problem
from gd_lightning.theory import Verdict, advice
from gd_lightning.variants import Variant


def test_it_asks_about_the_features_as_the_network_sees_them() -> None:
    data, module = RegressionDataModule(LinearProblem(n_features=2), standardize=True), RegressionModule(lr=0.1)
    module.configure_for(data)
    predictor = predictor_of(module, data.train.pieces, data.variant, max_epochs=10)
    assert predictor.loss.hessian.diagonal().tolist() == pytest.approx([2.0, 2.0, 2.0], rel=1e-5)
    prediction = torch.nn.functional.mse_loss(module(data.train.x), data.train.y).item()
    assert predictor.losses("full", 0.1, 1)[0].item() == pytest.approx(prediction, rel=1e-5)


def test_of_many_samples_some_stand_for_all_but_curvature_and_optimum() -> None:
    data, module = RegressionDataModule(LinearProblem(n_samples=3000, n_features=2)), RegressionModule()
    module.configure_for(data)
    whole, part = (
        predictor_of(module, data.train.pieces, data.variant, max_epochs=10, numbers=numbers).loss
        for numbers in (1e9, 9000)
    )
    assert (len(whole.rows), len(part.rows), part.n_samples) == (3000, 1000, 3000)
    assert torch.equal(part.eigenvalues, whole.eigenvalues)
    assert part.least_squares == whole.least_squares
    assert not torch.equal(part.rows, whole.rows[:1000])  # evenly drawn
    assert all(bool((row == whole.rows[3 * i : 3 * i + 3]).all(dim=1).any()) for i, row in enumerate(part.rows[:50]))


@pytest.mark.parametrize("options", [{"hidden_sizes": [3]}, {"loss": "mae"}, {"l1": 0.1}])
def test_what_is_not_quadratic_is_refused(options: dict[str, object]) -> None:
    data, module = RegressionDataModule(LinearProblem()), RegressionModule(**options)  # type: ignore[arg-type]
    module.configure_for(data)
    with pytest.raises(InputError, match="its loss is not quadratic"):
        predictor_of(module, data.train.pieces, data.variant, max_epochs=10)


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        (SteepLine(), {}),  # a start that the problem prescribes
        (SteepLine(), {"initialization": "default"}),
        (SteepLine(), {"initialization": {"weight": 3.0, "bias": -7.0}}),
        (LinearProblem(n_features=3, n_targets=2), {"initialization": "normal"}),
    ],
)
def test_standardised_features_are_told_from_the_start_that_such_a_run_has(
    problem: Problem, options: dict[str, Any]
) -> None:
    plain, other = RegressionModule(**options), RegressionModule(**options)
    data, standardized = RegressionDataModule(problem), RegressionDataModule(problem, standardize=True)
    plain.configure_for(data)
    other.configure_for(standardized)
    told = predictor_of(plain, data.train.pieces, data.variant, max_epochs=10, problem=problem)
    there = predictor_of(other, standardized.train.pieces, data.variant, max_epochs=10, problem=problem)
    assert told.standardized is not None
    assert there.standardized is None
    found = told.standardized()
    assert torch.allclose(found.start.flat(), there.start.flat(), rtol=1e-5)
    assert torch.allclose(found.loss.eigenvalues, there.loss.eigenvalues, rtol=1e-5)
    assert found.target == pytest.approx(there.target, rel=1e-5)
    row = found.predict("full", 0.1)
    assert row.epochs == pytest.approx(there.predict("full", 0.1).epochs, abs=1)


def test_without_a_bias_features_are_not_advised_to_be_standardised() -> None:
    data, module = RegressionDataModule(SteepLine()), RegressionModule(bias=False)
    module.configure_for(data)
    assert predictor_of(module, data.train.pieces, data.variant, 10, problem=data.problem).standardized is None


@pytest.mark.parametrize(("dtype", "is_kept"), [(torch.float32, True), (torch.float64, False)])
def test_what_rounding_keeps_away_is_not_promised(dtype: torch.dtype, is_kept: bool) -> None:
    """Targets of 1e5 with a spread of 1: float32 stands still where an update is less than half of its last digit."""
    x = torch.linspace(-1.7, 1.7, 40, dtype=torch.float64)[:, None]
    y = 1e5 + x + 0.01 * torch.sin(50 * x)
    torch.set_default_dtype(dtype)
    try:
        module = RegressionModule(in_features=1, out_features=1, initialization={"weight": 0.0, "bias": 0.0})
        module.configure_model()
    finally:
        torch.set_default_dtype(torch.float32)
    z, t = x.to(dtype), y.to(dtype)
    predictor = predictor_of(module, lambda: [(z, t)], Variant(40, 40), max_epochs=5_000)
    row = predictor.predict("full", 0.01)
    weight, bias = torch.zeros(1, dtype=dtype), torch.zeros(1, dtype=dtype)
    for _ in range(5_000):
        residual = z[:, 0] * weight + bias - t[:, 0]
        weight, bias = weight - 0.01 * 2 * (residual * z[:, 0]).mean(), bias - 0.01 * 2 * residual.mean()
    excess = predictor.loss.excess(predictor.loss.error(Affine(weight[None], bias))).item()
    assert (row.verdict is Verdict.CONVERGES) == (excess <= predictor.target) == (not is_kept)
    assert (advice(predictor, row).count("--trainer.precision") == 1) == is_kept
    if is_kept:
        assert 0.2 < excess / row.floor < 5


def test_no_piece_is_kept_of_data_that_are_read_in_pieces() -> None:
    """Of data that do not fit into memory, a few samples stay, and not the pieces that they are of."""
    data, module = RegressionDataModule(LinearProblem(n_samples=30_000)), RegressionModule()
    module.configure_for(data)
    memory: list[weakref.ref[NDArray[np.float32]]] = []
    in_use: list[int] = []

    def pieces() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in data.train.pieces(1_000):
            own = x.numpy().copy()
            memory.append(weakref.ref(own))
            yield torch.from_numpy(own), y
            del own
            in_use.append(sum(each() is not None for each in memory))

    predictor_of(module, pieces, data.variant, max_epochs=10).predict("full", 0.1)
    assert len(memory) >= 60  # moments, and what rounding leaves
    assert max(in_use) <= 2
