"""Updates in compiled code against plain PyTorch: every setting, together with every other."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gd_lightning.engine import (
    Chunk,
    ChunkRequest,
    DivergenceCheck,
    Engine,
    EpochEnds,
    FusedEngine,
    SaveAt,
    Trace,
    why_not_fused,
    work_of,
)
from gd_lightning.errors import InputError, ShapeError
from gd_lightning.losses import Loss, summed_loss
from gd_lightning.models.regressors import LinearRegressor, MLPRegressor
from gd_lightning.variants import Variant
from tests.engine.reference import autograd_engine

pytest.importorskip("numba")

N = 31
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "identity")
WIDTHS = ((1, 1), (5, 1), (3, 2), (2, 3), (1, 10, 1), (2, 5, 4, 2), (3, 4, 6, 1))
CHOICES: dict[str, tuple[Any, ...]] = {
    "widths": WIDTHS,
    "activation": ACTIVATIONS,
    "bias": (True, False),
    "loss": ("mse", "mae", "huber"),
    "step": ({}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}),
    "weight_decay": (0.0, 0.05),
    "l1": (0.0, 0.02),
    "changing_lr": (False, True),
    "batch_size": (1, 7, N),
    "drop_last": (False, True),
    "shuffled": (False, True),
}
Case = dict[str, Any]


def _covering() -> Iterator[Case]:
    """Yield cases in which every two choices meet: of many drawn at random, always the one with the most new pairs."""
    draw = random.Random(0)

    def pairs(case: Case) -> set[tuple[str, str]]:
        return set(itertools.combinations([f"{name}={case[name]}" for name in CHOICES], 2))

    names = list(CHOICES)
    missing = {
        (f"{a}={u}", f"{b}={v}") for a, b in itertools.combinations(names, 2) for u in CHOICES[a] for v in CHOICES[b]
    }
    while missing:
        case = max(
            ({name: draw.choice(CHOICES[name]) for name in names} for _ in range(60)),
            key=lambda case: len(pairs(case) & missing),
        )
        if pairs(case) & missing:
            missing -= pairs(case)
            yield case


def _network(case: Case) -> nn.Module:
    first, *hidden, last = case["widths"]
    if hidden:
        return MLPRegressor(first, last, hidden, case["activation"], case["bias"])
    return LinearRegressor(first, last, case["bias"])


MakeEngine = Callable[..., Engine]


def _data(dtype: torch.dtype, features: int, outputs: int, samples: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, features, dtype=dtype, generator=generator)
    return x, x.sum(1, keepdim=True).sin() + torch.randn(samples, outputs, dtype=dtype, generator=generator)


def _train(make: MakeEngine, network: nn.Module, case: Case, updates: int) -> tuple[list[Trace], torch.optim.SGD]:
    """Make updates, an epoch to a chunk, everything saved."""
    dtype = next(network.parameters()).dtype
    x, y = _data(dtype, case["widths"][0], case["widths"][-1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, weight_decay=case["weight_decay"], **case["step"])
    engine = make(network, optimizer, case["loss"], 0.7, case["l1"])
    variant = Variant(case["batch_size"], N, case["drop_last"])
    generator, traces = torch.Generator().manual_seed(2), []
    while updates:
        rows = torch.randperm(N, generator=generator) if case["shuffled"] else None
        count = min(updates, variant.updates_per_epoch)
        lrs = 0.02 / (1 + np.arange(updates, updates + count) / 50) if case["changing_lr"] else None
        chunk = Chunk(x, y, rows, variant, 0, count, lrs, save_at=SaveAt(parameters=True, gradients=True))
        traces.append(engine.carry_out(chunk))
        updates -= count
    return traces, optimizer


PARTS = ("losses", "parameters", "gradients")


def _parts(trace: Trace) -> tuple[Tensor | None, ...]:
    return trace.record


def _assert_close(a: Tensor | None, b: Tensor | None, case: object) -> None:
    assert a is not None
    assert b is not None
    assert a.shape == b.shape, case
    assert a.dtype == b.dtype, case
    error = (a - b).abs().max()
    assert error <= TOLERANCE[a.dtype] * b.abs().max().clamp(min=1), f"{error} in {case}"


def _assert_same(case: Case, dtype: torch.dtype, updates: int) -> None:
    torch.manual_seed(3)
    network = _network(case).to(dtype)
    other = copy.deepcopy(network)
    traces, optimizer = _train(FusedEngine, network, case, updates)
    expected, other_optimizer = _train(autograd_engine, other, case, updates)
    for trace, reference in zip(traces, expected, strict=True):
        assert trace.updates == reference.updates
        assert trace.suspected == reference.suspected
        for name, mine, its in zip(PARTS, _parts(trace), _parts(reference), strict=True):
            _assert_close(mine, its, (name, case))
    assert optimizer.param_groups[0]["lr"] == other_optimizer.param_groups[0]["lr"]
    for mine, its in zip(network.parameters(), other.parameters(), strict=True):
        _assert_close(mine, its, case)
        assert mine.grad is None
        assert (mine in optimizer.state) == (its in other_optimizer.state) == bool(case["step"])
        if case["step"]:
            assert optimizer.state[mine].keys() == other_optimizer.state[its].keys()
            buffer = optimizer.state[mine]["momentum_buffer"]
            assert not buffer.requires_grad
            _assert_close(buffer, other_optimizer.state[its]["momentum_buffer"], case)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fused_is_autograd_within_rounding(dtype: torch.dtype) -> None:
    for case in _covering():
        _assert_same(case, dtype, updates=70)  # at least two epochs


@pytest.mark.parametrize("features", [1, pytest.param(7, marks=pytest.mark.slow), 40])
def test_plain_steps_of_one_output_have_code_of_their_own(features: int) -> None:
    plain: Case = {"step": [{}], "weight_decay": [0.0], "l1": [0.0], "drop_last": [False], "activation": ["relu"]}
    choices: Case = {**CHOICES, **plain, "widths": [(features, 1)]}
    for values in itertools.product(*choices.values()):
        case = dict(zip(CHOICES, values, strict=True))
        _assert_same(case, torch.float64, updates=70)  # at least two epochs


@pytest.mark.slow
@pytest.mark.parametrize("widths", WIDTHS)
def test_fused_is_autograd_in_every_combination(widths: tuple[int, ...]) -> None:
    choices = {**CHOICES, "widths": (widths,), "activation": ACTIVATIONS if len(widths) > 2 else ("relu",)}
    for values in itertools.product(*choices.values()):
        _assert_same(dict(zip(choices, values, strict=True)), torch.float64, updates=12)


def test_layers_may_differ() -> None:
    torch.manual_seed(0)
    tanh = nn.Tanh()
    network = nn.Sequential(
        nn.Linear(2, 6), nn.LeakyReLU(0.3), nn.Dropout(0), nn.Linear(6, 3, bias=False), nn.ELU(0.6), nn.Linear(3, 3),
        nn.Linear(3, 2), tanh, nn.Linear(2, 2), tanh, nn.Linear(2, 1),
    ).double()  # fmt: skip
    other = copy.deepcopy(network)
    case = {**next(_covering()), "widths": (2, 1), "loss": "mse", "step": {}}
    for trace, reference in zip(
        _train(FusedEngine, network, case, 60)[0], _train(autograd_engine, other, case, 60)[0], strict=True
    ):
        for of_mine, of_reference in zip(trace.record, reference.record, strict=True):
            _assert_close(of_mine, of_reference, case)


def _line(lr: float = 0.02, **settings: Any) -> tuple[nn.Module, torch.optim.SGD]:
    torch.manual_seed(4)
    network = LinearRegressor(1, 1).double()
    return network, torch.optim.SGD(network.parameters(), lr=lr, **settings)


def _chunk(
    first: int, stop: int, save_at: SaveAt | None = None, check: DivergenceCheck | None = None, batch_size: int = 1
) -> Chunk:
    x, y = _data(torch.float64, 1, 1)
    chunk = Chunk(x, y, torch.arange(N).flip(0), Variant(batch_size, N), first, stop)
    return chunk.asked([ChunkRequest(save_at, check)])


def test_engines_may_take_turns() -> None:
    ends = []
    for engines in itertools.product((FusedEngine, autograd_engine), repeat=3):
        network, optimizer = _line(momentum=0.9)
        for turn, make in enumerate(engines):
            # What a checkpoint would bring back.
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            make(network, optimizer).carry_out(_chunk(7 * turn, 7 * turn + 7))
        numbers = [*network.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())]
        ends.append(nn.utils.parameters_to_vector(numbers))
    for end in ends[1:]:
        _assert_close(end, ends[0], "turns")


@pytest.mark.parametrize("widths", [(1, 1), (5, 1), (40, 1), (3, 2), (1, 10, 1)])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_neither_where_it_is_cut_nor_what_is_kept_changes_a_bit(widths: tuple[int, ...], batch_size: int) -> None:
    case = {**next(_covering()), "widths": widths, "activation": "tanh"}
    torch.manual_seed(5)
    start = _network(case)
    x, y = _data(torch.float32, widths[0], widths[-1])
    variant, order = Variant(batch_size, N), torch.randperm(N)
    keeps = (None, SaveAt(), SaveAt(parameters=True, gradients=True), SaveAt(1, 2, parameters=True))
    choices: list[dict[str, Any]] = [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}]
    for settings, rows in itertools.product(choices, (None, order)):
        ends = []
        for cuts, save_at in itertools.product(([], [1], [2, 3], list(range(1, 5))), keeps):
            network = copy.deepcopy(start)
            engine = FusedEngine(network, torch.optim.SGD(network.parameters(), lr=0.05, **settings))
            for first, stop in itertools.pairwise([0, *cuts, variant.updates_per_epoch]):
                chunk = Chunk(x, y, rows, variant, first, stop).asked([ChunkRequest(save_at)])
                trace = engine.carry_out(chunk)
            ends.append(nn.utils.parameters_to_vector(network.parameters()))
            if (record := trace.record).parameters is not None:
                assert torch.equal(record.parameters[-1], ends[-1])
            assert torch.equal(record.losses[-1], trace.last_loss)
        assert all(torch.equal(end, ends[0]) for end in ends)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("widths", [(1, 1), (1, 2), (5, 1), (40, 3), (5, 8, 3, 2)])
def test_the_mean_loss_is_that_of_the_network(
    widths: tuple[int, ...], loss: Loss, bias: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(6)
    features, *hidden, outputs = widths
    network: nn.Module = LinearRegressor(features, outputs, bias)
    if hidden:
        network = MLPRegressor(features, outputs, hidden, "tanh", bias)
    network.to(dtype)
    engine = FusedEngine(network, torch.optim.SGD(network.parameters(), lr=0.1), loss, 0.7)
    x, y = _data(dtype, features, outputs, samples=1000)
    measured = engine.mean_loss(x, y)
    assert measured == pytest.approx((summed_loss(network(x), y, loss, 0.7) / y.numel()).item(), rel=TOLERANCE[dtype])
    nothing = engine.mean_loss(x[:0], y[:0])
    assert nothing is not None
    assert math.isnan(nothing)


def test_what_takes_long_is_left_to_torch() -> None:
    perceptron, line = MLPRegressor(1, 1, [4]), LinearRegressor(1, 1)
    x, y = torch.zeros(2, 2**24 + 1, 1)
    for network, most in ((perceptron, 2**27 // 13), (line, 2**24)):  # samples times parameters, or features
        engine = FusedEngine(network, torch.optim.SGD(network.parameters()))
        assert engine.mean_loss(x[:most], y[:most]) is not None
        assert engine.mean_loss(x[: most + 1], y[: most + 1]) is None
    assert autograd_engine(*_line()).mean_loss(x, y) is None


def test_what_is_kept_and_where_it_ends_is_the_same() -> None:
    keeps = [SaveAt(start, every, last) for start in (0, 1, 4, 40) for every in (1, 3, 7) for last in (False, True)]
    checks = [
        DivergenceCheck(bound, start, every, suspected)
        for bound in (float("inf"), 100.0, 0.5)
        for start, every in ((1, 1), (5, 4), (3, 100))
        for suspected in (False, True)
    ]
    ended_early = 0
    everything = list(itertools.product(keeps, checks, (0.02, 5.0)))
    for save_at, check, lr in random.Random(0).sample(everything, 150):
        chunk = _chunk(2, 20, save_at, check)
        network, optimizer = _line(lr=lr)
        trace = FusedEngine(network, optimizer).carry_out(chunk)
        network, optimizer = _line(lr=lr)
        expected = autograd_engine(network, optimizer).carry_out(chunk)
        about = (save_at, check, lr)
        assert (trace.updates, trace.saved, len(trace.record.losses), trace.suspected) == (
            (expected.updates, expected.saved, expected.saved, expected.suspected)
        ), about
        torch.testing.assert_close(
            trace.record.losses.double(), expected.record.losses.double(), rtol=1e-10, atol=1e-10
        )
        ended_early += trace.updates < chunk.updates
    assert ended_early > 20


@pytest.mark.parametrize("widths", [(1, 1), (5, 1), (3, 2), (1, 10, 1)])
@pytest.mark.parametrize("batch_size", [1, 7, N])
@pytest.mark.parametrize("engine", [FusedEngine, autograd_engine])
def test_a_chunk_of_epochs_is_that_of_each_of_them(
    engine: MakeEngine, batch_size: int, widths: tuple[int, ...]
) -> None:
    """What is saved, the train loss at the ends of epochs, and the weights are the same to the last bit."""
    x, y = _data(torch.float64, widths[0], widths[-1])
    variant, epochs = Variant(batch_size, N), 4
    per_epoch = variant.updates_per_epoch
    rows = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(epoch)) for epoch in range(epochs)])
    lrs = np.linspace(0.02, 0.01, epochs * per_epoch).reshape(epochs, per_epoch)
    results = []
    for parts in (1, epochs):
        torch.manual_seed(4)
        network = _network({"widths": widths, "activation": "tanh", "bias": True}).double()
        made = engine(network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5))

        def measure(made: Engine = made, network: nn.Module = network) -> list[float]:
            loss = made.mean_loss(x, y)
            return [(network(x) - y).square().mean().item() if loss is None else loss]

        left, measured, done = list[Any](), list[float](), 0
        for order, of_part in zip(rows.chunk(parts), np.split(lrs, parts), strict=True):
            save_at = SaveAt((2 - done) % 3, 3, parameters=True, gradients=True)
            chunk = Chunk(
                *(x, y, order.flatten(), variant, 0, of_part.size, of_part.ravel(), save_at), ends=EpochEnds(measure)
            )
            trace = made.carry_out(chunk)
            left.append([[] if part is None else part.tolist() for part in trace.record])
            measured += trace.measured[:, 0].tolist() if parts == 1 else measure()
            done += trace.updates
        columns = [list(itertools.chain(*parts)) for parts in zip(*left, strict=True)]
        weights = nn.utils.parameters_to_vector(network.parameters()).tolist()
        results.append((weights, columns, measured[: epochs - 1], done))
    assert results[0] == results[1]


@pytest.mark.parametrize("widths", [(1, 1), (3, 1), (1, 10, 1)])
def test_divergence_is_not_hidden(widths: tuple[int, ...]) -> None:
    case = {"widths": widths, "activation": "relu", "bias": True}
    losses = []
    for make in (FusedEngine, autograd_engine):
        torch.manual_seed(6)
        network = _network(case)
        x, y = _data(torch.float32, widths[0], 1)
        chunk = Chunk(x, y, None, Variant(1, N), 0, N, save_at=SaveAt())
        engine = make(network, torch.optim.SGD(network.parameters(), lr=1e6))
        losses.append(engine.carry_out(chunk).record.losses)
    assert not losses[0].isfinite().all()
    assert torch.equal(losses[0].isfinite(), losses[1].isfinite())


@pytest.mark.slow
def test_large_batches_are_shared_by_threads_with_the_same_bits() -> None:
    torch.manual_seed(7)
    start = LinearRegressor(100, 2).double()
    x, y = _data(torch.float64, 100, 2, samples=9000)
    variant, ends = Variant(4000, 9000), []
    threads = torch.get_num_threads()
    try:
        for make, count in ((FusedEngine, 1), (FusedEngine, 2), (autograd_engine, 1)):
            torch.set_num_threads(count)
            network = copy.deepcopy(start)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5)
            chunk = Chunk(
                x,
                y,
                torch.randperm(9000, generator=torch.Generator().manual_seed(0)),
                variant,
                0,
                3,
                save_at=SaveAt(parameters=True, gradients=True),
            )
            ends.append(make(network, optimizer, "huber", 0.7, 0.01).carry_out(chunk))
    finally:
        torch.set_num_threads(threads)
    for name, one, two, reference in zip(PARTS, *(_parts(end) for end in ends), strict=True):
        assert one is not None
        assert two is not None
        assert torch.equal(one, two)
        _assert_close(one, reference, name)


class _OwnForward(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        return super().forward(input) * 2


def _with_hook(network: nn.Module) -> nn.Module:
    network.register_forward_hook(lambda *_: None)
    return network


def _frozen() -> nn.Module:
    network = nn.Linear(1, 1)
    network.bias.requires_grad_(False)
    return network


_RELU = nn.ReLU()


def _shared() -> nn.Module:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Linear(2, 1), ""),
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), ""),
        (MLPRegressor(1, 1, [3], dropout=0.5), "the network has dropout"),
        (_OwnForward(1, 1), "_OwnForward is neither linear nor a multilayer perceptron"),
        (nn.Sequential(_OwnForward(1, 1)), "its part _OwnForward"),
        (nn.Sequential(nn.Linear(1, 2), nn.Softmax(1), nn.Linear(2, 1)), "its part Softmax"),
        (nn.Sequential(nn.Linear(1, 2), nn.GELU("tanh"), nn.Linear(2, 1)), "its GELU is approximate"),
        (nn.Sequential(nn.Linear(1, 2), nn.Softplus(2), nn.Linear(2, 1)), "its Softplus has another"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU()), "not linear layers with at most"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Tanh(), nn.Linear(2, 1)), "one activation"),
        (nn.Sequential(nn.Linear(1, 2), _RELU, nn.Linear(2, 2), _RELU, nn.Linear(2, 1)), ""),
        (_shared(), "share a parameter"),
        (_with_hook(nn.Linear(1, 1)), "a hook"),
        (_frozen(), "a parameter is frozen"),
        (nn.Linear(1, 1, device="meta"), "on meta, not on the CPU"),
        (nn.Linear(1, 1).half(), "torch.float16, neither"),
    ],
)
def test_a_network_that_cannot_be_fused_is_named(network: nn.Module, reason: str) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    why = why_not_fused(network, optimizer)
    assert reason in why
    assert bool(why) == bool(reason)
    if why:
        with pytest.raises(InputError, match="cannot fuse updates, because"):
            FusedEngine(network, optimizer)


def test_an_optimizer_that_cannot_be_fused_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(2, 1)
    sgd, own = torch.optim.SGD, list(network.parameters())
    assert why_not_fused(network, torch.optim.NAdam(own)) == "NAdam is not one of SGD, Adam, AdamW, RMSprop, Adagrad"
    assert why_not_fused(network, sgd(own, momentum=0.5, dampening=0.1)) == "SGD has dampening"
    assert why_not_fused(network, sgd(own, maximize=True)) == "SGD has maximize"
    for other in (sgd(own[:1]), sgd(own[::-1]), sgd([{"params": own[:1]}, {"params": own[1:]}])):
        assert "exactly the network's parameters" in why_not_fused(network, other)
    hooked = sgd(own)
    hooked.register_step_post_hook(lambda *_: None)
    assert "hook is registered on the optimiser" in why_not_fused(network, hooked)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_not_fused(network, sgd(own)) == "numba is not installed (pip install numba)"


def test_data_that_do_not_fit_are_refused() -> None:
    network, optimizer = _line()
    engine, good = FusedEngine(network, optimizer), _chunk(0, 3)
    bad: list[tuple[type[Exception], Chunk]] = [
        (ShapeError, Chunk(good.x.repeat(1, 2), good.y, None, good.variant, 0, 3)),
        (ShapeError, Chunk(good.x, good.y.flatten(), None, good.variant, 0, 3)),
        (ShapeError, Chunk(good.x[:4], good.y[:4], None, good.variant, 0, 3)),
        (InputError, Chunk(good.x, good.y, torch.arange(5), good.variant, 0, 3)),
        (InputError, Chunk(good.x.float(), good.y, None, good.variant, 0, 3)),
    ]
    for error, chunk in bad:
        with pytest.raises(error):
            engine.carry_out(chunk)


def test_a_scheduler_sees_the_steps() -> None:
    network, optimizer = _line()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    FusedEngine(network, optimizer).carry_out(_chunk(0, 3))
    scheduler.step()  # warns if no step was made before
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_the_work_of_an_update_counts_weights() -> None:
    assert work_of(MLPRegressor(1, 1, [10]), 16) == 16 * 20
    assert work_of(nn.Linear(3, 2), 2) == 12


@pytest.mark.parametrize(
    ("batch_size", "every", "is_made_again"), [(1, 1, True), (4, 4, True), (5, 1, False), (1, 5, False)]
)
def test_what_takes_longer_to_write_down_than_to_make_is_made_again(
    batch_size: int, every: int, is_made_again: bool
) -> None:
    save_at = SaveAt(0, every, parameters=True, gradients=True)
    network, optimizer = _line()
    trace = FusedEngine(network, optimizer).carry_out(_chunk(0, N // batch_size, save_at, batch_size=batch_size))
    assert (trace.in_memory is None) == is_made_again
    first, again = trace.record, trace.record
    for one, other in zip(first, again, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert len(first.losses) == trace.saved
    # Two kernels compute what follows; Numba 0.60 rounds the last bit differently in one of them.
    assert float(first.losses[-1]) == pytest.approx(float(trace.last_loss), rel=1e-14)
    assert first.parameters is not None
    ended = nn.utils.parameters_to_vector(network.parameters())
    assert torch.allclose(first.parameters[-1], ended, rtol=1e-14, atol=0)
    only_losses = FusedEngine(network, optimizer).carry_out(_chunk(0, N // batch_size, batch_size=batch_size))
    assert only_losses.in_memory is not None
