"""What a message advises in Python works when it is followed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gd_lightning import (
    BatchLoader,
    ExamScores,
    ExcessBelow,
    FourPoints,
    GradientNormBelow,
    History,
    HistoryRecorder,
    InputError,
    LastCheckpoint,
    LinearProblem,
    LossBelow,
    LossPlateau,
    PrintUpdates,
    Problem,
    RegressionDataModule,
    RegressionModule,
    Samples,
    Standardize,
    StopOnDivergence,
    Table,
    TimeBudget,
    Variant,
    compare,
    explore,
    fit,
)
from gd_lightning.engine import Chunk, FusedEngine
from gd_lightning.engine.many.batched import BatchedPopulation
from gd_lightning.engine.many.fused import FusedPopulation
from gd_lightning.experiments import plan, sweep
from gd_lightning.experiments.comparison.compared_runs import Comparison
from gd_lightning.experiments.sweeps.grid import Grid
from gd_lightning.experiments.sweeps.sweep import SweepTask
from gd_lightning.losses import mean_loss
from gd_lightning.models import MLPRegressor, initialize
from gd_lightning.module import predictor_of
from gd_lightning.module.trainer_checks import check_strategy
from gd_lightning.plots.interactive.animation_content import Track
from tests.advice.messages import messages, pattern
from tests.conftest import MakeTrainer
from tests.selection import every

Do = Callable[[MakeTrainer, Path], object]


def _fit(
    make_trainer: MakeTrainer,
    *callbacks: Any,
    data: Any = None,
    model: dict[str, Any] | None = None,
    module: LightningModule | None = None,
    **options: Any,
) -> LightningModule:
    module = module or RegressionModule(**{"lr": 0.01, **(model or {})})
    trainer = make_trainer(max_epochs=2, callbacks=list(callbacks), **options)
    trainer.fit(module, RegressionDataModule(FourPoints()) if data is None else data)
    return module


def _recorded(callback: Any, **options: Any) -> Do:
    return lambda make_trainer, _: _fit(make_trainer, HistoryRecorder(), callback(), **options)


def _table_of(path: Path, array: NDArray[Any]) -> object:
    np.save(path / "table.npy", array, allow_pickle=True)
    return Table(str(path / "table.npy"), targets=["1"]).sample()


def _alone(do: Callable[[], object]) -> Do:
    return lambda *_: do()


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Any:
        return iter([(torch.ones(1), torch.ones(1))] * 4)


class Own(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        prediction: Tensor = self.network(x)
        return prediction

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return mean_loss(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class OwnStep(RegressionModule):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return super().training_step(batch, batch_idx)


@dataclass
class Forgetful(Problem):
    kept: bool = False

    def __post_init__(self) -> None:
        if not self.kept:
            del self.__dict__["kept"]

    def __getattribute__(self, name: str) -> Any:
        if name == "kept" and name not in object.__getattribute__(self, "__dict__"):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def sample(self) -> tuple[Tensor, Tensor]:
        return FourPoints().sample()


@dataclass
class Holds(Problem):
    value: Any

    def sample(self) -> tuple[Tensor, Tensor]:
        return FourPoints().sample()


def _pairs() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(4, 1), torch.ones(4, 1)), batch_size=2)


def _network(**options: Any) -> RegressionModule:
    module = RegressionModule(in_features=1, out_features=1, **options)
    module.configure_model()
    return module


def _saved(module: RegressionModule, make_trainer: MakeTrainer, directory: Path) -> Path:
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, RegressionDataModule(FourPoints()))
    trainer.save_checkpoint(directory / "saved.ckpt")
    return directory / "saved.ckpt"


def _continued(make_trainer: MakeTrainer, directory: Path, lr: float) -> None:
    path = _saved(RegressionModule(lr=0.01), make_trainer, directory)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(RegressionModule(lr=lr), RegressionDataModule(FourPoints()), ckpt_path=path)


def _loader(batch_size: int, samples: int) -> None:
    data = Samples(torch.ones(6, 1), torch.ones(6, 1))
    BatchLoader(data, Variant(batch_size, 6)).load_state_dict({"samples": samples})


def _animated_into(path: Path, is_directory: bool) -> None:
    if is_directory:
        path.mkdir()
    fit(FourPoints(), lr=0.01, epochs=2).animate().save(path)


def _outcome(**options: Any) -> object:
    data = RegressionDataModule(FourPoints())
    module = RegressionModule(**options)
    module.configure_for(data)
    return predictor_of(module, data.train.pieces, data.variant, 10)


def _engine(dtype: torch.dtype = torch.float32, rows: int = 4, network: nn.Module | None = None) -> None:
    network = network or nn.Linear(1, 1)
    engine = FusedEngine(network, torch.optim.SGD(network.parameters(), lr=0.01))
    x = torch.ones(4, 1, dtype=dtype)
    chunk = Chunk(x, x, torch.arange(rows), Variant(2, 4), 0, 2)
    engine.prepare(chunk)
    engine.carry_out(chunk)


PLATEAU: dict[str, Any] = {
    "class_path": f"{ReduceLROnPlateau.__module__}.{ReduceLROnPlateau.__name__}",
    "init_args": {"monitor": "train_loss"},
}


@dataclass
class Zero(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.arange(4.0)[:, None], torch.zeros(4, 1)


class Remembers(Callback):
    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}


class Copies(Callback):
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.copied = copy.deepcopy(pl_module)


class SizedPairs(LightningDataModule):
    in_features = out_features = None

    def setup(self, stage: str) -> None:
        self.in_features = self.out_features = 1

    def train_dataloader(self) -> DataLoader[Any]:
        return _pairs()


def _huge(in_features: int, out_features: int) -> nn.Module:
    network = nn.Linear(in_features, out_features)
    nn.init.constant_(network.weight, 1e30)
    return network


def _standardized_own(make_trainer: MakeTrainer, _: Path) -> None:
    data, module = RegressionDataModule(FourPoints()), Own()
    module.network = nn.Sequential(Standardize.fit(lambda: [data.train.x]), module.network)  # type: ignore[assignment]
    assert module(data.train.x).isfinite().all()
    _fit(make_trainer, data=data, module=module)


def _of_two_processes(use_distributed_sampler: bool) -> None:
    data = RegressionDataModule(FourPoints())
    data.trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=use_distributed_sampler,
    )
    data.train_dataloader()


def _split_trainer() -> Trainer:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer._accelerator_connector.strategy = FSDPStrategy(accelerator=trainer.accelerator)
    return trainer


def _loaded() -> RegressionModule:
    module = RegressionModule(lr=0.01, in_features=1, out_features=1)
    module.load_state_dict({"network.weight": torch.ones(1, 1), "network.bias": torch.ones(1)})
    return module


def _compared(path: Path | None, **options: Any) -> None:
    compare(FourPoints(), batch_sizes=["full", 2], seeds=1, max_epochs=1, **{"lrs": 0.01, **options})


def _averaged(make_trainer: MakeTrainer, epochs: int, checkpoint: Path | None, directory: Path) -> Path:
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, device=None)
    trainer = make_trainer(max_epochs=epochs, callbacks=[HistoryRecorder(), averaging])
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(FourPoints()), ckpt_path=checkpoint)
    trainer.save_checkpoint(directory / "averaged.ckpt")
    return directory / "averaged.ckpt"


def _swept(module: RegressionModule) -> None:
    data = RegressionDataModule(FourPoints())
    grid = Grid.of({"lr": [0.01, 0.02], "batch_size": ["full"]}, module, data, 1)
    SweepTask(grid, ((0, 0),), 1).train(module, data)


def _softsign() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 2), nn.Softsign(), nn.Linear(2, 1))


def _with_problem(problem: dict[str, Any] | None, make_trainer: MakeTrainer, directory: Path) -> Path:
    """Return a checkpoint that names another problem than it was made with, or none."""
    path = _saved(RegressionModule(lr=0.01), make_trainer, directory)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["gd_lightning_schema"]["options"]  # which earlier versions did not write
    if problem is None:
        del checkpoint["datamodule_hyper_parameters"]["problem"]
    else:
        checkpoint["datamodule_hyper_parameters"]["problem"] |= problem
    torch.save(checkpoint, path)
    return path


def _data_of(saved: dict[str, Any] | None, **given: Any) -> Do:
    return lambda make_trainer, path: RegressionDataModule.load_from_checkpoint(
        _with_problem(saved, make_trainer, path), **given
    )


def _scripted(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is an old way
        made: nn.Module = torch.jit.script(network)
    return made


_STRANGER: dict[str, Any] = {"class_path": "stranger.Problem"}
_NO_SUCH_ARGUMENT: dict[str, Any] = {"init_args": {"n": 1}}


# By a part of the message as it stands in the source: what brings it about, and what follows its advice.
_MISSING: tuple[Literal["drop", "mean"] | None, ...] = ("drop", "mean", None)
ADVICE: dict[str, tuple[Do, list[Do]]] = {
    "cannot use {} as {} of the Trainer; give {}": (
        _alone(lambda: fit(max_epochs="1")),
        [_alone(lambda: fit(max_epochs=1)), _alone(lambda: fit(max_epochs=None, max_steps=1))],
    ),
    "cannot train with these options of the Trainer, because it reports: {}; give others": (
        _alone(lambda: fit(max_epochs=1, profiler="nope")),
        [_alone(lambda: fit(max_epochs=1, profiler="simple"))],
    ),
    "cannot use these options, because {} reports: {}; change its options, or leave it out": (
        _alone(lambda: fit(max_epochs=1, callbacks=EarlyStopping("nope"))),
        [_alone(lambda: fit(max_epochs=1, callbacks=EarlyStopping("train_loss"))), _alone(lambda: fit(max_epochs=1))],
    ),
    "cannot train {} on these data, because it reports: {}; give a network that takes features of shape (B, D) and "
    "returns predictions of shape (B, K)": (
        _alone(lambda: fit(max_epochs=1, network=nn.Linear(3, 1))),
        [_alone(lambda: fit(max_epochs=1, network=nn.Linear(1, 1)))],
    ),
    "cannot train {}, because it was compiled by torch.jit, and its copies cannot be trained; give the network that it "
    "was made from": (
        _alone(lambda: fit(max_epochs=1, network=_scripted(nn.Linear(1, 1)))),
        [_alone(lambda: fit(max_epochs=1, network=nn.Linear(1, 1)))],
    ),
    "sparse, or on the device meta, because a loss needs all of their values; make them a dense tensor": (
        _alone(lambda: mean_loss(torch.ones(4, 1).to_sparse(), torch.ones(4, 1))),
        [_alone(lambda: mean_loss(torch.ones(4, 1).to_sparse().to_dense(), torch.ones(4, 1)))],
    ),
    "cannot {}, because that takes {} of memory at least, and {} are free; give {}": (
        _alone(lambda: compare(FourPoints(), seeds=10**7, batch_sizes=["full"], epochs=1)),
        [_alone(lambda: compare(FourPoints(), seeds=1, batch_sizes=["full"], epochs=1))],
    ),
    "it contains Python objects; save an array of numbers": (
        lambda _, path: _table_of(path, np.array([[1, {}], [2, "b"]], dtype=object)),
        [lambda _, path: [_table_of(path, np.array(rows)) for rows in ([[1.5, 2], [3, 4]], [[1, 2], [3, 4]])]],
    ),
    "because the train loss of these data cannot be measured; give data that have a length": (
        _recorded(lambda: LossBelow(0.1), data=DataLoader(Endless(), batch_size=2), module=Own()),
        [_recorded(lambda: LossBelow(0.1), data=_pairs(), module=Own())],
    ),
    "features and outputs ({}); give network a class or function that takes these two": (
        _alone(lambda: fit(network=lambda: nn.Linear(1, 1), max_epochs=1)),
        [_alone(lambda: fit(network=nn.Linear, max_epochs=1))],
    ),
    "against samples; train it with HistoryRecorder": (
        _alone(lambda: Track.of("a run", History(), None)),
        [_alone(lambda: fit(FourPoints(), lr=0.01, epochs=2).animate())],
    ),
    "because its name does not end in a known format; use html, gif or mp4": (
        lambda _, directory: fit(FourPoints(), lr=0.01, epochs=2).animate().save(directory / "run.png"),
        [lambda _, directory: fit(FourPoints(), lr=0.01, epochs=2).animate().save(directory / "run.html")],
    ),
    "cannot write an animation to {}, because that is a directory; give a file's name": (
        lambda _, directory: _animated_into(directory / "run.html", is_directory=True),
        [lambda _, directory: _animated_into(directory / "other.html", is_directory=False)],
    ),
    "shows a line over one feature; give one feature and one target": (
        _alone(lambda: explore(LinearProblem(n_features=2))),
        [_alone(lambda: explore(LinearProblem(n_features=1)))],
    ),
    "time a slider is moved; give at most {}, for example by a larger val_size": (
        _alone(lambda: explore(LinearProblem(n_samples=10_100, n_features=1))),
        [_alone(lambda: explore(LinearProblem(n_samples=10_100, n_features=1), val_size=0.1))],
    ),
    "cannot explore this module": (
        _alone(lambda: explore(loss="mae")),
        [_alone(explore)],
    ),
    "cannot explore a line without bias": (_alone(lambda: explore(bias=False)), [_alone(explore)]),
    "values of the feature are {}; give data in which it varies": (
        _alone(lambda: explore(([2.0, 2.0], [1.0, 2.0]))),
        [_alone(lambda: explore(([2.0, 3.0], [1.0, 2.0])))],
    ),
    "squares of their numbers are beyond float64; set standardize, or give": (
        _alone(lambda: explore(([1e90, 3e90], [1.0, 2.0]), precision="64-true", standardize=False)),
        [
            _alone(lambda: explore(([1e90, 3e90], [1.0, 2.0]), precision="64-true", standardize=True)),
            _alone(lambda: explore(([1.0, 3.0], [1.0, 2.0]), precision="64-true")),
        ],
    ),
    "cannot write a page to {}, because that is a directory; give the name of a file": (
        lambda _, directory: explore().save(directory),
        [lambda _, directory: explore().save(directory / "page.html")],
    ),
    "missing {} is unknown; use drop, mean or null": (
        lambda *_: Table("table.csv", missing="median"),  # type: ignore[arg-type]
        [lambda *_: [Table("table.csv", missing=missing) for missing in _MISSING]],
    ),
    "as a train loss; use a finite number": (
        _alone(lambda: LossBelow(float("nan"))),
        [_recorded(lambda: LossBelow(0.1))],
    ),
    "cannot be reached with certainty; use a finite number above 0": (
        _alone(lambda: ExcessBelow(0)),
        [_recorded(lambda: ExcessBelow(0.1, relative=False))],
    ),
    "has a least-squares solution; use LossBelow or GradientNormBelow": (
        _recorded(lambda: ExcessBelow(0.1), model={"loss": "mae"}),
        [
            _recorded(lambda: LossBelow(0.1), model={"loss": "mae"}),
            _recorded(lambda: GradientNormBelow(0.1), model={"loss": "mae"}),
        ],
    ),
    "as a gradient norm": (
        _alone(lambda: GradientNormBelow(-1)),
        [_recorded(lambda: GradientNormBelow(1.0))],
    ),
    "epochs for progress; use 1 or more": (
        _alone(lambda: LossPlateau(epochs=0)),
        [_recorded(lambda: LossPlateau(epochs=1))],
    ),
    "as a part of the loss; use 0 or more, and less than 1": (
        _alone(lambda: LossPlateau(min_delta=1)),
        [_recorded(lambda: LossPlateau(min_delta=0)), _recorded(lambda: LossPlateau(min_delta=0.5))],
    ),
    "cannot train for {} seconds": (_alone(lambda: TimeBudget(0)), [_recorded(lambda: TimeBudget(60.0))]),
    "as on_divergence; use stop or continue": (
        _alone(lambda: StopOnDivergence("wait")),  # type: ignore[arg-type]
        [_recorded(lambda: StopOnDivergence("stop")), _recorded(lambda: StopOnDivergence("continue"))],
    ),
    "because no HistoryRecorder comes before it; put one first in callbacks": (
        lambda make_trainer, _: _fit(make_trainer, LossBelow(0.1)),
        [_recorded(lambda: LossBelow(0.1))],
    ),
    "cannot show {} updates; use a whole number from 1": (
        _alone(lambda: PrintUpdates(0)),
        [_recorded(lambda: PrintUpdates(1))],
    ),
    "because that is not a multiple of batch_size {}": (
        _alone(lambda: _loader(4, 3)),
        [_alone(lambda: _loader(3, 3))],
    ),
    "order {} is unknown": (
        _alone(lambda: RegressionDataModule(FourPoints(), order="random")),  # type: ignore[arg-type]
        [
            _alone(lambda: RegressionDataModule(FourPoints(), order="shuffled").setup()),
            _alone(lambda: RegressionDataModule(FourPoints(), order="sequential").setup()),
            _alone(lambda: RegressionDataModule(FourPoints(), order="with_replacement").setup()),
        ],
    ),
    "cannot train on {} samples; leave at least one sample": (
        _alone(lambda: Variant.of("full", 0)),
        [_alone(lambda: Variant.of("full", 1))],
    ),
    "initialization {} is unknown": (
        _alone(lambda: _network(initialization="kaiming")),
        [
            _alone(lambda: _network(initialization="auto")),
            _alone(lambda: _network(initialization="he")),
            _alone(lambda: initialize(nn.Linear(1, 1), "default")),
            _alone(lambda: _network(initialization={"weight": 1.0})),
        ],
    ),
    "activation {} is unknown; use one of {}": (
        _alone(lambda: MLPRegressor(1, 1, [2], "step")),  # type: ignore[arg-type]
        [_alone(lambda: MLPRegressor(1, 1, [2], "relu"))],
    ),
    "{} {} is unknown; use one of {}": (
        _alone(lambda: RegressionModule(loss="log")),  # type: ignore[arg-type]
        [_alone(lambda: RegressionModule(loss="mae"))],
    ),
    "loss {} is unknown; use one of {}": (
        _alone(lambda: mean_loss(torch.ones(1, 1), torch.ones(1, 1), "log")),  # type: ignore[arg-type]
        [
            _alone(lambda: mean_loss(torch.ones(1, 1), torch.ones(1, 1), "mse")),
            _alone(lambda: mean_loss(torch.ones(1, 1), torch.ones(1, 1), "mae")),
            _alone(lambda: mean_loss(torch.ones(1, 1), torch.ones(1, 1), "huber")),
        ],
    ),
    "because both must be (B, K); reshape the targets with y.reshape(-1, 1)": (
        _alone(lambda: mean_loss(torch.ones(3, 1), torch.ones(3))),
        [_alone(lambda: mean_loss(torch.ones(3, 1), torch.ones(3).reshape(-1, 1)))],
    ),
    "cannot use engine fused, because {}; use engine auto or autograd": (
        lambda make_trainer, _: _fit(
            make_trainer, model={"engine": "fused", "optimizer": {"class_path": "torch.optim.NAdam"}}
        ),
        [
            lambda make_trainer, _: _fit(
                make_trainer, model={"engine": "auto", "optimizer": {"class_path": "torch.optim.NAdam"}}
            ),
            lambda make_trainer, _: _fit(
                make_trainer, model={"engine": "autograd", "optimizer": {"class_path": "torch.optim.NAdam"}}
            ),
        ],
    ),
    "use a linear regressor, the loss mse and SGD alone": (
        _alone(lambda: _outcome(loss="mae")),
        [_alone(lambda: _outcome())],
    ),
    "because the number of features is not known; train with a RegressionDataModule": (
        lambda make_trainer, _: _fit(make_trainer, data=_pairs()),
        [
            lambda make_trainer, _: _fit(make_trainer),
            lambda make_trainer, _: _fit(
                make_trainer, data=_pairs(), model={"in_features": 1, "out_features": 1}, limit_val_batches=0
            ),
        ],
    ),
    "because it contains a network of your own, {}; give network=": (
        lambda make_trainer, path: RegressionModule.load_from_checkpoint(
            _saved(RegressionModule(lr=0.01, network=nn.Linear(1, 1)), make_trainer, path), weights_only=True
        ),
        [
            lambda make_trainer, path: RegressionModule.load_from_checkpoint(
                _saved(RegressionModule(lr=0.01, network=nn.Linear(1, 1)), make_trainer, path),
                network=nn.Linear(1, 1),
                weights_only=True,
            )
        ],
    ),
    "leave it as it was, or start a new run without the checkpoint": (
        lambda make_trainer, path: _continued(make_trainer, path, 0.02),
        [
            lambda make_trainer, path: _continued(make_trainer, path, 0.01),
            lambda make_trainer, _: _fit(make_trainer, model={"lr": 0.02}),
        ],
    ),
    "give class_path, an imported subclass, and init_args": (
        lambda make_trainer, _: _fit(make_trainer, model={"optimizer": {"class_path": "torch.nn.Linear"}}),
        [
            lambda make_trainer, _: _fit(
                make_trainer, model={"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}}
            )
        ],
    ),
    "is not kept; set self.{} in its constructor": (
        _alone(lambda: RegressionDataModule(Forgetful())),
        [_alone(lambda: RegressionDataModule(Forgetful(kept=True)).setup())],
    ),
    "is not a plain value; use numbers, strings, lists and dicts as arguments": (
        _alone(lambda: RegressionDataModule(Holds(torch.ones(1)))),
        [
            _alone(lambda: RegressionDataModule(Holds(1.0))),
            _alone(lambda: RegressionDataModule(Holds("text"))),
            _alone(lambda: RegressionDataModule(Holds([1, {"a": 2}]))),
        ],
    ),
    "cannot fuse updates, because {}; use the autograd engine": (
        _alone(lambda: _engine(network=nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)))),
        [lambda make_trainer, _: _fit(make_trainer, model={"engine": "autograd"})],
    ),
    "cannot be trained on {} and {}; convert the data": (
        _alone(lambda: _engine(torch.float64)),
        [_alone(lambda: _engine(torch.float32))],
    ),
    "rows as the order of {} samples; give each sample once": (
        _alone(lambda: _engine(rows=3)),
        [_alone(lambda: _engine(rows=4))],
    ),
    "cannot vary {}; name an option of data, model or trainer": (
        _alone(lambda: compare(vary={"lr": [0.1, 0.2]}, seeds=1, max_epochs=1)),
        [_alone(lambda: compare(vary={"model.lr": [0.01, 0.02]}, seeds=1, max_epochs=1))],
    ),
    "lrs to {} batch sizes; give one, one for each, or best, or vary model.lr": (
        _alone(lambda: compare(batch_sizes=["full", 1], lrs=[0.1, 0.2, 0.3], seeds=1, max_epochs=1)),
        [
            _alone(lambda: compare(batch_sizes=["full", 16], lrs=0.01, seeds=1, max_epochs=1)),
            _alone(lambda: compare(batch_sizes=["full", 16], lrs=[0.01, 0.02], seeds=1, max_epochs=1)),
            _alone(lambda: compare(batch_sizes=["full", 16], lrs="best", seeds=1, max_epochs=1)),
            _alone(lambda: compare(batch_sizes=["full", 16], vary={"model.lr": [0.01, 0.02]}, seeds=1, max_epochs=1)),
        ],
    ),
    "cannot compare without runs; give the directories of runs": (
        _alone(lambda: Comparison.of([])),
        [_alone(lambda: compare(batch_sizes=["full"], lrs=0.01, seeds=1, max_epochs=1))],
    ),
    "cannot sweep {} epochs; use 1 or more": (
        _alone(lambda: sweep(FourPoints(), lrs=[0.01, 0.02], batch_sizes=["full"], seeds=1, max_epochs=0)),
        [_alone(lambda: sweep(FourPoints(), lrs=[0.01, 0.02], batch_sizes=["full"], seeds=1, max_epochs=1))],
    ),
    "cannot train with checkpoints that could not be loaded again": (
        lambda make_trainer, _: _fit(
            make_trainer, LastCheckpoint(), Remembers(Path("x")), logs=True, enable_checkpointing=True
        ),
        [
            lambda make_trainer, _: _fit(
                make_trainer, LastCheckpoint(), Remembers([1, {"a": "b"}]), logs=True, enable_checkpointing=True
            )
        ],
    ),
    "because the least-squares loss is 0 up to rounding": (
        _recorded(lambda: ExcessBelow(0.1, relative=True), data=RegressionDataModule(Zero())),
        [_recorded(lambda: ExcessBelow(0.1), data=RegressionDataModule(Zero()))],
    ),
    "because only a RegressionModule takes the layer from the data": (
        lambda make_trainer, _: _fit(
            make_trainer, data=RegressionDataModule(FourPoints(), standardize="both"), module=Own()
        ),
        [_standardized_own],
    ),
    "while Lightning shards them a second time; give Trainer(use_distributed_sampler=False)": (
        _alone(lambda: _of_two_processes(use_distributed_sampler=True)),
        [_alone(lambda: _of_two_processes(use_distributed_sampler=False))],
    ),
    "cannot fuse updates, because {}; use OneByOne": (
        _alone(lambda: FusedPopulation(_softsign())),
        [_alone(lambda: _swept(RegressionModule(network=_softsign())))],  # one by one: it is no chain that is known
    ),
    "at once, because {}; use OneByOne": (
        _alone(lambda: BatchedPopulation(_softsign())),
        [_alone(lambda: _swept(RegressionModule(network=_softsign())))],
    ),
    "leave the version out, or give directory to compare": (
        lambda _, path: _compared(path, trainer={"logger": CSVLogger(path, version="one")}),
        [
            lambda _, path: _compared(path, trainer={"logger": CSVLogger(path)}),
            lambda _, path: _compared(path, directory=path / "there"),
        ],
    ),
    "because it has a training step of its own, and the runs have no Trainer; use compare": (
        _alone(lambda: _swept(OwnStep())),
        [_alone(lambda: _compared(None))],
    ),
    "because it monitors what only a Trainer measures; use compare": (
        _alone(lambda: _swept(RegressionModule(lr_scheduler=PLATEAU))),
        [_alone(lambda: _compared(None, model={"lr_scheduler": PLATEAU}))],
    ),
    "; use features, targets, both or none": (
        _alone(lambda: RegressionDataModule(FourPoints(), standardize="all")),  # type: ignore[arg-type]
        [_alone(lambda: RegressionDataModule(FourPoints(), standardize="both"))],
    ),
    "scale the targets, or choose another initialization": (
        _alone(lambda: plan(FourPoints(), network=_huge)),
        [_alone(lambda: plan(FourPoints(), network=nn.Linear))],
    ),
    "because its weights are for {} that are not standardised; set standardize to none, or make a new module": (
        lambda make_trainer, _: _fit(
            make_trainer, module=_loaded(), data=RegressionDataModule(FourPoints(), standardize="both")
        ),
        [
            lambda make_trainer, _: _fit(make_trainer, module=_loaded()),
            lambda make_trainer, _: _fit(make_trainer, data=RegressionDataModule(FourPoints(), standardize="both")),
        ],
    ),
    "cannot predict before the network is made; train first, or give in_features and out_features": (
        _alone(lambda: RegressionModule()(torch.ones(1, 1))),
        [
            lambda make_trainer, _: _fit(make_trainer)(torch.ones(1, 1)),
            _alone(lambda: RegressionModule(in_features=1, out_features=1)(torch.ones(1, 1))),
        ],
    ),
    "cannot use the parameters before the network is made": (
        _alone(lambda: torch.optim.SGD(RegressionModule().parameters(), lr=0.1)),
        [
            _alone(lambda: torch.optim.SGD(RegressionModule(in_features=1, out_features=1).parameters(), lr=0.1)),
            lambda make_trainer, _: torch.optim.SGD(_fit(make_trainer).parameters(), lr=0.1),
        ],
    ),
    "cannot load weights before the network is made": (
        _alone(lambda: RegressionModule().load_state_dict(_network().state_dict())),
        [
            _alone(lambda: RegressionModule(in_features=1, out_features=1).load_state_dict(_network().state_dict())),
            lambda make_trainer, path: RegressionModule.load_from_checkpoint(
                _saved(RegressionModule(lr=0.01), make_trainer, path), weights_only=True
            ),
        ],
    ),
    "because Lightning would replace the order of the samples": (
        lambda make_trainer, _: _fit(make_trainer, overfit_batches=1),
        [
            lambda make_trainer, _: _fit(make_trainer, limit_train_batches=1),
            lambda make_trainer, _: _fit(make_trainer, data=RegressionDataModule(ExamScores()), model={"lr": 1e-4}),
        ],
    ),
    "cannot train with a BatchSizeFinder": (
        lambda make_trainer, _: _fit(make_trainer, BatchSizeFinder()),
        [lambda make_trainer, _: _fit(make_trainer, data=RegressionDataModule(FourPoints(), micro_batch_size=2))],
    ),
    "cannot train with a LearningRateFinder": (
        lambda make_trainer, _: _fit(make_trainer, LearningRateFinder()),
        [_alone(lambda: _swept(RegressionModule())), _alone(lambda: _compared(None, lrs="best"))],
    ),
    "because they would return neither network nor history; use {}": (
        lambda make_trainer, _: _fit(make_trainer, HistoryRecorder(), strategy="ddp_fork", devices=2),
        [lambda make_trainer, _: _fit(make_trainer, devices=1)],
    ),
    "because it does not leave a whole network on each device": (
        _alone(lambda: check_strategy(_split_trainer())),
        [lambda make_trainer, _: _fit(make_trainer, devices=1)],
    ),
    "because it copies the model before its network is made for these data": (
        lambda make_trainer, _: _fit(make_trainer, Copies(), data=SizedPairs(), limit_val_batches=0),
        [
            lambda make_trainer, _: _fit(
                make_trainer,
                Copies(),
                data=SizedPairs(),
                model={"in_features": 1, "out_features": 1},
                limit_val_batches=0,
            )
        ],
    ),
    "and those of its last update are not kept; start a new run with more epochs": (
        lambda make_trainer, path: _averaged(make_trainer, 3, _averaged(make_trainer, 2, None, path), path),
        [lambda make_trainer, path: _averaged(make_trainer, 3, None, path)],
    ),
    "has not been imported; import it, or give problem=": (
        _data_of(_STRANGER),
        [_data_of(_STRANGER, problem=FourPoints())],
    ),
    "because an epoch has {}; continue with the data of the checkpoint": (
        _alone(lambda: _loader(2, 8)),
        [_alone(lambda: _loader(2, 4))],
    ),
    "does not name the problem; give problem=": (_data_of(None), [_data_of(None, problem=FourPoints())]),
    "cannot be made from the checkpoint ({}); give problem=": (
        _data_of(_NO_SUCH_ARGUMENT),
        [_data_of(_NO_SUCH_ARGUMENT, problem=FourPoints())],
    ),
    "cannot load these weights, because {}; give weights of such a model": (
        _alone(lambda: _network().load_state_dict({"network.weight": torch.ones(1, 3)})),
        [_alone(lambda: _network().load_state_dict(_network().state_dict()))],
    ),
}


COMPILED = (
    "cannot use engine fused, because {}; use engine auto or autograd",
    "cannot be trained on {} and {}; convert the data",
    "rows as the order of {} samples; give each sample once",
)


@pytest.mark.filterwarnings("ignore:You (passed in|defined) a:UserWarning")  # of validation, which is not the matter
@pytest.mark.parametrize("part", every(2, ADVICE))
def test_what_is_advised_works(part: str, make_trainer: MakeTrainer, tmp_path: Path) -> None:
    if part in COMPILED:
        pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    wrong, followed = ADVICE[part]
    with pytest.raises(InputError) as raised:
        wrong(make_trainer, tmp_path)
    texts = [text for text in messages() if part in text]
    assert texts, f"no message says {part!r}"
    assert any(pattern(text).search(str(raised.value)) for text in texts), str(raised.value)
    for do in followed:
        do(make_trainer, tmp_path)
