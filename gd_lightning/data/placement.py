"""Where the samples of a run are: in which precision, on which device, in which processes, and how many at once."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from gd_lightning.data.samples import Samples
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import injects_samplers
from gd_lightning.memory import free_memory

# Numbers of the widest layer that are computed at a time. On a CPU, parts that stay in its cache are several times
# faster than whole large batches; a GPU needs more to be busy.
_ON_CPU, _ON_OTHERS = 2**20, 2**26


def model_of(trainer: Trainer | None) -> LightningModule | None:
    """Return what a Trainer trains or judges, if there is a Trainer."""
    return None if trainer is None else trainer.lightning_module


def device_of(trainer: Trainer | None) -> torch.device:
    """Return the device of a Trainer."""
    return torch.device("cpu") if trainer is None else trainer.strategy.root_device


def precision_of(trainer: Trainer | None) -> torch.dtype:
    """Return the precision of the data of a Trainer; without one, the default dtype."""
    if trainer is None:
        return torch.get_default_dtype()
    return torch.float64 if trainer.precision == "64-true" else torch.float32


def process_of(trainer: Trainer | None) -> tuple[int, int]:
    """Return which process this is, and how many there are.

    Raises:
        InputError: The Trainer would split batches among processes a second time.
    """
    if trainer is None or trainer.world_size == 1:
        return 0, 1
    if injects_samplers(trainer):
        raise InputError(
            f"cannot share batches among {trainer.world_size} processes while Lightning shards them a second time; "
            "give Trainer(use_distributed_sampler=False)"
        )
    return trainer.global_rank, trainer.world_size


def loaded(parts: tuple[Samples, ...], trainer: Trainer | None, most: int | None) -> tuple[Samples, ...]:
    """Load samples that are mapped from a file into memory, if all of them fit.

    Args:
        parts: The samples.
        trainer: Whose processes on this machine all load them.
        most: The most bytes that are loaded by a process; None: its share of half of the free memory.
    """
    if not any(part.mapped for part in parts):
        return parts
    most = free_memory() // 2 // (1 if trainer is None else max(1, trainer.num_devices)) if most is None else most
    return tuple(part.loaded() for part in parts) if sum(part.nbytes for part in parts) <= most else parts


def placed(samples: Samples, device: torch.device) -> Samples:
    """Move samples to the training device where they fit in half of its free memory; else batches travel."""
    if device.type == "cuda" and samples.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return samples
    return samples.to(device)


def samples_at_once(trainer: Trainer | None, features: int, outputs: int, numbers: int | None) -> int:
    """Return how many samples are on the device at once, by the widest layer of the model.

    Args:
        trainer: Which has the model and the device.
        features: D.
        outputs: K.
        numbers: How many numbers of that layer are computed at once; None: as many as suits the device.
    """
    model = model_of(trainer)
    shapes = [] if model is None else [parameter.shape for parameter in model.parameters()]
    widest = max([features, outputs, *(size for shape in shapes for size in shape)])
    suitable = _ON_CPU if device_of(trainer).type == "cpu" else _ON_OTHERS
    return max(1, (suitable if numbers is None else numbers) // widest)
