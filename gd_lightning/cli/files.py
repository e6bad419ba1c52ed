"""What the command line writes besides the record: the config, beside the event file, in the directory of a run."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger


class RunLogger(TensorBoardLogger):
    """A ``TensorBoardLogger`` whose directory is the run's, without ``hparams.yaml``: ``config.yaml`` says it all."""

    def save(self) -> None:
        """Write nothing; the recorder writes, and flushes, what is to be seen."""


class SaveConfig(SaveConfigCallback):
    """Saves the config into the directory of a run, and nowhere else."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save where a logger has a directory; without one, ``log_dir`` would be where the person stands."""
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)
