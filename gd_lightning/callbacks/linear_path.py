"""Parameters and gradients of a linear regressor along a run, as named columns of the history.

Letters: D features, K outputs, P parameters, R recorded updates.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning.affine import Affine, least_squares_over, parameter_names, scatter_over
from gd_lightning.data import BatchLoader
from gd_lightning.data.samples import Samples
from gd_lightning.identifiability import undetermined
from gd_lightning.models import LinearRegressor, Standardize
from gd_lightning.module import RegressionModule, linear_network
from gd_lightning.problems import Problem

_MOST_NAMED = 24  # with more parameters, only the distance to the least-squares solution is recorded


class Optimum(NamedTuple):
    """The least-squares solution on the training set, in original units, its loss, and that of the best constant."""

    affine: Affine
    loss: float
    constant_loss: float


@torch.no_grad()
def least_squares_of(network: LinearRegressor, layer: Standardize | None, samples: Samples) -> Optimum:
    """Return the least-squares solution of a linear regressor.

    Args:
        network: The regressor, with or without a bias.
        layer: The layer that standardises its features, if any.
        samples: The training samples.
    """
    affine, loss = least_squares_over(
        lambda: ((x if layer is None else layer.standardized(x), y) for x, y in samples.pieces()),
        bias=network.affine().bias is not None,
    )
    constant_loss = scatter_over(y for _, y in samples.pieces()) / (len(samples) * samples.out_features)
    return Optimum(affine if layer is None else affine.in_original_units(layer.mean, layer.scale), loss, constant_loss)


class LinearPath:
    """Records parameters and gradients of a linear regressor, in original units.

    Args:
        module: The module with the network.
        network: The linear network.
        loader: The training loader; the least-squares solution is computed if it holds its data in memory.
        problem: The problem, which may name features and targets.
    """

    def __init__(
        self, module: RegressionModule, network: LinearRegressor, loader: object, problem: Problem | None
    ) -> None:
        self._network, self._standardize, self._loader = network, module.standardize, loader
        self.features = None if problem is None else problem.feature_names
        self.targets = None if problem is None else problem.target_names
        self._is_plain = linear_network(module) is not None
        # A regressor without bias on centred features has an intercept in original units.
        is_centred = self._standardize is not None and self._standardize.centers
        has_bias = network.affine().bias is not None or is_centred
        self.names = parameter_names(network.in_features, network.out_features, has_bias, self.features, self.targets)

    @classmethod
    def of(cls, module: object, loader: object, problem: Problem | None) -> LinearPath | None:
        """Return the path of a module with a linear network; None for others."""
        if isinstance(module, RegressionModule) and isinstance(module.network, LinearRegressor):
            return cls(module, module.network, loader, problem)
        return None

    @property
    def has_optimum(self) -> bool:
        """Whether the least-squares solution can be computed, and is the optimum of the module."""
        return self._is_plain and isinstance(self._loader, BatchLoader)

    @cached_property
    def optimum(self) -> Optimum | None:
        """The least-squares solution, computed at the first access, which can take longer than the training.

        None if the module has none, it overflows float64, or the data can no longer be read.
        """
        if not (self._is_plain and isinstance(self._loader, BatchLoader)):
            return None
        try:
            found = least_squares_of(self._network, self._standardize, self._loader.samples)
        except OSError:  # this error has ended the run; the history is to be written nevertheless
            return None
        return found if math.isfinite(found.loss) else None

    @cached_property
    def undetermined(self) -> list[str]:
        """Names of the parameters that the training set does not determine."""
        if not isinstance(self._loader, BatchLoader):
            return []
        network, samples = self._network, self._loader.samples
        try:
            is_open = undetermined((x for x, _ in samples.pieces()), bias=len(self.names) > network.weight.numel())
        except OSError:
            return []
        of_outputs = torch.cat([is_open[:-1].repeat(network.out_features), is_open[-1:].repeat(network.out_features)])
        # Without an intercept there are fewer names, and none for the last.
        return [name for name, one in zip(self.names, of_outputs.tolist(), strict=False) if one]

    def parameters(self) -> Tensor:
        """Copy the parameters, shape (P,), weights first."""
        affine = self._network.affine()
        return torch.cat([part.flatten() for part in (affine.weight, affine.bias) if part is not None])

    def gradients(self) -> Tensor:
        """Copy the gradients, shape (P,), weights first; nan where a parameter is computed from others."""
        parts = []
        for name in ("weight", "bias"):
            value = getattr(self._network, name)
            if isinstance(value, nn.Parameter):
                parts.append(torch.zeros_like(value) if value.grad is None else value.grad)
            elif value is not None:
                parts.append(torch.full_like(value, torch.nan))
        return torch.cat([part.detach().flatten() for part in parts])

    @property
    def names_parameters(self) -> bool:
        """Whether there are few enough parameters to record each of them."""
        return len(self.names) <= _MOST_NAMED

    @property
    def names_gradients(self) -> bool:
        """Whether gradients are recorded; not with standardised features, as parameters are in original units."""
        return self.names_parameters and self._standardize is None

    def held(self, parameters: Tensor) -> int:
        """Return how many numbers are kept in memory for parameters, shape (R, P), until columns are computed."""
        return 0 if self.names_parameters else parameters.numel()

    def column_names(self, with_gradients: bool) -> list[str]:
        """Return the names of the :meth:`columns`."""
        names = list(self.names) if self.names_parameters else []
        if self.names_gradients and with_gradients:
            names += [f"grad_{name}" for name in self.names]
        return [*names, "distance_to_least_squares"] if self.has_optimum else names

    def columns(self, parameters: Tensor, gradients: Tensor | None = None) -> dict[str, NDArray[np.float64]]:
        """Return columns of parameters in original units, their distance to the least-squares solution, and gradients.

        Args:
            parameters: Shape (R, P), float64.
            gradients: Shape (R, P), float64, or None.

        Returns:
            Columns of a history by name, each of shape (R,).
        """
        rows, (n_targets, n_features) = len(parameters), self._network.weight.shape
        weights = parameters[:, : n_targets * n_features].reshape(rows, n_targets, n_features)
        biases = parameters[:, n_targets * n_features :]
        if self._standardize is not None:
            weights = weights / self._standardize.scale.cpu().double()
            shift = weights @ self._standardize.mean.cpu().double()
            if biases.shape[1] or self._standardize.centers:
                biases = biases - shift if biases.shape[1] else -shift
        flat = torch.cat([weights.flatten(1), biases], dim=1)
        columns: dict[str, NDArray[np.float64]] = {}
        if self.names_parameters:
            columns |= zip(self.names, flat.T.numpy(), strict=True)
        if self.names_gradients and gradients is not None:
            columns |= zip((f"grad_{name}" for name in self.names), gradients.T.numpy(), strict=True)
        if self.optimum is not None:
            columns["distance_to_least_squares"] = (flat - self.optimum.affine.flat()).norm(dim=1).numpy()
        return columns
