"""Which part of each batch the processes of a run take."""

from __future__ import annotations

from lightning.pytorch import Trainer

from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import injects_samplers


def process_of(trainer: Trainer | None) -> tuple[int, int]:
    """Return rank and world size.

    Raises:
        InputError: The Trainer would also split batches among processes.
    """
    if trainer is None or trainer.world_size == 1:
        return 0, 1
    if injects_samplers(trainer):
        raise InputError(
            f"cannot share batches among {trainer.world_size} processes while Lightning shards them a second time; "
            "give Trainer(use_distributed_sampler=False)"
        )
    return trainer.global_rank, trainer.world_size


def share_of(start: int, stop: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the contiguous part of the samples from start to stop that a process takes, as start and stop.

    Args:
        start: The first sample.
        stop: One past the last sample.
        rank: Index of the process, from 0.
        world_size: Number of processes.

    Example:
        >>> [share_of(0, 3, rank, 2) for rank in (0, 1)]
        [(0, 1), (1, 3)]
    """
    size = stop - start
    return start + size * rank // world_size, start + size * (rank + 1) // world_size
