"""What would need more memory than is free is refused before it is taken, for what is made from sizes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gd_lightning import InputError, RegressionModule, fit
from gd_lightning.free_memory import free_memory
from gd_lightning.memory_checks import WithinFreeMemory
from gd_lightning.models import from_seed
from gd_lightning.problems import LinearProblem, Sine
from tests.conftest import CommandLine

# Larger than any machine, so that it is refused everywhere; no test takes the memory if it is not.
HUGE = 2**36
MIB = 2**20
MAKERS: dict[str, Callable[[], object]] = {
    "empty": lambda: torch.empty(HUGE, 1),
    "zeros": lambda: torch.zeros(HUGE),
    "ones": lambda: torch.ones(1, HUGE),
    "rand": lambda: torch.rand(HUGE, generator=torch.Generator().manual_seed(1)),
    "randn in float64": lambda: torch.randn(HUGE, generator=torch.Generator(), dtype=torch.float64),
    "randint": lambda: torch.randint(3, (HUGE,)),
    "randperm": lambda: torch.randperm(HUGE, generator=torch.Generator()),
    "linspace": lambda: torch.linspace(0, 1, HUGE),
    "arange": lambda: torch.arange(HUGE),
    "full": lambda: torch.full((HUGE,), 0.5),
    "eye": lambda: torch.eye(2**18),
    "a linear layer": lambda: nn.Linear(HUGE, 1).weight,
    "an embedding": lambda: nn.Embedding(HUGE, 1).weight,
    "a recurrent layer": lambda: nn.LSTM(2**18, 2**18).weight_ih_l0,
    "a convolution": lambda: nn.Conv1d(1, HUGE, 1).weight,
    "weights of a bilinear layer": lambda: nn.Bilinear(2**12, 2**12, 2**12).weight,
}


def _within(copies: int = 1) -> WithinFreeMemory:
    return WithinFreeMemory("do this", "less", copies, "copies")


@pytest.mark.parametrize("name", MAKERS)
def test_a_tensor_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: 2**34)
    refused = pytest.raises(InputError, match=r"cannot do this, because tensors of [\d,.]+ GiB .* 16.0 GiB of memory")
    with refused, _within():
        MAKERS[name]()


@pytest.mark.parametrize(("copies", "fits"), [(1, 100), (4, 25)])
def test_what_exists_and_its_copies_are_counted(monkeypatch: pytest.MonkeyPatch, copies: int, fits: int) -> None:
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: 100 * MIB)
    part = fits * MIB // 5
    with _within(copies):
        for _ in range(20):  # one after the other
            torch.empty(part, dtype=torch.uint8)
        kept = [torch.empty(part, dtype=torch.uint8) for _ in range(5)]
        with pytest.raises(InputError, match="100 MiB of memory are free"):
            torch.empty(MIB, dtype=torch.uint8)
        del kept[0]
        kept.append(nn.Parameter(torch.empty(part // 4, 4, dtype=torch.uint8), requires_grad=False))
        with pytest.raises(InputError):
            torch.empty(MIB, dtype=torch.uint8)


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: 0)
    with _within():
        assert torch.empty(70 * MIB, dtype=torch.uint8).nbytes == 70 * MIB


def test_what_takes_no_memory_of_the_cpu_passes() -> None:
    with _within():
        assert nn.Linear(HUGE, 1, device="meta").weight.device.type == "meta"
        with torch.device("meta"):
            assert torch.empty(HUGE).numel() == HUGE
        assert torch.ones(1).expand(HUGE).shape == (HUGE,)


def test_numbers_are_the_same_bits_within() -> None:
    def drawn() -> list[Tensor]:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5)
        with torch.random.fork_rng():
            torch.manual_seed(4)
            network = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 2))
            return [*network.parameters(), torch.randn(5, generator=generator), torch.randperm(7), torch.rand(2)]

    plain = drawn()
    with _within():
        within = drawn()
    assert all(torch.equal(a, b) for a, b in zip(plain, within, strict=True))


FREE = 300 * MIB
TOO_LARGE = {
    "the program's network": ("--model.hidden_sizes", f"[{2**13},{2**13}]"),
    "one of torch": ("--model.hidden_sizes+", str(2**25)),
    "a sine": ("--data.problem", "Sine", "--data.problem.n_samples", str(2**27)),
    "a linear problem of many samples": ("--data.problem", "LinearProblem", "--data.problem.n_samples", str(2**25)),
    "one of many features": (
        *("--data.problem", "LinearProblem", "--data.problem.n_samples", str(2**13)),
        *("--data.problem.n_features", str(2**12)),
    ),
}
STAGES = {
    "fit": ("--trainer.max_epochs", "1"),
    "plan": ("--map", "false"),
    "compare": ("--trainer.max_epochs", "1", "--seeds", "1"),
    "sweep": ("--trainer.max_epochs", "1", "--seeds", "1", "--lrs", "0.1,0.01", "--batch_sizes", "full"),
}


@pytest.mark.parametrize("what", TOO_LARGE)
@pytest.mark.parametrize("stage", STAGES)
def test_every_subcommand_refuses_it_in_one_line(
    stage: str, what: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: FREE)
    before = free_memory()
    assert command_line(stage, *STAGES[stage], *TOO_LARGE[what]) == 2
    assert command_line.err.count("\n") == 1
    assert " and 300 MiB of memory are free; use " in command_line.err
    assert command_line.runs == []
    assert before - free_memory() < 4 * FREE


def test_in_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: FREE)
    refused: list[Callable[[], object]] = [
        lambda: fit(hidden_sizes=[2**13, 2**13], epochs=1),
        lambda: fit(network=lambda i, o: nn.Sequential(nn.Linear(i, 2**25), nn.Linear(2**25, o)), epochs=1),
        lambda: from_seed(lambda: nn.Linear(2**14, 2**14), 1),
        Sine(n_samples=2**27).sample,
        LinearProblem(n_samples=2**25).sample,
        lambda: LinearProblem(n_samples=2**25).true_parameters,
    ]
    for do in refused:
        with pytest.raises(InputError, match="300 MiB of memory are free"):
            do()


@pytest.mark.parametrize(
    ("optimizer", "copies"), [("SGD", 1), ("momentum", 2), ("RMSprop", 2), ("Adam", 3), ("amsgrad", 4), ("LBFGS", 3)]
)
def test_the_state_of_an_optimiser_is_counted(monkeypatch: pytest.MonkeyPatch, optimizer: str, copies: int) -> None:
    """An optimiser's state, counted by hand: none, a velocity, a mean of squares, two moments, and their maximum."""
    options: dict[str, Any] = {"lr": 0.1, "optimizer": {"class_path": f"torch.optim.{optimizer}"}}
    if optimizer in ("SGD", "momentum"):
        options = {"lr": 0.1, "momentum": 0.9 if optimizer == "momentum" else 0.0}
    elif optimizer == "amsgrad":
        options["optimizer"] = {"class_path": "torch.optim.Adam", "init_args": {"amsgrad": True}}
    module = RegressionModule(in_features=2**13, out_features=2**12, **options)
    module.configure_model()
    needed = copies * 2**12 * (2**13 + 1) * 4
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: int(1.1 * needed))
    module.configure_optimizers()
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: int(0.99 * needed))
    with pytest.raises(InputError, match="of memory are free; use a smaller network, or SGD without momentum"):
        module.configure_optimizers()
