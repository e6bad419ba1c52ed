"""Lightning's own loop, as it is written without this package: what every engine must agree with."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from gd_lightning import LinearProblem, RegressionDataModule, RegressionModule
from tests.conftest import MakeTrainer

N, B, FEATURES = 44, 8, 3
PER_EPOCH = 6
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.8}
Schedule = Callable[[torch.optim.Optimizer], Any]


class PlainModule(LightningModule):
    """A network, the mean squared error, and SGD."""

    def __init__(self, network: nn.Module, schedule: Schedule | None) -> None:
        super().__init__()
        self.network = network
        self._schedule = schedule

    @property
    def backbone(self) -> nn.Module:
        return backbone_of(self.network)

    def forward(self, x: Tensor) -> Tensor:
        prediction: Tensor = self.network(x)
        return prediction

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = functional.mse_loss(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", functional.mse_loss(self(x), y))

    def configure_optimizers(self) -> Any:
        return _optimizers(self.parameters(), self._schedule)


class Start(Callback):
    """Notes the values of the network before the first update."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.values = copy.deepcopy(pl_module.network.state_dict())


def backbone_of(network: object) -> nn.Module:
    """Return the first layer of a network."""
    assert isinstance(network, nn.Sequential)
    return network[0]


class ScheduledModule(RegressionModule):
    """A regression module with any scheduler; what it logs, a callback can monitor."""

    schedule: Schedule | None = None

    @property
    def backbone(self) -> nn.Module:
        return backbone_of(self.network)

    def configure_optimizers(self) -> Any:
        return _optimizers(self.network.parameters(), self.schedule) if self.network else super().configure_optimizers()


def _optimizers(parameters: Any, schedule: Schedule | None) -> Any:
    optimizer = torch.optim.SGD([p for p in parameters if p.requires_grad], **SGD)
    return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule(optimizer)}


@dataclass
class Case:
    """A run that both loops make.

    Args:
        callbacks: Makes the callbacks, anew for each run.
        hidden_sizes: Of the network; empty for a linear one.
        trainer: Further options of the Trainer.
        schedule: Makes what Lightning takes as ``lr_scheduler``.
        val_size: Validation samples.
    """

    callbacks: Callable[[], list[Callback]] = list
    hidden_sizes: list[int] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule | None = None
    val_size: int = 0

    def _data(self) -> RegressionDataModule:
        return RegressionDataModule(
            LinearProblem(n_samples=N + self.val_size, n_features=FEATURES),
            batch_size=B,
            order="sequential",
            val_size=self.val_size,
        )

    def _module(self, engine: Any) -> ScheduledModule:
        torch.manual_seed(3)
        module = ScheduledModule(**SGD, hidden_sizes=self.hidden_sizes, activation="tanh", engine=engine)
        module.schedule, module.fewest_fused_updates = self.schedule, 0
        return module

    def _trainer(self, make_trainer: MakeTrainer, *callbacks: Callback) -> Trainer:
        options = {"max_epochs": 6, "precision": "64-true", **self.trainer}
        return make_trainer(callbacks=[*callbacks, *self.callbacks()], **options)

    def by(self, engine: str, make_trainer: MakeTrainer) -> ScheduledModule:
        """Make the run with an engine."""
        module, start = self._module(engine), Start()
        self._trainer(make_trainer, start).fit(module, self._data())
        self._start = start.values
        return module

    def plainly(self, make_trainer: MakeTrainer) -> PlainModule:
        """Make the run in Lightning's own loop, from where the one before started."""
        data = self._data()
        data.setup("fit")
        network = self._module("auto").build_network(FEATURES, 1).double()
        network.load_state_dict(self._start)
        train, val, _ = (TensorDataset(*part.take(slice(None))) for part in data.parts_in(torch.float64))
        loaders = DataLoader(train, B), DataLoader(val, self.val_size) if self.val_size else None
        module = PlainModule(network, self.schedule)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)  # more workers would not be faster
            self._trainer(make_trainer).fit(module, *loaders)
        return module


def same_weights(ours: ScheduledModule, theirs: PlainModule) -> None:
    """Assert that two runs end at the same values, of the same names."""
    assert ours.network is not None
    found, expected = ours.network.state_dict(), theirs.network.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert value.isfinite().all()
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)
