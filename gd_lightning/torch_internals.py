"""What this package uses of torch that torch does not document, in one place (floor 0)."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def mixes_samples(layer: nn.Module) -> bool:
    """Whether a layer's outputs for a sample depend on the other samples of the batch: a batch norm, of any kind."""
    return isinstance(layer, _BatchNorm)
