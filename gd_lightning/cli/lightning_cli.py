"""Uses of undocumented parts of ``LightningCLI``, in one place.

``tests/cli/test_lightning_cli.py`` fails if a release has changed it. Of the rest of Lightning it is in
``gd_lightning/lightning_internals.py``: to import that is not to import jsonargparse.
"""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI


class OpenCLI(LightningCLI):
    """A ``LightningCLI`` that hands out what it holds of the chosen subcommand."""

    config: Namespace

    def instantiated(self, name: str) -> Any:
        """Return what was made of a section of the options, such as ``recorder``."""
        return self._get(self.config_init, name)

    def make_trainer(self, options: dict[str, Any]) -> Trainer:
        """Make a Trainer, with the callback that saves the config beside those in its options."""
        return self._instantiate_trainer(options, [])

    def seed_anew(self) -> None:
        """Seed the generators as the options say."""
        self._set_seed()

    def run(self, subcommand: str) -> None:
        """Run a subcommand; the subclass says how."""
        raise NotImplementedError

    def _run_subcommand(self, subcommand: str) -> None:
        self.run(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Leave Lightning's own way out: it silently overrules what a person gives."""
