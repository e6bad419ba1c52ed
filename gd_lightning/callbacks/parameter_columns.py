"""Parameters and gradients of a linear regressor along a run, as named columns of the history.

Letters: D features, K outputs, P parameters, R recorded updates.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning.affine import parameter_names
from gd_lightning.callbacks.smallest_train_loss import Optimum, least_squares_of
from gd_lightning.data import BatchLoader
from gd_lightning.identifiability import undetermined
from gd_lightning.models import LinearRegressor
from gd_lightning.module import RegressionModule, has_least_squares, linear_network
from gd_lightning.problems import Problem
from gd_lightning.records.history import BY_UPDATE
from gd_lightning.shared_results import shared

_MOST_PRODUCTS = 10_000  # with more, computing the train loss from the parameters would take longer than the run
_MOST_NAMED = 24  # with more parameters, only the distance to the least-squares solution is recorded


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
        self._targets = module.standardize_targets
        self.features = None if problem is None else problem.feature_names
        self.targets = None if problem is None else problem.target_names
        self._is_plain = linear_network(module) is not None
        outputs, inputs = network.weight.shape
        is_small = outputs * inputs * (outputs + inputs) <= _MOST_PRODUCTS
        # With the full batch, the train loss is measured after each update.
        has_batches = isinstance(loader, BatchLoader) and loader.variant.updates_per_epoch > 1
        self.knows_train_loss = is_small and has_least_squares(module) and has_batches
        """Whether the train loss after each recorded update is computed from its parameters."""
        # A regressor without bias on centred features has an intercept in original units.
        is_centred = self._standardize is not None and self._standardize.centers
        has_bias = network.affine().bias is not None or is_centred
        self.names = parameter_names(network.in_features, network.out_features, has_bias, self.features, self.targets)

    @classmethod
    def of(cls, module: object, loader: object, problem: Problem | None) -> LinearPath | None:
        """Return the path of a module with a linear network; None for other modules."""
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
            has_bias, content = len(self.names) > network.weight.numel(), samples.content
            is_open = shared(
                None if content is None else ("undetermined", content, has_bias),
                lambda: undetermined((x for x, _ in samples.pieces()), bias=has_bias),
            )
        except OSError:
            return []
        of_outputs = torch.cat([is_open[:-1].repeat(network.out_features), is_open[-1:].repeat(network.out_features)])
        # Without an intercept there is one name less, and the last value has none.
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
        """Whether gradients are recorded; not of standardised samples, as parameters are in original units."""
        return self.names_parameters and self._standardize is None and self._targets is None

    def held(self, parameters: Tensor) -> int:
        """Return how many numbers are kept in memory for parameters, shape (R, P), until columns are computed."""
        return 0 if self.names_parameters else parameters.numel()

    def column_names(self, with_gradients: bool) -> list[str]:
        """Return the names of the :meth:`columns`."""
        names = list(self.names) if self.names_parameters else []
        if self.names_gradients and with_gradients:
            names += [f"grad_{name}" for name in self.names]
        if self.has_optimum:
            names.append("distance_to_least_squares")
        return [*names, BY_UPDATE] if self.knows_train_loss else names

    def columns(self, parameters: Tensor, gradients: Tensor | None = None) -> dict[str, NDArray[np.float64]]:
        """Return columns: parameters in original units, their distance to the least squares, gradients, train loss.

        Args:
            parameters: Shape (R, P), float64.
            gradients: Shape (R, P), float64, or None.

        Returns:
            Columns of a history by name, each of shape (R,).
        """
        rows, (n_targets, n_features) = len(parameters), self._network.weight.shape
        weights = parameters[:, : n_targets * n_features].reshape(rows, n_targets, n_features)
        biases = parameters[:, n_targets * n_features :]
        if self._targets is not None:
            scale, mean = self._targets.scale.cpu().double(), self._targets.mean.cpu().double()
            weights, biases = weights * scale[:, None], biases * scale + mean if biases.shape[1] else biases
        of_features = weights, biases
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
            if self.knows_train_loss:
                columns[BY_UPDATE] = self.optimum.squared_error(*of_features).numpy()
        return columns
