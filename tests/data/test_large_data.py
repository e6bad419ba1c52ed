"""Data larger than memory: batch gradient descent over a file, with memory that does not grow with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from gd_lightning import History, Problem, RegressionDataModule, RegressionModule, Table
from gd_lightning.data import placement
from gd_lightning.engine import EngineOnFile
from tests.conftest import MakeTrainer

TIMEOUT = 540
LR, UPDATES = 0.1, 3
COLUMNS, ALLOWED = 5, 64 * 1024  # kB
# The program, on a machine whose memory holds no table.
_MAPPED = (
    "import gd_lightning, gd_lightning.cli as cli; gd_lightning.RegressionDataModule.max_loaded_bytes = 0; cli.main()"
)
TRUTH = np.array([0.5, -1.0, 2.0, 0.25])


def _write(path: Path, rows: int) -> Path:
    """Write a table of a linear function with noise, in pieces."""
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, COLUMNS))
    random = np.random.default_rng(0)
    for start in range(0, rows, 1_000_000):
        piece = table[start : start + 1_000_000]
        piece[:, :-1] = random.standard_normal((len(piece), COLUMNS - 1), dtype=np.float32)
        piece[:, -1] = piece[:, :-1] @ TRUTH + 1 + 0.1 * random.standard_normal(len(piece), dtype=np.float32)
    table.flush()
    return path


def _fit(path: Path, root: Path, *options: str) -> int:
    """Train by batch gradient descent; returns the peak of the anonymous memory, in kB."""
    arguments = [
        *("--data.problem", "Table", "--data.problem.path", str(path), "--data.standardize", "features"),
        *("--model.lr", str(LR), "--trainer.max_epochs", str(UPDATES), "--trainer.default_root_dir", str(root)),
    ]
    command = [sys.executable, "-c", _MAPPED, "fit", *arguments, *options]
    peak, deadline = 0, time.monotonic() + TIMEOUT
    with (root.parent / "output").open("w+") as output:
        process = subprocess.Popen(command, cwd=path.parent, stdout=output, stderr=output)
        while process.poll() is None:
            assert time.monotonic() < deadline
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))])
            time.sleep(0.005)
        output.seek(0)
        assert process.returncode == 0, output.read()
    return peak


def _train_loss(root: Path) -> float:
    (history,) = root.glob("lightning_logs/*/history.csv")
    return History.from_csv(history).last("train_loss")


def _expected_loss(path: Path, lr: float, updates: int) -> float:
    """Return the loss of a linear regressor on standardised features that starts at zero, from moments in float64."""
    table = np.load(path, mmap_mode="r")
    rows = len(table)
    pieces = [slice(start, start + 1_000_000) for start in range(0, rows, 1_000_000)]
    mean = sum(table[piece].sum(axis=0, dtype=np.float64) for piece in pieces) / rows
    moments = sum((table[piece] - mean).T @ (table[piece] - mean) for piece in pieces) / rows
    deviation = np.sqrt(np.diag(moments)[:-1])
    hessian = moments[:-1, :-1] / np.outer(deviation, deviation)
    covariance, variance = moments[:-1, -1] / deviation, moments[-1, -1]
    weight, bias = np.zeros(COLUMNS - 1), 0.0
    for _ in range(updates):
        weight = weight - 2 * lr * (hessian @ weight - covariance)
        bias = bias - 2 * lr * (bias - mean[-1])
    loss = weight @ hessian @ weight - 2 * weight @ covariance + variance + (bias - mean[-1]) ** 2
    return float(loss)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads anonymous memory in /proc")
@pytest.mark.parametrize("hidden_sizes", ["[]", "[32]"], ids=["linear", "mlp"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, hidden_sizes: str) -> None:
    start = "zero" if hidden_sizes == "[]" else "auto"
    options = ["--model.hidden_sizes", hidden_sizes, "--model.initialization", start]
    large = _write(tmp_path / "many.npy", 40_000_000)
    few = _fit(_write(tmp_path / "few.npy", 1_000), tmp_path / "few", *options)
    many = _fit(large, tmp_path / "many", *options)
    assert many <= few + ALLOWED, f"{few / 1024:.0f} MB grew to {many / 1024:.0f} MB"
    if hidden_sizes == "[]":
        expected = _expected_loss(large, lr=LR, updates=UPDATES)
        assert np.isclose(_train_loss(tmp_path / "many"), expected, rtol=1e-5)


@pytest.mark.parametrize("ending", [".npy", ".parquet"])
@pytest.mark.parametrize("options", [{}, {"batch_size": 32}, {"val_size": 0.2, "micro_batch_size": 100}], ids=str)
def test_a_table_trains_alike_read_loaded_and_mapped(
    make_trainer: MakeTrainer, tmp_path: Path, ending: str, options: dict[str, Any]
) -> None:
    path = _write(tmp_path / "table.npy", 1_000)
    if ending == ".parquet":
        columns = np.load(path)
        path = tmp_path / "table.parquet"
        parquet.write_table(pyarrow.table({f"x{i}": columns[:, i] for i in range(COLUMNS)}), path)
    found = []
    for map_above, max_loaded in ((2**20, 0), (10, None), (10, 1_000 * COLUMNS * 8), (10, 1_000 * COLUMNS * 8 - 1)):
        table = Table(str(path))
        table.map_above = map_above
        data = RegressionDataModule(table, standardize=True, **options)
        data.max_loaded_bytes = max_loaded
        module = RegressionModule(lr=0.05, hidden_sizes=[4])
        make_trainer(max_epochs=2, precision="64-true").fit(module, data)
        assert data.problem.mapped == (map_above == 10)
        assert {part.mapped for part in data.parts} == {map_above == 10 and (max_loaded or 0) % 2 == 1}
        found.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    assert all(torch.equal(end, found[0]) for end in found[1:])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_size": 1, "order": "sequential"}, ""),
        ({"batch_size": 7, "standardize": True, "val_size": 0.3}, ""),
        ({"batch_size": 16, "order": "with_replacement", "drop_last": True}, ""),
        ({"batch_size": 100, "standardize": True}, ""),
        ({"batch_size": 101}, "batches of the data are read from the file when needed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("hidden_sizes", [[], [3]])
def test_a_table_that_stays_in_its_file_is_trained_by_the_same_compiled_code(
    make_trainer: MakeTrainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    why: str,
    hidden_sizes: list[int],
) -> None:
    pytest.importorskip("numba", reason="the fused engine needs Numba, which Pythons newer than it do not have")
    monkeypatch.setattr(EngineOnFile, "piece_bytes", 100 * COLUMNS * 4)
    path = _write(tmp_path / "table.npy", 500)
    found = []
    for max_loaded in (None, 0):
        table = Table(str(path))
        table.map_above = 10
        data = RegressionDataModule(table, **{"standardize": False, **options})
        data.max_loaded_bytes = max_loaded
        module = RegressionModule(lr=0.01, momentum=0.5, hidden_sizes=hidden_sizes)
        module.fewest_fused_updates = 0
        make_trainer(max_epochs=2).fit(module, data)
        is_fused = max_loaded is None or not why
        assert module.decision.engine == ("fused" if is_fused else "autograd")
        assert module.decision.reason == ("" if is_fused else why)
        found.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    if why:
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(found[1], found[0])


class Mapped(Problem):
    """A problem of one's own whose tensors are mapped."""

    mapped = True

    def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.arange(40.0).reshape(20, 2)
        return x, x[:, :1]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("missing", [0, 1])
def test_processes_share_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch, processes: int, missing: int) -> None:
    """Each of them loads all samples: 20 rows of 3 float32 numbers."""
    monkeypatch.setattr("gd_lightning.data.placement.free_memory", lambda: 2 * processes * 240 - missing)
    data = RegressionDataModule(Mapped(), val_size=5, test_size=3)
    data.max_loaded_bytes = 0
    trainer: Any = SimpleNamespace(num_devices=processes)
    assert all(part.mapped for part in data.parts)
    loaded = placement.loaded(data.parts, trainer, None)
    assert [part.mapped for part in loaded] == [bool(missing)] * 3
    for part, before in zip(loaded, data.parts, strict=True):
        assert torch.equal(part.x, before.x)
        assert torch.equal(part.y, before.y)
