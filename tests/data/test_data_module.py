from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from gd_lightning import NoisyLine, Problem, RegressionDataModule, RegressionModule, SteepLine, Table
from gd_lightning.errors import InputError
from tests.conftest import MakeTrainer
from tests.other_projects import ModuleWithoutForward


@dataclass
class Given(Problem):
    """Hands on whatever tensors it was given."""

    x: Any = None
    y: Any = None

    def sample(self) -> tuple[Tensor, Tensor]:
        return self.x, self.y

    def hyperparameters(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("val_size", "test_size", "sizes"),
    [
        (None, 0, (100, 0, 0)),
        (0.2, 0.1, (70, 20, 10)),
        (7, 3, (90, 7, 3)),
        (0, 0.5, (50, 0, 50)),
        (0.0, 0, (100, 0, 0)),
    ],
)
def test_a_split_has_the_sizes_asked_for_without_overlap(
    val_size: float | None, test_size: float, sizes: tuple[int, int, int]
) -> None:
    data = RegressionDataModule(SteepLine(), val_size=val_size, test_size=test_size)
    assert tuple(len(part.x) for part in data.parts) == sizes
    everything = torch.cat([part.x for part in data.parts])
    assert torch.equal(everything.sort(dim=0).values, SteepLine().sample()[0].sort(dim=0).values)
    assert torch.equal(data.train.x, data.train.x.sort(dim=0).values)  # the given order is kept


def test_a_split_depends_on_its_seed_alone() -> None:
    def rows(seed: int) -> Tensor:
        torch.rand(3)
        return RegressionDataModule(SteepLine(), val_size=0.3, seed=seed).train.x

    assert torch.equal(rows(1), rows(1))
    assert not torch.equal(rows(1), rows(2))


def test_a_prescribed_split_is_used_unless_another_is_asked_for() -> None:
    data, rows = RegressionDataModule(NoisyLine()), NoisyLine().split()[0]
    assert torch.equal(data.train.x, NoisyLine().sample()[0][rows].float())
    assert [len(part.x) for part in RegressionDataModule(NoisyLine(), val_size=0.5).parts] == [50, 50, 0]


@pytest.mark.parametrize(
    "options", [{"val_size": 1.5}, {"val_size": -1}, {"val_size": 0.6, "test_size": 0.4}, {"val_size": 100}]
)
def test_splits_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        RegressionDataModule(SteepLine(), **options).setup()  # type: ignore[arg-type]


def test_data_are_the_same_in_every_precision() -> None:
    single = RegressionDataModule(SteepLine()).train
    torch.set_default_dtype(torch.float64)  # as a Trainer does, around parts of a run
    try:
        double = RegressionDataModule(SteepLine()).train
    finally:
        torch.set_default_dtype(torch.float32)
    assert double.y.dtype is torch.float64
    torch.testing.assert_close(double.y, single.y.double(), rtol=0, atol=0)


def test_another_seed_splits_anew_and_keeps_the_data() -> None:
    data = RegressionDataModule(SteepLine(), val_size=0.2)
    other = data.with_seed(1)
    assert (data.seed, other.seed, other.hparams["seed"], data.hparams["seed"]) == (0, 1, 1, 0)
    assert not torch.equal(data.train.x, other.train.x)
    assert torch.equal(other.train.x, RegressionDataModule(SteepLine(), val_size=0.2, seed=1).train.x)
    whole = RegressionDataModule(SteepLine())
    assert whole.with_seed(1).train is whole.train


@pytest.mark.parametrize("batch_size", [0, -1, 101])
def test_batch_sizes_that_do_not_fit_are_refused(batch_size: int) -> None:
    with pytest.raises(
        InputError, match=rf"use {batch_size} as batch_size|batch_size {batch_size}, because there are only 100"
    ):
        RegressionDataModule(SteepLine(), batch_size=batch_size).setup()
    with pytest.raises(InputError, match="there are only 80 training samples"):
        RegressionDataModule(SteepLine(), batch_size=90, val_size=0.2).setup()  # after the split


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(5, 1), torch.zeros(5), r"\(5, 1\).*\(5,\)"),
        (torch.zeros(5), torch.zeros(5, 1), r"\(5,\).*\(5, 1\)"),
        (torch.zeros(5, 1), torch.zeros(4, 1), "5 rows and y has 4"),
        (torch.zeros(5, 1), torch.zeros(5, 1, dtype=torch.long), "int64"),
        (torch.zeros(5, 1), torch.full((5, 1), torch.nan), "y is not finite in row 0"),
        (torch.tensor([[0.0], [torch.inf]]), torch.zeros(2, 1), "x is not finite in row 1"),
        (torch.zeros(0, 1), torch.zeros(0, 1), "no rows"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RegressionDataModule(Given(x, y)).setup()


def test_the_loader_of_the_default_is_batch_gradient_descent() -> None:
    data = RegressionDataModule(SteepLine())
    assert data.train_dataloader().batch_size == 100
    assert data.variant.name == "batch"


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_data_come_in_the_precision_of_the_trainer(make_trainer: MakeTrainer, precision: Any) -> None:
    data = RegressionDataModule(NoisyLine())
    data.trainer = make_trainer(precision=precision)
    assert data.train.x.dtype == (torch.float64 if precision == "64-true" else torch.float32)


def test_a_checkpoint_makes_data_and_module_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    data = RegressionDataModule(SteepLine(seed=3), batch_size=16, val_size=0.2, seed=5, standardize=True)
    module = RegressionModule(lr=0.01)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, data)
    path = tmp_path / "run.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    assert torch.load(path, weights_only=True)["datamodule_hyper_parameters"]["batch_size"] == 16
    again = RegressionDataModule.load_from_checkpoint(path)
    assert torch.equal(again.train.y, data.train.y)
    assert again.variant == data.variant
    loaded = RegressionModule.load_from_checkpoint(path, weights_only=True)
    assert torch.equal(loaded(data.train.x), module(data.train.x))


def test_a_module_that_would_not_standardise_is_refused(make_trainer: MakeTrainer) -> None:
    module, data = ModuleWithoutForward(torch.nn.Linear(1, 1)), RegressionDataModule(SteepLine(), standardize=True)
    with pytest.raises(InputError, match="cannot standardize for ModuleWithoutForward"):
        make_trainer(max_epochs=1).fit(module, data)


def test_the_trainer_keeps_its_limit_of_validation_batches(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1, limit_val_batches=3)
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(SteepLine()))
    assert trainer.limit_val_batches == 3


def test_predictions_on_new_inputs_need_a_table_with_the_same_features(tmp_path: Path) -> None:
    path, new = tmp_path / "table.csv", tmp_path / "new.csv"
    path.write_text("a,b,y\n1,2,3\n4,5,6\n")
    new.write_text("b,other,a\n8,0,7\n")
    data = RegressionDataModule(Table(str(path)), predict_inputs=str(new))
    assert data.prediction_inputs().tolist() == [[7, 8]]
    assert data.prediction_targets() is None
    with pytest.raises(InputError, match="not a table"):
        RegressionDataModule(SteepLine(), predict_inputs=str(new)).prediction_inputs()


def test_inputs_that_are_too_large_for_the_precision_are_refused(tmp_path: Path) -> None:
    path, new = tmp_path / "table.csv", tmp_path / "new.csv"
    path.write_text("a,y\n1,3\n4,6\n")
    new.write_text("a\n1\n1e39\n")
    with pytest.raises(InputError, match=r"row 2 of the data is not finite in torch.float32"):
        RegressionDataModule(Table(str(path)), predict_inputs=str(new), standardize="none").prediction_inputs()


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="order 'random'"):
        RegressionDataModule(SteepLine(), order="random")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed -1"):
        RegressionDataModule(SteepLine(), seed=-1)


@pytest.mark.parametrize(
    ("data", "trainer"),
    [
        ({"standardize": True}, {}),
        ({"micro_batch_size": 2}, {}),
        ({}, {"devices": 2, "strategy": "ddp", "use_distributed_sampler": True}),
    ],
    ids=["standardize", "micro_batch_size", "sampler"],
)
def test_a_refusal_leaves_the_loaders_of_other_runs_as_they_are(
    make_trainer: MakeTrainer, data: dict[str, Any], trainer: dict[str, Any]
) -> None:
    """Lightning changes torch's class while it asks for a loader, and forgets to change it back behind an exception."""
    refused = RegressionDataModule(SteepLine(), **data)
    refused.trainer = make_trainer(max_epochs=1, **trainer)
    refused.trainer.strategy._lightning_module = LightningModule()  # what it would train
    with pytest.raises(InputError):
        refused.setup("fit")
    with pytest.raises(InputError):
        refused.train_dataloader()
