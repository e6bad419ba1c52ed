from __future__ import annotations

import pytest

from gd_lightning.errors import InputError
from gd_lightning.variants import Variant


@pytest.mark.parametrize("n", [1, 2, 7, 100])
@pytest.mark.parametrize("drop_last", [False, True])
def test_bookkeeping_equals_cutting_a_list(n: int, drop_last: bool) -> None:
    for b in range(1, n + 1):
        pieces = [list(range(n))[i : i + b] for i in range(0, n, b)]
        if drop_last and len(pieces[-1]) < b:
            pieces.pop()
        variant = Variant.of(b, n, drop_last)
        assert variant.updates_per_epoch == len(pieces)
        assert [variant.size_of(i) for i in range(len(pieces))] == [len(piece) for piece in pieces]
        assert variant.samples_per_epoch == sum(len(piece) for piece in pieces)
        assert [size for count, size in variant.batch_sizes for _ in range(count)] == [len(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("batch_size", "n", "name"),
    [("full", 100, "batch"), (100, 100, "batch"), (99, 100, "mini-batch"), (1, 100, "stochastic"), (1, 1, "batch")],
)
def test_names(batch_size: int, n: int, name: str) -> None:
    assert Variant.of(batch_size, n).name == name


@pytest.mark.parametrize("batch_size", [0, -1, 101, 2.5, True, "ful"])
def test_refuses_what_is_no_batch_size(batch_size: int) -> None:
    with pytest.raises(InputError, match=f"cannot use .*{batch_size}"):
        Variant.of(batch_size, 100)


def test_refuses_an_empty_training_set() -> None:
    with pytest.raises(InputError, match="0 samples"):
        Variant.of("full", 0)
