"""Uses of undocumented parts of ``LightningCLI``, in one place.

``tests/cli/test_lightning_cli.py`` fails if a release has changed them. The names of the rest of Lightning are in
``gd_lightning/lightning_internals.py``, which does not import jsonargparse.
"""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI


class OpenCLI(LightningCLI):
    """A ``LightningCLI`` that gives access to the options and objects of the chosen subcommand."""

    config: Namespace

    def instantiated(self, name: str) -> Any:
        """Return the object that was made from a section of the options, such as ``recorder``."""
        return self._get(self.config_init, name)

    def make_trainer(self, options: dict[str, Any]) -> Trainer:
        """Make a Trainer, with the callback that saves the config in addition to those in its options."""
        return self._instantiate_trainer(options, [])

    def seed_anew(self) -> None:
        """Seed the random number generators with the seed in the options."""
        self._set_seed()

    def run(self, subcommand: str) -> None:
        """Run a subcommand; subclasses implement it."""
        raise NotImplementedError

    def _run_subcommand(self, subcommand: str) -> None:
        self.run(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Do nothing, unlike Lightning's own method, which silently overrules options given by the user."""
