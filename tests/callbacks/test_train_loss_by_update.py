"""The train loss within epochs: computed from the parameters of linear regressors, measured of other networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from gd_lightning import HistoryRecorder, InputError, RegressionDataModule, RegressionModule
from gd_lightning.callbacks import parameter_columns
from gd_lightning.callbacks.smallest_train_loss import Optimum, least_squares_of
from gd_lightning.problems import Arrays, ExamScores, NoisyLine, Parabola, Problem, SteepLine
from gd_lightning.records.history import BY_UPDATE, History
from gd_lightning.tracking.thinned_rows import LoggedRows
from tests.conftest import MakeTrainer


class MeasuresEachUpdate(Callback):
    """Measures the train loss by a forward pass after each update, which it has one by one."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        samples = trainer.datamodule.train  # type: ignore[attr-defined]
        with torch.no_grad():
            self.losses.append((pl_module(samples.x) - samples.y).double().square().mean().item())

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.on_train_start(trainer, pl_module)


def _table(outputs: int = 1, mean: float = 0.0) -> Problem:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 3, generator=generator) + mean
    y = x @ torch.randn(3, outputs, generator=generator) + 0.3 * torch.randn(40, outputs, generator=generator)
    return Arrays(x.numpy(), y.numpy())


CASES: dict[str, tuple[Problem, dict[str, Any], dict[str, Any]]] = {
    "system 1": (SteepLine(), {"batch_size": 1}, {"lr": 0.01}),
    "a noisy line, mini-batches": (NoisyLine(), {"batch_size": 7}, {"lr": 0.1}),
    "an exact fit": (Arrays(np.arange(6.0)[:, None], 3 * np.arange(6.0)), {"batch_size": 2}, {"lr": 0.05}),
    "large values, standardised": (ExamScores(), {"batch_size": 1, "standardize": True}, {"lr": 0.05}),
    "several features": (_table(), {"batch_size": 1}, {"lr": 0.01, "momentum": 0.5}),
    "several targets, penalties": (_table(2), {"batch_size": 8}, {"lr": 0.1, "weight_decay": 0.1, "l1": 0.01}),
    "no bias": (_table(), {"batch_size": 8}, {"lr": 0.1, "bias": False}),
    "no bias, centred features": (_table(mean=9), {"batch_size": 8, "standardize": True}, {"lr": 0.1, "bias": False}),
    "Adam": (_table(), {"batch_size": 8}, {"lr": 0.1, "optimizer": {"class_path": "torch.optim.Adam"}}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_curve_at_every_update_is_the_measured_train_loss(name: str, make_trainer: MakeTrainer) -> None:
    problem, of_data, of_model = CASES[name]
    recorder, measured = HistoryRecorder(), MeasuresEachUpdate()
    data = RegressionDataModule(problem, **of_data)
    make_trainer(callbacks=[recorder, measured], max_epochs=2).fit(RegressionModule(**of_model), data)
    updates, losses = recorder.history.curve("train_loss")
    assert updates.tolist() == list(range(len(measured.losses)))
    np.testing.assert_allclose(recorder.history[BY_UPDATE], measured.losses, rtol=1e-6, atol=1e-9 * losses[0])
    at_ends = recorder.history.series("train_loss")
    np.testing.assert_array_equal(losses[at_ends[0].astype(int)], at_ends[1])  # where it was measured, it is as it was


def test_it_is_computed_when_somebody_reads_it(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def solved(*given: Any) -> Optimum:
        calls.append(1)
        return least_squares_of(*given)

    monkeypatch.setattr(parameter_columns, "least_squares_of", solved)
    recorder, data = HistoryRecorder(), RegressionDataModule(SteepLine(), batch_size=1)
    make_trainer(callbacks=[recorder], max_epochs=2).fit(RegressionModule(lr=0.01), data)
    assert not calls
    assert "train_loss" in recorder.history
    assert len(recorder.history.curve("train_loss")[0])
    assert calls


def test_without_least_squares_there_is_the_measured_curve_alone(make_trainer: MakeTrainer) -> None:
    """The full batch is measured after each update; another loss than the squared error is no quadratic form."""
    cases: list[tuple[Any, dict[str, Any]]] = [("full", {}), (10, {"loss": "mae"}), (10, {"l1": 0.0})]
    for batch_size, of_model in cases:
        recorder, data = HistoryRecorder(), RegressionDataModule(NoisyLine(), batch_size)
        make_trainer(callbacks=[recorder], max_epochs=2).fit(RegressionModule(lr=0.01, **of_model), data)
        assert (BY_UPDATE in recorder.history) == ("l1" in of_model)


def _trained(make_trainer: MakeTrainer, every: Any, engine: str, batch_size: int) -> tuple[History, NDArray[Any]]:
    torch.manual_seed(0)
    recorder, module = HistoryRecorder(train_loss_every=every), RegressionModule(0.1, hidden_sizes=[3], engine=engine)  # type: ignore[arg-type]
    make_trainer(callbacks=[recorder], max_epochs=4).fit(module, RegressionDataModule(Parabola(), batch_size))
    return recorder.history, torch.cat([each.detach().flatten() for each in module.parameters()]).numpy()


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_other_networks_are_measured_where_that_is_asked_for_and_end_at_the_same_bits(
    engine: str, make_trainer: MakeTrainer
) -> None:
    plain, weights = _trained(make_trainer, "auto", engine, 7)
    each, _ = _trained(make_trainer, 1, engine, 7)
    for every in (1, 4, 23):
        history, found = _trained(make_trainer, every, engine, 7)
        np.testing.assert_array_equal(found, weights)
        np.testing.assert_array_equal(history["batch_loss"], plain["batch_loss"])
        np.testing.assert_array_equal(history["train_loss"], plain["train_loss"])
        updates, losses = history.curve("train_loss")
        expected = sorted({*range(0, 49, every), *plain.series("train_loss")[0]} & {*range(49)})
        assert [u for u in updates if u < 49] == expected
        np.testing.assert_array_equal(losses, each.curve("train_loss")[1][updates.astype(int)])


def test_loggers_get_one_train_loss() -> None:
    history = History()
    history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=4.0, **{BY_UPDATE: 4.1})
    history.append(update=1, epoch=0.5, samples=8, seconds=0.1, **{BY_UPDATE: 3.0})
    rows = list(LoggedRows(2, 1).new(history, to_the_end=True))
    assert [row["train_loss"] for row in rows] == [4.0, 3.0]
    assert not any(BY_UPDATE in row for row in rows)


def test_an_interval_below_1_is_refused() -> None:
    with pytest.raises(InputError, match="every 0 updates"):
        HistoryRecorder(train_loss_every=0)
