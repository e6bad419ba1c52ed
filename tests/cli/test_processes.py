"""Several processes of one run, started by Lightning or by torchrun: the result, the messages, and the ends."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed import distributed_c10d

import gd_lightning
from gd_lightning import History, InputError
from gd_lightning.callbacks import EndedBySignal
from gd_lightning.cli.processes import first_failure
from tests.conftest import CommandLine, StartOthers

TIMEOUT = 240
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
RUN = ["--data.batch_size", "16", "--model.lr", "0.01", "--trainer.precision", "64-true", "--trainer.max_epochs", "6"]


def _start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _fit(*options: str, cwd: Path, launch: list[str] | None = None) -> tuple[int, str, str]:
    process = _start(*(launch or []), "-m", "gd_lightning", "fit", *options, cwd=cwd)
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


def _weights(root: Path) -> torch.Tensor:
    (run,) = (root / "lightning_logs").iterdir()
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten() for value in state.values()])


def _updates(root: Path) -> list[str]:
    (history,) = root.glob("lightning_logs/*/history.csv")
    with history.open() as lines:
        return [row["update"] for row in csv.DictReader(lines)]


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["as torchrun does", "by torchrun"])
def test_torchrun_says_how_many_processes_there_are_and_they_give_the_result_of_one(
    command_line: CommandLine,
    start_others: StartOthers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    launch: str,
) -> None:
    options = [*RUN, "--data.val_size", "1"]
    alone = command_line.fit(*options)
    shared = tmp_path / "shared"
    shared.mkdir()
    if launch == "by torchrun":
        code, _, err = _fit(*options, cwd=shared, launch=TORCHRUN)
    else:
        start_others("-m", "gd_lightning", "fit", *options, cwd=shared)
        monkeypatch.chdir(shared)
        code = gd_lightning.main(["fit", *options])
        err = capfd.readouterr().err
    assert code == 0, err
    assert "gd_lightning: " not in err
    assert np.allclose(_weights(shared), _weights(tmp_path), rtol=1e-12, atol=0)
    (together,) = (shared / "lightning_logs").iterdir()
    one, two = (History.from_csv(run / "history.csv") for run in (alone, together))
    for name in ("update", "samples"):
        assert two.last(name) == one.last(name)
    for name in ("train_loss", "batch_loss", "val_loss", "val_mse"):
        assert two[name] == pytest.approx(one[name], rel=1e-6, nan_ok=True), name


@pytest.mark.slow
def test_other_devices_than_torchrun_has_started_are_refused(tmp_path: Path) -> None:
    code, _, err = _fit("--trainer.devices", "3", cwd=tmp_path, launch=TORCHRUN)
    assert code != 0
    said = [line for line in err.splitlines() if line.startswith("gd_lightning: ")]
    assert said == [
        "gd_lightning: cannot train on 3 devices, because torchrun has started 2 processes; leave trainer.devices out, "
        "or give torchrun --nproc-per-node 3"
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_bad_input_is_said_by_the_first_process(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as a launcher says it
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which Lightning sets, for all tests behind this one
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command_line("fit", *TWO, "--data.batch_size", "101") == 2
    assert len(command_line.err.splitlines()) == (1 if rank == 0 else 0)


@pytest.mark.parametrize("error", [EndedBySignal(signal.SIGTERM), KeyboardInterrupt(), InputError("cannot")], ids=repr)
@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_speaks_also_when_lightning_has_forgotten_the_others(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, rank: int, error: BaseException
) -> None:
    def end(*_: object, **__: object) -> None:
        del os.environ["WORLD_SIZE"]  # as Lightning does after a run
        raise error

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setattr("gd_lightning.cli.execution.Command", end)
    assert command_line("fit") in (2, 130, 143)
    assert len(command_line.err.splitlines()) == (1 if rank == 0 else 0)


@pytest.mark.slow
def test_bad_input_is_said_once(tmp_path: Path) -> None:
    code, _, err = _fit(*TWO, "--data.batch_size", "101", cwd=tmp_path)
    assert code == 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("rank", "code"), [(0, 2), (1, 1), (2, 2)])
def test_the_process_that_failed_first_is_the_one_that_speaks(
    monkeypatch: pytest.MonkeyPatch, rank: int, code: int
) -> None:
    """Whoever fails because another one is gone finds its exit code, if it was not killed."""
    distributed: Any = torch.distributed
    store = distributed.HashStore()
    ranks = iter([(rank + 1) % 3, rank, (rank + 1) % 3, (rank + 2) % 3])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: next(ranks))
    monkeypatch.setattr(distributed_c10d, "_get_default_store", lambda: store)
    assert first_failure(1, is_consequence=True) is None  # nobody has said anything
    assert first_failure(code, is_consequence=False) is None
    assert first_failure(1, is_consequence=True) == code
    assert first_failure(3 - code, is_consequence=False) == code


@pytest.mark.slow
@pytest.mark.parametrize(("error", "code"), [("InputError", 2), ("MemoryError", 1)])
def test_a_failure_of_the_second_process_alone_is_said_once(tmp_path: Path, error: str, code: int) -> None:
    (tmp_path / "program.py").write_text(
        "import sys, gd_lightning\n"
        "from gd_lightning import HistoryRecorder, InputError\n"
        "def on_train_epoch_end(self, trainer, module):\n"
        "    if trainer.global_rank == 1:\n"
        f"        raise {error}('of this process')\n"
        "HistoryRecorder.on_train_epoch_end = on_train_epoch_end\n"
        "sys.exit(gd_lightning.main(sys.argv[1:]))\n"
    )
    process = _start("program.py", "fit", *RUN, *TWO, cwd=tmp_path)
    _, err = process.communicate(timeout=TIMEOUT)
    said = [line for line in err.splitlines() if line.startswith("gd_lightning: ")]
    assert process.returncode == code, err
    assert len(said) == 1
    assert ("of this process" if error == "InputError" else "there is not enough memory") in said[0]


def _running(root: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a long run on two processes; returns it and the processes it has started."""
    size, _, *others = RUN[:-1]
    options = [size, "1", *others, "200", "--checkpoint.interval", "0.5"]
    process = _start("-m", "gd_lightning", "fit", *options, *TWO, cwd=root)
    deadline = time.monotonic() + TIMEOUT
    while not list(root.glob("lightning_logs/*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return process, [child for child, text in commands.items() if "gd_lightning" in text]


def _assert_gone(processes: list[int]) -> None:
    assert processes
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_sigterm_ends_all_processes_and_the_run_goes_on_with_another_number_of_them(tmp_path: Path) -> None:
    process, others = _running(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143
    assert err == "gd_lightning: ended by SIGTERM\n"
    _assert_gone(others)
    done = len(_updates(tmp_path)) - 1
    epochs = str(done // 100 + 2)
    code, _, err = _fit(
        "--ckpt_path",
        "last",
        "--trainer.max_epochs",
        epochs,
        "--trainer.devices",
        "1",
        "--trainer.strategy",
        "auto",
        cwd=tmp_path,
    )
    assert code == 0, err
    assert _updates(tmp_path) == [str(update) for update in range(100 * int(epochs) + 1)]
    (tmp_path / "whole").mkdir()
    code, _, err = _fit(*RUN, "--data.batch_size", "1", "--trainer.max_epochs", epochs, cwd=tmp_path / "whole")
    assert np.allclose(_weights(tmp_path), _weights(tmp_path / "whole"), rtol=1e-9, atol=0)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
@pytest.mark.slow
@pytest.mark.parametrize("whom", ["first", "other"])
def test_a_kill_leaves_no_process_behind(tmp_path: Path, whom: str) -> None:
    process, others = _running(tmp_path)
    os.kill(process.pid if whom == "first" else others[0], signal.SIGKILL)
    _, err = process.communicate(timeout=TIMEOUT)
    _assert_gone(others)
    if whom == "other":
        assert process.returncode == 1
        assert err.count("because another process of the run ended; continue with --ckpt_path") == 1
        assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2)])
def test_a_run_goes_on_within_an_epoch_on_another_number_of_processes(tmp_path: Path, before: int, after: int) -> None:
    """An epoch has 25 updates. In float64 the order of summation differs among numbers of processes, nothing else."""
    options = ["--data.batch_size", "4", "--trainer.precision", "64-true", "--model.lr", "0.01"]
    options += ["--model.hidden_sizes", "[4]"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    assert (
        gd_lightning.main(
            ["fit", *options, "--trainer.max_steps=60", f"--trainer.default_root_dir={tmp_path / 'whole'}"]
        )
        == 0
    )
    for steps, processes, further in ((30, before, options), (60, after, ["--ckpt_path", "last"])):
        strategy = ["--trainer.devices", str(processes), "--trainer.strategy", "auto" if processes == 1 else "ddp"]
        code, _, err = _fit(*further, *strategy, "--trainer.max_steps", str(steps), cwd=tmp_path / "parts")
        assert code == 0, err
    assert np.allclose(_weights(tmp_path / "parts"), _weights(tmp_path / "whole"), rtol=1e-11, atol=0)
    assert _updates(tmp_path / "parts") == _updates(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 40, 10))
def test_forty_runs_on_two_processes_end_with_0(tmp_path: Path, first: int) -> None:
    for run in range(first, first + 10):
        code, _, err = _fit(*RUN, *TWO, "--trainer.max_epochs", "1", cwd=tmp_path)
        assert code == 0, f"run {run}: {err}"
