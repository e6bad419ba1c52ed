"""The line at the start of a command that says which rows and columns of a table were read, and as what."""

from __future__ import annotations

from gd_lightning.cli.processes import is_first_process
from gd_lightning.data import RegressionDataModule
from gd_lightning.escaping import in_one_line


def say_what_was_read(data: RegressionDataModule) -> None:
    """Print what was read of a table; nothing of other data.

    Args:
        data: The data; they are read.
    """
    if is_first_process() and data.problem.description:
        print(in_one_line(data.problem.description), end="\n\n", flush=True)
