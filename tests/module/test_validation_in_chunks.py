"""Validations at the ends of epochs within a chunk: what they measure, and who looks at each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from gd_lightning import HistoryRecorder, LinearProblem, Problem, RegressionDataModule, RegressionModule
from gd_lightning.module.metrics import MeanAbsoluteError
from tests.conftest import MakeTrainer
from tests.module.test_chunks_of_epochs import FUSED, Cuts

EPOCHS = 12
ENGINES = ["autograd", *(["fused"] if FUSED else [])]


class SeveralOutputs(Problem):
    """Three targets of two features."""

    def sample(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        x, noise = torch.randn(30, 2, generator=generator), torch.randn(30, 3, generator=generator)
        return x, x @ torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]]) + noise


def _data(outputs: int = 1, **options: Any) -> RegressionDataModule:
    problem = LinearProblem(n_samples=30, n_features=2) if outputs == 1 else SeveralOutputs()
    return RegressionDataModule(problem, **{"batch_size": "full", "val_size": 9, **options})


def _fit(
    make_trainer: MakeTrainer,
    module: RegressionModule,
    data: RegressionDataModule,
    *callbacks: Callback,
    **options: Any,
) -> Trainer:
    module.fewest_fused_updates = 0
    trainer = make_trainer(callbacks=list(callbacks), **{"max_epochs": EPOCHS, **options})
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("outputs", "loss", "batch_size"),
    [
        (3, "huber", 4),
        pytest.param(1, "mse", "full", marks=pytest.mark.slow),
        pytest.param(1, "mae", 6, marks=pytest.mark.slow),
    ],
)
def test_measures_are_those_of_the_weights_at_the_ends_of_epochs(
    make_trainer: MakeTrainer, engine: Any, outputs: int, loss: Any, batch_size: Any
) -> None:
    data = _data(outputs, batch_size=batch_size)
    recorder, cuts = HistoryRecorder(), Cuts(10**6)
    module = RegressionModule(lr=0.02, loss=loss, engine=engine)
    _fit(make_trainer, module, data, recorder, cuts, precision="64-true")
    assert cuts.chunks < EPOCHS
    history, samples = recorder.history, data.parts[1]
    x, y = samples.x.double().numpy(), samples.y.double().numpy()
    names = [name for name in history.columns if name.startswith(("w", "b_")) or name == "b"]
    every = data.variant.updates_per_epoch
    rows = [row for row in history.rows_at(history.measured("val_mse")) if row["update"]]
    assert [row["update"] for row in rows] == [every * epoch for epoch in range(1, EPOCHS + 1)]
    for row in rows:
        values = np.array([row[name] for name in names])
        weight, bias = values[: 2 * outputs].reshape(outputs, 2), values[2 * outputs :]
        error = x @ weight.T + bias - y
        huber = np.where(abs(error) < 1, error**2 / 2, abs(error) - 0.5)
        expected = {"mse": (error**2).mean(), "mae": abs(error).mean(), "huber": huber.mean()}
        assert row["val_loss"] == pytest.approx(expected[loss], rel=1e-12)
        assert row["val_mse"] == pytest.approx(expected["mse"], rel=1e-12)
        assert row["val_mae"] == pytest.approx(expected["mae"], rel=1e-12)
        r2 = 1 - (error**2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
        assert row["val_r2"] == pytest.approx(r2.mean(), rel=1e-9, abs=1e-9)


class Looks(Callback):
    """Counts the validations behind updates that it is told of."""

    looks = 0

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.looks += trainer.global_step > 0


class LooksAtStarts(Callback):
    looks = 0

    def on_validation_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.looks += trainer.global_step > 0


class LooksAtBatches(Callback):
    looks = 0

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.looks += trainer.global_step > 0


class NewRecorder(HistoryRecorder):
    looks = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self.looks += trainer.global_step > 0


class StopsEarly(EarlyStopping):
    looks = 0

    def _evaluate_stopping_criteria(self, current: Tensor) -> Any:
        self.looks += 1
        return super()._evaluate_stopping_criteria(current)


class OddModule(RegressionModule):
    looks = 0

    def on_validation_epoch_end(self) -> None:
        self.looks += self.trainer.global_step > 0


class OddStep(RegressionModule):
    looks = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.looks += self.trainer.global_step > 0


class OddMetrics(RegressionModule):
    """Has a metric more."""

    looks = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.val_metrics.add_metrics({"more": MeanAbsoluteError()})

    def eval(self) -> Any:
        self.looks += self._trainer is not None and self.trainer.global_step > 0 and self.trainer.validating
        return super().eval()


def _replaced() -> Callback:
    callback = Looks()
    own = Looks.on_validation_end
    callback.on_validation_start = lambda *of_hook: own(callback, *of_hook)  # type: ignore[method-assign]
    callback.on_validation_end = Callback().on_validation_end  # type: ignore[method-assign]
    return callback


LOOKING: dict[str, Callable[[], Any]] = {
    "end": Looks,
    "start": LooksAtStarts,
    "batches": LooksAtBatches,
    "replaced": _replaced,
    "recorder": NewRecorder,
    "early stopping": lambda: StopsEarly("val_loss", patience=EPOCHS),
    "module": lambda: OddModule(lr=0.02),
    "step": lambda: OddStep(lr=0.02),
}


@pytest.mark.parametrize(("name", "every"), [(name, 1 + 2 * (i % 2)) for i, name in enumerate(LOOKING)])
def test_what_looks_at_single_validations_gets_them(make_trainer: MakeTrainer, name: str, every: int) -> None:
    looks = LOOKING[name]()
    is_module = isinstance(looks, LightningModule)
    callbacks = [] if is_module else [looks]
    _fit(
        make_trainer, looks if is_module else RegressionModule(lr=0.02), _data(), HistoryRecorder(), *callbacks,
        check_val_every_n_epoch=every,
    )  # fmt: skip
    assert looks.looks == EPOCHS // every


def test_each_validation_is_recorded_with_other_metrics(make_trainer: MakeTrainer) -> None:
    recorder = HistoryRecorder()
    _fit(make_trainer, OddMetrics(lr=0.02), _data(), recorder)
    updates, more = recorder.history.series("val_more")
    assert updates.tolist() == list(range(1, EPOCHS + 1))
    assert more.tolist() == recorder.history.series("val_mae")[1].tolist()


def test_a_logger_gets_each_validation(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    _fit(make_trainer, RegressionModule(lr=0.02), _data(), logger=logger)
    rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + EPOCHS


def test_checkpoints_of_the_best_are_those_of_single_epochs(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    found = []
    for cuts in (Cuts(1), Cuts(10**6)):
        best = ModelCheckpoint(tmp_path / f"{cuts.most}", monitor="val_loss", filename="{epoch}")
        _fit(
            make_trainer, RegressionModule(lr=0.9, initialization="zero"), _data(batch_size=1), HistoryRecorder(), best,
            cuts, enable_checkpointing=True,
        )  # fmt: skip
        found.append((Path(best.best_model_path).name, float(best.best_model_score or 0)))
    assert found[0] == found[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_metrics_are_those_of_the_last_validation(make_trainer: MakeTrainer, engine: Any) -> None:
    """The last chunk ends behind an epoch without one."""
    found = []
    for recorder in ([], [HistoryRecorder()]):
        torch.manual_seed(0)
        module = RegressionModule(lr=0.02, engine=engine)
        trainer = _fit(make_trainer, module, _data(), *recorder, Cuts(10**6), check_val_every_n_epoch=5, max_epochs=14)
        found.append({name: float(value) for name, value in trainer.callback_metrics.items() if "val" in name})
    torch.manual_seed(0)
    looking = _fit(
        make_trainer, RegressionModule(lr=0.02, engine=engine), _data(), Looks(), check_val_every_n_epoch=5,
        max_epochs=14,
    )  # fmt: skip
    expected = {name: float(value) for name, value in looking.callback_metrics.items() if "val" in name}
    assert found == [expected, expected]
    assert set(expected) == {"val_loss", "val_mae", "val_mse", "val_r2"}
