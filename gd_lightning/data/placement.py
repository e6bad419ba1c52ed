"""Precision and device of the samples of a run, and whether they are loaded into memory."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from gd_lightning.data.samples import Samples
from gd_lightning.free_memory import free_memory


def model_of(trainer: Trainer | None) -> LightningModule | None:
    """Return the module of a Trainer, if there is one."""
    return None if trainer is None else trainer.lightning_module


def device_of(trainer: Trainer | None) -> torch.device:
    """Return the device of a Trainer."""
    return torch.device("cpu") if trainer is None else trainer.strategy.root_device


def precision_of(trainer: Trainer | None) -> torch.dtype:
    """Return the precision of the data of a Trainer; without one, the default dtype."""
    if trainer is None:
        return torch.get_default_dtype()
    return torch.float64 if trainer.precision == "64-true" else torch.float32


def loaded(parts: tuple[Samples, ...], trainer: Trainer | None, most: int | None) -> tuple[Samples, ...]:
    """Load samples that are mapped from a file into memory, if all of them fit.

    Args:
        parts: The samples.
        trainer: The Trainer, each of whose processes on this machine loads them.
        most: Maximum number of bytes per process; None: its share of half of the free memory.
    """
    if not any(part.mapped for part in parts):
        return parts
    most = free_memory() // 2 // (1 if trainer is None else max(1, trainer.num_devices)) if most is None else most
    return tuple(part.loaded() for part in parts) if sum(part.nbytes for part in parts) <= most else parts


def placed(samples: Samples, device: torch.device) -> Samples:
    """Move samples to the training device if they fit in half of its free memory; otherwise batches are moved."""
    if device.type == "cuda" and samples.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return samples
    return samples.to(device)
