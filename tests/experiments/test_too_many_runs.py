"""Comparisons, sweeps and plans that memory cannot hold are refused in one line, before it is filled."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gd_lightning import InputError, compare, plan, sweep
from tests.conftest import CommandLine

X = np.random.default_rng(0).normal(size=(20, 1))
Y = X @ [2.0]
MANY = np.linspace(0, 0.1, 2000).tolist()
IN_PYTHON: dict[str, Callable[[], Any]] = {
    "seeds of a comparison": lambda: compare((X, Y), seeds=10**7, epochs=1),
    "a range that is varied": lambda: compare((X, Y), vary={"model.l1": range(10**10)}, epochs=1),
    "a range of batch sizes": lambda: compare((X, Y), batch_sizes=range(1, 10**9), epochs=1),
    "a range of learning rates": lambda: compare((X, Y), batch_sizes=[1], lrs=range(1, 10**9), epochs=1),
    "a product of options": lambda: compare(
        (X, Y), vary={f"model.{name}": MANY for name in ("l1", "weight_decay", "momentum")}, epochs=1
    ),
    "a range that is swept": lambda: sweep((X, Y), lrs=range(1, 10**9), epochs=1),
    "the grid of a sweep": lambda: sweep((X, Y), lrs="log(1e-4,1,10000)", momentums="linear(0,.9,10000)", epochs=1),
    "seeds of a sweep": lambda: sweep((X, Y), lrs=[0.1, 0.2], batch_sizes=[20], seeds=10**12, epochs=1),
    "networks of a sweep": lambda: sweep(
        (X, Y), lrs=[0.1, 0.2], batch_sizes=[20], seeds=490_000, epochs=1, hidden_sizes=[500, 500]
    ),
}
ON_THE_COMMAND_LINE = {
    "seeds of a comparison": "compare --seeds 10000000",
    "a product of options": "compare "
    + " ".join(f"--vary=model.{name}={','.join(map(str, MANY[1:600]))}" for name in ("l1", "weight_decay", "momentum")),
    "seeds of a sweep": "sweep --lrs 0.1,0.2 --batch_sizes full --model.hidden_sizes [500,500] --seeds 490000",
}


@pytest.mark.parametrize("name", IN_PYTHON)
def test_in_python(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"^cannot [^\n]*; [^\n]*$"):
            IN_PYTHON[name]()
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ON_THE_COMMAND_LINE)
def test_on_the_command_line(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line(*ON_THE_COMMAND_LINE[name].split()) == 2
    (line,) = command_line.err.splitlines()
    assert "of memory at least" in line
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(950, 950)).astype(np.float32)
    monkeypatch.setattr("gd_lightning.memory_checks.free_memory", lambda: 6.9e7)
    with pytest.raises(InputError, match=r"cannot predict with 951 parameters, .* of memory at least"):
        plan((x, x[:, :1]))
    assert plan((x[:, :20], x[:, :1]), epochs=2).rows


def test_a_sweep_whose_limits_take_too_much_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = [sweep((X, Y), lrs=[0.1, 0.2], batch_sizes=[20], seeds=1, epochs=1)]
    monkeypatch.setattr("gd_lightning.experiments.sweeps.sweep.predictor_of", _refuse)
    swept.append(sweep((X, Y), lrs=[0.1, 0.2], batch_sizes=[20], seeds=1, epochs=1))
    assert [bool(report.limits) for report in swept] == [True, False]
    np.testing.assert_array_equal(swept[0].last, swept[1].last)


def _refuse(*_: object) -> None:
    raise InputError("cannot predict with so many parameters; give fewer features")


def test_fewer_seeds_are_compared_and_swept() -> None:
    assert len(compare((X, Y), batch_sizes=["full"], seeds=2, epochs=1).histories) == 1
    assert sweep((X, Y), lrs=[0.1, 0.2], batch_sizes=[20], seeds=2, epochs=1).last.shape[-1] == 2
