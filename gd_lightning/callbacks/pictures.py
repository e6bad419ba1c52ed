"""When a run is drawn: at its end, into ``curves.png`` and TensorBoard's Images tab."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.axes import Axes
from torch import Tensor

from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.callbacks.trainer_info import problem_of
from gd_lightning.data import BatchLoader
from gd_lightning.measures import unchanged
from gd_lightning.module import has_least_squares
from gd_lightning.plots.run_curves import DRAWN_SAMPLES, Surface, Values, draw_fit, draw_losses, draw_surface, fit_grid
from gd_lightning.plots.style import PANEL_WIDTH, new_figure, pixels, save_png
from gd_lightning.tracking.run_directory import CURVES

Panel = tuple[str, Callable[[Axes], None]]


class Pictures(Callback):
    """Draws the loss curves, the fit over the data (one feature) and the loss surface with the path (two parameters).

    It draws the history of the :class:`HistoryRecorder` among the Trainer's callbacks, which must come before it.
    """

    def __init__(self) -> None:
        self._is_drawn = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the state of an earlier run."""
        self._is_drawn = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw a run that ended."""
        self._draw(trainer, pl_module)
        self._is_drawn = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw the history so far of a run that was interrupted by Ctrl-C."""
        if isinstance(exception, KeyboardInterrupt) and not self._is_drawn:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        recorder = next((callback for callback in callbacks if isinstance(callback, HistoryRecorder)), None)
        if recorder is None or recorder.summary is None or recorder.directory is None or not trainer.is_global_zero:
            return
        panels = list(_panels(trainer, pl_module, recorder))
        figure = new_figure(len(panels))
        parts = figure.subfigures(1, len(panels), squeeze=False)[0]
        for part, (_, draw) in zip(parts, panels, strict=True):
            draw(part.subplots())
        image = pixels(figure)
        save_png(recorder.directory / CURVES, image)
        width = round(PANEL_WIDTH * figure.dpi)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for i, (tag, _) in enumerate(panels):
                    part = image[:, i * width : (i + 1) * width]
                    logger.experiment.add_image(tag, part, trainer.global_step, dataformats="HWC")


def _panels(trainer: Trainer, pl_module: LightningModule, recorder: HistoryRecorder) -> list[Panel]:
    history, summary, loader = recorder.history, recorder.summary, trainer.train_dataloader
    assert summary is not None
    variant = summary.variant
    panels: list[Panel] = [("losses", lambda axes: draw_losses(axes, history, variant, summary.least_squares_loss))]
    if not isinstance(loader, BatchLoader) or (loader.samples.in_features, loader.samples.out_features) != (1, 1):
        return panels
    samples = loader.samples
    x, y = as_columns(samples.take(slice(None, None, -(-len(samples) // DRAWN_SAMPLES))))
    predict = prediction_of(pl_module, samples.x_dtype)
    problem = problem_of(trainer)
    truth = None if problem is None else problem.function(torch.from_numpy(fit_grid(x))[:, None])
    true_values = None if truth is None else truth[:, 0].numpy()
    panels.append(("data and fit", lambda axes: draw_fit(axes, x, y, predict, true_values)))
    best = summary.least_squares
    if best is not None and set(best) == {"w", "b"} and has_least_squares(pl_module):
        surface = Surface.of_squared_error(map(as_columns, samples.pieces()), (best["w"], best["b"]))
        panels.append(("loss surface", lambda axes: draw_surface(axes, surface, history["w"], history["b"], variant)))
    return panels


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
