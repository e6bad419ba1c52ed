"""Panels beside the curves of a comparison: fits over the data, and the loss surface of a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gd_lightning.callbacks.pictures import as_columns, prediction_of
from gd_lightning.data import RegressionDataModule
from gd_lightning.experiments.animations import Shown, shown_data
from gd_lightning.linear_least_squares import least_squares_over
from gd_lightning.module import RegressionModule, has_least_squares
from gd_lightning.plots.comparison.figure import Fits
from gd_lightning.plots.run_curves import DRAWN_SAMPLES, Surface, fit_grid


@dataclass(frozen=True)
class ProblemPanels:
    """Panels for a problem with one feature and one target; for other problems, only what animations show.

    Args:
        fits: Data and fitted functions.
        surface: The train loss over weight and bias, for linear regressors with the mean squared error.
        data: The data of linear regressors, for animations.
    """

    fits: Fits | None = None
    surface: Surface | None = None
    data: Shown | None = None

    @classmethod
    def of(cls, data: RegressionDataModule, modules: Mapping[str, RegressionModule]) -> ProblemPanels:
        """Return the panels that show the data and the loss surface of a problem.

        Args:
            data: The data of the first seed.
            modules: A trained module of each group that did not diverge, by the group's label.
        """
        samples = data.train
        if not modules:
            return cls()
        if (samples.in_features, samples.out_features) != (1, 1):
            is_linear = all(_is_line(module) for module in modules.values())
            return cls(data=shown_data(data, next(iter(modules.values()))) if is_linear else None)
        x, y = as_columns(samples.take(slice(None, None, -(-len(samples) // DRAWN_SAMPLES))))
        truth = data.problem.function(torch.from_numpy(fit_grid(x))[:, None])
        functions = {label: prediction_of(module, samples.x_dtype) for label, module in modules.items()}
        fits = Fits(x, y, functions, None if truth is None else truth[:, 0].numpy())
        if not all(_is_line(module) for module in modules.values()):
            return cls(fits)
        best = least_squares_over(samples.pieces)[0].named()
        surface = Surface.of_squared_error(map(as_columns, samples.pieces()), (best["w"], best["b"]))
        return cls(fits, surface, shown_data(data, next(iter(modules.values()))))


def _is_line(module: RegressionModule) -> bool:
    affine = module.affine()
    return has_least_squares(module) and affine is not None and affine.bias is not None
