"""The directory of a run: choice, locking, and removal after a failed start."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning.callbacks.logger_directory import check_names, choose_directory, directory_of
from gd_lightning.cli.checkpoint_argument import EarlierRun
from gd_lightning.cli.saved_config import RunLogger, settle_version
from gd_lightning.errors import InputError
from gd_lightning.module.library_errors import refusals_of
from gd_lightning.tracking.checkpoint_file import clear_parts
from gd_lightning.tracking.last_checkpoint_path import forget
from gd_lightning.tracking.locks import held
from gd_lightning.tracking.run_directory import EVENTS, LOGS, claim_directory, missing_directories, remove_empty


class FitFiles:
    """The directory of a run's files; a continued run keeps its directory, whatever its logger is.

    Args:
        run: The continued run, if any.
        chosen: The directory of a run of a comparison; None for other runs.
        made: A list to which the directory is added, so that messages can name it.
    """

    def __init__(self, run: EarlierRun | None, chosen: Path | None, made: list[Path]) -> None:
        self.directory = chosen
        self._run = run if run is not None and run.goes_on_in_place else None
        self._all_made = made
        self._missing: list[Path] = []  # the missing parents of the directory, the innermost first
        self._made_by_loggers: list[Path] = []
        self._events_before: set[Path] = set()
        self._held = contextlib.ExitStack()

    def choose(self, trainer: Trainer, name: str, has_own_logger: bool, has_checkpoints: bool) -> None:
        """Choose the directory, and start the loggers there.

        Args:
            trainer: The Trainer, whose loggers and callbacks get the directory.
            name: The name of a new directory.
            has_own_logger: Whether this program's logger is used, since the user has chosen none.
            has_checkpoints: Whether checkpoints are saved, which need a directory even without a logger.

        Raises:
            InputError: A logger cannot start, or another process writes there.
        """
        logs = Path(trainer.default_root_dir) / LOGS
        self._missing = missing_directories(logs)
        if self._run is not None:
            self.directory = self._run.directory
        elif self.directory is None and (has_own_logger or (has_checkpoints and not trainer.loggers)):
            # The first of several processes decides; the others get the directory when they ask for it.
            self.directory = claim_directory(logs, name) if trainer.is_global_zero else logs / name
        if self.directory is not None:
            self._all_made.append(self.directory)
            self._events_before = set(self.directory.glob(EVENTS))
            choose_directory(trainer, self.directory)
            if has_own_logger:
                directory, name = self.directory.parent, self.directory.name
                trainer.loggers = [RunLogger(directory, name="", version=name, default_hp_metric=False, max_queue=1000)]
        try:
            self._begin_loggers(trainer)
        except BaseException:
            self.remove(logs)
            raise
        self._hold(trainer)

    def _begin_loggers(self, trainer: Trainer) -> None:
        continued = None if self._run is None else self.directory
        for logger in trainer.loggers:
            check_names(logger)
            if trainer.is_global_zero and (made := settle_version(logger, continued)) is not None:
                self._made_by_loggers.append(made)
            if not isinstance(logger, TensorBoardLogger):
                with refusals_of(type(logger)):
                    _ = getattr(logger, "experiment", None)  # starts the logger's run before other files are written

    def _hold(self, trainer: Trainer) -> None:
        """Lock the directory, so that no other process continues the run meanwhile.

        Raises:
            InputError: Another process continues it, or has continued it since the run was read.
        """
        # With several processes, the directory of a logger of another program is not known yet.
        directory = self.directory if trainer.world_size > 1 else directory_of(trainer)
        if directory is None or not trainer.is_global_zero:
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(held(directory))
        clear_parts(directory)
        if self._run is not None and self._run.has_gone_on:
            raise InputError(
                f"cannot continue {self._run.name}, because another process has just done so; repeat the command to "
                "continue from there"
            )

    def release(self) -> None:
        """Let other processes write into the directory."""
        self._held.close()

    def remove(self, logs: Path) -> None:
        """Remove the files of a run that failed before its first update, or in its first epoch because of its options.

        Args:
            logs: The parent of the directories of runs.
        """
        if self._run is not None:
            assert self.directory is not None
            for events in set(self.directory.glob(EVENTS)) - self._events_before:  # opened in the set-up
                events.unlink(missing_ok=True)
            return
        for made in filter(None, (self.directory, *self._made_by_loggers)):
            shutil.rmtree(made, ignore_errors=True)
            forget(made, logs)
        remove_empty(self._missing)  # a directory in which another run has written is kept
