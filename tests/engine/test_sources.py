"""An engine makes the same updates wherever it has the samples from: to the bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gd_lightning.engine import Chunk, DivergenceCheck, Engine, EngineInMemory, EngineOnFile, SaveAt
from gd_lightning.micro_batches import Pair
from gd_lightning.models import LinearRegressor, MLPRegressor
from gd_lightning.variants import Variant
from tests.engine.reference import autograd_engine

N, D = 203, 3


def _samples(features: int = D) -> Pair:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, features, generator=generator)
    return x, (x.sum(dim=1, keepdim=True) + torch.randn(N, 1, generator=generator)).contiguous()


def _engine(kind: str, network: nn.Module, momentum: float) -> Engine:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=momentum)
    if kind == "fused":
        pytest.importorskip("numba", reason="the fused engine needs Numba, which Pythons newer than it do not have")
        from gd_lightning.engine import FusedEngine

        return FusedEngine(network, optimizer)

    return autograd_engine(network, optimizer)


def _trained(
    kind: str, hidden: bool, batch_size: int, source: Callable[[Engine, Pair], Engine], cut: int, features: int = D
) -> list[Any]:
    """Return what chunks of an epoch leave, cut behind so many updates each."""
    torch.manual_seed(1)
    network = MLPRegressor(features, 1, [4]) if hidden else LinearRegressor(features, 1)
    pair, variant = _samples(features), Variant(batch_size, N)
    engine = source(_engine(kind, network, 0.5 * hidden), pair)
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(2)) if cut % 2 else None
    left: list[Any] = []
    # Zeros, so that an engine that did not ask its source would not learn anything.
    zeros = torch.zeros_like(pair[0]), torch.zeros_like(pair[1])
    engine.prepare(Chunk(*zeros, None, variant, 0, 0))
    for first in range(0, variant.updates_per_epoch, cut):
        stop = min(first + cut, variant.updates_per_epoch)
        check = DivergenceCheck(1e9, 1, 3, False)
        trace = engine.carry_out(Chunk(*zeros, rows, variant, first, stop, None, SaveAt(parameters=True), check))
        left += [trace.updates, trace.suspected, *(part.tolist() for part in trace.record if part is not None)]
        assert trace.last_loss == trace.record.losses[-1]
    return [*left, nn.utils.parameters_to_vector(network.parameters()).tolist()]


def _in_memory(engine: Engine, pair: Pair) -> Engine:
    return EngineInMemory(engine, lambda where: (pair[0][where], pair[1][where]), N, N)


def _in_pieces(engine: Engine, pair: Pair) -> Engine:
    return EngineInMemory(engine, lambda where: (pair[0][where], pair[1][where]), N, 50)


def _on_file(engine: Engine, pair: Pair) -> Engine:
    return EngineOnFile(engine, lambda where: (pair[0][where].clone(), pair[1][where].clone()), 1, 16)


@pytest.mark.parametrize("kind", ["fused", "autograd"])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("batch_size", "cut"), [(1, 203), (1, 7), (2, 50), (64, 2), (64, 3), (100, 1), (N, 1)])
def test_samples_that_are_gathered_give_the_same_bits(kind: str, hidden: bool, batch_size: int, cut: int) -> None:
    sources = (_in_memory, _in_pieces, _on_file)
    given, *others = (_trained(kind, hidden, batch_size, source, cut) for source in sources)
    assert all(other == given for other in others)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("features", [1, 2, 9, 12])
@pytest.mark.parametrize("batch_size", [2, 7, 16, 33, 64, N])
def test_shuffled_samples_that_are_gathered_give_the_same_bits_in_every_loop(
    features: int, batch_size: int, hidden: bool
) -> None:
    """Which compiled loop makes an update depends on features, on the batch size and on whether there is an order."""
    given, gathered = (_trained("fused", hidden, batch_size, source, 1, features) for source in (_in_memory, _on_file))
    assert gathered == given


def test_no_more_is_gathered_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine("autograd", LinearRegressor(D, 1), 0.0)
    monkeypatch.setattr(EngineOnFile, "piece_bytes", 1_000)
    sizes = [EngineOnFile(engine, lambda _: _samples(), batch_size, 16).max_updates for batch_size in (1, 10, 62, 63)]
    assert sizes == [62, 6, 1, 1]
    epoch = Chunk(*_samples(), None, Variant(1, N), 0, N)
    assert not EngineOnFile(engine, lambda _: _samples(), 1, 16).can_span_epochs(epoch, 0)


def test_what_ends_a_chunk_says_what_it_has_left() -> None:
    """Of one that failed when its samples were gathered, nothing was made."""
    network = LinearRegressor(D, 1)
    inner = _engine("autograd", network, 0.0)
    x, y = _samples()
    chunk = Chunk(x, y, None, Variant(10, N), 0, 5)

    def fails(where: Any) -> Pair:
        raise OSError("cut")

    engine = EngineOnFile(inner, fails, 10, 16)
    with pytest.raises(OSError, match="cut"):
        engine.carry_out(chunk)
    assert engine.interrupted is None
    calls: list[int] = []

    class Ends(LinearRegressor):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            if len(calls) == 4:
                raise KeyboardInterrupt
            return super().forward(x)

    engine = EngineOnFile(_engine("autograd", Ends(D, 1), 0.0), lambda where: (x[where], y[where]), 10, 16)
    with pytest.raises(KeyboardInterrupt):
        engine.carry_out(chunk)
    assert engine.interrupted is not None
    assert engine.interrupted.updates == 3


@pytest.mark.parametrize("per_epoch", [1, 3, 7])
def test_what_is_saved_is_what_was_asked_for_and_the_ends_of_epochs(per_epoch: int) -> None:
    x = torch.zeros(per_epoch, 1)
    for first, updates, start, every, last in itertools.product(
        (0, per_epoch - 1), (1, 2, 6, 20), (0, 2, 50), (1, 4), (0, 1)
    ):
        save_at = SaveAt(start=start, every=every, last=bool(last))
        chunk = Chunk(x, x, None, Variant(1, per_epoch), first, first + updates, save_at=save_at)
        expected = set(range(start, updates, every)) | ({updates - 1} if last else set())
        if first + updates > per_epoch:
            expected |= {at for at in range(updates) if (first + at + 1) % per_epoch == 0}
        assert chunk.saved_positions(save_at, updates).tolist() == sorted(expected)
        assert chunk.saves() == len(expected)
