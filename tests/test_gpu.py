"""A GPU computes what the CPU computes: runs with every kind of option, continued runs, sweeps, data that are there.

What runs on the CPU here, too, is there to keep the tests right on machines without a GPU.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import LinearProblem, fit, plan, sweep
from tests.conftest import CommandLine

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
GPU = pytest.param("cuda", marks=gpu)
DEVICES = ["cpu", GPU]

TABLE = "--data.problem Table --data.problem.path table.csv"
FEATURES = "--data.problem LinearProblem --data.problem.n_features 4"
NETWORK = f"{FEATURES} --model.hidden_sizes [8] --data.batch_size 16"
CALLBACK = "--data.batch_size 16 --trainer.callbacks+"
OPTIONS = [
    f"{TABLE} --data.val_size 0.2",
    "",
    "--data.batch_size 1 --model.lr 0.01",
    "--data.batch_size 16 --data.val_size 0.2",
    "--data.batch_size 8 --data.order with_replacement",
    "--data.micro_batch_size 7",
    "--trainer.gradient_clip_val 1",
    "--lr_scheduler StepLR --lr_scheduler.step_size 2 --lr_scheduler.gamma 0.5",
    FEATURES,
    f"{FEATURES} --data.standardize both",
    f"{FEATURES} --data.standardize targets --model.loss mae",
    f"{FEATURES} --model.momentum 0.9 --model.nesterov true --model.weight_decay 0.01",
    f"{FEATURES} --model.l1 0.01 --model.bias false",
    NETWORK,
    f"{NETWORK} --data.standardize both --data.val_size 0.2 --model.loss huber",
    f"{NETWORK} --optimizer Adam",
    f"{FEATURES} --optimizer LBFGS",
    f"{NETWORK} --trainer.callbacks+ SharpnessMonitor",
    f"{NETWORK} --trainer.callbacks+ GradientVariance",
    f"{CALLBACK} WeightAveraging",
    f"{CALLBACK} PrintUpdates",
    f"{CALLBACK} LossBelow --trainer.callbacks.threshold 300",
    f"{CALLBACK} GradientNormBelow --trainer.callbacks.threshold 20",
    f"{CALLBACK} EarlyStopping --trainer.callbacks.monitor train_loss",
    f"{TABLE} --model.lr best",
    "--model.lr 50",
    f"{TABLE} --data.standardize none --model.lr 50",
    f"{TABLE} --model.hidden_sizes [4] --model.lr 1e9",
    f"{TABLE} --data.standardize targets --model.hidden_sizes [4] --model.lr 1e9",
]
"""Options of ``fit``; the learning rates at the end are too large."""


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback")
@pytest.mark.parametrize(
    ("device", "options"), [("cpu", OPTIONS[0]), *(pytest.param("cuda", each, marks=gpu) for each in OPTIONS)]
)
def test_a_run_ends_as_on_the_cpu(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, device: str, options: str
) -> None:
    monkeypatch.chdir(command_line.root)
    _write_table()
    given = [*options.split(), "--trainer.max_epochs", "5", "--trainer.precision", "64-true"]
    code = 3 if re.search(r"--model\.lr (50|1e9)", options) else 0
    by_device: dict[str, dict[str, Any]] = {}
    for each in ("cpu", device):
        run = command_line.fit(*given, "--trainer.accelerator", each, code=code)
        by_device[each] = json.loads((run / "summary.json").read_text())
    there, here = by_device[device], by_device["cpu"]
    assert {*there} == {*here}
    assert (there["outcome"], there["updates"]) == (here["outcome"], here["updates"])
    if code == 0:  # beyond the limit, rounding grows as the weights do
        for name in here:
            if re.match("train_loss|val_|parameters", name) and here[name] is not None:
                assert there[name] == pytest.approx(here[name], rel=1e-7), name
    assert re.sub(r"\d[\d.e+]*", "N", there["reason"] or "") == re.sub(r"\d[\d.e+]*", "N", here["reason"] or "")
    for stage in ("test", "predict"):
        assert command_line(stage, "--ckpt_path", run, "--trainer.accelerator", device) == 0, command_line.err


def _write_table() -> None:
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).double()
    y = 1e3 * torch.tanh(x[:, 0] + x[:, 1])
    rows = [f"{a:.6g},{b:.6g},{c:.6g}" for (a, b), c in zip((x * 3 + 5).tolist(), y.tolist(), strict=True)]
    Path("table.csv").write_text("\n".join(["a,b,y", *rows]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"hidden_sizes": [8]}, {"optimizer": "Adam"}])
def test_a_continued_run_ends_with_the_same_bits(tmp_path: Path, device: str, options: dict[str, Any]) -> None:
    problem = LinearProblem(n_features=3, n_samples=100)
    trainer: dict[str, Any] = {"accelerator": device, "deterministic": True}
    given = {"lr": 0.01, "batch_size": 16, **options}
    whole = fit(problem, **given, trainer={**trainer, "max_epochs": 4}, directory=tmp_path / "whole")
    half = fit(problem, **given, trainer={**trainer, "max_epochs": 2}, directory=tmp_path / "half")
    again = fit(problem, **given, trainer={**trainer, "max_epochs": 4}, ckpt_path=half.directory)
    pairs = zip(whole.module.parameters(), again.module.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize(
    "options",
    [{}, {"hidden_sizes": [16, 16]}, {"loss": "huber", "momentums": [0, 0.9]}, {"l1s": [0.01], "standardize": "both"}],
)
def test_a_sweep_ends_as_on_the_cpu(device: str, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"lrs": [1e-3, 1e-2], "batch_sizes": [1, 16, "full"], "max_epochs": 5, **options}
    problem = LinearProblem(n_features=3, n_samples=100)
    here, there = (sweep(problem, precision="64-true", device=each, **given) for each in ("cpu", device))
    np.testing.assert_allclose(there.last, here.last, rtol=1e-9)


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("options", [{}, {"hidden_sizes": [4]}, {"standardize": "none", "lr": 0.001}])
def test_data_may_be_on_the_device(device: str, options: dict[str, Any]) -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) + 2
    y = x.sum(dim=1)
    here, there = ((x.to(each), y.to(each)) for each in ("cpu", device))
    assert plan(there, **options).to_dict() == plan(here, **options).to_dict()
    run = fit(there, **options, trainer={"accelerator": device})
    np.testing.assert_allclose(run.predict(there[0]), fit(here, **options).predict(x), rtol=1e-4)
