"""Drawing a run at its end, into ``curves.png`` and TensorBoard's Images tab."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.callbacks.recorded_path import RecordedPath
from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.callbacks.trainer_info import problem_of
from gd_lightning.data import BatchLoader
from gd_lightning.data.samples import Samples
from gd_lightning.lightning_internals import callbacks_of
from gd_lightning.measures import unchanged
from gd_lightning.module import has_least_squares
from gd_lightning.module.validation import validation_loader
from gd_lightning.plots.loss_plane import draw_plane
from gd_lightning.plots.predictions import Judged, comparable, draw_predicted, draw_residuals, has_visible_points
from gd_lightning.plots.run_curves import DRAWN_SAMPLES, Surface, Values, draw_fit, draw_losses, draw_surface, fit_grid
from gd_lightning.plots.sharpness import draw_sharpness
from gd_lightning.plots.style import PANEL_HEIGHT, checked_formats, new_figure, pixels, png_of, save_figure, save_png
from gd_lightning.tracking.run_directory import CURVES
from gd_lightning.tracking.tensorboard.groups_of_runs import image_of

Panel = tuple[str, Callable[[Axes], None]]

_IN_A_ROW = 2  # panels in a row, so that letters are large on half a page; an odd one is first, and twice as wide


class Pictures(Callback):
    """Draws the losses, the fitted function, and the loss surface with the path of the parameters.

    Of one feature and one target, the fitted function is drawn over the data; of several, what is predicted against
    what is true, and the residuals. The surface is that over weight and bias of a line, and of other networks of at
    most 50,000 parameters that over a plane through start, end and path.

    It draws the history of the :class:`HistoryRecorder` among the Trainer's callbacks, which must come before it.

    Args:
        formats: Formats of the picture: png, svg and pdf, one file each.

    Raises:
        InputError: There is no such format.
    """

    max_chunk_seconds = math.inf
    updates_between_hooks: int = 0
    """After how many updates a point of the path is recorded; 0: none is."""

    def __init__(self, formats: str | Sequence[str] = "png") -> None:
        self.formats = checked_formats(formats)
        self._is_drawn = False
        self._path: RecordedPath | None = None
        self._continued = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the state of an earlier run."""
        self._is_drawn, self._continued = False, trainer.global_step > 0
        self._path = RecordedPath.of(trainer, pl_module)
        self.updates_between_hooks = 0 if self._path is None else self._path.every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record a point of the path, if one is due."""
        if self._path is not None and trainer.global_step % self._path.every == 0:
            self._path.add(trainer.global_step)
            self.updates_between_hooks = self._path.every

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw a run that ended."""
        self._draw(trainer, pl_module)
        self._is_drawn = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw the history so far of a run that was interrupted by Ctrl-C."""
        if isinstance(exception, KeyboardInterrupt) and not self._is_drawn:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        recorder = next(iter(callbacks_of(trainer, HistoryRecorder)), None)
        if recorder is None or recorder.summary is None or recorder.directory is None or not trainer.is_global_zero:
            return
        panels = list(self._panels(trainer, pl_module, recorder))
        counts = rows_of(len(panels))
        figure = new_figure(max(counts))
        figure.set_figheight(PANEL_HEIGHT * len(counts))
        rows: list[SubFigure] = figure.subfigures(len(counts), 1, squeeze=False).ravel().tolist()
        parts = [row.subfigures(1, count, squeeze=False).ravel() for row, count in zip(rows, counts, strict=True)]
        for part, (_, draw) in zip(np.concatenate(parts), panels, strict=True):
            draw(part.subplots())
        image = pixels(figure)
        for ending in self.formats:
            path = (recorder.directory / CURVES).with_suffix(f".{ending}")
            save_png(path, image) if ending == "png" else save_figure(path, figure)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                file_writer = logger.experiment._get_file_writer()
                for (tag, _), panel in zip(panels, _split(image, counts), strict=True):
                    file_writer.add_summary(image_of(tag, png_of(panel)), trainer.global_step)

    def _panels(self, trainer: Trainer, module: LightningModule, recorder: HistoryRecorder) -> Iterator[Panel]:
        history, summary, loader = recorder.history, recorder.summary, trainer.train_dataloader
        assert summary is not None
        variant = summary.variant
        yield "losses", lambda axes: draw_losses(axes, history, variant, summary.least_squares_loss)
        if "sharpness" in history:
            yield "sharpness", lambda axes: draw_sharpness(axes, history)
        if not isinstance(loader, BatchLoader):
            return
        samples = loader.samples
        if (samples.in_features, samples.out_features) == (1, 1):
            yield _fit_panel(trainer, module, samples)
            best = summary.least_squares
            if best is not None and len(best) == 2 and has_least_squares(module):
                weight, bias = best
                names = (weight, bias)
                if weight in history and bias in history:
                    surface = Surface.of_squared_error(map(as_columns, samples.pieces()), (best[weight], best[bias]))
                    w, b = history[weight], history[bias]
                    yield "loss surface", lambda axes: draw_surface(axes, surface, w, b, variant, names)
        else:
            yield from _prediction_panels(trainer, module, samples)
        if self._path is not None and not history.has_diverged:
            self._path.add(trainer.global_step)
            if (plane := self._path.plane()) is not None:
                losses, start = self._path.losses(plane, module, samples), "continued" if self._continued else "start"
                yield "loss surface", lambda axes: draw_plane(axes, plane, losses, variant, start)


def rows_of(panels: int) -> list[int]:
    """Return how many panels are in each row of a picture.

    Example:
        >>> [rows_of(count) for count in (1, 2, 3, 4, 5)]
        [[1], [2], [1, 2], [2, 2], [1, 2, 2]]
    """
    odd = panels % _IN_A_ROW
    return [odd] * (odd > 0) + [_IN_A_ROW] * (panels // _IN_A_ROW)


def _split(image: NDArray[np.uint8], counts: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the panels of a picture, row by row."""
    for row, count in zip(np.array_split(image, len(counts), axis=0), counts, strict=True):
        yield from np.array_split(row, count, axis=1)


def _names(trainer: Trainer, samples: Samples) -> tuple[list[str], list[str]]:
    """Return the names of features and targets; x and y if they have no names."""
    problem = problem_of(trainer)
    features = None if problem is None else problem.feature_names
    targets = None if problem is None else problem.target_names
    of_targets = ["y"] if samples.out_features == 1 else [f"y {k}" for k in range(samples.out_features)]
    return list(features or ["x"]), list(targets or of_targets)


def _fit_panel(trainer: Trainer, module: LightningModule, samples: Samples) -> Panel:
    x, y = as_columns(samples.take(_drawn(samples)))
    predict, problem = prediction_of(module, samples.x_dtype), problem_of(trainer)
    truth = None if problem is None else problem.function(torch.from_numpy(fit_grid(x))[:, None])
    true_values = None if truth is None else truth[:, 0].numpy()
    (feature, *_), (target, *_) = _names(trainer, samples)
    return "data and fit", lambda axes: draw_fit(axes, x, y, predict, true_values, (feature, target))


def _prediction_panels(trainer: Trainer, module: LightningModule, samples: Samples) -> Iterator[Panel]:
    """Yield panels of predicted against true values and of residuals, unless all predictions are far from the data."""
    held_out, targets = validation_loader(trainer), _names(trainer, samples)[1]
    of_sets = {"train": samples}
    if isinstance(held_out, BatchLoader):
        of_sets["validation"] = held_out.samples
    sets = [Judged(name, *_judged(module, each)) for name, each in of_sets.items()]
    sets = comparable([each for each in sets if each.true.shape == each.predicted.shape and each.true.size])
    if sets and has_visible_points(sets):
        yield "predicted against true", lambda axes: draw_predicted(axes, sets, targets)
        yield "residuals", lambda axes: draw_residuals(axes, sets, targets)


def _judged(module: LightningModule, samples: Samples) -> tuple[Values, Values]:
    """Return true and predicted targets of evenly spaced samples, shape (n, K) each."""
    x, y = samples.take(_drawn(samples))
    with unchanged(module, module.device):
        predicted = module(x.to(module.device)).double().cpu().numpy()
    return y.double().cpu().numpy(), predicted


def _drawn(samples: Samples) -> slice:
    return slice(None, None, -(-len(samples) // DRAWN_SAMPLES))


def prediction_of(module: LightningModule, dtype: torch.dtype) -> Callable[[Values], Values]:
    """Return the prediction function of a module with one feature and one target, from shape (n,) to (n,)."""

    def predict(values: Values) -> Values:
        inputs = torch.from_numpy(values)[:, None].to(module.device, dtype)
        with unchanged(module, module.device):
            fitted: Values = module(inputs)[:, 0].double().cpu().numpy()
        return fitted

    return predict


def as_columns(pair: tuple[Tensor, Tensor]) -> tuple[Values, Values]:
    """Return the one feature and the one target of some samples, shape (n,) each."""
    x, y = (values[:, 0].double().cpu().numpy() for values in pair)
    return x, y
