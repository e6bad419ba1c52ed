"""Whole commands of this package, from a new process to its end, with their start-up."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL

import numpy as np

from tests.benchmarks.measure import medians, seconds
from tests.benchmarks.tables import markdown, pairs

_NAME = "`import lightning.pytorch.cli`"
_IMPORT = ("-c", "import lightning.pytorch.cli")


def _program(*command: str) -> tuple[str, ...]:
    return ("-m", "gd_lightning", *command)


def _works(commands: Sequence[Sequence[str]], directory: Path) -> list[Callable[[], object]]:
    """Return what runs each of the commands in a directory of its own, where it finds the files of this one."""

    def work(command: Sequence[str]) -> Callable[[], object]:
        def run() -> None:
            with tempfile.TemporaryDirectory(dir=directory) as own:
                subprocess.run([sys.executable, *command], cwd=own, check=True, capture_output=True)

        return run

    return [work(command) for command in commands]


def start_up(repeats: int = 5) -> str:
    """Compare whole commands with the import of Lightning's command line alone."""
    commands = {
        "`gd_lightning fit --help`": _program("fit", "--help"),
        "`gd_lightning fit`, steep line": _program("fit"),
        "`gd_lightning --version`": _program("--version"),
    }
    with tempfile.TemporaryDirectory() as directory:
        *of_commands, of_import = medians(_works([*commands.values(), _IMPORT], Path(directory)), repeats)
    return pairs((command, _NAME, took, of_import) for command, took in zip(commands, of_commands, strict=True))


def long_commands(repeats: int = 3) -> str:
    """Compare long commands with short ones of the same kind, which are little more than start-up."""
    table = ("--data.problem", "Table", "--data.problem.path", "../table.npy", "--data.batch_size", "64")
    of_table = _program("fit", *table, "--model.lr", "0.01", "--trainer.max_epochs")
    compared = _program("compare", "--batch_sizes", "full,10,1", "--lrs", "0.001", "--seeds", "20")
    epochs = "--trainer.max_epochs"
    commands = {
        "`fit` of the steep line, 5,000 epochs": (_program("fit", epochs, "5000"), "20", _program("fit", epochs, "20")),
        "`fit` of 47,000 x 20, B = 64, 3 epochs": ((*of_table, "3"), "steep line, 20", _program("fit", epochs, "20")),
        "`compare`, 3 variants x 20 seeds, 100 epochs": ((*compared, epochs, "100"), "1", (*compared, epochs, "1")),
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        generator = np.random.default_rng(0)
        x = generator.standard_normal((47_000, 20))
        y = x @ generator.standard_normal(20) + 0.1 * generator.standard_normal(47_000)
        np.save(directory / "table.npy", np.column_stack([x, y]).astype(np.float32))
        works = _works([part for long, _, short in commands.values() for part in (long, short)], directory)
        works[-2]()  # what is compiled once is compiled
        took = medians(works, repeats)
    return markdown(
        ["command", "seconds", "epochs of the short command", "its seconds", "difference"],
        [
            [name, f"{long:.3g}", of_short, f"{short:.3g}", f"{long - short:.3g}"]
            for (name, (_, of_short, _)), long, short in zip(commands.items(), took[::2], took[1::2], strict=True)
        ],
    )


def workers(repeats: int = 3, epochs: int = 4_000) -> str:
    """Compare a comparison of twelve runs by one process with the same by two: of one command, and of two commands.

    Args:
        repeats: The number of rounds.
        epochs: Those of a perceptron, which should train for some three seconds.
    """
    perceptrons = ("--data.problem", "LinearProblem", "--data.problem.n_samples", "2000")
    network = ("--model.hidden_sizes", "[64,64]", "--lrs", "0.01", "--trainer.max_epochs", str(epochs))
    sizes = ("--batch_sizes", "64,32,16", "--seeds", "4")
    compared = {
        f"perceptrons of 64-64, {epochs:,} epochs": (*perceptrons, *network, *sizes),
        "the steep line, 20 epochs": ("--seeds", "4"),
    }
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for what, options in compared.items():
            rounds = [_seconds_of_workers(_program("compare", *options), Path(name)) for _ in range(repeats)]
            one, *others = (statistics.median(took) for took in zip(*rounds, strict=True))
            ratios = [statistics.median(took[i] / took[0] for took in rounds) for i in (1, 2)]
            rows.append(
                [what, f"{one:.3g}", *(f"{time:.3g} ({ratio:.2g})" for time, ratio in zip(others, ratios, strict=True))]
            )
    return markdown(["12 runs", "one process, s", "--workers 2, s", "two commands over one directory, s"], rows)


def _seconds_of_workers(command: Sequence[str], directory: Path) -> tuple[float, float, float]:
    """Return the seconds of a command in one process, with two workers, and twice at the same time in one directory."""
    once, two_workers = _works([command, (*command, "--workers", "2")], directory)

    def twice() -> None:
        with tempfile.TemporaryDirectory(dir=directory) as own:
            both = [subprocess.Popen([sys.executable, *command], cwd=own, stdout=DEVNULL) for _ in range(2)]
            if any(process.wait() for process in both):
                raise RuntimeError(f"{' '.join(command)} failed")

    return seconds(once), seconds(two_workers), seconds(twice)
