"""The line at the start of a command that says what was read of a table, as what, and what is standardised."""

from __future__ import annotations

from gd_lightning.cli.first_process import is_first_process
from gd_lightning.data import RegressionDataModule
from gd_lightning.escaping import in_one_line

_STANDARDIZED = {
    "both": "features and targets are standardised",
    "features": "features are standardised, targets are not",
    "targets": "targets are standardised, features are not",
    "none": "nothing is standardised",
}


def say_what_was_read(data: RegressionDataModule) -> None:
    """Print which rows and columns were read from a table; nothing for other data.

    Args:
        data: The data, which are read.
    """
    if is_first_process() and data.problem.description:
        said = f"{data.problem.description}; {_STANDARDIZED[data.standardize]}"
        print(in_one_line(said), end="\n\n", flush=True)
