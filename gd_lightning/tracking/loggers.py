"""How a history reaches loggers of any kind (floor 3): as metrics against the number of updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gd_lightning.history import History
from gd_lightning.tracking.tensorboard import RowsInTurn


class TakesMetrics(Protocol):
    """What all loggers of Lightning have."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take numbers."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Take settings."""

    def save(self) -> None:
        """Hand everything to the file system, or wherever it goes."""


class LoggerWriter:
    """Writes the rows of a growing history to a logger, as many as TensorBoard gets, each row once.

    Args:
        logger: Where to.
        updates: Expected number of updates; infinite where it is not known.
        epochs: Expected number of epochs, likewise.
        settings: What the run is made with.
    """

    def __init__(self, logger: TakesMetrics, updates: float, epochs: float, settings: Mapping[str, Any]) -> None:
        self._logger = logger
        self.rows = RowsInTurn(updates, epochs)
        """Which rows are written."""
        logger.log_hyperparams({name: value for name, value in settings.items() if value is not None})

    def write_new(self, history: History, to_the_end: bool = False) -> None:
        """Write the rows that came since the last call; arguments as for the writer of TensorBoard."""
        for row in self.rows.new(history, to_the_end):
            metrics = {name: value for name, value in row.items() if name != "update" and not name.startswith("grad_")}
            self._logger.log_metrics(metrics, step=int(row["update"]))
        self._logger.save()

    def write_results(self, results: Mapping[str, float], update: int) -> None:
        """Write what the run came to, as ``final/...``."""
        self._logger.log_metrics({f"final/{name}": value for name, value in results.items()}, step=update)
        self._logger.save()
