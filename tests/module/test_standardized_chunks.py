"""Chunks have samples in original units, whatever the engine that carries them out is given."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gd_lightning import RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.module.engine_choice import EngineChoice
from tests.conftest import MakeTrainer


class Sees(Callback):
    """Notes the samples of each update, and may register a hook behind one, which compiled updates do not call."""

    def __init__(self, change: int) -> None:
        self.change, self.samples = change, list[float]()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        x, _ = batch
        self.samples += x.flatten().tolist()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.change:
            pl_module.network.weight.register_hook(lambda _: None)


@pytest.mark.parametrize("change", [-1, 0, 5, 8])
@pytest.mark.parametrize("standardize", [False, True])
def test_what_is_seen_and_what_autograd_goes_on_with_is_in_original_units(
    make_trainer: MakeTrainer, change: int, standardize: bool
) -> None:
    """An update that was planned for compiled code, and is made by autograd, was standardised twice."""
    pytest.importorskip("numba", reason="the fused engine needs Numba, which Pythons newer than it do not have")
    found = []
    engines: tuple[EngineChoice, ...] = ("autograd", "fused")
    for engine in engines:
        torch.manual_seed(0)
        module, sees = RegressionModule(lr=0.01, engine=engine), Sees(change)
        data = RegressionDataModule(SteepLine(), batch_size=25, standardize=standardize)
        with pytest.warns() if engine == "fused" and change >= 0 else nullcontext():
            make_trainer(max_epochs=3, callbacks=[sees]).fit(module, data)
        assert module.network is not None
        found.append((sees.samples, [parameter.tolist() for parameter in module.network.parameters()]))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(torch.tensor(found[0][1][0]), torch.tensor(found[1][1][0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["autograd", "fused"])
@pytest.mark.parametrize("batch_size", [1, 16, 60])
def test_data_that_lie_apart_in_memory_train_to_the_same_bits(
    make_trainer: MakeTrainer, engine: EngineChoice, batch_size: int
) -> None:
    """Columns of a larger array are taken without a copy, and compiled code reads numbers that lie side by side."""
    if engine == "fused":
        pytest.importorskip("numba", reason="the fused engine needs Numba, which Pythons newer than it do not have")
    table = torch.randn(60, 7, generator=torch.Generator().manual_seed(3))
    trained = []
    for x, y in ((table[:, 1:4], table[:, 5:6]), (table[:, 1:4].clone(), table[:, 5:6].clone())):
        torch.manual_seed(0)
        module = RegressionModule(lr=0.01, engine=engine)
        make_trainer(max_epochs=5).fit(module, RegressionDataModule((x, y), batch_size=batch_size))
        assert module.network is not None
        assert module.decision.engine == engine
        trained.append([parameter.tolist() for parameter in module.network.parameters()])
    assert trained[0] == trained[1]
