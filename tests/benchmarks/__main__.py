"""``python -m tests.benchmarks`` measures, prints a table, and writes it to ``docs/benchmarks.md``.

Each figure is a ratio of medians within one run, the two sides taken in turns: machines are shared and noisy, and what
slows one side then slows the other.
"""

from __future__ import annotations

import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, SteepLine

DOCS = Path(__file__).parents[2] / "docs"
Row = tuple[str, str, float, float]


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median seconds of both sides, taken in turns."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def start_up(repeats: int = 9) -> list[Row]:
    """Compare whole commands with the import of Lightning's command line alone."""

    def run(*command: str) -> Callable[[], object]:
        def work() -> None:
            with tempfile.TemporaryDirectory() as directory:
                subprocess.run([sys.executable, *command], cwd=directory, check=True, stdout=subprocess.DEVNULL)

        return work

    competitor = ("-c", "import lightning.pytorch.cli")
    rows = []
    for name, command in {
        "`gd_lightning fit --help`": ("-m", "gd_lightning", "fit", "--help"),
        "`gd_lightning fit`, system 1": ("-m", "gd_lightning", "fit"),
        "`gd_lightning --version`": ("-m", "gd_lightning", "--version"),
    }.items():
        rows.append((name, "`import lightning.pytorch.cli`", *medians(run(*command), run(*competitor), repeats)))
    return rows


def recording(repeats: int = 7, epochs: int = 30) -> list[Row]:
    """Compare runs that are recorded, to CSV and TensorBoard, with the same runs without any instrument."""

    def fit(batch_size: int, recorded: bool) -> None:
        with tempfile.TemporaryDirectory() as directory:
            trainer = Trainer(
                max_epochs=epochs * (20 if batch_size == 100 else 1),
                accelerator="cpu",
                logger=TensorBoardLogger(directory, default_hp_metric=False) if recorded else False,
                callbacks=[HistoryRecorder()] if recorded else [],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                log_every_n_steps=1,
            )
            trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(SteepLine(), batch_size=batch_size))

    return [
        (
            f"{name}, recorded",
            "the same run, not recorded",
            *medians(lambda b=b: fit(b, True), lambda b=b: fit(b, False), repeats),  # type: ignore[misc]
        )
        for name, b in (("stochastic descent", 1), ("mini-batch descent", 16), ("batch descent", 100))
    ]


def table(rows: list[Row]) -> str:
    """Return rows as Markdown, the ratio last."""
    lines = ["| what | against | seconds | seconds of the other | ratio |", "|---|---|---|---|---|"]
    lines += [f"| {a} | {b} | {ours:.3g} | {theirs:.3g} | {ours / theirs:.2f} |" for a, b, ours, theirs in rows]
    return "\n".join(lines)


def main() -> None:
    """Measure everything."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "tensorboard", "numpy"))
    parts = [
        "# Benchmarks",
        f"Made by `python -m tests.benchmarks` on {platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, {packages}. Medians; the two sides of a row were taken in turns.",
        "## Start-up",
        table(start_up()),
        "## Recording",
        table(recording()),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    (DOCS / "benchmarks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
