"""Float64 metrics whose values do not depend on how samples are split into batches and processes.

Predictions and targets come in the precision of the run; residuals, their sums, and the spread of the targets
around their mean are float64.

Letters: N samples, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from gd_lightning.float64 import Moments, in_float64, moved_only
from gd_lightning.losses import check_shapes


class ErrorSums(NamedTuple):
    """Sums of errors over the samples of a batch, in float64.

    Args:
        loss: The loss, summed over samples and outputs, shape ().
        squared: Squared errors, summed over samples and outputs, shape ().
        absolute: Absolute errors, summed over samples and outputs, shape ().
        squared_of_outputs: Squared errors of each output, summed over samples, shape (K,).
    """

    loss: Tensor
    squared: Tensor
    absolute: Tensor
    squared_of_outputs: Tensor

    @classmethod
    def of(cls, prediction: Tensor, target: Tensor, loss: Tensor) -> ErrorSums:
        """Sum the errors of predictions of targets, both of shape (N, K), whose summed loss is known.

        Raises:
            ShapeError: Predictions and targets have different shapes.
        """
        check_shapes(prediction, target)
        residuals = in_float64(prediction) - in_float64(target)
        squares = residuals.square()
        return cls(in_float64(loss), squares.sum(), residuals.abs().sum(), squares.sum(dim=0))

    @classmethod
    def from_numbers(cls, numbers: NDArray[np.float64]) -> ErrorSums:
        """Return the sums from the vector of :meth:`numbers`, shape (3 + K,)."""
        sums = torch.from_numpy(numbers)
        return cls(sums[0], sums[1], sums[2], sums[3:])

    def numbers(self) -> NDArray[np.float64]:
        """Return the sums as one vector, shape (3 + K,)."""
        flat = torch.cat([torch.stack(self[:3]), self.squared_of_outputs]).cpu()
        numbers: NDArray[np.float64] = flat.numpy()
        return numbers


class _Float64Metric(Metric):
    """A metric whose states stay float64 when the module that contains it is converted to another precision."""

    full_state_update = True  # states are merged by their own reductions, not by those that torchmetrics guesses

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        return super()._apply(moved_only(fn), exclude_state)


class MeanLoss(_Float64Metric):
    """The mean of a loss over samples and outputs."""

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, summed: Tensor, count: int) -> None:
        """Add a loss that is summed over ``count`` elements."""
        self.total = self.total + in_float64(summed)
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.count


class MeanSquaredError(MeanLoss):
    """The mean of squared residuals over samples and outputs."""

    def update(self, prediction: Tensor | ErrorSums, target: Tensor) -> None:  # type: ignore[override]  # as called
        """Add samples, both of shape (N, K), or their errors where these are summed."""
        super().update(_errors(prediction, target).squared, target.numel())


class MeanAbsoluteError(MeanLoss):
    """The mean of absolute residuals over samples and outputs."""

    def update(self, prediction: Tensor | ErrorSums, target: Tensor) -> None:  # type: ignore[override]  # as called
        """Add samples, both of shape (N, K), or their errors where these are summed."""
        super().update(_errors(prediction, target).absolute, target.numel())


class R2(_Float64Metric):
    """The coefficient of determination, the mean over outputs; nan where targets are constant or a single sample."""

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Count, mean and squared deviations of the targets, and squared residuals, shape (4, K) once K is known.
        self.add_state("sums", torch.zeros(4, 1, dtype=torch.float64), dist_reduce_fx=_together)

    def update(self, prediction: Tensor | ErrorSums, target: Tensor) -> None:
        """Add samples, both of shape (N, K), or their errors where these are summed."""
        squares, moments = _errors(prediction, target).squared_of_outputs, Moments.of(target)
        count = moments.count.expand_as(moments.mean)
        added = torch.stack([count, moments.mean, moments.squares, squares])
        self.sums = _merged(self.sums, added)

    def compute(self) -> Tensor:
        """Return R2, or nan where it is undefined."""
        return self.of_sums(self.sums[3:])[0]

    def of_sums(self, squares: Tensor) -> Tensor:
        """Return R2 of several predictions of the samples that were added.

        Args:
            squares: Squared errors of each output, summed over all samples, shape (E, K).

        Returns:
            R2 of each epoch, shape (E,).
        """
        moments = Moments(*self.sums[:3])
        r2 = torch.where(moments.is_constant, math.nan, 1 - squares / moments.squares)
        # One by one, since the last bits of a mean depend on how many are taken at once.
        return torch.stack([row.mean() for row in r2]) if r2.shape[1] > 1 else r2[:, 0]


def _errors(prediction: Tensor | ErrorSums, target: Tensor) -> ErrorSums:
    if isinstance(prediction, ErrorSums):
        return prediction
    return ErrorSums.of(prediction, target, torch.zeros(()))


def _merged(one: Tensor, other: Tensor) -> Tensor:
    """Return the sums of R2 over the samples of both, each of shape (4, K)."""
    moments = Moments(*one[:3]).merged(Moments(*other[:3]))
    return torch.stack([moments.count, moments.mean, moments.squares, one[3] + other[3]])


def _together(of_processes: Tensor) -> Tensor:
    """Return the sums over the samples of all processes, from shape (W, 4, K)."""
    merged: Tensor = reduce(_merged, of_processes)
    return merged


def regression_metrics(prefix: str) -> MetricCollection:
    """Return the metrics MSE, MAE and R2, with a prefix to their names."""
    # No compute groups: torchmetrics would share the states of metrics that are equal after the first batch.
    metrics: dict[str, Metric | MetricCollection] = {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2()}
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)
