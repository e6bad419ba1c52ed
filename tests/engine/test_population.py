"""Many runs at once: each ends where it would end alone, whichever way they are carried out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gd_lightning.data.order import epoch_order
from gd_lightning.engine import AutogradEngine, BatchedPopulation, Course, Members, OneByOne, Population, Single
from gd_lightning.models import LinearRegressor, MLPRegressor
from gd_lightning.objective import Loss, mean_loss

N, D, K = 20, 3, 2
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

    def single(course: Course, members: Members, member: int) -> Single:
        network = make().to(course.x.dtype)
        parameters = list(network.parameters())
        nn.utils.vector_to_parameters(course.starts[members.start[member]].clone(), parameters)
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
        return Single(engine, parameters, lambda: mean_loss(network(course.x), course.y, loss, 0.5).item())

    return OneByOne(single)


def _at_once(make: Callable[[], nn.Module], loss: Loss) -> list[Population]:
    return [BatchedPopulation(make(), loss, 0.5)]


def _course(make: Callable[[], nn.Module], epochs: int = 3, drop_last: bool = False, n: int = N) -> Course:
    x = torch.randn(n, D, dtype=torch.float64)
    y = x[:, :K] - x[:, 1:] ** 2 + 0.3
    starts = torch.stack([nn.utils.parameters_to_vector(make().parameters()).detach().double() for _ in range(2)])
    return Course(x, y, starts, _shuffled(n), epochs, drop_last)


def _shuffled(n: int) -> Callable[[int, int], Tensor | None]:
    # Order 3 is the given one.
    return lambda seed, epoch: None if seed == 3 else epoch_order("shuffled", n, seed, epoch)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("network", NETWORKS)
def test_each_member_ends_where_it_would_end_alone(network: str, loss: Loss, drop_last: bool) -> None:
    make = NETWORKS[network]
    course = _course(make, drop_last=drop_last)
    expected = _alone(make, loss).train(course, SETTINGS)
    assert not expected.diverged.any()
    for population in _at_once(make, loss):
        found = population.train(course, SETTINGS)
        torch.testing.assert_close(found.parameters, expected.parameters, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-12)
        np.testing.assert_array_equal(found.last, found.losses[:, -1])
        np.testing.assert_array_equal(found.updates, expected.updates)
        assert not found.diverged.any()
