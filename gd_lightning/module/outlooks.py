"""What the theory can say of a module on data: whether it holds there, and its answers.

Letters: N samples, C columns of the design.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.micro_batches import Pair
from gd_lightning.models import LinearRegressor
from gd_lightning.module.regression import RegressionModule
from gd_lightning.theory import LinearLoss, Outlooks
from gd_lightning.variants import Variant


def linear_outlooks(
    module: RegressionModule,
    pieces: Callable[[], Iterable[Pair]],
    variant: Variant,
    max_epochs: float,
    sequential: bool = False,
    numbers: float = 2e7,
    start: Affine | None = None,
) -> Outlooks:
    """Return the outlooks of a linear regressor that is trained with the mean squared error and SGD.

    Args:
        module: With its network made.
        pieces: Gives the training samples in their order, in original units, each time it is called.
        variant: The configured batches.
        max_epochs: How many epochs the run has; ``inf`` where nothing limits it.
        sequential: Whether the samples are used in their order.
        numbers: How large N C may be (for the sequential order) or N C^2: of more samples, some stand for all.
        start: The parameters before the first update, as the network has them; None: those it has now.

    Raises:
        InputError: The loss is not quadratic in the parameters, or not descended by SGD at one learning rate.
    """
    network = linear_network(module)
    now, layer = network.affine(), module.standardize
    columns = network.in_features + (now.bias is not None)
    loss = LinearLoss.over(
        lambda: ((x if layer is None else layer(x), y) for x, y in pieces()),
        bias=now.bias is not None,
        most=math.ceil(numbers / (columns if sequential else columns**2)),
    )
    return Outlooks(
        loss,
        now if start is None else start,
        max_epochs,
        momentum=module.hparams["momentum"],
        sequential=sequential,
        drop_last=variant.drop_last,
    )


def linear_network(module: RegressionModule) -> LinearRegressor:
    """Return the network, where the loss of the module is quadratic in its parameters, and descended by SGD.

    Raises:
        InputError: It is not.
    """
    options = module.hparams
    reasons = {
        f"the network {type(module.network).__name__}": not isinstance(module.network, LinearRegressor),
        f"model.loss {options['loss']}": options["loss"] != "mse",
        "another optimizer than SGD": options["optimizer"],
        "an lr_scheduler": options["lr_scheduler"],
        "model.nesterov": options["nesterov"],
        "model.weight_decay": options["weight_decay"],
        "model.l1": options["l1"],
    }
    for what, is_given in reasons.items():
        if is_given:
            raise InputError(
                f"cannot plan for {what}, because the statements hold for a linear regressor, the mean squared error "
                "and SGD; leave it out"
            )
    assert isinstance(module.network, LinearRegressor)
    return module.network
