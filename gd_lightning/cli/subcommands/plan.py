"""``plan`` on the command line: its options, and how a plan is printed and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gd_lightning.callbacks.progress import waiting
from gd_lightning.cli.shown_paths import from_here
from gd_lightning.cli.terminal import warn
from gd_lightning.errors import first_line
from gd_lightning.escaping import in_one_line
from gd_lightning.experiments import LocalPlan, Plan
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.plots.style import pixels, save_png
from gd_lightning.tracking.run_directory import new_file


class PlanOptions:
    """Where the subcommand's own options are found; there is no Trainer."""

    def plan(self, json: bool = False, map: bool = True) -> None:  # noqa: A002  # it is the option's name
        """Say before training which learning rates are stable for which batch sizes, and how far they lead.

        Of a linear regressor with the squared error it says so for the whole run; of other networks and losses it says
        what holds at the start.

        Args:
            json: Print JSON for programs instead of a table.
            map: Draw learning rates against batch sizes by what becomes of them, into a new PNG file.
        """


def show(made: Plan | LocalPlan, json: bool, logs: Path | None) -> None:
    """Print a plan, whatever becomes of the file with its map.

    Args:
        made: The plan.
        json: Whether it is for a program.
        logs: Where the map goes; None: nowhere. What holds at the start alone has no map.
    """
    map_file, failure = None, None
    if not json:
        print(made, flush=True)
    if logs is not None and not made.why_no_map:
        try:
            name = f"plan-{made.title}-b{made.variant.batch_size}-lr{made.configured.lr:g}"
            with waiting("map"):
                drawn = pixels(made.plot())
            map_file = _write_picture(drawn, logs, name)
        except OSError as error:
            failure = error
        except NOT_COMPUTABLE as error:
            reason = first_line(error)[:100]
            warn(f"there is no map, for theory does not reach so far: {reason}")
    if json:
        print(made.as_json(map_file))
    elif map_file is not None:
        print(f"\nmap  {in_one_line(str(map_file))}")
    if failure is not None:
        raise failure


def _write_picture(image: NDArray[np.uint8], logs: Path, name: str) -> Path:
    """Write a picture beside the runs, into a file of its own or none; returns it as seen from here."""
    with new_file(logs, name, ".png") as path:
        save_png(path, image)
    return from_here(path)
