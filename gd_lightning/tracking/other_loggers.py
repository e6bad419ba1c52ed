"""Writing a history to any Lightning logger, as metrics against the number of updates (layer 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.thinned_rows import LoggedRows


class LoggerWriter:
    """Writes the rows of a growing history to a logger, as many as to TensorBoard, each row once.

    Args:
        logger: A logger of Lightning.
        updates: Expected number of updates; infinite if unknown.
        epochs: Expected number of epochs; infinite if unknown.
        settings: The settings of the run.
        written: Updates whose rows the logger already has, from before the run was continued.
    """

    def __init__(
        self,
        logger: Any,
        updates: float,
        epochs: float,
        settings: Mapping[str, Any],
        written: Collection[int] = (),
    ) -> None:
        self._logger, self._written = logger, written
        self.rows = LoggedRows(updates, epochs)
        """Which rows are written."""
        logger.log_hyperparams({name: value for name, value in settings.items() if value is not None})

    def write_new(self, history: History, to_the_end: bool = False) -> None:
        """Write the rows added since the last call; arguments as for the writer of TensorBoard."""
        for row in self.rows.new(history, to_the_end):
            metrics = {name: value for name, value in row.items() if name != "update" and not name.startswith("grad_")}
            if row["update"] not in self._written:
                self._log(metrics, int(row["update"]))
        self._logger.save()

    def write_results(self, results: Mapping[str, float], update: int, outcome: Outcome | None) -> None:
        """Write the results of the run, as ``final/...``, and how it ended."""
        self._log(results, update, "final/")
        if outcome is not None:
            self._write_outcome(str(outcome))
        self._logger.save()

    def _write_outcome(self, outcome: str) -> None:
        self._logger.log_hyperparams({"outcome": outcome})

    def _log(self, metrics: Mapping[str, float], step: int, prefix: str = "") -> None:
        names = self._names_of(metrics)
        self._logger.log_metrics({prefix + names[name]: value for name, value in metrics.items()}, step=step)

    def _names_of(self, metrics: Iterable[str]) -> Mapping[str, str]:
        """Return the names under which metrics are logged; a logger that refuses some characters has others."""
        return {name: name for name in metrics}
