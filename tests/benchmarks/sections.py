"""What is measured: each section of the document is a function that returns its text."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, SteepLine
from tests.benchmarks import competitors, ours
from tests.benchmarks.cases import Case, Prepared, Run, Side, draw
from tests.benchmarks.measure import Comparison, compare, mebibytes, medians

ALL = (ours.FUSED, ours.AUTOGRAD, *competitors.COMPETITORS)
MLPS = ((1, (10,)), (10, (64, 64)))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Start-up and recording


def pairs(rows: Iterable[tuple[str, str, float, float]]) -> str:
    """Return rows of two sides as Markdown, the ratio last."""
    return markdown(
        ["what", "against", "seconds", "seconds of the other", "ratio"],
        [[a, b, f"{ours:.3g}", f"{theirs:.3g}", f"{ours / theirs:.2f}"] for a, b, ours, theirs in rows],
    )


def start_up(repeats: int = 5) -> str:
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
    return pairs(rows)


def recording(repeats: int = 7, epochs: int = 30) -> str:
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

    return pairs(
        (
            f"{name}, recorded",
            "the same run, not recorded",
            *medians(lambda b=b: fit(b, True), lambda b=b: fit(b, False), repeats),  # type: ignore[misc]
        )
        for name, b in (("stochastic descent", 1), ("mini-batch descent", 16), ("batch descent", 100))
    )


# Updates


def updates_table(comparisons: Sequence[Comparison], sides: Sequence[Side]) -> str:
    """Return a table of the microseconds of an update; in brackets, how many times the first side's they are."""
    first = sides[0]
    there = [side for side in sides if any(side in comparison for comparison in comparisons)]

    def cell(comparison: Comparison, side: Side) -> str:
        if side not in comparison:
            return "-"
        microseconds = f"{comparison.microseconds(side):.3g}"
        if side is first or first not in comparison:
            return microseconds
        return f"{microseconds} ({comparison.ratio(side, first):.2g})"

    return markdown(
        ["model", "N", "B", *(side.name for side in there), "differ by"],
        [
            [
                comparison.case.name,
                f"{comparison.case.n_samples:,}",
                batch_name(comparison.case),
                *(cell(comparison, side) for side in there),
                f"{comparison.difference:.1g}",
            ]
            for comparison in comparisons
        ],
    )


def batch_name(case: Case) -> str:
    """Return B as tables have it."""
    return "full" if case.batch_size == case.n_samples else str(case.batch_size)


def stochastic() -> str:
    """Compare stochastic descent, every loss recorded, with what is fastest at it."""
    cases = [Case(100_000, 1, 1, epochs=10), Case(100_000, 10, 1, epochs=10), Case(100_000, 1, 1, (10,), epochs=10)]
    sides = (ours.AUTO, ours.AUTO_FURTHER, ours.AUTO_READ, *ALL)
    return updates_table([compare(case, sides, repeats=7, whole=5.0) for case in cases], sides)


def updates() -> str:
    """Compare models, batch sizes and numbers of samples."""
    cases = []
    for d, hidden in ((1, ()), (10, ()), (100, ()), (1_000, ()), *MLPS):
        n = 10_000 if d == 1_000 else 100_000
        cases += [Case(n, d, b, hidden, epochs=10) for b in (1, 16, 256, n)]
    cases += [Case(n, 10, b, epochs=1_000) for n in (100, 1_000, 10_000) for b in (1, n)]
    cases += [Case(1_000_000, 10, b) for b in (1, 16, 256)]
    logging_is_elsewhere = [side for side in competitors.COMPETITORS if side is not competitors.LOGGING_LIGHTNING]
    sides = (ours.FUSED_NOT_RECORDED, ours.AUTOGRAD_NOT_RECORDED, *logging_is_elsewhere)
    return updates_table([compare(case, sides) for case in cases], sides)


def logging() -> str:
    """Compare the recorded autograd path with Lightning's own logging of every update."""
    sides = (
        competitors.LOGGING_LIGHTNING,
        competitors.PLAIN_LIGHTNING,
        ours.AUTOGRAD_NOT_RECORDED,
        ours.AUTOGRAD,
        ours.AUTOGRAD_TENSORBOARD,
    )
    cases = [Case(300, 1, 1, epochs=3), Case(300 * 16, 10, 16, epochs=3), Case(300, 1, 1, (10,), epochs=3)]
    return updates_table([compare(case, sides, target=2.0) for case in cases], sides)


# Many samples


def two_products(case: Case) -> Prepared:
    """The two matrix-vector products that an epoch of batch descent cannot do without."""
    x, y = case.data()
    weight, residual = torch.zeros(x.shape[1]), y[:, 0].clone()

    def run() -> Run:
        start = time.perf_counter()
        for _ in range(case.epochs):
            torch.mv(x, weight)
            torch.mv(x.T, residual)
        return Run(time.perf_counter() - start, None)

    return run


TWO_PRODUCTS = Side("two products", two_products)


def many_samples() -> str:
    """Compare an epoch of 1,000,000 samples with what it cannot do without, and with plain PyTorch."""
    draw.cache_clear()
    recorded, not_recorded = (ours.FUSED, ours.AUTOGRAD), (ours.FUSED_NOT_RECORDED, ours.AUTOGRAD_NOT_RECORDED)
    others = (competitors.PLAIN_PYTORCH, competitors.JAX_SCAN)
    of_full = (TWO_PRODUCTS, *not_recorded, *recorded, *others)
    full = compare(Case(1_000_000, 100, 1_000_000, epochs=10), of_full, target=0.5, too_long=math.inf)
    of_slices = (others[0], *not_recorded, *recorded, *others[1:])
    slices = compare(Case(1_000_000, 100, 256), of_slices, target=0.5)
    return updates_table([full], of_full) + "\n\n" + updates_table([slices], of_slices)


def memory() -> str:
    """Compare by how much an epoch raises the peak memory of a process, data and libraries left out."""
    if not sys.platform.startswith("linux"):
        return "Left out: it is read from Linux's `/proc`."
    left_out = (competitors.LOGGING_LIGHTNING, competitors.SGD_REGRESSOR)
    sides = [side for side in ALL if side.is_installed and side not in left_out]
    cases = [Case(250_000, 100, 256), Case(250_000, 100, 250_000)]
    return markdown(
        ["model", "N", "B", "data, MiB", *(side.name for side in sides)],
        [
            [
                case.name,
                f"{case.n_samples:,}",
                batch_name(case),
                f"{case.n_samples * (case.n_features + 1) * 4 / 2**20:.0f}",
                *(f"{mebibytes(side, case):.0f}" for side in sides),
            ]
            for case in cases
        ],
    )


SECTIONS: dict[str, tuple[str, str, Callable[[], str]]] = {
    "start-up": ("Start-up", "Whole commands, from a new process to its end.", start_up),
    "recording": ("Recording", "Whole fits of system 1, with CSV and TensorBoard.", recording),
    "stochastic": (
        "Stochastic descent of 100,000 samples",
        "Microseconds of an update; in brackets, how many times those of the first side: how many updates that makes "
        "in the time of one of the others. Fits of 10 epochs, of sides that are fast enough. `further epochs` are "
        "those of a fit of 30 epochs behind its first 10: without what comes once a fit, such as the least squares "
        "that a history is compared with. `history read` has the time in it that a first look into the history takes: "
        "its rows are computed where they are read.",
        stochastic,
    ),
    "updates": (
        "Models, batch sizes and numbers of samples",
        "Microseconds of an update; in brackets, how many times those of the first side. No side records anything. "
        "Left out (-): sides that cannot train the case, or take most of a second for an update.",
        updates,
    ),
    "logging": (
        "Autograd, and Lightning's own logging",
        "Microseconds of an update; in brackets, how many times those of Lightning with `self.log` in every update and "
        "a `TensorBoardLogger`.",
        logging,
    ),
    "samples": (
        "A million samples",
        "Microseconds of an update; in brackets, how many times those of the first side. An update of batch descent is "
        "an epoch, and cannot do without two products of the features, with the weights and with the residuals.",
        many_samples,
    ),
    "memory": (
        "Memory",
        "MiB by which an epoch raises the peak of a process of its own, above libraries and data.",
        memory,
    ),
}
