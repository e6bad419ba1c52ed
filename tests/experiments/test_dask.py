"""Runs of Dask's workers are those of this process, bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pytest

from gd_lightning import InputError, Parabola, compare, sweep
from gd_lightning.errors import StartError
from gd_lightning.experiments.executors import carried_out
from tests.experiments.runs import same_runs

distributed = pytest.importorskip("distributed", reason="Dask is in the extra `test`; without it, it cannot be tried")

FEW: dict[str, Any] = {"seeds": 2, "max_epochs": 3}
# Processes of their own import torch, which takes seconds.
CLUSTERS = [pytest.param(False, id="threads"), pytest.param(True, id="processes", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=CLUSTERS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Return the executor of a local cluster of two workers."""
    local = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=request.param, dashboard_address=None, silence_logs=logging.ERROR
    )
    with local as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


def test_a_comparison(executor: Executor) -> None:
    options = {"batch_sizes": ["full", 10], "lrs": 0.01, "model": {"hidden_sizes": [3], "dropout": 0.1}, **FEW}
    there = compare(Parabola(), **options, executor=executor)
    assert same_runs(compare(Parabola(), **options), there)


def test_a_sweep(executor: Executor) -> None:
    options = {"batch_sizes": [1, 10], "lrs": [0.01, 0.1, 10.0], "model": {"hidden_sizes": [3]}, **FEW}
    here, there = sweep(Parabola(), **options), sweep(Parabola(), **options, executor=executor)
    assert here.diverged.any()
    for name in ("first", "last", "updates", "diverged"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


def _refused(_: int) -> None:
    raise StartError("of this", "do that")


def test_what_a_worker_refuses_is_said_as_here(executor: Executor) -> None:
    with pytest.raises(InputError, match="do that"):
        list(carried_out(executor, _refused, [0, 1]))
