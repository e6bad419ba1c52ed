"""Many runs at once: each ends where it would end alone, whichever way they are carried out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gd_lightning.data.order import epoch_orders
from gd_lightning.engine import (
    AutogradEngine,
    BatchedPopulation,
    FusedPopulation,
    Members,
    OneByOne,
    Population,
    Single,
    TrainingTask,
    fastest_population,
)
from gd_lightning.errors import InputError
from gd_lightning.losses import Loss, mean_loss
from gd_lightning.models import LinearRegressor, MLPRegressor
from tests.selection import every

N, D, K = 20, 3, 2
HAS_NUMBA = find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: LinearRegressor(D, K),
    "without bias": lambda: LinearRegressor(D, K, bias=False),
    "tanh": lambda: MLPRegressor(D, K, [4], "tanh"),
    "two layers without bias": lambda: MLPRegressor(D, K, [4, 3], "softplus", bias=False),
}
SETTINGS = Members.of(
    lr=[0.01, 0.02, 0.03, 0.04, 0.01, 0.02, 0.03, 0.04],
    batch_size=[1, 1, 6, 6, 6, N, N, N],
    momentum=[0.0, 0.5, 0.0, 0.9, 0.5, 0.0, 0.5, 0.5],
    nesterov=[False, True, False, True, False, False, True, False],
    weight_decay=[0.0, 0.1, 0.1, 0.0, 0.0, 0.1, 0.0, 0.2],
    l1=[0.0, 0.01, 0.0, 0.02, 0.0, 0.0, 0.03, 0.01],
    start=[0, 1, 0, 1, 0, 1, 0, 1],
    order=[3, 1, 3, 2, 2, 1, 3, 1],
)


def _alone(make: Callable[[], nn.Module], loss: Loss) -> OneByOne:
    """Return the reference: plain PyTorch, one run after the other."""

    def single(task: TrainingTask, members: Members, member: int) -> Single:
        network = make().to(task.x.dtype)
        parameters = list(network.parameters())
        nn.utils.vector_to_parameters(task.starts[members.start[member]].clone(), parameters)
        optimizer = SGD(
            parameters,
            lr=members.lr[member],
            momentum=members.momentum[member],
            nesterov=bool(members.nesterov[member]),
            weight_decay=members.weight_decay[member],
        )

        def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            batch_loss = mean_loss(network(x), y, loss, 0.5)
            weights = [parameter.abs().sum() for parameter in parameters if parameter.ndim > 1]
            return batch_loss + members.l1[member] * torch.stack(weights).sum(), batch_loss

        engine = AutogradEngine(losses, optimizer, parameters)
        return Single(engine, parameters, lambda: mean_loss(network(task.x), task.y, loss, 0.5).item())

    return OneByOne(single)


def _at_once(make: Callable[[], nn.Module], loss: Loss) -> list[Population]:
    ways = (BatchedPopulation, FusedPopulation) if HAS_NUMBA else (BatchedPopulation,)
    return [way(make(), loss, 0.5) for way in ways]


def _course(make: Callable[[], nn.Module], epochs: int = 3, drop_last: bool = False, n: int = N) -> TrainingTask:
    x = torch.randn(n, D, dtype=torch.float64)
    y = x[:, :K] - x[:, 1:] ** 2 + 0.3
    starts = torch.stack([nn.utils.parameters_to_vector(make().parameters()).detach().double() for _ in range(2)])
    return TrainingTask(x, y, starts, _shuffled(n), epochs, drop_last)


def _shuffled(n: int) -> Callable[[int, int, int], Tensor | None]:
    # Order 3 is the given one.
    return lambda seed, epoch, epochs: None if seed == 3 else epoch_orders("shuffled", n, seed, epoch, epochs)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("loss", every(2, ["mse", "mae", "huber"]))
@pytest.mark.parametrize("network", NETWORKS)
def test_each_member_ends_where_it_would_end_alone(network: str, loss: Loss, drop_last: bool) -> None:
    make = NETWORKS[network]
    task = _course(make, drop_last=drop_last)
    expected = _alone(make, loss).train(task, SETTINGS)
    assert not expected.diverged.any()
    for population in _at_once(make, loss):
        found = population.train(task, SETTINGS)
        torch.testing.assert_close(found.parameters, expected.parameters, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-12)
        np.testing.assert_array_equal(found.last, found.losses[:, -1])
        np.testing.assert_array_equal(found.updates, expected.updates)
        assert not found.diverged.any()


def _line(lrs: list[float], sizes: list[int], stops: bool = True, epochs: int = 4) -> tuple[TrainingTask, Members]:
    x = torch.linspace(-5, 5, 230, dtype=torch.float64)[:, None]
    starts = torch.tensor([[-10.0, -20.0]], dtype=torch.float64)
    task = TrainingTask(x, -5 * x + x.sin(), starts, _shuffled(len(x)), epochs, stops=stops)
    return task, Members.of(lrs, sizes, order=range(len(lrs)))


@pytest.mark.parametrize("stops", [True, False])
def test_members_diverge_where_they_would_alone(stops: bool) -> None:
    task, members = _line([0.3, 0.1, 0.09, 0.2, 0.13, 0.05], [1, 1, 1, 2, 230, 10], stops)

    def make() -> nn.Module:
        return LinearRegressor(1, 1)

    expected = _alone(make, "mse").train(task, members)
    assert expected.diverged.tolist() == [True, True, True, True, False, False]
    if stops:  # at looks within the first epoch and a later one
        assert expected.updates.tolist() == [100, 200, 900, 100, 4, 92]
    for population in _at_once(make, "mse"):
        found = population.train(task, members)
        np.testing.assert_array_equal(found.diverged, expected.diverged)
        np.testing.assert_array_equal(found.updates, expected.updates)
        np.testing.assert_array_equal(np.isnan(found.losses), np.isnan(expected.losses))
        sound = ~expected.diverged
        np.testing.assert_allclose(found.last[sound], expected.last[sound], rtol=1e-12)
        if stops:
            np.testing.assert_allclose(found.last, expected.last, rtol=1e-3)  # what grows, rounding grows with
            torch.testing.assert_close(found.parameters, expected.parameters, rtol=1e-3, atol=0)


def test_a_perfect_start_has_no_scale_to_grow_from() -> None:
    x = torch.linspace(-1, 1, 10, dtype=torch.float64)[:, None]
    task = TrainingTask(x, 2 * x, torch.tensor([[2.0, 0.0]]).double(), lambda *_: None, epochs=3)
    for population in (*_at_once(lambda: LinearRegressor(1, 1), "mse"), _alone(lambda: LinearRegressor(1, 1), "mse")):
        ends = population.train(task, Members.of([0.1, 10.0], 1))
        assert ends.first.tolist() == [0.0, 0.0]
        assert not ends.diverged.any()


def test_many_orders_and_large_batches_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    make = NETWORKS["tanh"]
    task = _course(make)
    whole = [population.train(task, SETTINGS) for population in _at_once(make, "mse")]
    monkeypatch.setattr(BatchedPopulation, "numbers_at_once", 64)
    monkeypatch.setattr(BatchedPopulation, "numbers_in_orders", 2 * N * (D + K))
    monkeypatch.setattr(FusedPopulation, "rows_at_once", 2 * N)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    made: list[int] = []
    for population, expected in zip(_at_once(make, "mse"), whole, strict=True):
        made.clear()
        found = population.train(task, SETTINGS, made.append)
        torch.testing.assert_close(found.parameters, expected.parameters, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-12)
        assert sum(made) == found.updates.sum()


@needs_numba
def test_an_interruption_ends_the_threads() -> None:
    task, members = _line([0.01] * 40, [1] * 40)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FusedPopulation(LinearRegressor(1, 1)).train(task, members, interrupt)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)), "its part BatchNorm1d is neither"),
        (nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.5), nn.Linear(2, 1)), "the network has dropout"),
        (
            nn.Sequential(nn.Linear(1, 2), nn.ReLU(inplace=True), nn.Linear(2, 1)),
            "its part ReLU changes its input in place",
        ),
        (nn.Sequential(nn.ReLU()), "it has no linear layer"),
        (nn.Bilinear(1, 1, 1), "Bilinear is neither linear nor a multilayer perceptron"),
        (nn.Sequential(*[nn.Linear(1, 1)] * 2), "layers share a parameter"),
    ],
)
def test_other_networks_are_refused_with_a_reason(network: nn.Module, reason: str) -> None:
    with pytest.raises(InputError, match=f"because {reason}"):
        BatchedPopulation(network)


@needs_numba
@pytest.mark.parametrize("is_kept", [True, False])
def test_the_fastest_way_depends_on_how_much_there_is_to_do(monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    monkeypatch.setattr("gd_lightning.engine.many.choice.keeps_compiled_code", lambda: is_kept)
    task, members = _line([0.01] * 40, [10] * 40)
    line, perceptron = LinearRegressor(1, 1), MLPRegressor(1, 1, [256, 256])
    assert fastest_population(line, "mse", 1.0, task, members).name == "batched"
    long = TrainingTask(task.x, task.y, task.starts, task.orders, 6_000)
    # Where each process compiles for itself, there has to be more to do.
    assert fastest_population(line, "mse", 1.0, long, members).name == ("fused" if is_kept else "batched")
    longer = TrainingTask(task.x, task.y, task.starts, task.orders, 500_000)
    assert fastest_population(line, "mse", 1.0, longer, members).name == "fused"
    assert fastest_population(perceptron, "mse", 1.0, long, Members.of(0.1, [230] * 100)).name == "batched"
