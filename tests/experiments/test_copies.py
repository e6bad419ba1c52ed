"""What several runs are given as one object: each has its own, as it was when it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from gd_lightning import History, InputError, LossBelow, Problem, SteepLine, compare
from gd_lightning.experiments import Report
from tests.conftest import without_address


class StopAfter(Callback):
    """Stops once it has seen some epochs, of whichever runs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count down."""
        self.left -= 1
        trainer.should_stop = self.left <= 0


class Locked(StopAfter):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__(2)
        self.lock = threading.Lock()


class Drifting(Problem):
    """Draws other data each time it is asked, from a generator that it has for itself."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Draw."""
        x = torch.rand(20, 1, generator=self.generator)
        return x, 2 * x + torch.randn(20, 1, generator=self.generator)


def _compare(**options: Any) -> Report:
    few: dict[str, Any] = {"batch_sizes": ["full"], "seeds": 2, "max_epochs": 4, "lrs": 0.01}
    return compare(options.pop("problem", SteepLine()), **few | options)


def _epochs(report: Report) -> set[float]:
    return {history.last("epoch") for of_group in report.histories.values() for history in of_group}


def _losses(history: History) -> list[float]:
    found: list[float] = history.series("train_loss")[1].tolist()
    return found


def _alike(report: Report) -> bool:
    """Whether all runs are the same, as batch descent is from every seed."""
    losses = [_losses(history) for of_group in report.histories.values() for history in of_group]
    return all(found == losses[0] for found in losses)


@pytest.mark.parametrize(
    "callbacks",
    [
        [StopAfter(2)],
        StopAfter(2),
        lambda: [StopAfter(2)],
        lambda: Locked(),
        [EarlyStopping("train_loss", patience=1, mode="max")],
        [LossBelow(470.0)],
        [Timer(duration={"days": 1}), StopAfter(2)],
    ],
    ids=without_address,
)
def test_callbacks_of_one_run_do_not_end_the_next(callbacks: Any) -> None:
    report = _compare(trainer={"callbacks": callbacks})
    assert _epochs(report) == {2.0}
    assert _alike(report)


VARIANTS = {"batch": ("full", 0.1), "mini-batch 10": (10, 0.03)}


@pytest.mark.parametrize(
    "alone",
    [
        [("batch", 0), ("mini-batch 10", 1)],
        pytest.param([("batch", 1), ("mini-batch 10", 0)], marks=pytest.mark.slow),
    ],
)
def test_runs_that_early_stopping_ends_are_those_that_are_trained_alone(alone: list[tuple[str, int]]) -> None:
    options: dict[str, Any] = {"batch_sizes": ["full", 10], "lrs": [0.1, 0.03], "max_epochs": 30}
    stopping = EarlyStopping("train_loss", patience=1)
    together = _compare(**options, trainer={"callbacks": [stopping]})
    for label, seed in alone:
        size, lr = VARIANTS[label]
        single = _compare(
            batch_sizes=[size],
            lrs=lr,
            seeds=1,
            max_epochs=30,
            data={"seed": seed},
            trainer={"callbacks": [EarlyStopping("train_loss", patience=1)]},
        )
        ((history,),) = single.histories.values()
        assert _losses(history) == _losses(together.histories[label][seed])
    assert stopping.stopped_epoch == stopping.wait_count == 0  # what was given is as it was


def test_every_run_starts_from_the_weights_that_a_network_was_given_with() -> None:
    network = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    report = _compare(model={"network": network})
    assert _alike(report)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
    nets = [network, nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)), nn.Linear(1, 1)]
    varied = _compare(batch_sizes=None, vary={"model.network": nets})
    assert list(varied.histories) == ["network Sequential 1", "network Sequential 2", "network Linear"]
    first = [_losses(of_group[0]) for of_group in varied.histories.values()]
    assert first[0] == _losses(report.histories["batch"][0])
    assert len({losses[0] for losses in first}) == 3


def test_a_problem_that_changes_gives_all_runs_the_same_data() -> None:
    assert _alike(_compare(problem=Drifting(), model={"initialization": "zero"}))


@pytest.mark.parametrize(
    "trainer",
    [
        {"strategy": SingleDeviceStrategy(device=torch.device("cpu"))},
        {"profiler": SimpleProfiler()},
        {"plugins": [TorchCheckpointIO()]},
        {"max_time": {"minutes": 5}},
        {"strategy": lambda: SingleDeviceStrategy(device=torch.device("cpu"))},
    ],
    ids=without_address,
)
def test_other_parts_of_a_trainer_serve_several_runs(trainer: dict[str, Any]) -> None:
    report = _compare(trainer=trainer)
    assert _epochs(report) == {4.0}
    assert _alike(report)


@pytest.mark.parametrize("logger", [TensorBoardLogger, CSVLogger])
def test_each_run_logs_into_a_directory_of_its_own(tmp_path: Path, logger: Callable[..., Any]) -> None:
    _compare(trainer={"logger": logger(tmp_path, name="mine")})
    directories = sorted(path.parent.name for path in tmp_path.glob("mine/*/history.csv"))
    assert directories == ["version_0", "version_1"]
    for given in (logger(tmp_path, name="mine", version="same"), [logger(tmp_path, name="mine", version=7)]):
        with pytest.raises(InputError, match=r"cannot log several runs with one .* would write into one directory"):
            _compare(trainer={"logger": given})
    _compare(directory=tmp_path / "as advised")
    assert len(list((tmp_path / "as advised").glob("*/history.csv"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": {"callbacks": [ModelCheckpoint(), Locked()]}}, "own trainer.callbacks, because Locked cannot be"),
        ({"trainer": {"callbacks": Locked()}}, "own trainer.callbacks, because Locked cannot be copied"),
        ({"model": {"network": [threading.Lock()]}}, "own model.network, because lock cannot be copied"),
        ({"vary": {"model.network": [threading.Lock()]}}, "own model.network, because lock cannot be copied"),
        ({"vary": {"data.problem": [SteepLine()]}}, "cannot vary 'data.problem'"),
        ({"vary": {"trainer.logger": [False]}}, "cannot vary 'trainer.logger'"),
    ],
)
def test_what_cannot_be_copied_is_refused_before_anything_is_trained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        _compare(**options)
    assert "\n" not in str(refused.value)
