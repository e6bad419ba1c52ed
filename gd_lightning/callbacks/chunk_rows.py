"""History rows of a chunk of updates, computed lazily, as a run can record more rows than are ever read.

Letters: R rows, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.callbacks.parameter_columns import LinearPath
from gd_lightning.engine import Chunk, Record, SaveAt, Trace
from gd_lightning.records.axes import axes_at
from gd_lightning.records.columns import are_in
from gd_lightning.records.history import History

Column = NDArray[np.float64]


def add_rows(
    history: History,
    path: LinearPath | None,
    columns: Mapping[str, Column | float],
    parameters: Tensor | None = None,
    gradients: Tensor | None = None,
) -> None:
    """Add rows to a history; the distance of parameters to the least-squares solution is computed when it is read.

    Args:
        history: The history, changed in place.
        path: The columns of a linear regressor's parameters; None for other models.
        columns: Known columns, of shape (R,), or the values of one row.
        parameters: Parameters of a linear regressor, shape (R, P).
        gradients: Gradients of the parameters, shape (R, P).
    """
    known = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in columns.items()}
    last = {name: float(column[-1]) for name, column in known.items()}
    rows, names = len(known["update"]), list(known)
    if path is None or parameters is None:
        history.extend(rows, lambda where: {name: column[where] for name, column in known.items()}, names, last)
        return
    names += path.column_names(gradients is not None)

    def values(where: slice) -> dict[str, Column]:
        chosen = None if gradients is None else gradients[where].double().cpu()
        part = {name: column[where] for name, column in known.items()}
        return part | path.columns(parameters[where].double().cpu(), chosen)

    history.extend(rows, values, names, last, held=path.held(parameters))


@dataclass(frozen=True)
class Begin:
    """The position of a run before a chunk.

    Args:
        update: Updates made so far.
        epoch: The present epoch, from 0.
        seconds: Seconds of training so far.
        lr: The learning rate.
    """

    update: int
    epoch: int
    seconds: float
    lr: float


def carried_out(outputs: object) -> tuple[Chunk, Trace] | None:
    """Return the chunk that an engine carried out in a training step, and its trace; None if there was none.

    Args:
        outputs: The argument ``outputs`` of ``on_train_batch_end``.
    """
    if isinstance(outputs, Mapping) and "trace" in outputs:
        return outputs["chunk"], outputs["trace"]
    return None


def batch_loss(outputs: Any) -> Tensor | None:
    """Return the batch loss, shape (1,), from the outputs of a training step; None if there is none."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("batch_loss", outputs.get("loss"))
    return outputs.detach().reshape(1) if isinstance(outputs, Tensor) else None


class ChunkRows:
    """The rows of a chunk.

    Args:
        chunk: The chunk that was carried out; its samples and their order are not kept.
        trace: The results of the chunk.
        save_at: The request for saved updates.
        positions: Positions of the saved updates that become rows, shape (R,).
        begin: Position of the run before the chunk.
        seconds: Seconds of training after the chunk.
        updates_per_epoch: How many updates an epoch makes in this run.
        path: The columns of a linear regressor's parameters; None for other models.
    """

    def __init__(
        self,
        chunk: Chunk,
        trace: Trace,
        save_at: SaveAt,
        positions: NDArray[np.int64],
        begin: Begin,
        seconds: float,
        updates_per_epoch: int,
        path: LinearPath | None,
    ) -> None:
        self._trace = trace
        self._variant, self._first, self._lrs = chunk.variant, chunk.first, chunk.lrs
        self._begin, self._seconds, self._per_epoch, self._path = begin, seconds, updates_per_epoch, path
        self._has_parameters, self._has_gradients = save_at.parameters, save_at.gradients
        saved = chunk.saved_positions(chunk.save_at, trace.updates)[: trace.saved]
        self._positions = positions[are_in(positions, saved)] if len(saved) < len(positions) else positions
        # Other callbacks may have requested more.
        is_all = len(saved) == len(self._positions)
        self._of_saved = slice(0, len(saved)) if is_all else np.searchsorted(saved, self._positions)

    def add_to(self, history: History, at_ends: Mapping[str, tuple[NDArray[np.int64], Column]]) -> None:
        """Append the rows to a history.

        Args:
            history: The history, changed in place.
            at_ends: Measurements after some updates: by name, positions in the chunk, and values.
        """
        rows = len(self._positions)
        if not rows:
            return
        last = self._marks(int(self._positions[-1]))
        names = [*last, "batch_loss"]
        if self._path is not None:
            names += self._path.column_names(self._has_gradients)
        record, held = self._trace.in_memory, 0
        if record is not None:
            last["batch_loss"] = record.losses[self._of_saved][-1].item()
            if self._path is not None and record.parameters is not None:
                held = self._path.held(record.parameters)
        elif rows == self._trace.saved:
            last["batch_loss"] = self._trace.last_loss.item()
        measured = {}
        for name, (positions, values) in at_ends.items():
            is_row = are_in(positions, self._positions)
            measured[name] = np.searchsorted(self._positions, positions[is_row]), values[is_row]
        history.extend(rows, self._columns, names, last, held, measured)

    @cached_property
    def _record(self) -> Record:
        """Results of the saved updates: rows are read part by part, and each time they might be computed again."""
        return self._trace.record

    def _columns(self, where: slice) -> Mapping[str, Column | float]:
        record = self._record
        losses = self._part(record.losses, where).numpy()
        columns: dict[str, Column | float] = {**self._marks(self._positions[where]), "batch_loss": losses}
        if self._path is not None and self._has_parameters and record.parameters is not None:
            chosen = None if record.gradients is None else self._part(record.gradients, where)
            columns |= self._path.columns(self._part(record.parameters, where), chosen)
        return columns

    def _part(self, values: Tensor, where: slice) -> Tensor:
        return values[self._of_saved][where].double()

    def _marks(self, position: NDArray[np.int64] | int) -> dict[str, Any]:
        """Return the axis values after updates of the chunk, given by position."""
        begin, behind = self._begin, position + 1
        epochs = (self._first + position) // self._per_epoch
        in_epoch = self._first + behind - epochs * self._per_epoch
        return {
            "update": begin.update + behind,
            **axes_at(self._variant, self._per_epoch, begin.epoch + epochs, in_epoch),
            "seconds": begin.seconds + behind / self._trace.updates * (self._seconds - begin.seconds),
            "lr": begin.lr if self._lrs is None else self._lrs[position],
        }
