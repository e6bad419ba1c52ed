"""Writing series, settings and results of a run to all of its loggers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from gd_lightning.callbacks.logged_settings import settings_of_run
from gd_lightning.records.history import History
from gd_lightning.tracking.mlflow import MLflowWriter
from gd_lightning.tracking.other_loggers import LoggerWriter
from gd_lightning.tracking.tensorboard.history_writer import HistoryWriter
from gd_lightning.tracking.tensorboard.hparams import named_as_settings
from gd_lightning.variants import Variant


class RunLoggers:
    """Writes a growing history to all loggers of a run, from its first process.

    Args:
        trainer: The Trainer with the loggers.
        pl_module: The module that is trained.
        variant: The variant of the training loader, if known.
        varied: The options in which the run differs from those that it is compared with, by their full names.
    """

    def __init__(
        self, trainer: Trainer, pl_module: LightningModule, variant: Variant | None, varied: Mapping[str, Any]
    ) -> None:
        loggers = trainer.loggers if trainer.is_global_zero else []
        updates = float(trainer.estimated_stepping_batches)
        epochs = updates / (1 if variant is None else variant.updates_per_epoch)
        own = named_as_settings(varied)
        known = settings_of_run(trainer, pl_module, variant) if loggers else {}
        # A class is shown by its name, as the user gave it, instead of by all its arguments.
        self._settings = known | {name: own[name] for name in own if not isinstance(known.get(name), (int, float, str))}
        self._varied = list(own)
        self._boards: list[HistoryWriter] = []
        self._others: list[LoggerWriter] = []
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                self._boards.append(HistoryWriter(logger.experiment, time.time(), updates, epochs))
            else:
                writer = MLflowWriter if isinstance(logger, MLFlowLogger) else LoggerWriter
                self._others.append(writer(logger, updates, epochs, self._settings))
        self._writers: list[HistoryWriter | LoggerWriter] = [*self._boards, *self._others]

    def begin_again(self, before: int) -> None:
        """Make TensorBoard discard what was written after the update at which the run is continued."""
        for board in self._boards:
            board.begin_again(before)

    def rows_due(self, history: History) -> float:
        """Return an upper estimate of the number of rows to be written now."""
        update, epoch = (history.last(name) for name in ("update", "epoch"))
        return sum(each.rows.due(update, epoch) for each in self._writers)

    def write_new(self, history: History) -> None:
        """Write the rows added since the last call."""
        for each in self._writers:
            each.write_new(history)

    def finish(self, history: History, results: Mapping[str, float], card: str, update: int) -> None:
        """Write the remaining rows, and the results of the run.

        Args:
            history: The whole history, which says how the run ended.
            results: Results by name.
            card: The run card, as Markdown.
            update: Number of updates made.
        """
        for other in self._others:
            other.write_new(history, to_the_end=True)
            other.write_results(results, update, history.outcome)
        for board in self._boards:
            board.write_new(history, to_the_end=True)
            board.write_text("run card", card)
            board.write_hparams(self._settings, results, history.outcome, self._varied)
            board.flush()


def end_runs(loggers: Iterable[Logger]) -> None:
    """Finish W&B runs: a process has one active run, which the next run would continue."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            experiment = vars(logger).get("_experiment")  # accessing logger.experiment would start a run
            if experiment is not None:
                experiment.finish()
