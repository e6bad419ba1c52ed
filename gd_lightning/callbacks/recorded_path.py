"""The path of a network's parameters at a few dozen points of a run, for the picture of its loss surface."""

from __future__ import annotations

import math

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning.callbacks.trainer_info import measured_loss_of
from gd_lightning.data import BatchLoader
from gd_lightning.data.samples import Samples
from gd_lightning.measures import unchanged
from gd_lightning.models import LinearRegressor
from gd_lightning.plots.loss_plane import GRID, LossPlane

_POINTS = 40  # points of a path; twice as many if the length of the run is not known
_MOST_PARAMETERS = 50_000
_MOST_SAMPLES, _FEWEST_SAMPLES = 512, 32
_MOST_WORK = 2e8  # multiply-adds to compute all points of a plane: a tenth of a second


class RecordedPath:
    """Keeps the parameters at some points of a run.

    Args:
        trainer: The Trainer, which is about to train.
        module: The module that is trained.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        updates = float(trainer.estimated_stepping_batches)
        self._is_known = math.isfinite(updates)
        self.every = max(1, math.ceil(updates / _POINTS)) if self._is_known else 1
        """After how many updates a point is recorded."""
        self._parameters = [each for each in module.parameters() if each.requires_grad]
        self._points: dict[int, Tensor] = {}
        self.add(trainer.global_step)

    @classmethod
    def of(cls, trainer: Trainer, module: LightningModule) -> RecordedPath | None:
        """Return the path of a network; None for large networks and for linear regressors."""
        network, loader = getattr(module, "network", None), trainer.train_dataloader
        count = sum(each.numel() for each in module.parameters() if each.requires_grad)
        if isinstance(network, LinearRegressor) or not isinstance(loader, BatchLoader) or trainer.world_size > 1:
            return None
        return cls(trainer, module) if 2 < count <= _MOST_PARAMETERS else None

    def add(self, update: int) -> None:
        """Record the parameters after an update."""
        self._points[update] = torch.cat([each.detach().flatten() for each in self._parameters]).cpu()
        if not self._is_known and len(self._points) > 2 * _POINTS:
            self.every *= 2
            kept = min(self._points)
            self._points = {at: each for at, each in self._points.items() if at == kept or at % self.every == 0}

    def plane(self) -> LossPlane | None:
        """Return the plane of the path; None if the run left the drawable range."""
        points = [point for _, point in sorted(self._points.items())]
        path: NDArray[np.float64] = torch.stack(points).double().numpy()
        if not (np.isfinite(path).all() and np.abs(path).max() < 1e100):
            return None
        return LossPlane.of(path, [tuple(each.shape) for each in self._parameters])

    def losses(self, plane: LossPlane, module: LightningModule, samples: Samples) -> NDArray[np.float64]:
        """Return the train loss over a plane, shape (G, G); that of many samples is estimated from evenly spaced ones.

        Args:
            plane: The plane.
            module: The module that was trained; it is unchanged afterwards.
            samples: The training samples.
        """
        fitting = int(_MOST_WORK / (GRID * GRID * max(1, len(plane.origin))))
        count = min(len(samples), max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, fitting)))
        x, y = (part.to(module.device) for part in samples.take(slice(None, None, -(-len(samples) // count))))
        summed_loss, trained = measured_loss_of(module), [each.data for each in self._parameters]

        def loss(point: NDArray[np.float64]) -> float:
            _set(self._parameters, torch.from_numpy(point))
            return summed_loss(module(x), y).item() / y.numel()

        with unchanged(module, module.device):
            try:
                return plane.losses(loss)
            finally:
                for parameter, before in zip(self._parameters, trained, strict=True):
                    parameter.data = before


def _set(parameters: list[nn.Parameter], flat: Tensor) -> None:
    for parameter, values in zip(parameters, flat.split([each.numel() for each in parameters]), strict=True):
        parameter.data = values.view_as(parameter).to(parameter)
