"""What a subcommand without a Trainer gets of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from jsonargparse import Namespace

from gd_lightning.cli.options.parsing import ParsedOptions
from gd_lightning.data import RegressionDataModule
from gd_lightning.module import RegressionModule
from gd_lightning.tracking.run_directory import LOGS


class Configured(Protocol):
    """The part of the command line that a subcommand without a Trainer uses: module and data as its options say."""

    config: Namespace
    model: RegressionModule
    datamodule: RegressionDataModule
    options: ParsedOptions


def logs_of(command: Configured) -> Path:
    """Return the directory of runs."""
    return Path(command.options.values.trainer.default_root_dir or ".") / LOGS
