"""Writing the history and the summary of a run to files and loggers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gd_lightning.callbacks.forecast import Forecast
from gd_lightning.callbacks.loggers import RunLoggers
from gd_lightning.callbacks.parameter_columns import LinearPath
from gd_lightning.callbacks.smallest_train_loss import Optimum
from gd_lightning.callbacks.trainer_info import problem_of, title_of
from gd_lightning.callbacks.update_rows import UpdateRows
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.module import RegressionModule, has_least_squares, is_squared_error, linear_network
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.atomic_writes import write_json, write_text
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.run_directory import HISTORY, SUMMARY
from gd_lightning.tracking.summary import BestCheckpoint, RunSummary, run_card, summarize
from gd_lightning.variants import Variant

_SECONDS_BETWEEN_WRITES = 5.0
_SECONDS_PER_ROW, _SECONDS_PER_CELL = 3e-4, 1e-6  # seconds per row for a logger, and per number in history.csv


class RunReport:
    """Writes the history of a run, to loggers while it grows, and its summary.

    Args:
        trainer: The Trainer, which is about to train.
        module: The module that it trains.
        variant: B and N; None if unknown.
        path: The recorder of a linear regressor's parameters; None for other models.
        directory: The directory of the run; None if it has none.
        title: Title of the run; None: the name of its problem.
        varied: The options in which it differs from those that it is compared with.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        variant: Variant | None,
        path: LinearPath | None,
        directory: Path | None,
        title: str | None,
        varied: Mapping[str, Any],
    ) -> None:
        self._variant, self._path, self._directory, self._title = variant, path, directory, title
        self._loggers = RunLoggers(trainer, module, variant, varied)  # the run may still be refused
        self._module = module
        self._written_at = time.monotonic()
        self._summary: RunSummary | Callable[[], RunSummary] | None = None

    @property
    def summary(self) -> RunSummary | None:
        """The summary of the run; None before its end. The least squares are solved when it is first read."""
        if callable(self._summary):
            self._summary = self._summary()
        return self._summary

    @property
    def optimum(self) -> Optimum | None:
        """The least-squares solution, where the module is linear and its loss the squared error."""
        return self._path.optimum if self._path is not None and has_least_squares(self._module) else None

    def seconds_of_writing(self, written: UpdateRows) -> float:
        """Return an estimate of the seconds that writing takes if the run ends now."""
        rows = self._loggers.rows_due(written.history)
        cells = len(written.history) * len(written.of_updates) if rows or self._directory is not None else 0
        return rows * _SECONDS_PER_ROW + cells * _SECONDS_PER_CELL

    def begin_again(self, before: int) -> None:
        """Make loggers discard what was written after the update at which the run is continued."""
        self._loggers.begin_again(before)

    def write_from_time_to_time(self, history: History) -> None:
        """Write new rows if the last write was some seconds ago."""
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self._loggers.write_new(history)
            self._written_at = time.monotonic()

    def finish(self, trainer: Trainer, history: History, outcome: Outcome, reason: str, weights: str) -> None:
        """Make the summary, and write it with the remaining rows.

        Args:
            trainer: The Trainer, whose run has ended.
            history: The whole history.
            outcome: How the run ended.
            reason: Why it ended.
            weights: Description of the final weights; "" for those of the last update.
        """
        history.outcome, history.reason = outcome, reason
        said = next((forecast.said for forecast in callbacks_of(trainer, Forecast)), {})
        self._summary = make = self._summary_of(trainer, history, weights, said)
        if not trainer.is_global_zero or (self._directory is None and not trainer.loggers):
            return
        self._summary = summary = make()
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_text(self._directory / HISTORY, history.csv_pieces())
            write_json(self._directory / SUMMARY, summary.as_dict())
        card = run_card(summary, self._title or title_of(trainer))
        self._loggers.finish(history, _results(summary), card, trainer.global_step)

    def correct(self, trainer: Trainer, weights: str) -> None:
        """Correct the description of the final weights in the summary."""
        if self.summary is None:
            return
        self.summary.weights = weights
        if self._directory is not None and trainer.is_global_zero:
            write_json(self._directory / SUMMARY, self.summary.as_dict())

    def _summary_of(
        self, trainer: Trainer, history: History, weights: str, said: dict[str, Any]
    ) -> Callable[[], RunSummary]:
        """Return a function that makes the summary, which can take longer than training; changing state is read now."""
        module, path, problem = self._module, self._path, problem_of(trainer)
        affine = module.affine() if isinstance(module, RegressionModule) else None
        names = (None, None) if path is None else (path.features, path.targets)
        is_linear = path is not None and linear_network(module) is not None
        has_optimum, has_noise = is_linear and has_least_squares(module), is_squared_error(module)
        engine = _engine_of(module)
        best = _best_of(trainer, history, self._directory) if trainer.is_global_zero else None

        def make_summary() -> RunSummary:
            optimum = path.optimum if path is not None and is_linear else None
            truth = problem.true_parameters if problem is not None and is_linear else None
            return summarize(
                history,
                self._variant,
                parameters=None if affine is None else affine.named(*names),
                least_squares=None if optimum is None else optimum.affine.named(*names),
                least_squares_loss=None if optimum is None or not has_optimum else optimum.loss,
                constant_loss=None if optimum is None or not has_optimum else optimum.constant_loss,
                undetermined=path.undetermined if path is not None and is_linear else [],
                truth=None if truth is None else truth.named(*names),
                irreducible_loss=problem.irreducible_loss if problem is not None and has_noise else None,
                said=said,
                weights=weights,
                features=_listed(None if problem is None else problem.feature_names),
                targets=_listed(None if problem is None else problem.target_names),
                best_checkpoint=best,
                **engine,
            )

        return make_summary


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _engine_of(module: LightningModule) -> dict[str, str]:
    """Return the engine that carried out the updates, and the reason why it was not the fused one."""
    if not isinstance(module, RegressionModule):
        return {"engine": "autograd", "engine_reason": f"{type(module).__name__} is no RegressionModule"}
    return {"engine": module.decision.engine, "engine_reason": module.decision.reason}


def _best_of(trainer: Trainer, history: History, directory: Path | None) -> BestCheckpoint | None:
    """Return the best checkpoint that the first ``ModelCheckpoint`` with a monitored value has kept; None without one.

    Files inside the directory of the run are named relative to it.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or callback.monitor is None or callback.best_model_score is None:
            continue
        path = Path(callback.best_model_path)
        if not path.is_file():  # the file has been removed, or is on another machine
            continue
        name = str(path.absolute())
        if directory is not None and path.absolute().is_relative_to(directory.absolute()):
            name = path.absolute().relative_to(directory.absolute()).as_posix()
        update = int(read_checkpoint(path)["global_step"])
        row = int(np.searchsorted(history["update"], update, side="right")) - 1
        return BestCheckpoint(
            path=name,
            monitor=callback.monitor,
            value=float(callback.best_model_score),
            epoch=float(history["epoch"][max(row, 0)]),
            update=update,
        )
    return None


def _results(summary: RunSummary) -> dict[str, float]:
    """Return the results of a run for the HParams tab."""
    results = {"train_loss": summary.train_loss_last, "updates": summary.updates, "seconds": summary.seconds}
    results |= {"samples": summary.samples, **summary.measures}
    return {name: float(value) for name, value in results.items() if value is not None}
