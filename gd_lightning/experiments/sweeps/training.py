"""Training of the runs of a sweep, together where that is possible, else one by one.

Letters: N samples, P parameters.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gd_lightning.data.samples import Samples
from gd_lightning.engine import (
    AutogradEngine,
    BatchedPopulation,
    Ends,
    Members,
    OneByOne,
    Population,
    Single,
    TrainingTask,
    announcing_compilation,
    fastest_population,
)
from gd_lightning.engine.many.stacked import why_not_stacked
from gd_lightning.errors import InputError
from gd_lightning.experiments.executors import carried_out
from gd_lightning.losses import Loss, forms_of
from gd_lightning.measures import mean_loss_over, unchanged
from gd_lightning.module import RegressionModule, own_method, why_no_factor
from gd_lightning.random_numbers import own_generator

Progress = Callable[[int], object]

_PARTS = 32  # maximum number of parts in which an executor trains the runs; few machines have more cores
_OWN_METHODS = ("forward", "summed_loss", "training_step", "configure_optimizers")


def train_members(
    starts: Sequence[tuple[RegressionModule, int]],
    task: TrainingTask,
    members: Members,
    progress: Progress = lambda _: None,
    executor: Executor | None = None,
    ends: Ends | None = None,
) -> tuple[Ends, str]:
    """Train runs of a module with the engine that is expected to take the least time.

    Args:
        starts: The module with its initial weights and the seed of its dropout, for each of the members' seeds.
        task: The data and options that the runs share; features are in original units.
        members: The settings of the members.
        progress: Is told from time to time how many updates were made since.
        executor: Trains parts of the members at the same time; None: this process trains all.
        ends: Receives the ends, also those of an interrupted training; None: new ones.

    Returns:
        The ends of the members, and the name of the engine.

    Raises:
        InputError: The runs need a Trainer.
    """
    module, reason = starts[0][0], why_one_by_one(starts[0][0])
    if not reason:
        task = _standardized(task, module)
    network: Any = module.network
    kind = OneByOne if reason else type(fastest_population(network, *_loss_of(module), task, members))
    whole = _Part(tuple(starts), task, members, kind)
    ends = Ends.none(task, len(members)) if ends is None else ends
    if executor is None:
        whole.train(progress, ends)
    else:
        where = _parts(members, kind)
        parts = [dataclasses.replace(whole, members=members[rows]) for rows in where]
        for rows, found in zip(where, carried_out(executor, _Part.train, parts), strict=True):
            ends.set(rows, found)
            progress(int(found.updates.sum()))
    return ends, f"{kind.name}, because {reason}" if reason else kind.name


def _standardized(task: TrainingTask, module: RegressionModule) -> TrainingTask:
    """Return a task with the samples as the network of a module takes them."""
    if module.standardize is None and module.standardize_targets is None:
        return task
    module = copy.deepcopy(module).to(task.x.device)
    return dataclasses.replace(task, x=module.features_of_network(task.x), y=module.targets_of_network(task.y))


def _loss_of(module: RegressionModule) -> tuple[Loss, float]:
    return module.hparams["loss"], module.hparams["huber_delta"]


def _parts(members: Members, kind: type[Population]) -> list[NDArray[np.int64]]:
    """Return the indices of members in parts that can be trained separately with bitwise the same results.

    Members that are trained in lock step stay together, since their number determines how sums are computed.
    """
    if kind is BatchedPopulation:
        return [np.flatnonzero(members.batch_size == size) for size in np.unique(members.batch_size)]
    return [np.arange(first, len(members), _PARTS) for first in range(min(_PARTS, len(members)))]


@dataclass(frozen=True)
class _Part:
    """Members that are trained together, as a task that can be pickled.

    Args:
        starts: The module with its initial weights and the seed of its dropout, for each of the members' seeds.
        task: The data and options that the runs share.
        members: The settings of the members.
        kind: The engine that trains them.
    """

    starts: tuple[tuple[RegressionModule, int], ...]
    task: TrainingTask
    members: Members
    kind: type[Population]

    def train(self, progress: Progress = lambda _: None, ends: Ends | None = None) -> Ends:
        """Train the members to their ends."""
        module, seed = self.starts[0]
        population: Population = OneByOne(lambda *member: _alone(self.starts, *member))
        if self.kind is not OneByOne:
            made: Any = self.kind
            population = made(module.network, *_loss_of(module))
        devices = [self.task.x.device] if self.task.x.is_cuda else []
        ends = Ends.none(self.task, len(self.members)) if ends is None else ends
        try:
            with announcing_compilation(rank_zero_info, population.name), own_generator(seed, devices):
                return population.train(self.task, self.members, progress, ends)
        finally:
            layer = module.standardize_targets
            if layer is not None and self.kind is not OneByOne:  # OneByOne measures in the units of the targets itself
                factor = layer.scale[0].item() ** forms_of(module.hparams["loss"]).degree
                for losses in (ends.losses, ends.last):
                    losses *= factor


def why_one_by_one(module: RegressionModule) -> str:
    """Return the reason why runs cannot be trained together; "" if they can be."""
    if name := own_method(module, RegressionModule, _OWN_METHODS):
        return f"{type(module).__name__} has its own {name}"
    for option in ("optimizer", "lr_scheduler"):
        if spec := module.hparams[option]:
            return f"{str(spec['class_path']).rpartition('.')[2]} is not plain SGD"
    assert module.network is not None
    return why_not_stacked(module.network) or why_no_factor(module.standardize_targets)


def _alone(starts: Sequence[tuple[RegressionModule, int]], task: TrainingTask, members: Members, member: int) -> Single:
    """Return a run of any module and optimiser, in plain PyTorch."""
    start, seed = starts[members.start[member]]
    module = copy.deepcopy(start).to(task.x.device)
    for name in ("lr", "momentum", "weight_decay", "l1"):
        module.hparams[name] = float(getattr(members, name)[member])
    if module.hparams["optimizer"] is not None:
        module.hparams["optimizer"].setdefault("init_args", {})["lr"] = module.hparams["lr"]
    made: Any = module.configure_optimizers()
    optimizer, scheduler = (made, None) if isinstance(made, Optimizer) else (made["optimizer"], made["lr_scheduler"])
    if scheduler is not None and isinstance(scheduler["scheduler"], ReduceLROnPlateau):
        raise InputError(
            f"cannot sweep with {type(scheduler['scheduler']).__name__}, because it monitors what only a Trainer "
            "measures; use compare"
        )
    samples = Samples(task.x, task.y)
    torch.manual_seed(seed)  # dropout draws from this generator

    def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found = module.training_step((x, y), 0)
        return found["loss"], found["batch_loss"]

    def measure() -> float:
        with unchanged(module, task.x.device):
            return mean_loss_over(samples.pieces(), module, module.measured_loss)

    assert module.network is not None
    parameters = list(module.network.parameters())
    engine = AutogradEngine(losses, optimizer, parameters)
    if scheduler is None:
        return Single(engine, parameters, measure)
    return Single(engine, parameters, measure, scheduler["scheduler"].step)
