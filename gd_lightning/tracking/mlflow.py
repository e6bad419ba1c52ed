"""Writing a history to MLflow, also into an existing run (layer 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gd_lightning.errors import InputError
from gd_lightning.tracking.other_loggers import LoggerWriter
from gd_lightning.tracking.run_directory import first_free
from gd_lightning.tracking.yaml_and_json import flat

_LONGEST_VALUE = 250  # length at which Lightning's MLFlowLogger truncates the value of a parameter
_LONGEST_NAME = 200  # characters of a metric; MLflow takes 250
_REFUSED_IN_NAMES = re.compile(r"[^a-zA-Z0-9_. -]")


class MLflowWriter(LoggerWriter):
    """Writes to MLflow, which does not allow changes of parameters, and keeps all repeated values of a step.

    With the ``run_id`` of an existing run, only missing values are added to it.

    Args:
        logger: Lightning's ``MLFlowLogger``.
        updates: Expected number of updates; infinite if unknown.
        epochs: Expected number of epochs; infinite if unknown.
        settings: The settings of the run.

    Raises:
        InputError: The existing run has other settings.
    """

    def __init__(self, logger: Any, updates: float, epochs: float, settings: Mapping[str, Any]) -> None:
        self._mlflow, self._run_id = logger.experiment, logger.run_id
        self._names: dict[str, str] = {}
        known = self._mlflow.get_run(self._run_id).data.params
        given = {name: str(value) for name, value in flat(settings, "/") if value is not None}
        for name, value in given.items():
            if known.get(name, value[:_LONGEST_VALUE]) != value[:_LONGEST_VALUE]:
                raise InputError(
                    f"cannot add to the MLflow run {self._run_id}, because it has {name} {known[name]}, and "
                    f"this run has {value}; leave run_id out"
                )
        new = {name: value for name, value in given.items() if name not in known}
        rows = self._mlflow.get_metric_history(self._run_id, "samples") if known else []
        super().__init__(logger, updates, epochs, new, {row.step for row in rows})

    def _write_outcome(self, outcome: str) -> None:
        self._mlflow.set_tag(self._run_id, "outcome", outcome)

    def _names_of(self, metrics: Iterable[str]) -> Mapping[str, str]:
        """Return unique names of metrics without other characters; the same metrics always get the same names."""
        taken = self._names.values()
        for name in metrics:
            if name not in self._names:
                plain = _REFUSED_IN_NAMES.sub("_", name)[:_LONGEST_NAME]
                self._names[name] = first_free(plain, lambda candidate: candidate in taken)
        return self._names
