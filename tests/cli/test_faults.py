"""Whatever ends a run, nothing finished is lost, the message says how to go on, and the run ends at the same bits."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gd_lightning
from tests.conftest import CommandLine

TIMEOUT = 120
# Some seconds of small updates, with dropout and momentum, whose states a checkpoint has to hold.
RUN = [
    *("--data.batch_size", "3", "--data.val_size", "20"),
    *("--model.hidden_sizes", "[4]", "--model.dropout", "0.2", "--model.momentum", "0.9", "--model.lr", "0.001"),
    *("--trainer.max_epochs", "80", "--checkpoint.interval", "0.05"),
]
RUNS = {
    "autograd": RUN,
    # The fused engine knows no dropout, and needs more to do.
    "fused": [
        *("--data.batch_size", "3", "--data.val_size", "20", "--model.engine", "fused"),
        *("--model.hidden_sizes", "[64,64]", "--model.momentum", "0.9", "--model.lr", "0.0001"),
        *("--trainer.max_epochs", "700", "--checkpoint.interval", "0.05"),
    ],
}


def _start(*options: str, cwd: Path, launch: tuple[str, ...] = ("-m", "gd_lightning")) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *launch, "fit", *options],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell that is not interactive ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _finish(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, err
    return out, err


def _wait_for(root: Path, pattern: str, process: subprocess.Popen[str]) -> Path:
    """Return the first file of a pattern, once it is there."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if found := sorted(root.glob(pattern)):
            return found[0]
        time.sleep(0.002)
    raise AssertionError(f"{pattern} did not come: {process.communicate()[1]}")


def _state(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return state


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        del row["seconds"]
    return rows


def _assert_same_run(run: Path, whole: Path) -> None:
    got, expected = _state(run), _state(whole)
    assert got["global_step"] == expected["global_step"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], value), name
    assert _rows(run) == _rows(whole)
    points = []
    for directory in (run, whole):
        events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload()
        points.append([(event.step, event.value) for event in events.Scalars("updates/train_loss")])
    assert points[0] == points[1]
    assert not list(run.rglob(".*.part"))


@pytest.fixture(scope="module", params=["autograd", pytest.param("fused", marks=pytest.mark.slow)])
def options(request: pytest.FixtureRequest) -> list[str]:
    """Return the options of a run by each engine."""
    return RUNS[request.param]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Path:
    """Return the directory of the run that nothing stopped."""
    root = tmp_path_factory.mktemp("whole")
    _fit_here(*options, cwd=root)
    (run,) = (root / "lightning_logs").iterdir()
    return run


def _fit_here(*options: str, cwd: Path) -> None:
    """Train to the end in this process; only what is to be ended from outside needs one of its own."""
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(cwd)
        assert gd_lightning.main(["fit", *options]) == 0


def _killed_and_continued(root: Path, whole: Path, options: list[str], seconds: float) -> None:
    process = _start(*options, cwd=root)
    config = _wait_for(root, "lightning_logs/*/config.yaml", process)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    _fit_here("--ckpt_path", str(config.parent), cwd=root)
    assert len(list((root / "lightning_logs").iterdir())) == 1
    _assert_same_run(config.parent, whole)


# A run that Ctrl-C ended is continued every day; behind a kill, the checkpoint before it is the newest.
@pytest.mark.slow
def test_a_run_that_was_killed_is_continued(tmp_path: Path, whole: Path, options: list[str]) -> None:
    _killed_and_continued(tmp_path, whole, options, seconds=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_fifty_runs_that_were_killed_are_continued(tmp_path: Path, whole: Path, options: list[str], seed: int) -> None:
    _killed_and_continued(tmp_path, whole, options, seconds=random.Random(seed).uniform(0, 3))


# At moments that are defined: tests/callbacks/test_signals.py, and tests/cli/test_every_continuation.py, which
# continues.
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_a_signal_ended_is_continued(
    tmp_path: Path, whole: Path, options: list[str], number: signal.Signals, code: int
) -> None:
    process = _start(*options[:-1], "1000", cwd=tmp_path)  # the last option is the interval of checkpoints
    run = _wait_for(tmp_path, "lightning_logs/*/checkpoints/last.ckpt", process).parents[1]
    time.sleep(0.3)  # some updates, and far from all of them
    process.send_signal(number)
    out, err = _finish(process, code)
    assert len(err.splitlines()) == 1
    assert "to continue  python -m gd_lightning fit --ckpt_path lightning_logs/" in out
    assert 0 < _state(run)["global_step"] < _state(whole)["global_step"]
    assert len(_rows(run)) == _state(run)["global_step"] + 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "interrupted"
    assert summary["updates"] == _state(run)["global_step"]
    _fit_here("--ckpt_path", "last", cwd=tmp_path)
    _assert_same_run(run, whole)


@pytest.mark.slow
def test_a_run_without_its_config_is_continued_from_the_checkpoint(
    tmp_path: Path, whole: Path, options: list[str]
) -> None:
    process = _start(*options, cwd=tmp_path)
    run = _wait_for(tmp_path, "lightning_logs/*/checkpoints/last.ckpt", process).parents[1]
    time.sleep(0.5)
    process.kill()
    process.communicate()
    (run / "config.yaml").unlink()
    for events in run.glob("*tfevents*"):
        with events.open("r+b") as file:
            file.truncate(max(0, events.stat().st_size - 7))
    _finish(_start("--ckpt_path", str(run), cwd=tmp_path), 0)
    _assert_same_run(run, whole)


def test_a_run_that_is_continued_at_its_end_stays_as_it_is(
    command_line: CommandLine, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "lightning_logs" / whole.name
    shutil.copytree(whole, run)
    assert command_line("fit", "--ckpt_path", run) == 0
    _assert_same_run(run, whole)
    # From a checkpoint that is not the last of its run, a run of its own begins.
    shutil.copy(run / "checkpoints/last.ckpt", run / "checkpoints/other.ckpt")
    branch = command_line.fit("--ckpt_path", run / "checkpoints/other.ckpt")
    _assert_same_run(branch, whole)


def test_what_a_killed_process_was_writing_is_removed(command_line: CommandLine, whole: Path, tmp_path: Path) -> None:
    run, dead = tmp_path / "lightning_logs" / whole.name, 2**22 + 1  # more than a system gives a process
    shutil.copytree(whole, run)
    left = [
        f"{path}.{dead}.part" for path in (".history.csv", ".summary.json", ".curves.png", "checkpoints/.last.ckpt")
    ]
    for path in left:
        (run / path).write_text("half")
    if sys.platform != "linux":
        for path in left:
            os.utime(run / path, (0, 0))
    longer = str(int(json.loads((run / "summary.json").read_text())["epochs"]) + 1)
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", longer) == 0, command_line.err
    assert not list(run.rglob("*.part"))


def test_a_run_without_a_checkpoint_begins_again(command_line: CommandLine, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs" / whole.name
    run.mkdir(parents=True)
    shutil.copy(whole / "config.yaml", run)
    assert command_line("test", "--ckpt_path", run) == 2
    assert "ended before its first checkpoint" in command_line.err
    assert command_line("fit", "--ckpt_path", run) == 0
    _assert_same_run(run, whole)


def test_a_truncated_checkpoint_is_refused_and_left_alone(
    command_line: CommandLine, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "lightning_logs" / whole.name
    shutil.copytree(whole, run)
    checkpoint = run / "checkpoints/last.ckpt"
    shutil.copy(checkpoint, run / "checkpoints/earlier.ckpt")
    for size in (0, 1, 1000, checkpoint.stat().st_size - 1):
        with checkpoint.open("r+b") as file:
            file.truncate(size)
        for stage in ("fit", "test"):
            assert command_line(stage, "--ckpt_path", run) == 2
            assert "damaged" in command_line.err
            assert "earlier.ckpt" in command_line.err
            assert len(command_line.err.splitlines()) == 1
        assert (run / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the directory of a file system of 16 MB; only an administrator can make one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 20_000, 200_000])
def test_a_full_disk_ends_a_run_in_one_line(small_disk: Path, free: int) -> None:
    """The run begins with room for little; what had been finished before is as it was."""
    _finish(_start(*RUN, cwd=small_disk), 0)
    (before,) = (small_disk / "lightning_logs").iterdir()
    kept = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}
    available = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(available - free))
    longer = ["200" if option == "80" else option for option in RUN]
    for options in (longer, ["--ckpt_path", str(before), "--trainer.max_epochs", "200"]):
        _, err = _finish(_start(*options, cwd=small_disk), 1)
        assert len(err.splitlines()) == 1
        assert os.strerror(errno.ENOSPC).lower() in err
    assert all(path.read_bytes() == content for path, content in kept.items() if "checkpoint" not in str(path))
    _state(before)  # it is whole
    (small_disk / "filler").unlink()
    _finish(_start("--ckpt_path", str(before), "--trainer.max_epochs", "90", cwd=small_disk), 0)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="an administrator can write everywhere without setpriv")
@pytest.mark.slow
@pytest.mark.parametrize("name", [".", "lightning_logs"])
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "lightning_logs").mkdir()
    locked = tmp_path / name
    locked.chmod(0o555)
    without = "-dac_override,-dac_read_search,-fowner"
    as_user = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"] if os.getuid() == 0 else []
    result = subprocess.run(
        [*as_user, sys.executable, "-m", "gd_lightning", "fit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    locked.chmod(0o755)
    if name == ".":
        assert result.returncode == 0, result.stderr  # the logs of earlier runs are there and can be written
        return
    assert result.returncode == 1
    assert f"because of {os.strerror(errno.EACCES).lower()}: " in result.stderr
    assert "lightning_logs" in result.stderr
    assert "--trainer.default_root_dir" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_stranger_s_checkpoint_runs_no_code(command_line: CommandLine, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs" / whole.name
    shutil.copytree(whole, run)
    (run / "config.yaml").unlink()
    state = _state(run)
    state["callbacks"]["Evil"] = _Evil(tmp_path / "was here")
    torch.save(state, run / "checkpoints/last.ckpt")
    for stage in ("fit", "validate", "test", "predict"):
        assert command_line(stage, "--ckpt_path", run) == 2
        assert "contains more than plain values" in command_line.err
    assert not (tmp_path / "was here").exists()


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)
