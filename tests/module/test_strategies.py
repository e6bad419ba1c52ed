"""Every strategy that Lightning registers: it trains as a single process does, or is refused in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy, StrategyRegistry
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from torch import Tensor, nn

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.errors import InputError
from gd_lightning.module import check_strategy
from tests.conftest import MakeTrainer, without_address

# What Lightning says where a strategy needs what this machine has not.
NOT_HERE = (MisconfigurationException, ModuleNotFoundError, RuntimeError, TypeError, ValueError)
FORKED = "spawned or forked, because they would return neither network nor history; use "


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave neither a process group behind nor what Lightning tells processes in the environment."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in set(os.environ) - set(before):
        monkeypatch.delenv(name)


def _fit(trainer: Trainer) -> Tensor:
    torch.manual_seed(0)
    module = RegressionModule(lr=0.01, hidden_sizes=[3])
    trainer.fit(module, RegressionDataModule(SteepLine(), batch_size=16))
    return nn.utils.parameters_to_vector(module.parameters()).detach()


OPTIONS: dict[str, Any] = {"max_epochs": 2, "devices": 1, "use_distributed_sampler": False}


@pytest.mark.filterwarnings("ignore:The 'single_tpu' strategy is deprecated")
@pytest.mark.parametrize("name", StrategyRegistry.available_strategies())
def test_a_strategy_trains_as_a_single_process_does_or_is_refused(make_trainer: MakeTrainer, name: str) -> None:
    try:
        trainer = make_trainer(strategy=name, **OPTIONS)
    except NOT_HERE:
        return  # by Lightning, when the Trainer is made; what a machine that has it would do, the next test says
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        with pytest.raises(InputError, match=FORKED):
            check_strategy(trainer)
        return
    assert torch.equal(_fit(trainer), _fit(make_trainer(**OPTIONS)))


@pytest.mark.parametrize("name", StrategyRegistry.available_strategies())
def test_a_strategy_is_refused_wherever_there_is_what_it_needs(name: str) -> None:
    kind: type[Strategy] = StrategyRegistry[name]["strategy"]
    strategy = kind.__new__(kind)  # whose constructor may need a device or a library
    vars(strategy)["_launcher"] = None
    trainer: Any = SimpleNamespace(strategy=strategy)
    # As it was read in Lightning 2.6: these leave a whole network on each device, and share nothing but gradients.
    if kind is DDPStrategy or issubclass(kind, SingleDeviceStrategy):
        check_strategy(trainer)
        return
    with pytest.raises(InputError, match=f"^cannot train with {kind.__name__}, because [^\n]*; use [^\n]*$"):
        check_strategy(trainer)


@pytest.mark.parametrize("strategy", ["auto", "ddp", SingleDeviceStrategy("cpu")], ids=without_address)
def test_what_the_refusals_advise_works(make_trainer: MakeTrainer, strategy: Any) -> None:
    assert _fit(make_trainer(strategy=strategy, **OPTIONS)).isfinite().all()


@pytest.mark.parametrize(("is_interactive", "remedy"), [(True, "devices=1$"), (False, 'strategy="ddp", or devices=1$')])
def test_the_remedy_is_one_that_lightning_takes_there(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, is_interactive: bool, remedy: str
) -> None:
    """In a notebook, Lightning refuses ddp."""
    trainer = make_trainer(strategy="ddp_fork", **{**OPTIONS, "devices": 2})
    if is_interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(InputError, match=FORKED + remedy):
        check_strategy(trainer)


@pytest.mark.parametrize("strategy", ["ddp_notebook", "ddp_fork"])
def test_processes_that_are_forked_refuse_and_the_first_says_so(make_trainer: MakeTrainer, strategy: str) -> None:
    recorder = HistoryRecorder()
    trainer = make_trainer(strategy=strategy, callbacks=[recorder], **{**OPTIONS, "devices": 2})
    with pytest.raises(InputError, match=FORKED):
        _fit(trainer)
    assert len(recorder.history) == 0
