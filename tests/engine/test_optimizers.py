"""Adam, AdamW, RMSprop and Adagrad in compiled code, against torch's own steps."""

from __future__ import annotations

import copy
import importlib
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gd_lightning.engine import Chunk, Engine, FusedEngine, SaveAt, why_not_fused
from gd_lightning.models.regressors import LinearRegressor, MLPRegressor
from gd_lightning.variants import Variant
from tests.engine.reference import autograd_engine

pytest.importorskip("numba")

SETTINGS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (torch.optim.AdamW, {"weight_decay": 0.2}),
    (torch.optim.RMSprop, {}),
    (torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.7, "weight_decay": 0.1, "eps": 1e-4}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.3, "weight_decay": 0.1}),
]
NETWORKS = (LinearRegressor(1, 1), LinearRegressor(3, 2), MLPRegressor(3, 1, [12, 5], "tanh"))


def _trained(
    engines: list[Any], start: nn.Module, kind: Any, settings: dict[str, Any], batch_size: int
) -> tuple[nn.Module, Any, list[Tensor]]:
    network = copy.deepcopy(start).double()
    features, outputs = next(network.parameters()).shape[1], list(network.parameters())[-1].shape[0]
    x = torch.randn(40, features, generator=torch.Generator().manual_seed(1)).double()
    optimizer, variant, losses = kind(network.parameters(), lr=0.01, **settings), Variant(batch_size, 40), []
    for turn, make in enumerate(engines):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # what a checkpoint would bring back
        engine: Engine = make(network, optimizer)
        y = x.sum(1, keepdim=True).sin().repeat(1, outputs)
        per_turn = variant.updates_per_epoch // len(engines)
        chunk = Chunk(x, y, None, variant, turn * per_turn, (turn + 1) * per_turn, save_at=SaveAt())
        losses.append(engine.carry_out(chunk).record.losses)
    return network, optimizer, losses


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_steps_and_state_are_those_of_torch(kind: Any, settings: dict[str, Any]) -> None:
    for start, batch_size in itertools.product(NETWORKS, (1, 10)):
        expected, reference, losses = _trained([autograd_engine] * 2, start, kind, settings, batch_size)
        for engines in ([FusedEngine] * 2, [FusedEngine, autograd_engine], [autograd_engine, FusedEngine]):
            network, optimizer, found = _trained(engines, start, kind, settings, batch_size)
            torch.testing.assert_close(found, losses, rtol=1e-11, atol=1e-12)
            for mine, its in zip(network.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(mine, its, rtol=1e-11, atol=1e-12)
                assert list(optimizer.state[mine]) == list(reference.state[its])
                for name, value in reference.state[its].items():
                    torch.testing.assert_close(optimizer.state[mine][name], value, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_where_a_chunk_is_cut_changes_no_bit(kind: Any, settings: dict[str, Any]) -> None:
    for start in NETWORKS[1:]:
        once, twice = (_trained([FusedEngine] * cuts, start, kind, settings, 10) for cuts in (1, 4))
        for whole, cut in zip(once[0].parameters(), twice[0].parameters(), strict=True):
            assert torch.equal(whole, cut)
            for name, value in once[1].state[whole].items():
                assert torch.equal(value, twice[1].state[cut][name])


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        (torch.optim.Adam, {"amsgrad": True}, "Adam has amsgrad"),
        (torch.optim.AdamW, {"maximize": True}, "AdamW has maximize"),
        (torch.optim.RMSprop, {"centered": True}, "RMSprop has centered"),
        (torch.optim.Adagrad, {"maximize": True}, "Adagrad has maximize"),
        (torch.optim.NAdam, {}, "NAdam is not one of"),
    ],
)
def test_what_is_not_compiled_is_left_to_autograd(kind: Any, settings: dict[str, Any], reason: str) -> None:
    network = nn.Linear(2, 1)
    assert reason in why_not_fused(network, kind(network.parameters(), lr=0.1, **settings))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.999, 1 - 1e-7])
def test_the_share_of_a_mean_so_far_is_exact_where_no_power_is_taken(decay: float) -> None:
    share_so_far: Any = importlib.import_module("gd_lightning.engine.kernels.updates").share_so_far.py_func
    for step in [*range(1, 200), *(int(edge * 40 / (1 - decay)) for edge in (0.99, 1.0, 1.01, 10.0))]:
        assert share_so_far(decay, float(step)) == 1.0 - decay ** float(step)
