"""The predictor of outcomes for a module and its training data, if the theory of linear regressors applies.

Letters: N samples, C columns of the design, R directions in which it varies.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.float64 import in_float64
from gd_lightning.memory_checks import check_fits
from gd_lightning.micro_batches import Pair
from gd_lightning.models import LinearRegressor, Standardize, set_parameters
from gd_lightning.module.initial_weights import in_original_units, of_network
from gd_lightning.module.predicted_learning_rates import stepped_rates
from gd_lightning.module.regression import RegressionModule
from gd_lightning.module.theory_conditions import quadratic_network
from gd_lightning.problems import Problem
from gd_lightning.theory import LinearLoss, OutcomePredictor, Rounding
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant

# Number of samples to estimate rounding errors from; fewer for many features, so that they fit in memory.
_ENOUGH, _NUMBERS, _FEWEST = 10_000, 2**24, 100
_MATRICES = 10  # float64 matrices (columns of the design x directions) that a prediction needs, at least

_NOT_QUADRATIC = (
    "cannot predict the outcome of this module, because its loss is not quadratic in its parameters, or is not "
    "descended by SGD at learning rates that are known before; use a linear regressor, the loss mse and SGD alone"
)


def predictor_of(
    module: RegressionModule,
    pieces: Callable[[], Iterable[Pair]],
    variant: Variant,
    max_epochs: float,
    order: str = "shuffled",
    numbers: float = 2e7,
    start: Affine | None = None,
    problem: Problem | None = None,
) -> OutcomePredictor:
    """Return the predictor of a linear regressor that is trained with the mean squared error and SGD.

    Args:
        module: The module, whose network exists.
        pieces: Returns an iterable over the training samples in order, in original units, at each call.
        variant: Batch size and number of samples.
        max_epochs: Number of epochs of the run; ``inf`` if unlimited.
        order: The order of the samples.
        numbers: Upper bound of N R (sequential order) or N R^2; with more samples, a subsample is used.
        start: The parameters before the first update, in the units of the network; None: the current ones.
        problem: The problem, to add the predictor with standardised features; None: without these.

    Raises:
        InputError: The loss is not quadratic in the parameters, or not minimised by SGD with one learning rate; or the
            matrices take more memory than is free.
    """
    if (network := quadratic_network(module)) is None:
        raise InputError(_NOT_QUADRATIC)
    # The theory is computed on the CPU, in float64, wherever the run is.
    pieces = partial(_on_cpu, pieces)
    of_features, of_targets = (_copied_to_cpu(layer) for layer in (module.standardize, module.standardize_targets))
    now = network.affine()
    start, columns = now if start is None else start, network.in_features + (now.bias is not None)
    directions = min(columns, variant.train_samples)
    check_fits(_MATRICES * 8 * columns * directions, f"predict with {columns:,} parameters", "fewer features")
    most = math.ceil(numbers / (directions if order == "sequential" else directions**2))
    predictor = partial(_predictor, module, pieces, variant, max_epochs, order, most)
    own = predictor(of_features, of_targets, start)
    if problem is None or module.standardize is not None or now.bias is None:
        return own
    # A function defined here could not be pickled, but a plan, which holds its predictor, can be.
    given = in_original_units(start, None, module.standardize_targets) if _is_given(module, problem) else None
    return replace(own, standardized=partial(_standardized, predictor, pieces, start, given))


def standardized_module(
    module: RegressionModule, layers: tuple[Standardize, Standardize], problem: Problem
) -> RegressionModule:
    """Return a copy of a module with the start that it would have on standardised features and targets.

    Args:
        module: The module at its start, with a network for features that are not standardised.
        layers: The layers that standardise features and targets.
        problem: The problem that the data come from.
    """
    other = copy.deepcopy(module)
    other.standardize, other.standardize_targets = layers
    if isinstance(other.network, LinearRegressor) and _is_given(module, problem):
        affine = in_original_units(other.network.affine(), None, module.standardize_targets)
        set_parameters(other.network, of_network(affine, *layers))
    return other


def _is_given(module: RegressionModule, problem: Problem) -> bool:
    """Whether a linear regressor starts from given values, which are in original units, and not from drawn ones."""
    scheme = module.hparams["initialization"]
    return isinstance(scheme, Mapping) or (scheme == "auto" and problem.start is not None)


def _standardized(
    predictor: Callable[[Standardize, Standardize, Affine], OutcomePredictor],
    pieces: Callable[[], Iterable[Pair]],
    start: Affine,
    given: Affine | None,
) -> OutcomePredictor:
    """Return the predictor on standardised features and targets, from given parameters in original units, if any."""
    layers = Standardize.fit(lambda: (x for x, _ in pieces())), Standardize.fit(lambda: (y for _, y in pieces()))
    return predictor(*layers, start if given is None else of_network(given, *layers))


def _predictor(
    module: RegressionModule,
    pieces: Callable[[], Iterable[Pair]],
    variant: Variant,
    max_epochs: float,
    order: str,
    most: int,
    layer: Standardize | None,
    targets: Standardize | None,
    start: Affine,
) -> OutcomePredictor:
    """Return the predictor on features and targets standardised by layers, or on original ones where there are none.

    Targets are less their means, and not divided; see :meth:`~gd_lightning.models.Standardize.undivided`.
    """
    if targets is not None:
        start = targets.undivided(start)
        pieces = partial(_centred, pieces, targets.mean)
    loss = LinearLoss.over(
        lambda: ((x if layer is None else layer.standardized(x), y) for x, y in pieces()),
        bias=start.bias is not None,
        most=most,
    ).with_weight_decay(module.hparams["weight_decay"])
    dtype = None if targets is None else next(module.parameters()).dtype
    return OutcomePredictor(
        loss,
        start,
        max_epochs,
        rule=UpdateRule.of(module.hparams),
        sequential=order == "sequential",
        with_replacement=order == "with_replacement",
        drop_last=variant.drop_last,
        rounding=partial(_rounding, loss, layer, start, pieces, variant.train_samples, dtype),
        schedule=stepped_rates(module),
    )


def _rounding(
    loss: LinearLoss,
    layer: Standardize | None,
    start: Affine,
    pieces: Callable[[], Iterable[Pair]],
    n: int,
    of_run: torch.dtype | None,
    rule: UpdateRule,
    dtype: torch.dtype | None = None,
) -> float:
    """Return the excess that rounding leaves under an update rule, in a type, or that of the run, or of the targets."""
    x, y = _some(pieces, n)
    return Rounding(loss, x, y, rule, layer, start).excess(dtype or of_run or y.dtype)


def _on_cpu(pieces: Callable[[], Iterable[Pair]]) -> Iterable[Pair]:
    return ((x.cpu(), y.cpu()) for x, y in pieces())


def _copied_to_cpu(layer: Standardize | None) -> Standardize | None:
    return None if layer is None else Standardize(layer.mean.cpu(), layer.scale.cpu())


def _centred(pieces: Callable[[], Iterable[Pair]], mean: Tensor) -> Iterable[Pair]:
    """Yield samples whose targets are less their means, in float64."""
    return ((x, in_float64(y) - mean) for x, y in pieces())


def _some(pieces: Callable[[], Iterable[Pair]], n: int) -> Pair:
    """Return some samples, drawn evenly."""
    features = next(iter(pieces()))[0].shape[1]
    step = math.ceil(n / min(_ENOUGH, max(_FEWEST, _NUMBERS // features)))
    x, y, start = [], [], 0
    for block_x, block_y in pieces():
        first = -start % step
        # Copies, since a view keeps the whole block in memory.
        x.append(block_x[first::step].clone())
        y.append(block_y[first::step].clone())
        start += len(block_x)
    return torch.cat(x), torch.cat(y)
