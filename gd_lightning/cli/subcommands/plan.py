"""``plan`` on the command line: its options, and how a plan is printed and drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gd_lightning.callbacks.progress import waiting
from gd_lightning.callbacks.trainer_info import most_epochs
from gd_lightning.cli.shown_paths import from_here
from gd_lightning.cli.subcommands.configured import Configured
from gd_lightning.cli.subcommands.described_data import say_what_was_read
from gd_lightning.cli.terminal import warn
from gd_lightning.errors import first_line
from gd_lightning.escaping import in_one_line
from gd_lightning.experiments import LocalPlan, Plan, make_plan
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.plots.style import checked_formats, save_figure
from gd_lightning.tracking.run_directory import new_file


class PlanOptions:
    """The method whose arguments are the options of the subcommand."""

    def plan(self, json: bool = False, map: bool = True, formats: str | list[str] = "png") -> None:  # noqa: A002  # it is the option's name
        """Predict before training which learning rates are stable for which batch sizes, and the outcome of the run.

        The statements hold for the whole run of a linear regressor with the squared error, and at the start of a run of
        other networks and losses.

        Args:
            json: Print JSON for programs instead of a table.
            map: Draw a map of the outcomes over batch sizes and learning rates, into a new file.
            formats: Formats of the map: png, svg and pdf, one file each.
        """


def plan(command: Configured, options: Mapping[str, Any]) -> None:
    """Predict the outcome of a run with the options of a command, and print it.

    Args:
        command: The command, with the options of ``fit``.
        options: The options of ``plan``.

    Raises:
        InputError: No plan can be made with these options.
    """
    formats, trainer = checked_formats(options["formats"]), command.options.values.trainer
    if not options["json"]:
        say_what_was_read(command.datamodule)
    epochs = most_epochs(trainer.max_epochs, trainer.max_steps, command.datamodule.variant)
    with waiting("plan") as begins:
        made = make_plan(command.model, command.datamodule, epochs, begins)
    _show(made, options["json"], command.options.logs if options["map"] else None, formats)


def _show(made: Plan | LocalPlan, json: bool, logs: Path | None, formats: Sequence[str]) -> None:
    """Print a plan, even if the file with its map cannot be written.

    Args:
        made: The plan.
        json: Whether it is printed as JSON.
        logs: Directory for the map; None: no map. A plan that holds only at the start has no map.
        formats: Formats of the map.
    """
    map_file, failure = None, None
    if not json:
        print(made, flush=True)
    if logs is not None and not made.why_no_map:
        try:
            name = f"plan-{made.title}-b{made.variant.batch_size}-lr{made.configured.lr:g}"
            with waiting("map"):
                drawn = made.plot()
            map_file = _write_picture(drawn, logs, name, formats)
        except OSError as error:
            failure = error
        except NOT_COMPUTABLE as error:
            reason = first_line(error)[:100]
            warn(f"the map of outcomes is not drawn, because theory yields numbers beyond float64: {reason}")
    if json:
        print(made.as_json(map_file))
    elif map_file is not None:
        print(f"\nmap  {in_one_line(str(map_file))}")
    if failure is not None:
        raise failure


def _write_picture(figure: Figure, logs: Path, name: str, formats: Sequence[str]) -> Path:
    """Write a picture into new files in a directory, one per format; return the first as a relative path."""
    with contextlib.ExitStack() as claims:
        paths = [claims.enter_context(new_file(logs, name, f".{ending}")) for ending in formats]
        for path in paths:
            save_figure(path, figure)
    return from_here(paths[0])
