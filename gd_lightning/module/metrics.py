"""Metrics that are exact however samples are shared among batches and processes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric, R2Score


class MeanLoss(Metric):
    """The mean of a loss over samples and outputs, exact however they are shared among batches and processes."""

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, summed: Tensor, count: int) -> None:
        """Add a loss that is summed over ``count`` elements."""
        self.total = self.total + summed.detach()
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.count


class R2(R2Score):
    """The coefficient of determination, which is undefined for a single sample."""

    def compute(self) -> Tensor:
        """Return R2, or nan where it is undefined."""
        return super().compute() if self.total >= 2 else torch.full((), math.nan)
