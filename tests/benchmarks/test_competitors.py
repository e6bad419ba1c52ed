"""A benchmark against a wrong competitor is worth nothing: all of them make the same updates."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor
from torch.nn.functional import mse_loss

from gd_lightning.engine import AutogradEngine, Chunk, SaveAt
from tests.benchmarks.cases import Case, Run, Side, flat, torch_optimizer
from tests.benchmarks.competitors import COMPETITORS
from tests.benchmarks.measure import compare, difference_between
from tests.benchmarks.ours import AUTO, AUTOGRAD, FUSED
from tests.selection import every

# JAX is in threads of its own, behind which no other test can start a process without a warning.
_SIDES = [
    pytest.param(side, id=side.name, marks=[pytest.mark.slow] if side.package in ("jax", "optax", "keras") else [])
    for side in (AUTO, AUTOGRAD, FUSED, *COMPETITORS)
]
CASES = [Case(10, 2, 4, epochs=2), Case(10, 2, 1, epochs=2), Case(10, 1, 4, (3,), epochs=2)]
OF_ADAM = [Case(10, 2, 4, epochs=2, optimizer="adam"), Case(10, 2, 10, (3,), epochs=2, optimizer="adam")]


def _by_engine(case: Case) -> Run:
    x, y = case.data()
    network = case.network()
    optimizer = torch_optimizer(case, network)

    def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss = mse_loss(network(x), y)
        return loss, loss

    engine = AutogradEngine(losses, optimizer, network.parameters())
    kept = []
    for _ in range(case.epochs):
        chunk = Chunk(x, y, None, case.variant, 0, case.variant.updates_per_epoch, save_at=SaveAt())
        kept.append(engine.carry_out(chunk).record.losses.double().numpy())
    return Run(0.0, flat(network), np.concatenate(kept))


@pytest.mark.filterwarnings("ignore")  # they are others', and so are their warnings
@pytest.mark.parametrize("side", _SIDES)
@pytest.mark.parametrize("case", every(2, [*CASES, *OF_ADAM]), ids=lambda case: f"{case.name}, B = {case.batch_size}")
def test_everyone_makes_the_same_updates(side: Side, case: Case) -> None:
    if not side.is_installed:
        pytest.skip(f"{side.package} is not installed")
    if not side.takes(case):
        pytest.skip("it has no such models or batches")
    prepared = side.prepare(case)
    prepared()
    run = prepared()  # again, from the start
    reference = _by_engine(case)
    assert run.parameters is not None
    assert reference.parameters is not None
    assert np.abs(run.parameters - flat(case.network())).max() > 1e-3
    assert difference_between(side, run, reference) < 1e-5
    if run.losses is not None:
        assert run.losses.shape == (case.updates,)


def test_sides_that_differ_are_not_compared() -> None:
    other = Side("another learning rate", lambda case: lambda: Run(1.0, np.zeros(3)))
    with pytest.raises(ValueError, match="another learning rate differs by"):
        compare(CASES[0], [other])


def test_a_part_of_a_run_has_as_many_updates_as_asked_for() -> None:
    case = Case(100, 2, 16, epochs=3)
    assert [case.first(n).updates for n in (1, 6, 7, 15, 100)] == [1, 6, 7, 14, 21]
