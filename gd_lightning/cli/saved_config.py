"""Saving the config in the directory of a run."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from gd_lightning.callbacks.logger_directory import directory_of
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import has_version, next_version, set_version
from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.last_checkpoint_path import remember
from gd_lightning.tracking.run_directory import CONFIG, LOGS
from gd_lightning.tracking.run_files import with_header


class RunLogger(TensorBoardLogger):
    """A ``TensorBoardLogger`` in the run's directory, without ``hparams.yaml`` beside ``config.yaml``."""

    def save(self) -> None:
        """Do nothing, since the recorder writes and flushes the results."""


class SaveConfig(SaveConfigCallback):
    """Saves the config into the directory of a run, and nowhere else.

    For a continued run, it is saved after the checkpoint has been loaded.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config of a new run."""
        if self.config.get("ckpt_path") is None:
            self._save(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the config of a continued run, and mark the run as the last one."""
        if self.config.get("ckpt_path") is not None:
            self._save(trainer)
        directory = directory_of(trainer)
        if directory is not None and trainer.is_global_zero:
            remember(directory, Path(trainer.default_root_dir) / LOGS)

    def _save(self, trainer: Trainer) -> None:
        """Save the config into the directory of the run, if it has one."""
        directory = directory_of(trainer)
        if directory is None:
            return
        if trainer.is_global_zero:
            config = self.config.clone()
            config.pop("ckpt_path", None)  # the config makes the whole run again
            directory.mkdir(parents=True, exist_ok=True)
            write_text(directory / CONFIG, with_header(self.parser.dump(config, skip_none=False, skip_validation=True)))


def settle_version(logger: Logger, continued: Path | None) -> Path | None:
    """Set the version of a logger that numbers its runs: that of the continued run, or a new one with its directory.

    Lightning takes the next number without making its directory, so two processes can take the same one.

    Args:
        logger: A logger of the Trainer, before training.
        continued: Directory of the continued run, if any.

    Returns:
        The directory that was made, if any.

    Raises:
        InputError: The logger would delete metrics of another run.
    """
    if not isinstance(logger, (TensorBoardLogger, CSVLogger)):
        return None
    if has_version(logger):
        metrics = Path(logger.log_dir) / "metrics.csv"
        if isinstance(logger, CSVLogger) and continued is None and metrics.exists():
            raise InputError(
                f"cannot log with version {logger.version!r}, because CSVLogger would delete {metrics}; use another "
                "version, or none"
            )
        return None
    root = Path(logger.root_dir)
    if continued is not None and isinstance(logger, TensorBoardLogger) and continued.resolve().parent == root.resolve():
        set_version(logger, continued.name)
        return None
    root.mkdir(parents=True, exist_ok=True)
    number = next_version(logger)
    while True:
        try:
            (root / f"version_{number}").mkdir()
        except FileExistsError:
            number += 1
            continue
        set_version(logger, number)
        return root / f"version_{number}"
