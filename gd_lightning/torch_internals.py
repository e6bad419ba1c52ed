"""What this package uses of torch that torch does not document, in one place (floor 0)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def mixes_samples(layer: nn.Module) -> bool:
    """Whether a layer's outputs for a sample depend on the other samples of the batch: a batch norm, of any kind."""
    return isinstance(layer, _BatchNorm)


def store_of_the_run() -> Any:
    """Return the store that the processes of a run share; they have to have met."""
    return torch.distributed.distributed_c10d._get_default_store()
