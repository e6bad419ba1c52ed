"""A run that has ended, with its history, results and module, which can predict, be shown and be saved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gd_lightning.data import RegressionDataModule
from gd_lightning.data.samples import PIECE
from gd_lightning.errors import InputError
from gd_lightning.experiments.animations import Shown, animated_run, shown_data
from gd_lightning.experiments.html_report import as_html
from gd_lightning.measures import unchanged
from gd_lightning.module import RegressionModule, predicted_in_float64, refuse_overflow
from gd_lightning.plots.interactive.animation import Animation
from gd_lightning.plots.run_curves import draw_losses
from gd_lightning.plots.style import checked_formats, new_figure, png_bytes, save_figures
from gd_lightning.problems import ProblemLike, as_problem, inputs_of
from gd_lightning.records.history import History
from gd_lightning.replaced_files import replacing
from gd_lightning.tracking.atomic_writes import write_json, write_text
from gd_lightning.tracking.run_directory import (
    CURVES,
    HISTORY,
    LAST_CHECKPOINT,
    LOGS,
    SUMMARY,
    as_directory,
    claim_directory,
    is_taken,
)
from gd_lightning.tracking.summary import RunSummary, parameter_rows, run_facts, run_report


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has ended; printing it shows its results, and a notebook also shows its curves.

    It can be pickled, and so be returned by another process: with its checkpoint, and without Trainer and data, as one
    that was saved and loaded.

    Args:
        history: The recorded history.
        summary: The results, and how the run ended.
        module: The trained module.
        title: The name of its problem.
        directory: The directory of its files; None: it has not been saved.
        save_checkpoint: Writes its checkpoint to a path.
        columns: How columns of a data frame or table became features, as stored in the checkpoint.
        has_column: Whether its only target was given as a column, shape (N, 1), so that predictions have that shape.
        read_data: Returns its data, or those that are given.
    """

    history: History
    summary: RunSummary
    module: RegressionModule
    title: str
    directory: Path | None
    save_checkpoint: Callable[[Path], object]
    columns: Any = None
    has_column: bool = False
    read_data: Callable[[ProblemLike | None], RegressionDataModule] | None = None

    def predict(self, x: Any) -> NDArray[Any]:
        """Predict at new inputs.

        Args:
            x: Features in their original units, shape (N, D): an array, a tensor, a list, or the path of a table or a
                data frame, whose columns are found by the names of the features.

        Returns:
            Predictions in the units of the targets, shape (N,) for one target, else (N, K); (N, 1) if the target was
            given so.

        Raises:
            InputError: The features are not those of the run, or are not finite numbers, or a prediction is beyond the
                precision of the run.
        """
        names, wanted = self.module.column_names, self.module.hparams["in_features"]
        inputs = inputs_of(x, None if names is None else names[0], self.columns)
        if inputs.shape[1] != wanted:
            raise InputError(
                f"cannot predict from {inputs.shape[1]} features, because the run was trained on {wanted}; give these"
            )
        device = next(self.module.parameters()).device
        with unchanged(self.module, device):
            found = torch.cat([self.module(part.to(device)).cpu() for part in inputs.split(PIECE)])
        refuse_overflow(found, self.module, lambda row: predicted_in_float64(self.module, inputs[row : row + 1]))
        predicted: NDArray[Any] = found.numpy()
        return predicted[:, 0] if predicted.shape[1] == 1 and not self.has_column else predicted

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the losses over the updates.

        Args:
            ax: The axes to draw on; None: a new figure.

        Returns:
            The figure.
        """
        if ax is None:
            ax = new_figure(1).subplots()
        draw_losses(ax, self.history, self.summary.variant, self.summary.least_squares_loss)
        figure = ax.figure
        return figure if isinstance(figure, Figure) else figure.figure  # a subfigure belongs to a figure

    def animate(self, problem: ProblemLike | None = None) -> Animation:
        """Return an animation of the run: path, fit and train loss by samples seen; ``save("run.gif")`` writes it.

        A line over one feature is shown by its path and fit, a linear regressor over several features by predicted
        against true values, and any other model by its train loss alone.

        Args:
            problem: The data of a loaded run, if they are in no file; None: the data of the run itself.

        Raises:
            InputError: The run has no train loss, or its data cannot be made again.
        """
        read = self.read_data

        def data() -> Shown | None:
            return None if read is None else shown_data(read(problem), self.module)

        return animated_run(self.title, self.history, self.summary, data)

    def save(self, directory: str | Path | None = None, formats: str | Sequence[str] = "png") -> Path:
        """Write the files of the run, as the command line does; ``load`` reads them.

        Args:
            directory: The directory to write; None: a new one in ``lightning_logs``.
            formats: Formats of the picture: png, svg and pdf, one file each.

        Returns:
            The directory.

        Raises:
            InputError: The directory contains other files, or there is no such format.
        """
        formats = checked_formats(formats)
        if directory is None:
            summary = self.summary
            size = "" if summary.batch_size is None else f"-b{summary.batch_size}"
            name = f"{self.title}-{summary.variant or 'run'}{size}-lr{self.module.hparams['lr']:g}"
            directory = claim_directory(Path(LOGS), name)
        elif is_taken(as_directory(directory)):
            raise InputError(f"cannot save the run to {directory}, because it contains other files; use another name")
        place = Path(directory)
        (place / LAST_CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
        self.save_checkpoint(place / LAST_CHECKPOINT)
        write_text(place / HISTORY, self.history.csv_pieces())
        write_json(place / SUMMARY, self.summary.as_dict())
        save_figures((place / CURVES).with_suffix(""), self.plot(), formats)
        return place

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling: a checkpoint instead of Trainer and data, which cannot be pickled."""
        stored = _StoredCheckpoint.written_by(self.save_checkpoint)
        read_data = None if self.read_data is None else stored.read_data
        return {**vars(self), "save_checkpoint": stored.save, "read_data": read_data}

    def __str__(self) -> str:
        return run_report(self.summary, self.title)

    def __repr__(self) -> str:
        advice = f"; {self.summary.advice}" if self.summary.advice else ""
        return f"<Run of {self.title}: {self.history!r}{advice}>"

    def _repr_html_(self) -> str:
        """Return results and curves for a notebook."""
        parameters = [
            [name, f"{fitted}, least squares {least}" if least else fitted]
            for name, fitted, least, _ in (parameter_rows(self.summary) if self.summary.parameters else [])
        ]
        title = f"{self.title} by {self.summary.description}"
        return as_html(title, [["", ""], *map(list, run_facts(self.summary)), *parameters], [], self.plot())

    def _repr_png_(self) -> bytes:
        """Return the curves for a notebook."""
        return png_bytes(self.plot())


@dataclass(frozen=True)
class _StoredCheckpoint:
    """The checkpoint of a run in memory."""

    content: bytes

    @classmethod
    def written_by(cls, save: Callable[[Path], object]) -> _StoredCheckpoint:
        """Return the checkpoint that a function writes to a path."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / Path(LAST_CHECKPOINT).name
            save(path)
            return cls(path.read_bytes())

    def save(self, path: Path) -> None:
        """Write it to a path."""
        with replacing(path) as part:
            part.write_bytes(self.content)

    def read_data(self, problem: ProblemLike | None) -> RegressionDataModule:
        """Return the data of its run, or the given data."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / Path(LAST_CHECKPOINT).name
            self.save(path)
            return data_of(path, problem)


def data_of(checkpoint: Path, problem: ProblemLike | None) -> RegressionDataModule:
    """Return the data of a checkpoint's run, or the given data, split as in that run."""
    made = {} if problem is None else {"problem": as_problem(problem)}
    return RegressionDataModule.load_from_checkpoint(checkpoint, **made)
