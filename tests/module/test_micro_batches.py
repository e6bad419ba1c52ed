"""An update is the exact mean over its samples, however they are split into parts and over processes."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gd_lightning import InputError, RegressionDataModule, RegressionModule, Variant
from gd_lightning.data import BatchLoader, Samples
from gd_lightning.micro_batches import MicroBatches
from tests.conftest import ROOT, MakeTrainer, StartOthers
from tests.module.train_combinations import NETWORKS, UPDATES, N, problem, train
from tests.module.train_combinations import main as train_all
from tests.other_projects import ModuleWithoutForward, NormedNetwork
from tests.selection import every


def _trained(
    make_trainer: MakeTrainer,
    micro_batch_size: int | None,
    batch_size: Any = "full",
    order: Any = "shuffled",
    **options: Any,
) -> Tensor:
    trainer = make_trainer(max_steps=UPDATES, precision="64-true")
    return train(trainer, micro_batch_size, batch_size, order, **options)


@pytest.mark.parametrize("batch_size", every(2, ["full", 32]))
@pytest.mark.parametrize("network", NETWORKS)
def test_micro_batches_change_nothing(make_trainer: MakeTrainer, batch_size: Any, network: str) -> None:
    options = {"batch_size": batch_size, **NETWORKS[network]}
    whole = _trained(make_trainer, None, **options)
    for size in (1, 7, 32, N):
        parts = _trained(make_trainer, size, **options)
        assert torch.allclose(parts, whole, rtol=1e-12, atol=0), size
    assert not torch.allclose(whole, _trained(make_trainer, None, **{**options, "lr": 0.001}))


@pytest.mark.parametrize("batch_size", ["full", 32])
def test_a_trajectory_in_parts_is_that_of_a_plain_loop(make_trainer: MakeTrainer, batch_size: Any) -> None:
    x, y = (values.numpy() for values in problem().sample())
    x, weight = np.column_stack([x, np.ones(N)]), np.zeros((6, 2))
    size = N if batch_size == "full" else batch_size
    batches = [slice(start, start + size) for start in range(0, N, size)]
    for update in range(UPDATES):
        rows = batches[update % len(batches)]
        weight -= 0.05 * 2 * x[rows].T @ (x[rows] @ weight - y[rows]) / y[rows].size
    options = {"batch_size": batch_size, "order": "sequential", "lr": 0.05, "initialization": "zero"}
    trained = _trained(make_trainer, 7, **options)
    expected = torch.from_numpy(np.concatenate([weight[:5].T.ravel(), weight[5]]))
    assert torch.allclose(trained, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("order", ["sequential", "shuffled", "with_replacement"])
def test_the_parts_of_a_batch_are_the_batch(order: Any) -> None:
    x = torch.arange(float(N))[:, None]
    for b, size, world_size in product([32, N], [1, 7, 200], [1, 2, 3]):
        variant = Variant.of(b, N)
        whole = list(BatchLoader(Samples(x, -x), variant, order))
        shares = [
            list(BatchLoader(Samples(x, -x), variant, order, 0, rank, world_size, size)) for rank in range(world_size)
        ]
        for (expected, _), *batches in zip(whole, *shares, strict=True):
            parts = [pair for batch in batches for pair in _parts(batch)]
            assert max(len(part) for part, _ in parts) <= size
            assert torch.equal(torch.cat([part for part, _ in parts]), expected)
            assert torch.equal(torch.cat([part for _, part in parts]), -expected)


def _parts(batch: Any) -> list[tuple[Tensor, Tensor]]:
    return [batch.part(i) for i in range(batch.count)] if isinstance(batch, MicroBatches) else [batch]


def test_a_process_without_samples_has_one_empty_part() -> None:
    x = torch.zeros(5, 2)
    empty = MicroBatches(lambda start, stop: (x[start:stop], x[start:stop]), samples=0, size=3)
    assert empty.count == 1
    assert empty.part(0)[0].shape == (0, 2)
    assert empty.to("meta").part(0)[0].device.type == "meta"


def test_large_batches_come_in_parts_by_themselves(make_trainer: MakeTrainer) -> None:
    seen: list[int] = []

    class Watched(RegressionModule):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(len(x))
            return super().forward(x)

    data = RegressionDataModule(problem(), batch_size="full")
    data.numbers_at_once = 80
    make_trainer(max_epochs=1).fit(Watched(hidden_sizes=[8], lr=0.01), data)
    tried = [10, 10]  # before the training, where the module has a forward of its own
    assert seen == tried + [10] * 10 + [1]  # 80 numbers of a layer of width 8


class OwnStep(RegressionModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return {"loss": self.summed_loss(self(x), y) / y.numel()}


class Foreign(ModuleWithoutForward):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 2, dtype=torch.float32))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert len(batch[0]) == N
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (OwnStep, "OwnStep has a training step of its own"),
        (Foreign, "Foreign is no RegressionModule"),
        (lambda: RegressionModule(network=NormedNetwork), "BatchNorm1d mixes the samples of a batch"),
    ],
)
def test_who_needs_whole_batches_gets_them(make_trainer: MakeTrainer, make: Any, reason: str) -> None:
    data = RegressionDataModule(problem())
    data.numbers_at_once = 80
    make_trainer(max_epochs=1).fit(make(), data)
    with pytest.raises(InputError, match=reason):
        make_trainer(max_epochs=1).fit(make(), RegressionDataModule(problem(), micro_batch_size=10))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_and_parts_give_the_run_of_one_process(
    tmp_path: Path, start_others: StartOthers, processes: int
) -> None:
    """Each process trains all combinations in turn; starting them is what takes time."""
    out = tmp_path / "out.json"
    train_all(out)
    one: dict[str, list[float]] = json.loads(out.read_text())
    out.unlink()
    start_others("-m", "tests.module.train_combinations", out, cwd=ROOT, processes=processes)
    train_all(out)
    shared: dict[str, list[float]] = json.loads(out.read_text())
    assert len(one) == 2 * 3
    assert set(one) == set(shared)
    for name, parameters in one.items():
        assert np.allclose(shared[name], parameters, rtol=1e-12, atol=1e-15), name
