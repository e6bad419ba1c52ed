"""Little work is done in one thread, where several would wait for each other; torch keeps the threads that it had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gd_lightning import LinearProblem, LinearRegressor, MLPRegressor, RegressionDataModule, RegressionModule
from gd_lightning.threads import is_little
from tests.conftest import MakeTrainer


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Watched(nn.Sequential):
    """A network that notes how many threads it is computed and differentiated with."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))
        self.threads: dict[str, set[int]] = {"forward": set(), "backward": set(), "validation": set()}
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fails and self.training:
            raise RuntimeError("it fails")
        self.threads["forward" if self.training else "validation"].add(torch.get_num_threads())
        prediction: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        if prediction.requires_grad:
            prediction.register_hook(self._note)
        return prediction

    def _note(self, gradient: Tensor) -> None:
        self.threads["backward"].add(torch.get_num_threads())


def _fit(make_trainer: MakeTrainer, network: Watched, batch_size: int, **of_trainer: Any) -> None:
    data = RegressionDataModule(
        LinearProblem(n_samples=4_100, n_features=2), batch_size=batch_size, val_size=batch_size
    )
    trainer = make_trainer(**{"max_epochs": 1, "limit_train_batches": 2, "num_sanity_val_steps": 0, **of_trainer})
    trainer.fit(RegressionModule(lr=0.001, network=network), data)


@pytest.mark.parametrize("of_trainer", [{}, {"gradient_clip_val": 1.0}], ids=["in chunks", "by Lightning"])
@pytest.mark.parametrize(("batch_size", "width", "threads"), [(4, 8, 1), (2_000, 32, 1), (2_000, 2_000, 2)])
def test_little_updates_have_one_thread(
    make_trainer: MakeTrainer, of_trainer: dict[str, Any], batch_size: int, width: int, threads: int
) -> None:
    network = Watched(width)
    _fit(make_trainer, network, batch_size, **of_trainer)
    assert network.threads == {"forward": {threads}, "backward": {threads}, "validation": {threads}}
    assert torch.get_num_threads() == 2


def test_threads_are_as_they_were_where_an_update_fails(make_trainer: MakeTrainer) -> None:
    network = Watched(8)
    network.fails = True
    with pytest.raises(Exception, match="it fails"):
        _fit(make_trainer, network, 4)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("network", "most"),
    [
        (LinearRegressor(10, 1), 2**18 // 11),  # as many samples as have few inputs and outputs
        (MLPRegressor(10, 1, [64, 64]), 2**18 // 267),
        (MLPRegressor(10, 1, [1_000, 1_000]), 2**23 // 1_011_000),  # as many as have few products
        (nn.Sequential(nn.Unflatten(1, (1, 9)), nn.Conv1d(1, 1, 3), nn.Flatten(), nn.Linear(7, 1)), 0),
    ],
)
def test_what_is_little_is_counted(network: nn.Module, most: int) -> None:
    assert is_little(network, most) == (most > 0)
    assert not is_little(network, most + 1)
