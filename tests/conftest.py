"""What tests share: quiet Trainers, and the command line run in-process."""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any, cast

import pytest

# Settings of whoever runs the tests: options of the command line, processes that a cluster has started, pictures on a
# display, messages as wide as a terminal. They go before what reads them is imported, and so for the programs that the
# tests start, too.
_PREFIXES = ("PL_", "SLURM_", "TORCHELASTIC_", "JSONARGPARSE_", "LSB_", "KUBERNETES_")
_NAMES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("MPLBACKEND", "COLUMNS", "LINES", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "FORCE_COLOR", "NO_COLOR"),
)
for _name in list(os.environ):
    if _name.startswith(_PREFIXES) or _name in _NAMES:
        del os.environ[_name]

# ruff: noqa: E402  # what follows reads the environment when it is imported
import numpy as np
import torch
from lightning.fabric.utilities import registry
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

import gd_lightning
from gd_lightning.cli.command import Command
from gd_lightning.cli.options.parser import DEFAULT_PROBLEM, Parser
from gd_lightning.engine.compilation_notice import Announced
from gd_lightning.plots.style import save_png

# Each core has tests of its own; threads that share them make small tensors many times slower.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the programs that tests start

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
TIMEOUT = 120  # seconds: Python's import of torch and Lightning, on a machine that is busy


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value after its argument (pytest counts them), and leave short ones to pytest.

    Old versions of pytest name a test after all of a value. A workbook holds the time at which it was made, so that two
    processes that share the tests had other names for the same ones, and ran none.
    """
    return argname if isinstance(val, (str, bytes)) and len(val) > 100 else None


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start each test from the same seed, and find neither the seed nor the default dtype of another.

    The command line leaves its seed in the environment, where Lightning's processes would find it; Lightning leaves the
    address at which several processes meet, where a command would wait for others.
    """
    torch.manual_seed(0)
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(variable, "")  # so that what a test leaves is taken away behind it
        monkeypatch.delenv(variable)
    yield
    rank_zero_only.rank = 0  # type: ignore[attr-defined]  # of a Trainer that took itself for another process
    assert torch.get_default_dtype() is torch.float32


@pytest.fixture(autouse=True)
def _same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run say the same, whether its updates are compiled or loaded from the cache."""
    monkeypatch.setattr(Announced, "already", True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out a fifth of a short run that no test can see.

    Files wait for the disk, for the case that the machine loses power; and each Trainer looks through all packages for
    callbacks that they register.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(registry, "entry_points", entry_points)


entry_points = functools.cache(metadata.entry_points)


@pytest.fixture
def pictures() -> None:
    """Have the pictures of runs, comparisons and sweeps drawn in a test."""


def _one_pixel(_: object) -> NDArray[np.uint8]:
    return np.zeros((1, 1, 3), dtype=np.uint8)


def _save_one_pixel(path: Path, figure: object, _: object) -> bytes:
    save_png(path.with_name(f"{path.name}.png"), _one_pixel(figure))
    return path.with_name(f"{path.name}.png").read_bytes()


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures, which take two thirds of a short run or comparison, in tests that do not look at them."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("gd_lightning.callbacks.Pictures.on_train_end", lambda *_: None)
        for module in ("single.run", "comparison.report", "sweeps.report"):
            monkeypatch.setattr(f"gd_lightning.experiments.{module}.save_figures", _save_one_pixel)


def share_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let command lines of the same subcommand have the same parser, with the default problem that a new one has.

    Nothing else of a parser is changed by a command line: tests/cli/test_command_line.py compares with a new one.
    """
    names = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")

    def setup_parser(self: Command, *args: Any) -> None:
        kind = (type(self), *self.subcommands(), repr(self.trainer_defaults))
        if kind not in _parsers:
            build_parsers(self, *args)
            _parsers[kind] = tuple(getattr(self, name) for name in names)
        for name, value in zip(names, _parsers[kind], strict=True):
            setattr(self, name, value)
        for parser in self._subcommand_parsers.values():
            cast(Parser, parser).choose_problem(DEFAULT_PROBLEM)

    monkeypatch.setattr(Command, "setup_parser", setup_parser)


_parsers: dict[tuple[object, ...], tuple[Any, ...]] = {}
build_parsers = Command.setup_parser


@pytest.fixture
def new_parsers() -> None:
    """Have each command line of a test collect its options, as a program does."""


@pytest.fixture(autouse=True)
def _shared_parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect the options of a subcommand once, which is a third of what a short command takes; not in slow tests."""
    if "new_parsers" not in request.fixturenames and request.node.get_closest_marker("slow") is None:
        share_parsers(monkeypatch)


def without_address(value: object) -> str:
    """Return a name of a case that is the same in all processes that collect the tests: pytest-xdist compares."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def run_program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m gd_lightning`` in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gd_lightning", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


StartOthers = Callable[..., None]


@pytest.fixture
def start_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartOthers]:
    """Return a function that makes this process the first of several, as torchrun does, and starts the others.

    Each process that is started takes seconds to import torch, and torchrun is one more; tests marked slow start it.
    """
    others: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, cwd: Path, processes: int = 2) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        world = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
        for name, value in {**world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        for rank in reversed(range(processes)):
            for name in ("RANK", "LOCAL_RANK"):
                monkeypatch.setenv(name, str(rank))
            if rank > 0:
                command = [sys.executable, *arguments]
                others.append(subprocess.Popen(command, cwd=cwd, text=True, stdout=PIPE, stderr=STDOUT))

    yield start
    for other in others:
        said, _ = other.communicate(timeout=TIMEOUT)
        assert other.returncode == 0, said


MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Return a function that makes a Trainer without noise; ``logs=True`` gives it a TensorBoardLogger in tmp_path."""

    def make(*, logs: bool = False, **options: Any) -> Trainer:
        logger = TensorBoardLogger(tmp_path, name="", version="run", default_hp_metric=False) if logs else False
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "logger": logger,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
        }
        return Trainer(**{**defaults, **options})

    return make


class CommandLine:
    """Runs the command line in-process; runs land in a directory of the test.

    Args:
        root: The directory.
        capture: Pytest's capture of the output.
    """

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capture = capture
        self.out, self.err = "", ""

    def __call__(self, stage: str, *options: str | Path) -> int:
        """Run a subcommand; returns the exit code and keeps what was printed in ``out`` and ``err``."""
        root = ["--trainer.default_root_dir", str(self.root)]
        code = gd_lightning.main([stage, *(str(option) for option in options), *root])
        self.out, self.err = self._capture.readouterr()
        return code

    @property
    def runs(self) -> list[Path]:
        """Directories of all runs so far, oldest first."""
        return sorted((self.root / "lightning_logs").glob("*"), key=lambda path: path.stat().st_mtime_ns)

    def fit(self, *options: str | Path, code: int = 0) -> Path:
        """Train, expect an exit code, and return the directory of the run."""
        before = set(self.runs) if (self.root / "lightning_logs").exists() else set()
        assert self("fit", *options) == code, self.err
        (new,) = set(self.runs) - before
        return new


@pytest.fixture
def command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """Return a command line whose runs land in tmp_path."""
    return CommandLine(tmp_path, capfd)
