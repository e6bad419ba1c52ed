"""How things are measured: in turns, and never before they agree."""

from __future__ import annotations

import logging
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.cases import Case, Prepared, Run, Side
from tests.benchmarks.competitors import PLAIN_PYTORCH

_CHECKED_UPDATES = 100
_CHECKED_SAMPLES = 100_000
# A ReLU whose input is 0 within rounding goes either way, and parameters differ from there on. In float32 that happens
# about once in a million updates of the MLPs here; in float64, they agree to 1e-14 behind a million.
_MOST_COMPARABLE = 10_000
_TOLERANCE = 1e-4  # of the parameters; float32 resolves 6e-8, and many updates add up
# Adam divides gradients by their size, also those that are little more than rounding.
_MOST_COMPARABLE_OF_ADAM, _TOLERANCE_OF_ADAM = 100, 1e-2


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median seconds of each, taken in turns."""
    rounds = [[seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(of_work) for of_work in zip(*rounds, strict=True)]


class Comparison:
    """Seconds of an update, by side and round, of sides that were taken in turns.

    Args:
        case: What was trained.
        seconds: Of an update, by the name of the side, one a round.
        updates: How many updates each round had.
        difference: The largest that there was between parameters that should be the same, relative to them.
    """

    def __init__(self, case: Case, seconds: dict[str, list[float]], updates: dict[str, int], difference: float) -> None:
        self.case, self.seconds, self.updates, self.difference = case, seconds, updates, difference

    def __contains__(self, side: Side) -> bool:
        return side.name in self.seconds

    def microseconds(self, side: Side) -> float:
        """Return the median of an update."""
        return 1e6 * statistics.median(self.seconds[side.name])

    def ratio(self, side: Side, other: Side) -> float:
        """Return the median, over rounds, of the time of a side over that of the other."""
        pairs = zip(self.seconds[side.name], self.seconds[other.name], strict=True)
        return statistics.median(a / b for a, b in pairs)


def compare(
    case: Case,
    sides: Sequence[Side],
    repeats: int = 5,
    target: float = 0.05,
    whole: float = 0.5,
    too_long: float = 0.3,
) -> Comparison:
    """Train a case by several sides in turns.

    Each side is first checked over a few updates against plain PyTorch. The fast ones then train the whole case, the
    slow ones a part of it. All that have the same number of updates must agree at their ends.

    Args:
        case: What is trained.
        sides: Those that are not installed, cannot train the case or take too long are left out.
        repeats: How many rounds there are.
        target: Seconds that a part of the case should take a side.
        whole: Seconds that the whole case may take a side, as its parts let expect.
        too_long: A side of which an update takes so many seconds is left out.

    Raises:
        ValueError: Two sides that should be the same are not.
    """
    checked = case.first(max(1, min(_CHECKED_UPDATES, _CHECKED_SAMPLES // case.batch_size)))
    references: dict[Case, Run] = {}
    difference, tolerance = 0.0, _TOLERANCE if case.optimizer == "sgd" else _TOLERANCE_OF_ADAM
    runs: dict[Side, tuple[Case, Prepared]] = {}
    for side in sides:
        if side.is_installed and side.takes(case):
            its_case = case.first(max(checked.updates, side.fewest))
            if its_case not in references:
                references[its_case] = PLAIN_PYTORCH.prepare(its_case)()
            prepared = side.prepare(its_case)
            prepared()  # what is compiled for the first time is not a reason to leave a side out
            run = prepared()
            difference = max(difference, difference_between(side, run, references[its_case], tolerance))
            if run.seconds < too_long * its_case.updates:
                runs[side] = lengthened(side, case, its_case, prepared, target, whole)
    most_comparable = _MOST_COMPARABLE if case.hidden else case.updates
    if case.optimizer == "adam":
        most_comparable = _MOST_COMPARABLE_OF_ADAM
    if case.updates > most_comparable:
        part = case.first(most_comparable)
        at_part = [(side, side.prepare(part)()) for side, (its_case, _) in runs.items() if its_case is case]
        for side, run in at_part[1:]:
            difference = max(difference, difference_between(side, run, at_part[0][1], tolerance))
    ends: dict[int, Run] = {}
    of_updates: dict[str, list[float]] = {side.name: [] for side in runs}
    for _ in range(repeats):
        for side, (its_case, prepared) in runs.items():
            run = prepared()
            of_updates[side.name].append(run.seconds / its_case.updates)
            if its_case.updates <= most_comparable:
                other = ends.setdefault(its_case.updates, run)
                difference = max(difference, difference_between(side, run, other, tolerance))
    return Comparison(
        case, of_updates, {side.name: its_case.updates for side, (its_case, _) in runs.items()}, difference
    )


def lengthened(
    side: Side, case: Case, part: Case, prepared: Prepared, target: float, whole: float
) -> tuple[Case, Prepared]:
    """Return what a side trains, the whole case or a longer part of it, and what trains that."""
    before = (0, 0.0)
    while part.updates < case.updates:
        took = prepared().seconds
        # What comes once a run makes an update of a short run seem slower than one of a long run is.
        of_update = max((took - before[1]) / (part.updates - before[0]), 0.1 * took / part.updates)
        if of_update * case.updates <= whole:
            return case, side.prepare(case)
        longer = case.first(min(case.updates, int(part.updates * min(20.0, max(2.0, 1.2 * target / took)))))
        if took >= target or longer.updates == part.updates:
            break
        before = (part.updates, took)
        part, prepared = longer, side.prepare(longer)
    return part, prepared


def difference_between(side: Side, run: Run, other: Run, tolerance: float = _TOLERANCE) -> float:
    """Return the largest difference between parameters, relative to the largest of them; and between losses.

    Raises:
        ValueError: It is more than rounding explains.
    """
    difference = 0.0
    if run.parameters is not None and other.parameters is not None:
        difference = _relative(run.parameters, other.parameters)
    if run.losses is not None and other.losses is not None:
        difference = max(difference, _relative(run.losses, other.losses))
    if not difference <= tolerance:
        raise ValueError(f"{side.name} differs by {difference:.2g} from what it is compared with")
    return difference


def _relative(values: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    return float(np.abs(values - others).max() / np.abs(others).max())


def mebibytes(side: Side, case: Case) -> float:
    """Return by how much a run raises the peak memory of a process of its own, data and libraries left out."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_mebibytes_here, side, case).result()


def _mebibytes_here(side: Side, case: Case) -> float:
    quiet()
    small = replace(case, n_samples=300, batch_size=min(case.batch_size, 100))
    side.prepare(small)()  # loads libraries
    case.data()
    # Of getrusage, the peak cannot be set back, and is at least that of the process that started this one.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak()
    side.prepare(case)()
    return _peak() - before


def _peak() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def quiet() -> None:
    """Let Lightning say nothing while it is timed."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
