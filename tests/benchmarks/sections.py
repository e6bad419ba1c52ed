"""What is measured: each section of the document is a function that returns its text."""

from __future__ import annotations

import functools
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, SteepLine, sweep
from gd_lightning.experiments.sweeps.report import SweepReport
from tests.benchmarks import competitors, ours
from tests.benchmarks.cases import Case, Prepared, Run, Side, draw
from tests.benchmarks.commands import long_commands, start_up, workers
from tests.benchmarks.measure import compare, mebibytes, medians, seconds
from tests.benchmarks.tables import batch_name, markdown, pairs, table_and_text, updates_table
from tests.benchmarks.trainer import seconds_inside

ALL = (ours.FUSED, ours.AUTOGRAD, *competitors.COMPETITORS)
MLPS = ((1, (10,)), (10, (64, 64)))
_OTHERS = tuple(side for side in competitors.COMPETITORS if side is not competitors.LOGGING_LIGHTNING)


# Recording


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
            *medians([functools.partial(fit, b, recorded) for recorded in (True, False)], repeats),
        )
        for name, b in (("stochastic descent", 1), ("mini-batch descent", 16), ("batch descent", 100))
    )


# Updates


def stochastic() -> str:
    """Compare stochastic descent, every loss recorded, with what is fastest at it."""
    cases = [Case(100_000, 1, 1, epochs=10), Case(100_000, 10, 1, epochs=10), Case(100_000, 1, 1, (10,), epochs=10)]
    sides = (ours.AUTO, ours.AUTO_FURTHER, ours.AUTO_READ, ours.AUTOGRAD, *competitors.COMPETITORS)
    return table_and_text([compare(case, sides, repeats=5, whole=5.0) for case in cases], sides, (ours.AUTO,))


def batch() -> str:
    """Compare batch descent of a line on 100 samples: an update is an epoch, and each has its train loss."""
    sides = (ours.FUSED_BY_DEFAULT, ours.FUSED_NOT_RECORDED, ours.AUTOGRAD_NOT_RECORDED, *_OTHERS)
    comparisons = [compare(Case(100, 1, 100, epochs=20_000), sides, repeats=7, whole=5.0)]
    return updates_table(comparisons, sides)


def small() -> str:
    """Compare few samples: 100 epochs of stochastic and of batch descent."""
    return _not_recorded([Case(n, 10, b, epochs=100) for n in (100, 1_000, 10_000) for b in (1, n)])


def lines() -> str:
    """Compare mini-batches of few features."""
    return _not_recorded([Case(100_000, d, b, epochs=10) for d in (1, 3, 10) for b in (16, 64, 256)])


def full() -> str:
    """Compare batch descent of many samples."""
    return _not_recorded([Case(100_000, d, 100_000, epochs=10) for d in (1, 10, 100)])


def perceptrons() -> str:
    """Compare a perceptron with two hidden layers."""
    return _not_recorded([Case(25_600, 10, b, (64, 64), epochs=10) for b in (1, 16, 64, 256, 1_024, 25_600)])


def adam() -> str:
    """Compare Adam, of lines and perceptrons."""
    shapes: list[tuple[int, int, int, tuple[int, ...]]] = [(100_000, 10, 1, ()), (100_000, 10, 64, ())]
    shapes += [(25_600, 10, b, (64, 64)) for b in (16, 256)]
    return _not_recorded([Case(n, d, b, hidden, 10, optimizer="adam") for n, d, b, hidden in shapes])


def updates() -> str:
    """Compare models, batch sizes and numbers of samples."""
    cases = []
    for d, hidden in ((100, ()), (1_000, ()), *MLPS):
        n = 10_000 if d == 1_000 else 100_000
        cases += [Case(n, d, b, hidden, epochs=10) for b in (1, 16, 256, n)]
    cases += [Case(100_000, d, 1, epochs=10) for d in (1, 10)]
    cases += [Case(1_000_000, 10, b) for b in (1, 16, 256)]
    return _not_recorded(cases)


def _not_recorded(cases: Sequence[Case]) -> str:
    """Compare cases, of which no side records anything."""
    sides = (ours.FUSED_NOT_RECORDED, ours.AUTOGRAD_NOT_RECORDED, *_OTHERS)
    return table_and_text([compare(case, sides) for case in cases], sides, sides[:2])


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
    sides = (ours.FUSED_NOT_RECORDED, ours.AUTOGRAD_NOT_RECORDED, competitors.PLAIN_PYTORCH, competitors.JAX_SCAN)
    full = compare(Case(1_000_000, 100, 1_000_000, epochs=10), (TWO_PRODUCTS, *sides), target=0.5)
    of_slices = (competitors.PLAIN_PYTORCH, *(side for side in sides if side is not competitors.PLAIN_PYTORCH))
    slices = compare(Case(1_000_000, 100, 256), of_slices, target=0.5)
    return updates_table([full], (TWO_PRODUCTS, *sides)) + "\n\n" + updates_table([slices], of_slices)


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


# Sweeps


def sweeping(repeats: int = 5, every: int = 50) -> str:
    """Compare a sweep with a loop of single runs, of which every so many-th is made."""
    lrs, sizes, seeds, epochs = "log(1e-4,1,50)", "1,2,4,...,full", 5, 20

    def swept() -> SweepReport:
        return sweep(SteepLine(), lrs=lrs, batch_sizes=sizes, seeds=seeds, max_epochs=epochs)

    first = seconds(swept)
    report = swept()
    runs = list(itertools.product(range(len(report.grid.batch_size)), range(len(report.grid.lr)), range(seeds)))
    singles = runs[::every]

    def last_of(run: tuple[int, int, int]) -> float:
        size, lr, seed = run
        torch.manual_seed(report.seeds[seed])
        module = RegressionModule(lr=report.grid.lr[lr])
        data = RegressionDataModule(SteepLine(), report.grid.batch_size[size], seed=seed)
        recorder = HistoryRecorder()
        seconds_inside(module, data, epochs, [recorder])
        return float(recorder.history.last("train_loss"))

    difference = 0.0
    for size, lr, seed in singles:
        if not report.diverged[size, lr, 0, 0, 0, seed]:
            of_sweep, alone = float(report.last[size, lr, 0, 0, 0, seed]), last_of((size, lr, seed))
            difference = max(difference, abs(of_sweep - alone) / alone)
    if difference > 1e-3:
        raise ValueError(f"losses of a sweep differ by {difference:.2g} from those of single runs")
    together, alone = medians([swept, lambda: [last_of(run) for run in singles]], repeats)
    alone *= len(runs) / len(singles)
    return markdown(
        ["runs", "the first in a process, s", "further ones, s", "single runs, s", "ratio", "final losses differ by"],
        [
            [
                f"{len(runs):,}",
                *(f"{t:.3g}" for t in (first, together, alone)),
                f"{together / alone:.2g}",
                f"{difference:.1g}",
            ]
        ],
    )


# The estimator


def grid_search(repeats: int = 5) -> str:
    """Compare grid searches of ten learning rates with five folds of 100 samples of 10 features."""
    if not competitors.SGD_REGRESSOR.is_installed:
        return "scikit-learn is not installed."
    from sklearn.linear_model import SGDRegressor
    from sklearn.model_selection import GridSearchCV

    from gd_lightning.sklearn import GradientDescentRegressor

    x, y = (values.double().numpy() for values in draw(100, 10))
    rates = np.geomspace(1e-4, 1e-2, 10).tolist()

    def search(model: object, name: str) -> object:
        return GridSearchCV(model, {name: rates}, cv=5).fit(x, y[:, 0])

    ours_by_name = {
        "full batches, 100 epochs": GradientDescentRegressor(),
        "batches of 16, 100 epochs": GradientDescentRegressor(batch_size=16),
        "single samples, 20 epochs": GradientDescentRegressor(batch_size=1, epochs=20),
    }
    works = [functools.partial(search, model, "lr") for model in ours_by_name.values()]
    works.append(functools.partial(search, SGDRegressor(), "eta0"))
    for work in works:
        work()  # what is compiled is compiled before
    *times, theirs = medians(works, repeats)
    return pairs((name, "SGDRegressor()", time, theirs) for name, time in zip(ours_by_name, times, strict=True))


_MICROSECONDS = (
    "Microseconds of an update; in brackets, how many times those of the first side. No side records anything; JAX and "
    "Optax return the losses."
)

SECTIONS: dict[str, tuple[str, str, Callable[[], str]]] = {
    "start-up": ("Start-up", "Whole commands, from a new process to its end.", start_up),
    "commands": (
        "Long commands",
        "Whole commands, from a new process to its end, beside short ones of the same kind. What is compiled is loaded "
        "from the cache.",
        long_commands,
    ),
    "workers": (
        "Several workers",
        "Whole commands, from a new process to its end; in brackets, how many times those of one process. What is "
        "trained is shared; start-up, and the report with its pictures, are not.",
        workers,
    ),
    "recording": ("Recording", "Whole fits of the steep line, with CSV and TensorBoard.", recording),
    "stochastic": (
        "Stochastic descent of 100,000 samples",
        "Microseconds of an update; in brackets, how many times those of the first side: how many updates that makes "
        "in the time of one of the others. Fits of 10 epochs, of sides that are fast enough. `further epochs` are "
        "those of a fit of 30 epochs behind its first 10: without what comes once a fit. `history read` has the time "
        "in it that a first look into the history takes: its rows, and the least squares that they are compared with, "
        "are computed where they are read; what each update of a linear network leaves, its loss too, is made again "
        "then from where a chunk of updates began, to the same bit.",
        stochastic,
    ),
    "batch": (
        "Batch descent of 100 samples",
        "Microseconds of an update, which is an epoch; in brackets, how many times those of the first side, which has "
        "the train loss of each of 20,000 epochs in its history, as `HistoryRecorder()` records it. JAX returns its "
        "losses.",
        batch,
    ),
    "small": (
        "Few samples",
        f"{_MICROSECONDS} Fits of 100 epochs: what comes once in a fit, a millisecond, is a large part of them.",
        small,
    ),
    "lines": ("Mini-batches of few features", _MICROSECONDS, lines),
    "full": ("Batch descent of 100,000 samples", _MICROSECONDS, full),
    "perceptrons": ("Perceptrons", _MICROSECONDS, perceptrons),
    "adam": ("Adam", _MICROSECONDS, adam),
    "updates": (
        "Models, batch sizes and numbers of samples",
        f"{_MICROSECONDS} Left out (-): sides that cannot train the case, or take most of a second for an update.",
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
        "an epoch, and cannot do without two products of the features, with the weights and with the residuals. No "
        "side records anything.",
        many_samples,
    ),
    "sweep": (
        "Sweeps",
        "50 learning rates, 8 batch sizes and 5 seeds of the steep line, 20 epochs, by `gd_lightning.sweep` and by a "
        "fit of each. Every 50th of the fits is made, and their time is multiplied.",
        sweeping,
    ),
    "grid-search": (
        "Grid search",
        "`GridSearchCV` of `GradientDescentRegressor`: 50 fits of 80 of 100 samples of 10 features, and one of all.",
        grid_search,
    ),
    "memory": (
        "Memory",
        "MiB by which an epoch raises the peak of a process of its own, above libraries and data.",
        memory,
    ),
}
