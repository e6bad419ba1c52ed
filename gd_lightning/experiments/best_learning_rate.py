"""The best learning rate of a linear regressor, for ``lr="best"`` and for comparisons without a learning rate."""

from __future__ import annotations

from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError, first_line
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.module import RegressionModule, predictor_of, quadratic_network
from gd_lightning.theory import AT_LENGTH, BestRate, best_rate
from gd_lightning.variants import BatchSize, Variant


def best_lr(
    module: RegressionModule, data: RegressionDataModule, batch_size: BatchSize, max_epochs: float = 20
) -> BestRate:
    """Return the learning rate that is the fastest to the target within some epochs, or else ends lowest.

    The target is 1 % above the loss that descent leads to, as for :func:`plan`.

    Args:
        module: A linear regressor.
        data: The training data.
        batch_size: B.
        max_epochs: The epochs of the run.

    Raises:
        InputError: The theory does not apply to the module.
    """
    module.configure_for(data)
    if quadratic_network(module) is None:
        raise InputError(
            "cannot find the best lr, because the loss of these options is not quadratic in the parameters; give a "
            "number, or see what plan says"
        )
    try:
        predictor = predictor_of(module, data.train.pieces, data.variant, max_epochs, order=data.order)
        return best_rate(predictor, Variant.of(batch_size, len(data.train)).batch_size, AT_LENGTH)
    except NOT_COMPUTABLE as error:
        raise InputError(
            f"cannot find the best lr, because theory yields numbers beyond float64 ({first_line(error)[:100]}); "
            "give a number, or standardize the data"
        ) from error
