"""``python -m tests.experiments`` runs the shipped experiments and prints what they show.

With ``--write`` that is in ``docs/experiments.md`` then, and ``--check`` says whether the verdicts that stand there
still hold. Names of experiments behind it run these alone.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
DOCUMENT = Path("docs") / "experiments.md"
EXPERIMENTS = sorted((ROOT / "configs" / "experiments").glob("*.yaml"))

WHAT = """\
What does each setting of gradient descent do? Here is one experiment for each table of a published article, whose own
figures are illustrative; these are measured. The claims in quotation marks say in our words what a table of the article
stands for, and after each it says whether the measured figures agree, with the figures.

- *seeds differ by more*: the difference between two values is no larger than seeds explain (paired t test, two-sided,
  5 %), so the claim is neither confirmed nor refuted.
- *one seed each*: how much a seed changes is not known.
- *a time, which may differ in the next run*: the figures were measured with a clock, so the verdict can flip from
  run to run, as where the machine is busy.

`python -m tests.experiments --check` measures again, and lists the verdicts that no longer hold, except those of a
clock."""
WHAT_NOT = """\
Two subjects of the article are left out. Cross entropy belongs to classification, and this is a laboratory of
regression. Parallel processes change the time of a run and nothing else: `tests/cli/test_processes.py` tests that
several processes end where one does."""


def about(config: Path) -> str:
    """Return the comment that a config begins with, as running text."""
    lines = config.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:end])


def sentences(printed: str) -> list[str]:
    """Return the findings and claims among what a comparison printed."""
    return [line for line in printed.splitlines() if line.startswith("- ")]


def title_of(config: Path) -> str:
    """Return the title of an experiment's section."""
    return config.stem.replace("_", " ").capitalize()


def sections_of(document: str) -> dict[str, str]:
    """Return the sections of a document by their titles."""
    return {part.partition("\n")[0]: part.strip() for part in re.split(r"^## ", document, flags=re.M)[1:]}


def verdicts_in(section: str) -> dict[str, tuple[bool, bool]]:
    """Return of each claim in a section whether it agrees, and whether a clock decides that."""
    found = re.findall(r'^- "(.*)": (agrees|does not agree) \((.*)\)$', section, re.M)
    return {claim: (verdict == "agrees", said.startswith("seconds")) for claim, verdict, said in found}


def changed(before: str, now: str) -> list[str]:
    """Say which verdicts of a section are others now, in lines; those of a clock are no mistakes, and are left out."""
    old, new = verdicts_in(before), verdicts_in(now)
    lines = [f'there is a claim more, "{claim}"' for claim in new.keys() - old.keys()]
    lines += [f'there is no claim "{claim}" any more' for claim in old.keys() - new.keys()]
    for claim, (agrees, is_timed) in new.items():
        if claim in old and old[claim][0] != agrees and not is_timed:
            lines.append(f'"{claim}" {"agrees" if agrees else "does not agree"} now')
    return lines


def run(config: Path) -> str:
    """Run an experiment as a person would, and return its section of the document."""
    command = ["gd_lightning", "compare", "--config", str(config.relative_to(ROOT))]
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command, "--directory", directory],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{config.name} ended with exit code {done.returncode}: {done.stderr}")
        table = (Path(directory) / "table.md").read_text(encoding="utf-8").strip()
    if unjudged := re.search('^- ".*": cannot be judged.*', table, re.M):
        raise SystemExit(f"{config.name}: {unjudged[0]}")
    parts = [
        f"## {title_of(config)}",
        about(config),
        f"```bash\npython -m {' '.join(command)}\n```",
        re.sub(r" +", " ", table),
        f"It took {seconds:.0f} s.",
    ]
    return "\n\n".join(parts)


def _threads() -> str:
    count = torch.get_num_threads()
    return "one thread" if count == 1 else f"{count} threads"


def head() -> str:
    """Say what they were run on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "numpy"))
    made = (
        f"Made by `python -m tests.experiments --write` on {platform.machine()}, in {_threads()}, "
        f"with Python {platform.python_version()}, {packages}. Seconds are those of one shared machine."
    )
    return "\n\n".join(["# Experiments", WHAT, made, WHAT_NOT])


def main(args: Sequence[str] | None = None) -> None:
    """Run everything, or the experiments that are named.

    Args:
        args: What stands behind ``python -m tests.experiments``; None: of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.experiments", description=__doc__)
    names = [config.stem for config in EXPERIMENTS]
    parser.add_argument("experiments", nargs="*", help=f"of {', '.join(names)}; none: all, which takes minutes")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--write", action="store_true", help=f"write what they show to {DOCUMENT}, in their places")
    doing.add_argument("--check", action="store_true", help=f"say which verdicts in {DOCUMENT} hold no more")
    given = parser.parse_args(args)
    if unknown := sorted(set(given.experiments) - set(names)):
        parser.error(f"there is no experiment {unknown[0]}; there are {', '.join(names)}")
    document = ROOT / DOCUMENT
    written = sections_of(document.read_text(encoding="utf-8")) if document.is_file() else {}
    if not given.check:
        print(head(), end="\n\n")
    others: list[str] = []
    for config in EXPERIMENTS:
        if given.experiments and config.stem not in given.experiments:
            continue
        section = run(config)
        if given.check:
            found = changed(written.get(title_of(config), ""), section)
            others += found
            print(f"{config.stem}: {'; '.join(found) or 'its verdicts hold'}", flush=True)
            continue
        print(section, end="\n\n", flush=True)
        written[title_of(config)] = section.removeprefix("## ")
        if given.write:
            ordered = [f"## {written[title]}" for title in map(title_of, EXPERIMENTS) if title in written]
            document.write_text("\n\n".join([head(), *ordered]) + "\n", encoding="utf-8")
    if others:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
