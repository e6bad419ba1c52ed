"""The fastest way of training many runs at once, by estimated time.

Letters: M members, N samples, B batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gd_lightning.engine.compilation_notice import keeps_compiled_code
from gd_lightning.engine.fusible import parts_of, why_not_fused_network, work_of
from gd_lightning.engine.many.batched import BatchedPopulation
from gd_lightning.engine.many.fused import FusedPopulation
from gd_lightning.engine.many.population import Members, Population, TrainingTask
from gd_lightning.losses import Loss

# Seconds, measured on one core: per update of all members in lock step, and per multiplication in it; per sample in
# compiled code, and per multiplication; to load that code, and a share of what compiling it takes the first time; all
# of that, where each process has to compile for itself.
_LOCK_STEP_OF_LINE, _LOCK_STEP, _BATCHED = 60e-6, 400e-6, 0.4e-9
_SAMPLE, _FUSED, _LOADING, _COMPILING = 40e-9, 1.5e-9, 1.5, 7.0


def fastest_population(
    network: nn.Module, loss: Loss, huber_delta: float, task: TrainingTask, members: Members
) -> Population:
    """Return the fastest population that can train the members.

    Args:
        network: A chain of linear layers and activations; only its form is used.
        loss: The name of the loss.
        huber_delta: Absolute error at which the Huber loss becomes linear.
        task: Data, starts, orders and limits that all members share.
        members: The settings of the members.

    Raises:
        InputError: The network is not a chain of linear layers and activations.
    """
    if task.x.device.type == "cpu" and not why_not_fused_network(network):
        sizes = np.unique(members.batch_size)
        lock_steps = task.epochs * sum(task.variant(size).updates_per_epoch for size in sizes)
        samples = task.epochs * len(members) * len(task.x)
        step = _LOCK_STEP_OF_LINE if len(parts_of(network)) == 1 else _LOCK_STEP
        batched = lock_steps * step + samples * work_of(network, 1) * _BATCHED
        fused = _LOADING + samples * (_SAMPLE + work_of(network, 1) * _FUSED) / torch.get_num_threads()
        if fused < batched and (fused + _COMPILING < batched or keeps_compiled_code()):
            return FusedPopulation(network, loss, huber_delta)
    return BatchedPopulation(network, loss, huber_delta)
