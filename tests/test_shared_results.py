"""Results that runs share: only where all that they depend on is the same to the bit."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning import LinearProblem, SteepLine, compare, shared_results
from gd_lightning.callbacks import forecast, parameter_columns, smallest_train_loss
from gd_lightning.data.samples import Samples
from gd_lightning.shared_results import content_of, results_shared, shared

X = torch.arange(6.0)
OTHERS = {
    "another bit": torch.nextafter(X, torch.tensor(10.0)),
    "the sign of zero": torch.cat([torch.tensor([-0.0]), X[1:]]),
    "another type": X.double(),
    "the same bytes of another type": X.view(torch.int32),
    "another shape": X.view(2, 3),
    "fewer": X[:5],
    "none": X[:0],
}


def test_a_key_is_that_of_the_values() -> None:
    with results_shared({}):
        assert content_of(X) == content_of(X.clone()) == content_of(torch.stack([X, X], dim=1)[:, 0])
        assert content_of(X, X) != content_of(X)
        assert content_of(X[:2], X[2:]) != content_of(X[:3], X[3:])


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_has_another_key(other: str) -> None:
    with results_shared({}):
        assert content_of(X) != content_of(OTHERS[other])


def test_nothing_is_shared_without_a_context_nor_of_large_data() -> None:
    assert content_of(X) is None
    assert [shared("a", lambda: 1), shared("a", lambda: 2)] == [1, 2]
    with results_shared({}):
        assert content_of(torch.zeros(2**20)) is None
        assert content_of(torch.zeros(3, device="meta")) is None


def test_a_result_is_computed_once_and_old_ones_are_forgotten() -> None:
    known: dict[Hashable, Any] = {}
    for _ in range(2):
        with results_shared(known):
            assert shared("a", lambda: len(known)) == 0
    with results_shared(known):
        assert [shared(number, lambda number=number: number) for number in range(100)] == list(range(100))  # type: ignore[misc]
    assert len(known) == 32
    assert "a" not in known


RUNS: dict[str, dict[str, Any]] = {
    "standardised, with momentum, in their order": {
        "problem": LinearProblem(n_samples=40, n_features=2),
        "data": {"standardize": "both", "order": "sequential"},
        "model": {"momentum": 0.5},
        "lrs": [0.01],
    },
    "starts that are drawn": {
        "problem": SteepLine(),
        "model": {"initialization": "default"},
        "vary": {"model.weight_decay": [0.0, 0.1]},
        "lrs": [0.001],
    },
    "standardised or not": {
        "problem": SteepLine(),
        "vary": {"data.standardize": ["features", "none"]},
        "lrs": [0.001],
    },
    "that diverge": {"problem": SteepLine(), "lrs": [1.0]},
}


@pytest.mark.parametrize("kind", RUNS)
def test_runs_that_share_have_the_bits_of_runs_that_do_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Hashable] = []

    def counted(key: Hashable, compute: Any) -> Any:
        asked.append(key)
        return shared(key, compute)

    def histories() -> list[dict[str, Any]]:
        options: dict[str, Any] = {"batch_sizes": ["full", 10], "seeds": 2, "trainer": {"max_epochs": 3}} | RUNS[kind]
        runs = itertools.chain.from_iterable(compare(options.pop("problem"), **options).comparison.runs)
        return [
            {name: run.history[name] for name in run.history.columns if name != "seconds"}
            | {"said": {key: value for key, value in (run.summary or {}).items() if "seconds" not in key}}
            for run in runs
        ]

    for module in (forecast, parameter_columns, smallest_train_loss):
        monkeypatch.setattr(module, "shared", counted)
    sharing = histories()
    assert len({key for key in asked if key is not None}) < len(asked)
    monkeypatch.setattr(shared_results, "_MOST_BYTES", -1)
    asked.clear()
    alone = histories()
    assert set(asked) == {None}
    assert len(sharing) == len(alone)
    for one, other in zip(sharing, alone, strict=True):
        assert repr(one.pop("said")) == repr(other.pop("said"))
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_samples_of_a_mapped_file_are_not_shared() -> None:
    with results_shared({}):
        x: Tensor = torch.ones(3, 1)
        assert Samples(x, x, mapped=True).content is None
        assert Samples(x, x).content == Samples(x.clone(), x.clone()).content is not None
