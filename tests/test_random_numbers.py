"""Generators of random numbers for threads: the numbers of ``manual_seed``, and nothing of others' disturbed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from gd_lightning import LinearProblem, RegressionDataModule, RegressionModule, compare, starting_from, sweep
from gd_lightning.random_numbers import DrawnFrom, generator_given_back, own_generator, start_seed

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
DRAWS: dict[str, Callable[[], Tensor]] = {
    "a linear layer": lambda: torch.cat([p.flatten() for p in nn.Linear(3, 4).parameters()]),
    "a recurrent layer": lambda: torch.cat([p.flatten() for p in nn.GRU(2, 3).parameters()]),
    "attention": lambda: torch.cat([p.flatten() for p in nn.MultiheadAttention(4, 2).parameters()]),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(4, 4)),
    "truncated normal": lambda: nn.init.trunc_normal_(torch.empty(9)),
    "sparse": lambda: nn.init.sparse_(torch.empty(6, 6), 0.5),
    "rand": lambda: torch.rand(3, 2),
    "randn": lambda: torch.randn(40),
    "randint": lambda: torch.randint(9, (5,)),
    "randint from": lambda: torch.randint(2, 9, (5,)),
    "randperm": lambda: torch.randperm(7),
    "rand_like": lambda: torch.rand_like(torch.empty(5)),
    "randint_like": lambda: torch.randint_like(torch.empty(5), 2, 9),
    "normal": lambda: torch.normal(torch.zeros(4), torch.ones(4)),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 3),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "dropout": lambda: nn.functional.dropout(torch.ones(30), 0.5),
    "dropout with a gradient": lambda: nn.functional.dropout(torch.ones(30, requires_grad=True), 0.5).detach(),
    "several": lambda: torch.cat([torch.rand(2), torch.randn(3), torch.rand_like(torch.ones(2)), torch.rand(1)]),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_generator_of_its_own_draws_what_torchs_would(draw: Callable[[], Tensor]) -> None:
    torch.manual_seed(5)
    expected = draw()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with DrawnFrom(5):
        drawn = draw()
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), state)
    given = torch.Generator().manual_seed(8)
    with DrawnFrom(5):
        assert torch.equal(torch.rand(2, generator=given), torch.rand(2, generator=torch.Generator().manual_seed(8)))


def test_a_thread_has_a_seed_of_its_own_and_others_that_of_their_caller() -> None:
    torch.manual_seed(11)
    seen: dict[str, int] = {}

    def look(name: str) -> None:
        seen[name] = start_seed()

    with own_generator(3):
        look("the run")
        other = threading.Thread(target=look, args=["another thread"])
        other.start()
        other.join()
        with starting_from(4):
            look("within")
    look("behind")
    assert seen == {"the run": 3, "another thread": 11, "within": 4, "behind": 11}


def _ends(module: RegressionModule) -> Tensor:
    assert module.network is not None
    return torch.cat([parameter.detach().flatten() for parameter in module.network.parameters()])


def _fit(seed: int) -> Tensor:
    """Train a small network, its start and order from a seed, and return where it ended."""
    data = RegressionDataModule(LinearProblem(n_samples=24, n_features=3), batch_size=6, seed=seed)
    module = RegressionModule(lr=0.05, hidden_sizes=[4], activation="tanh", engine="autograd")
    with starting_from(seed):
        Trainer(max_epochs=2, **QUIET).fit(module, data)
    return _ends(module)


def _compare(seed: int, dropout: float = 0.5) -> Tensor:
    """Compare with dropout, which draws within the run, too."""
    options: dict[str, Any] = {"model": {"hidden_sizes": [8], "dropout": dropout, "lr": 0.05}, "data": {"seed": seed}}
    report = compare(LinearProblem(n_samples=24), batch_sizes=[6], seeds=2, max_epochs=2, **options)
    histories = [history for of_group in report.histories.values() for history in of_group]
    return torch.tensor([history.last("train_loss") for history in histories], dtype=torch.float64)


def _sweep(seed: int) -> Tensor:
    model = {"hidden_sizes": [4], "dropout": 0.5}
    few: dict[str, Any] = {"lrs": 0.05, "batch_sizes": "6,full", "seeds": 2, "max_epochs": 2}
    report = sweep(LinearProblem(n_samples=24), data={"seed": seed}, model=model, **few)
    return torch.from_numpy(report.last.copy())


@pytest.mark.parametrize("train", [_fit, _compare, _sweep])
def test_two_threads_come_to_what_one_comes_to(train: Callable[[int], Tensor]) -> None:
    state = torch.get_rng_state()
    alone = [train(seed) for seed in range(3)]
    assert len({tuple(found.flatten().tolist()) for found in alone}) == 3  # the seeds matter
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(train, [0, 1, 2, 0]))
    for found, expected in zip(together, [*alone, alone[0]], strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fit_beside_a_comparison_starts_from_the_seed_of_its_caller() -> None:
    """Nothing is drawn within either: Lightning's fit sets torch's generator back, whoever has it at that moment."""
    torch.manual_seed(7)

    def fit() -> Tensor:
        data = RegressionDataModule(LinearProblem(n_samples=24, n_features=3), batch_size=6)
        module = RegressionModule(hidden_sizes=[4], activation="tanh", engine="autograd")
        Trainer(max_epochs=1, **QUIET).fit(module, data)
        return _ends(module)

    expected = fit()
    with ThreadPoolExecutor(2) as pool:
        beside = pool.submit(_compare, 3, dropout=0.0)
        assert all(torch.equal(fit(), expected) for _ in range(3))
        assert torch.equal(beside.result(), _compare(3, dropout=0.0))


def test_a_run_returns_the_generator_only_when_nobody_is_about_to_set_it_back() -> None:
    """A measurement that began within another thread's run and ends behind it leaves the caller's seed in place."""
    torch.manual_seed(7)
    within, measuring = threading.Event(), threading.Event()

    def run() -> None:
        with own_generator(4):
            within.set()
            measuring.wait()

    other = threading.Thread(target=run)
    other.start()
    within.wait()
    with generator_given_back([]):
        measuring.set()
        other.join(0.2)  # it would end here, were it not kept waiting
        assert other.is_alive()
    other.join()
    assert torch.initial_seed() == 7


def test_a_start_is_not_disturbed_by_whoever_draws_meanwhile() -> None:
    def make(seed: int) -> Tensor:
        module = RegressionModule(in_features=3, out_features=1, hidden_sizes=[50, 50, 50])
        with starting_from(seed):
            module.configure_model()
        return _ends(module)

    alone, stop = [make(seed) for seed in range(20)], threading.Event()

    def draw() -> None:
        while not stop.is_set():
            torch.manual_seed(4)
            torch.rand(3)

    with ThreadPoolExecutor(2) as pool:
        drawing = pool.submit(draw)
        try:
            assert all(torch.equal(found, make(seed)) for seed, found in enumerate(alone))
        finally:
            stop.set()
        drawing.result()
