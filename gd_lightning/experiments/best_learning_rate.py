"""The best learning rate of a model, for ``lr="best"`` and for comparisons without a learning rate."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError, StartError, first_line
from gd_lightning.experiments.plans.local_plan import local_plan
from gd_lightning.experiments.plans.plan import refuse_other_updates
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.module import RegressionModule, predictor_of, quadratic_network
from gd_lightning.theory import AT_LENGTH, BestRate, best_rate
from gd_lightning.theory.advice import rounded
from gd_lightning.variants import BatchSize, Variant

_NOT_QUADRATIC = "the loss of these options is not quadratic in the parameters"

_NO_START: tuple[type[Exception], ...] = (StartError, *NOT_COMPUTABLE)


@dataclass(frozen=True)
class TriedRate:
    """A learning rate that was the best in a trial, and is stable at the start.

    Args:
        lr: The learning rate, with two digits.
        updates: Number of updates of each run of the trial.
    """

    lr: float
    updates: int

    @property
    def purpose(self) -> str:
        """What it is best for, in words."""
        return f"the lowest train loss in a trial of {self.updates:,} updates, and below the local limit at the start"

    def sentence(self, batch_size: int) -> str:
        """Return a sentence on the purpose of this learning rate, with the batch size."""
        return f"The best lr for batch_size {batch_size} is {self.lr:g} by trial: {self.purpose}."


def best_lr(
    module: RegressionModule,
    data: RegressionDataModule,
    batch_size: BatchSize,
    max_epochs: float = 20,
    by_trial: bool = True,
) -> BestRate | TriedRate:
    """Return the learning rate that is best for a run.

    For a linear regressor, it is the fastest to the target within some epochs by theory, or else the one that ends
    lowest; the target is 1 % above the loss that descent leads to, as for :func:`plan`. For another network, it is the
    one that :func:`plan` advises: the lowest final train loss in a trial from its start, within its local limit.

    Args:
        module: The model.
        data: The training data.
        batch_size: B.
        max_epochs: The epochs of the run.
        by_trial: Whether a model to which the theory does not apply is tried.

    Raises:
        InputError: The theory does not apply to the module, and no trial can be made, or finds none.
    """
    module.configure_for(data)
    if quadratic_network(module) is None:
        if not by_trial:
            raise InputError(f"cannot find the best lr, because {_NOT_QUADRATIC}; give a number, or see what plan says")
        return _tried(module, data, batch_size)
    try:
        predictor = predictor_of(module, data.train.pieces, data.variant, max_epochs, order=data.order)
        return best_rate(predictor, Variant.of(batch_size, len(data.train)).batch_size, AT_LENGTH)
    except NOT_COMPUTABLE as error:
        raise InputError(
            f"cannot find the best lr, because theory yields numbers beyond float64 ({first_line(error)[:100]}); "
            "give a number, or standardize the data"
        ) from error


def _tried(module: RegressionModule, data: RegressionDataModule, batch_size: BatchSize) -> TriedRate:
    """Return the learning rate that a local plan advises for a batch size."""
    refuse_other_updates(module)
    of_size = copy.copy(data)
    of_size.batch_size = batch_size
    try:
        plan = local_plan(module, of_size, [batch_size])
    except _NO_START as error:
        raise InputError(
            f"cannot find the best lr, because no trial can be made from this start ({first_line(error)[:100]}); "
            "give a number, or standardize the data"
        ) from error
    if plan.tried is None or plan.tried[0].best_lr is None or not math.isfinite(plan.safe_lr):
        raise InputError(
            f"cannot find the best lr, because {_NOT_QUADRATIC}, and none is found by trial; give a "
            "number, or see what plan says"
        )
    return TriedRate(float(rounded(plan.safe_lr)), plan.tried[0].updates)
