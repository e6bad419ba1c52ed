"""What the command line writes besides the record: the config, beside the event file, in the directory of a run."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning.callbacks.surroundings import directory_of
from gd_lightning.tracking.run_directory import CONFIG, write_text


class RunLogger(TensorBoardLogger):
    """A ``TensorBoardLogger`` whose directory is the run's, without ``hparams.yaml``: ``config.yaml`` says it all."""

    def save(self) -> None:
        """Write nothing; the recorder writes, and flushes, what is to be seen."""


class SaveConfig(SaveConfigCallback):
    """Saves the config into the directory of a run, and nowhere else."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save where a run with a logger has its directory."""
        directory = directory_of(trainer)
        if directory is None:
            return
        if trainer.is_global_zero:
            config = self.config.clone()
            config.pop("ckpt_path", None)  # the config makes the whole run again
            directory.mkdir(parents=True, exist_ok=True)
            write_text(directory / CONFIG, self.parser.dump(config, skip_none=False, skip_validation=True))
