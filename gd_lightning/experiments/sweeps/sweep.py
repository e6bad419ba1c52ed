"""Training many settings of gradient descent at once, in Python.

Example:
    >>> report = sweep(lrs="0.01,0.1", batch_sizes="10,full", seeds=1, max_epochs=3)
    >>> report.last.squeeze().round(1).tolist()
    [[118.2, 0.2], [422.1, 122.9]]

Letters: N samples, P parameters, S seeds.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.callbacks.smallest_train_loss import least_squares_of
from gd_lightning.data import RegressionDataModule
from gd_lightning.data.order import Order, epoch_orders, uses_stored_order
from gd_lightning.engine import Ends, Members, TrainingTask
from gd_lightning.errors import InputError
from gd_lightning.experiments.options import present_device, sections, taken_problem
from gd_lightning.experiments.sweeps.grid import Grid
from gd_lightning.experiments.sweeps.ranges import Given
from gd_lightning.experiments.sweeps.report import SweepReport, save_runs
from gd_lightning.experiments.sweeps.training import Progress, train_members
from gd_lightning.float64 import NOT_COMPUTABLE, PRECISIONS, precision_of_run
from gd_lightning.memory_checks import check_fits
from gd_lightning.models import LinearRegressor, MLPRegressor
from gd_lightning.module import RegressionModule, is_squared_error, linear_network, predictor_of, quadratic_network
from gd_lightning.module.first_update import try_gradient
from gd_lightning.module.library_errors import GivenClasses
from gd_lightning.module.optimizer_and_scheduler_checks import make_trial_step
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems import ProblemLike
from gd_lightning.random_numbers import starting_from
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR
from gd_lightning.signals import ignored
from gd_lightning.tracking.run_directory import as_directory
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant

_OF_A_SEED, _OF_A_RUN = 60_000, 1_000  # minimum bytes of a seed's module without weights, and of the arrays of a run


def sweep(
    problem: ProblemLike | None = None,
    *,
    lrs: Given | None = None,
    batch_sizes: Given | None = None,
    momentums: Given | None = None,
    weight_decays: Given | None = None,
    l1s: Given | None = None,
    seeds: int = 3,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    directory: str | Path | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> SweepReport:
    """Train every combination of some settings, many runs at once; each run has the result that it would have alone.

    Args:
        problem: A problem, or data, as :func:`~gd_lightning.as_problem` takes them; None: the steep line.
        lrs: A number, a list, or a text with ranges; None: the one in ``model``, else ``"log(1e-4,1,40)"``.
        batch_sizes: Batch sizes, in the same forms; None: the one in ``data``, else ``"1,2,4,...,full"``.
        momentums: Values of the momentum; None: the one in ``model``, also for the next two.
        weight_decays: Values of the L2 penalty.
        l1s: Values of the L1 penalty.
        seeds: Number of seeds. A seed changes the order of the samples, and the initial weights if they are random.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        device: The device to train on.
        directory: Directory for table, map and TensorBoard's HParams; None: no files.
        executor: Trains parts of the runs in parallel, with the same results: a process pool, Dask's
            ``Client.get_executor()``, or another executor of ``concurrent.futures``. None: this process.
        options: Options of data and model by their names alone, as for :func:`~gd_lightning.fit`; ``epochs`` is 20 by
            default, and ``precision`` may be ``"64-true"``.

    Returns:
        The :class:`~gd_lightning.SweepReport`: ``rows`` with the best learning rate of each batch size, arrays over all
        runs such as ``last``, the train loss at the end, ``to_dict()``, ``plot()`` and ``save()``.

    Raises:
        InputError: A sweep cannot use the given options.

    Example:
        >>> sweep(lrs=[0.01, 0.1], batch_sizes=[10, 100], seeds=3, epochs=5).last.shape[:2]
        (2, 2)
    """
    given = {"lr": lrs, "batch_size": batch_sizes, "momentum": momentums, "weight_decay": weight_decays, "l1": l1s}
    fixed, seeds = sections(options, data, model), as_python(seeds)
    directory = None if directory is None else as_directory(directory)
    of_data = RegressionDataModule(taken_problem(problem, fixed["data"]), **fixed["data"])
    epochs, precision = _epochs_and_precision(fixed["trainer"])
    with precision_of_run(precision), GivenClasses(fixed["model"]).refusals_in_a_run():
        module, values = RegressionModule(**fixed["model"]), _with_own(as_python(given), fixed["model"], fixed["data"])
        grid = Grid.of(values, module, of_data, seeds)
        both = tuple((of_data.seed + i, of_data.seed + i) for i in range(seeds))
        task = SweepTask(grid, both, epochs, present_device(device))
        if directory is None:
            return task.train(module, of_data, executor=executor)
        keep = functools.partial(save_runs, directory=directory)
        return task.train(module, of_data, executor=executor, keep=keep).save(directory)


def _epochs_and_precision(trainer: Mapping[str, Any]) -> tuple[int, Any]:
    """Return the Trainer's options that a sweep uses: the number of epochs of each run, and the precision.

    Without a precision it is that of new tensors.
    """
    own = "64-true" if torch.get_default_dtype() is torch.float64 else "32-true"
    given = {"max_epochs": 20, "precision": own, **trainer}
    if given["precision"] not in PRECISIONS:
        raise InputError(
            f"cannot sweep with precision {given['precision']!r}, because the runs have no Trainer; use 32-true or "
            "64-true"
        )
    if "accelerator" in given:
        raise InputError('cannot sweep with accelerator, because the runs have no Trainer; use device, such as "cuda"')
    if others := [name for name in given if name not in ("max_epochs", "precision")]:
        raise InputError(f"cannot sweep with {others[0]}, because the runs have no Trainer; leave it out")
    return int(given["max_epochs"]), given["precision"]


def _with_own(
    given: Mapping[str, Given | None], model: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, Given | None]:
    """Return the values of the axes, with the configured lr and batch size if none are given."""
    of_optimizer = (model.get("optimizer") or {}).get("init_args", {}).get("lr")
    configured = {"lr": model.get("lr") if of_optimizer is None else of_optimizer, "batch_size": data.get("batch_size")}
    return {name: configured.get(name) if values is None else values for name, values in given.items()}


@dataclass(frozen=True)
class SweepTask:
    """A sweep as a task.

    Args:
        grid: The values of each axis.
        seeds: For each seed, that of the initial weights, and that of split and order.
        max_epochs: Number of epochs of each run.
        device: The device to train on.
        divergence_factor: A run has diverged if its train loss is above this multiple of the initial one.
        stops: Whether a run ends when it diverges.
    """

    grid: Grid
    seeds: tuple[tuple[int, int], ...]
    max_epochs: int
    device: str | torch.device = "cpu"
    divergence_factor: float = DIVERGENCE_FACTOR
    stops: bool = True

    def updates(self, data: RegressionDataModule) -> int:
        """Return the total number of updates of all runs if none diverges."""
        variants = (dataclasses.replace(data.variant, batch_size=size) for size in self.grid.batch_size)
        runs = self.grid.cells // len(self.grid.batch_size) * len(self.seeds)
        return sum(variant.updates_per_epoch for variant in variants) * self.max_epochs * runs

    def train(
        self,
        module: RegressionModule,
        data: RegressionDataModule,
        progress: Progress = lambda _: None,
        executor: Executor | None = None,
        keep: Callable[[SweepReport], object] = lambda _: None,
    ) -> SweepReport:
        """Train all runs.

        Args:
            module: The module with the options that are not swept; its network is not made yet, unless it was given.
            data: The data of the module, with the options that are not swept.
            progress: Is told from time to time how many updates were made since.
            executor: Trains parts of the runs at the same time; None: this process.
            keep: Called with the report on the runs so far if a signal ends the training.

        Raises:
            InputError: A sweep cannot use the given options.
        """
        if self.max_epochs < 1:
            raise InputError(f"cannot sweep {self.max_epochs} epochs; use 1 or more")
        if type(module).training_step is not RegressionModule.training_step:
            raise InputError(
                f"cannot sweep {type(module).__name__}, because it has a training step of its own, and the runs have "
                "no Trainer; use compare"
            )
        make_trial_step(module.hparams, self.max_epochs)
        first = _Seed.of(module, data, *self.seeds[0])
        check_fits(
            len(self.seeds) * first.nbytes + self.grid.cells * len(self.seeds) * _OF_A_RUN,
            f"sweep {self.grid.cells * len(self.seeds):,} runs from {len(self.seeds):,} seeds",
            "fewer values or seeds",
        )
        seeds = [first, *(_Seed.of(module, data, *each) for each in self.seeds[1:])]
        # A random split differs from seed to seed, and the members of a population share their data.
        shared = [[seed] for seed in seeds] if data.splits_at_random else [seeds]
        seeds[0].try_gradient(self.grid.batch_size)
        report = functools.partial(self._report, data, [_least_squares(part[0]) for part in shared])
        parts = [self._part(part) for part in shared]
        began, engine, ends = time.perf_counter(), "", [Ends.none(task, len(members)) for _, task, members in parts]
        try:
            for part, found in zip(parts, ends, strict=True):
                engine = train_members(*part, progress, executor, found)[1]
        except (KeyboardInterrupt, SystemExit):  # exceptions for other signals are kinds of SystemExit
            with ignored():
                keep(report(ends, engine, time.perf_counter() - began, {}))
            raise
        limits = _limits(self.grid, seeds[0], self.max_epochs)
        return report(ends, engine, time.perf_counter() - began, limits)

    def _report(
        self,
        data: RegressionDataModule,
        least_squares: Sequence[float],
        ends: Sequence[Ends],
        engine: str,
        seconds: float,
        limits: Mapping[tuple[int, float, float], float],
    ) -> SweepReport:
        return SweepReport(
            title=type(data.problem).__name__,
            grid=self.grid,
            seeds=tuple(start for start, _ in self.seeds),
            max_epochs=self.max_epochs,
            variant=data.variant,
            order=data.order,
            least_squares=np.repeat(least_squares, len(self.seeds) // len(least_squares)),
            engine=engine,
            seconds=seconds,
            limits=limits,
            **self._gathered(ends),
        )

    def _gathered(self, parts: Sequence[Ends]) -> dict[str, NDArray[Any]]:
        """Return the ends of all runs, with one axis per axis of the grid and one for the seeds."""
        return {
            name: np.concatenate([getattr(ends, name).reshape(*self.grid.shape, -1) for ends in parts], axis=-1)
            for name in ("first", "last", "updates", "diverged")
        }

    def _part(self, seeds: Sequence[_Seed]) -> tuple[list[tuple[RegressionModule, int]], TrainingTask, Members]:
        """Return the starts of the runs of seeds that share their data, their common task, and their settings."""
        module, data = seeds[0].module, seeds[0].data
        samples = data.train.to(torch.device(self.device))
        order_of = functools.partial(_order_of, data.order, len(samples), [seed.data.seed for seed in seeds])
        starts = torch.stack([seed.start for seed in seeds])
        limits = (self.max_epochs, data.drop_last, self.divergence_factor, self.stops)
        in_stored_order = functools.partial(uses_stored_order, data.order)
        task = TrainingTask(samples.x, samples.y, starts, order_of, *limits, in_stored_order)
        axes = (getattr(self.grid, name) for name in Grid.AXES)
        size, lr, momentum, decay, l1, seed = np.array(list(itertools.product(*axes, range(len(seeds))))).T
        members = Members.of(lr, size, momentum, module.hparams["nesterov"], decay, l1, seed, seed)
        return [(each.module, each.seed) for each in seeds], task, members


def _order_of(order: Order, samples: int, seeds: Sequence[int], seed: int, epoch: int, epochs: int) -> Tensor | None:
    """Return the order in which members visit the samples, by the index of their seed and the epochs."""
    return None if order == "sequential" else epoch_orders(order, samples, seeds[seed], epoch, epochs)


@dataclass(frozen=True)
class _Seed:
    """Data and initial weights of the runs of a seed; the weights are on the CPU, shape (P,)."""

    seed: int
    data: RegressionDataModule
    module: RegressionModule
    start: Tensor

    @classmethod
    def of(cls, module: RegressionModule, data: RegressionDataModule, start_seed: int, data_seed: int) -> _Seed:
        own, own_data = copy.deepcopy(module), data.with_seed(data_seed)
        with starting_from(start_seed):
            own.configure_for(own_data)
        assert own.network is not None
        parameters = [parameter.detach().flatten() for parameter in own.network.parameters()]
        return cls(start_seed, own_data, own, torch.cat(parameters))

    @property
    def nbytes(self) -> int:
        """What a seed takes at least: its weights, also those of the module, and its samples, if they are its own."""
        samples = self.data.train.nbytes if self.data.splits_at_random else 0
        return _OF_A_SEED + 2 * self.start.nbytes + samples

    def try_gradient(self, batch_sizes: Sequence[int]) -> None:
        """Refuse a network of the user's own that cannot be trained on the smallest of the batches."""
        module, samples, n = self.module, self.data.train, self.data.variant.train_samples
        if module.given_network or not isinstance(module.network, (LinearRegressor, MLPRegressor)):
            variants = [Variant.of(size, n, self.data.drop_last) for size in batch_sizes]
            smallest = min(variants, key=lambda each: each.short_batch or each.batch_size)
            try_gradient(module, module.trained_loss, smallest, samples.take)


def _least_squares(seed: _Seed) -> float:
    """Return the least-squares loss of a linear regressor; nan for other modules."""
    module, samples = seed.module, seed.data.train
    network = linear_network(module)
    if network is None or not is_squared_error(module):
        return math.nan
    return least_squares_of(network, module.standardize, samples).loss


def _limits(grid: Grid, seed: _Seed, max_epochs: int) -> dict[tuple[int, float, float], float]:
    """Return the largest stable lr at each batch size, momentum and weight decay, where theory knows it."""
    module, data = copy.deepcopy(seed.module), seed.data
    nesterov = module.hparams["nesterov"]
    module.hparams.update(momentum=0.0, nesterov=False, weight_decay=0.0, l1=0.0)
    if quadratic_network(module) is None or module.hparams["lr_scheduler"]:
        return {}
    limits: dict[tuple[int, float, float], float] = {}
    with contextlib.suppress(*NOT_COMPUTABLE, InputError):  # the theory is not computed for too many features
        plain = predictor_of(module, data.train.pieces, data.variant, max_epochs)
        told = [size for size in grid.batch_size if plain.can_predict(Variant.of(size, data.variant.train_samples))]
        for momentum, decay in itertools.product([each for each in grid.momentum if each < 1], grid.weight_decay):
            rule, loss = UpdateRule(momentum=momentum, nesterov=nesterov), plain.loss.with_weight_decay(decay)
            predictor = plain.changed(rule=rule, loss=loss)
            limits |= {(size, momentum, decay): predictor.largest_stable_lr(size) for size in told}
    return limits
