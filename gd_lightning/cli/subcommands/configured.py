"""What a subcommand without a Trainer gets of the command line."""

from __future__ import annotations

from typing import Protocol

from jsonargparse import Namespace

from gd_lightning.cli.options.parsing import ParsedOptions
from gd_lightning.data import RegressionDataModule
from gd_lightning.module import RegressionModule


class Configured(Protocol):
    """The part of the command line that a subcommand without a Trainer uses: module and data as its options say."""

    config: Namespace
    model: RegressionModule
    datamodule: RegressionDataModule
    options: ParsedOptions
