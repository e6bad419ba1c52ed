"""How much updates vary: against the theory of gradient noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gd_lightning import (
    Affine,
    GradientVariance,
    HistoryRecorder,
    LinearProblem,
    RegressionDataModule,
    RegressionModule,
)
from gd_lightning.theory import LinearLoss
from tests.conftest import MakeTrainer
from tests.theory.training import gradients_of


def _measured(make_trainer: MakeTrainer, batch_size: Any, **of_data: Any) -> tuple[HistoryRecorder, LinearProblem]:
    problem, recorder = LinearProblem(n_samples=400, n_features=2, n_targets=2, noise=1.0), HistoryRecorder()
    data = RegressionDataModule(problem, batch_size=batch_size, **of_data)
    trainer = make_trainer(max_epochs=2, precision="64-true", callbacks=[recorder, GradientVariance()])
    trainer.fit(RegressionModule(lr=0.001, initialization="zero"), data)
    return recorder, problem


def test_of_single_samples_it_is_the_trace_of_their_covariance(make_trainer: MakeTrainer) -> None:
    recorder, problem = _measured(make_trainer, 1, order="shuffled")
    loss = LinearLoss.of(*problem.sample())
    trace = gradients_of(loss, Affine(torch.zeros(2, 2), torch.zeros(2))).var(dim=0, correction=0).sum().item()
    assert recorder.history.series("gradient_variance")[1].tolist() == pytest.approx([trace], rel=1e-9)
    assert recorder.history.series("gradient_variance")[0].tolist() == [0]


@pytest.mark.parametrize("order", ["shuffled", "with_replacement"])
def test_it_falls_as_one_over_the_batch_size(make_trainer: MakeTrainer, order: str) -> None:
    single, four, sixteen = (
        _measured(make_trainer, size, order=order)[0].history.first("gradient_variance") for size in (1, 4, 16)
    )
    assert four == pytest.approx(single / 4, rel=0.4)
    assert sixteen == pytest.approx(single / 16, rel=0.6)


def test_batch_descent_has_none(make_trainer: MakeTrainer) -> None:
    assert _measured(make_trainer, "full")[0].history.first("gradient_variance") == 0
    assert "gradient_variance" not in _measured(make_trainer, "full", order="with_replacement")[0].history


def test_of_many_batches_a_thousand_are_taken(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _measured(make_trainer, 1)[0].history.first("gradient_variance")
    monkeypatch.setattr(GradientVariance, "max_batches", 100)
    part = _measured(make_trainer, 1)[0].history.first("gradient_variance")
    assert part != whole
    assert part == pytest.approx(whole, rel=0.3)
