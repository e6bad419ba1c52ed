"""``python -m tests.benchmarks`` measures and prints tables.

With ``--write`` they are in ``docs/benchmarks.md`` then. Names of sections behind it measure these alone; with
``--only`` and ``--write`` they are replaced in the document, so that it can be made in pieces.

Figures are medians, and medians of ratios within a round, in which all sides have their turn: machines are shared and
noisy, and what slows one side then slows the others.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tests.benchmarks.competitors import COMPETITORS
from tests.benchmarks.measure import quiet
from tests.benchmarks.sections import SECTIONS

DOCS = Path(__file__).parents[2] / "docs"
_PACKAGES = ("torch", "lightning", "tensorboard", "numpy", "numba", "scipy", "scikit-learn", "jax", "optax", "keras")


def head() -> str:
    """Say what it was measured on, and how."""
    installed = []
    for name in _PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    missing = [f"{side.name} ({side.package})" for side in COMPETITORS if not side.is_installed]
    parts = [
        f"Made by `python -m tests.benchmarks --write` on {_processor()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads of torch, {platform.system()}, Python {platform.python_version()}, "
        f"{', '.join(installed)}.",
        "All sides have their turn in every round; figures are medians over rounds, ratios are medians of the ratios "
        "within a round. All train the same float32 samples in the same order from the same start at the same learning "
        "rate. Each is checked over its first updates against plain PyTorch, and at its end against all that have as "
        "many updates; `differ by` is the largest difference of parameters and batch losses, relative to the largest "
        "of them.",
        "The time of Lightning, theirs and ours, is that from `on_train_start` to `on_train_end` within `Trainer.fit`, "
        "with all callbacks; that of others is that of their loop or `fit`. Where it does not say otherwise, ours "
        "records every update (`HistoryRecorder(every_n_updates=1)`), and measures the train loss before the first "
        "update and at each epoch's end, which the others do not. What is compiled is compiled before. Slow sides have "
        "fewer updates than fast ones.",
        "JAX is in its best form: all epochs are one call, compiled ahead, of `jax.lax.scan` over epochs and batches; "
        "the parameters that it starts from are donated; it has all cores, or, in a process of its own, one. Optax "
        "makes the updates of Adam. Below a table stands where ours is behind: slower than the fastest of plain "
        "PyTorch, Keras and SGDRegressor, or than JAX, of which nine tenths are enough for linear models.",
    ]
    if missing:
        parts.append(f"Not installed, and left out: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _processor() -> str:
    """Return the name of the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def main(args: Sequence[str] | None = None) -> None:
    """Measure everything, or the sections that are named.

    Args:
        args: What stands behind ``python -m tests.benchmarks``; None: of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; none: all, which takes minutes")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="as these; --write leaves the others")
    parser.add_argument("--write", action="store_true", help="write what they measure to docs/benchmarks.md")
    given = parser.parse_args(args)
    named = [*given.sections, *given.only]
    if unknown := sorted(set(named) - set(SECTIONS)):
        parser.error(f"there is no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    if given.write and given.sections:
        parser.error("cannot write a part of the document; name it behind --only, or leave --write out")
    quiet()
    measured: dict[str, str] = {}
    for name in named or SECTIONS:
        title, explanation, measure = SECTIONS[name]
        begun = time.perf_counter()
        measured[title] = "\n\n".join([f"## {title}", explanation, measure()])
        print(measured[title], flush=True)
        print(f"({time.perf_counter() - begun:.0f} s)", file=sys.stderr, flush=True)
        if given.write:
            write(DOCS / "benchmarks.md", head(), measured)


def write(document: Path, above: str, measured: dict[str, str]) -> None:
    """Replace sections of the document, by their titles; others stay if they were measured on the same machine.

    Args:
        document: The file.
        above: What stands above the sections: the machine, the versions, and how it was measured.
        measured: The text of each section, by its title.
    """
    beginning = f"# Benchmarks\n\n{above}\n\n"
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    kept = before.removeprefix(beginning).split("\n\n## ") if before.startswith(beginning) else []
    sections = {text.removeprefix("## ").partition("\n")[0]: f"## {text.removeprefix('## ').strip()}" for text in kept}
    sections.update(measured)
    titles = [title for title, *_ in SECTIONS.values()]
    document.write_text(beginning + "\n\n".join(sections[t] for t in titles if t in sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
